"""Annotation files and image folders as the readers need them; every error names the file and the field."""

import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from scipy.io import loadmat, savemat

from hpelib.data.crops import read_image
from hpelib.data.people import People

MAT_HEADER = b"MATLAB 5.0 MAT-file"
LISTED = 5  # offenders named in an error before "..."


def enumerate_first(items: Sequence) -> str:
    """The first few of `items`, for an error message."""
    return ", ".join(str(item) for item in items[:LISTED]) + (", ..." if len(items) > LISTED else "")


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file in the same folder, then rename that file to `path`.

    A process that is killed in between leaves `path` as it was: a file is there whole or not at all.

    Raises:
        OSError: the file could not be written, for example because the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch says "unexpected pos" when the disk is full
        raise OSError(f"{path} could not be written ({error}): is the disk full? What was there is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """Contents of a JSON file; FileNotFoundError where there is none, ValueError where it is broken."""
    try:
        return json.loads(require_file(path).read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); fetch it anew if the copy is incomplete") from error


def write_json(path: str | Path, contents: Any) -> None:
    """Write JSON; numpy numbers and arrays are welcome, NaN and infinity are a ValueError."""
    try:
        text = json.dumps(contents, allow_nan=False, default=lambda value: value.tolist())
    except ValueError as error:
        raise ValueError(f"{path}: NaN or infinity cannot be written; missing keypoints are 0, 0, 0") from error
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def read_mat(path: str | Path, *fields: str) -> list[np.ndarray]:
    """The named arrays of a Matlab file (version 7.2 or older)."""
    require_file(path)
    try:
        contents = loadmat(path)
    except Exception as error:  # scipy raises a dozen unrelated types on a broken file
        raise ValueError(f"{path}: not readable as a Matlab file before version 7.3 ({error})") from error
    for name in fields:
        if name not in contents:
            raise ValueError(f"{path}: no array '{name}'; it holds {[key for key in contents if key[0] != '_']}")
    return [contents[name] for name in fields]


def write_mat(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a Matlab file; unlike scipy's, without the time in its header, so that equal arrays give equal bytes."""
    savemat(path, arrays)
    with Path(path).open("r+b") as file:
        file.write(MAT_HEADER.ljust(116))


def require_file(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such annotation file; data/real_sets.yaml says where to get it")
    return Path(path)


def column(
    records: Sequence[dict], field: str, source: str, shape: tuple[int, ...] = (), dtype: type = np.float64
) -> np.ndarray:
    """One field of all records, (N, *shape).

    Raises ValueError naming `source`, the first wrong record and the field where it is missing, has
    another shape or holds anything but finite (for an integer dtype: whole) numbers.
    """
    if not records:
        return np.zeros((0, *shape), dtype)
    try:
        values = np.array([record[field] for record in records])
        if _are_numbers(values, (len(records), *shape), dtype):
            return values.astype(dtype)
    except (KeyError, TypeError, ValueError):
        pass  # the search below says which record it was
    position = next(i for i, record in enumerate(records) if not _fits(record, field, shape, dtype))
    record = records[position]
    if not isinstance(record, dict) or field not in record:
        raise ValueError(f"{source}: record {position} has no field '{field}', got {record!r:.120}")
    kind = "whole numbers" if np.issubdtype(dtype, np.integer) else "finite numbers"
    raise ValueError(
        f"{source}: record {position} (id {record.get('id', 'none')}): '{field}' must be {kind} of shape {shape}, "
        f"got {record[field]!r:.120}"
    )


def text_column(records: Sequence[dict], field: str, source: str) -> list[str]:
    """One text field of all records; ValueError naming the first record without it."""
    for position, record in enumerate(records):
        if not isinstance(record.get(field), str) or not record[field]:
            raise ValueError(f"{source}: record {position} (id {record.get('id', 'none')}) has no text in '{field}'")
    return [record[field] for record in records]


def _are_numbers(values: np.ndarray, shape: tuple[int, ...], dtype: type) -> bool:
    if values.shape != shape or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return False
    if np.issubdtype(dtype, np.integer):
        return bool((values == np.floor(values)).all() and (np.abs(values) < 2**53).all())  # exact in JSON's doubles
    return True


def _fits(record: Any, field: str, shape: tuple[int, ...], dtype: type) -> bool:
    try:
        return _are_numbers(np.array(record[field]), shape, dtype)
    except (KeyError, TypeError, ValueError):
        return False


def reject(broken: np.ndarray, source: str, what: str, labels: Sequence) -> None:
    """ValueError "source: what: labels" naming the first of `labels` where `broken` is true, if any is."""
    if np.any(broken):
        offenders = np.asarray(labels)[broken]
        raise ValueError(f"{source}: {len(offenders)} {what}: {enumerate_first(offenders)}; correct or remove them")


def log_left_out(source: str | Path, counts: dict[str, int]) -> None:
    """Say, at level INFO, how many records of `source` a reader left out, by reason."""
    reasons = [f"{count} {reason}" for reason, count in counts.items() if count]
    if reasons:
        logging.getLogger(__name__).info("%s: left out %s", source, ", ".join(reasons))


def find_images(image_dir: str | Path, names: Sequence[str], source: str | Path) -> np.ndarray:
    """Paths of the images that `source` names, (N,) str objects.

    Each folder is listed once. Raises ValueError for a name that leaves `image_dir`, FileNotFoundError
    that counts the missing images and names the first.
    """
    present: dict[Path, set[str]] = {}
    paths: dict[str, str] = {}
    missing = []
    for name in dict.fromkeys(names):
        if PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
            raise ValueError(f"{source}: image name {name!r} must be a path inside the image folder, without '..'")
        path = Path(image_dir) / name
        if path.parent not in present:
            present[path.parent] = {entry.name for entry in os.scandir(path.parent)} if path.parent.is_dir() else set()
        if path.name not in present[path.parent]:
            missing.append(name)
        paths[name] = str(path)
    if missing:
        raise FileNotFoundError(
            f"{image_dir}: {len(missing)} of the {len(paths)} images that {source} names are not there: "
            f"{enumerate_first(missing)}; give the folder that holds them"
        )
    return np.array([paths[name] for name in names], dtype=object)


def check_images(people: People) -> None:
    """Decode every image once; ValueError naming those that are missing, empty, truncated or no images.

    Linear in the number of images; give `people.take(...)` to check a sample.
    """
    paths = list(dict.fromkeys(people.image_paths))
    with ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter lock
        faults = [
            f"{path} ({fault})" for path, fault in zip(paths, pool.map(_image_fault, paths), strict=True) if fault
        ]
    if faults:
        raise ValueError(f"{len(faults)} of {len(paths)} images cannot be used: {enumerate_first(faults)}")


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) px as stored, from the file's header alone; ValueError where it has none."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error}); fetch it anew") from error


def _image_fault(path: str) -> str | None:
    if not Path(path).is_file():
        return "missing"
    if not Path(path).stat().st_size:
        return "empty file"
    try:
        with Image.open(path) as image:
            image.load()  # OpenCV fills the lost part of a truncated file with grey and says nothing
        read_image(path)
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return "not an image"
    except (OSError, SyntaxError):  # what Pillow raises on a cut file
        return "truncated"
    return None
