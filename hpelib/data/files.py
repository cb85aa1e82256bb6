"""Annotation files and image folders as the readers need them; every error names the file and the field."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path, PureWindowsPath
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from scipy.io import loadmat, savemat

from hpelib.data.crops import read_image
from hpelib.data.people import People

MAT_HEADER = b"MATLAB 5.0 MAT-file"
TINY_PX = 2  # a person under this is none
REACH = 1.1  # times the picture's side: a box whose end is further out is suspicious
AREA_SHARES = (0.01, 2.0)  # of the box: a person's area is between them
FEW_PERSONS = 20  # so many may all be anywhere in their pictures
THUMBNAIL_PX = 16
UNITS = "coordinates are px of the picture as stored, x before y, boxes x, y, width, height, areas px^2"
LISTED = 5  # offenders named in an error before "..."
ORIENTATION, UPRIGHT = 0x0112, 1  # the EXIF tag, and its value for an image that is not turned
JPEGS = ("JPEG", "MPO")  # Pillow's names of them
START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"  # of a JPEG
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # of a JPEG, but for those within its data
FRAMES, PROGRESSIVE, SCAN = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2"), b"\xff\xc2", b"\xff\xda"  # headers of a JPEG
LEAST_MARKER = b"\xff\xc0"  # what is below is none, but ends the data
MORE_DATA = b"\x55" * 256 + b"".join(bytes([0xFF, 0xD0 + k % 8]) + b"\x55" * 16 for k in range(16))  # for any restart


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


def write_csv(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    """Write a table without its index, as `write_whole` does."""
    write_whole(path, lambda temporary: table.to_csv(temporary, index=False, float_format=float_format))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed NPZ file, as `write_whole` does."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # numpy would append .npz to a name
            np.savez_compressed(file, **arrays)

    write_whole(path, write)


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
    write_whole(path, lambda temporary: temporary.write_text(text))


def read_mat(path: str | Path, *fields: str) -> list[np.ndarray]:
    """The named arrays of a Matlab file (version 7.2 or older)."""
    require_file(path)
    try:
        contents = loadmat(path)
    except Exception as error:  # scipy raises a dozen unrelated types on a broken file
        raise ValueError(f"{path}: not readable as a Matlab file before version 7.3 ({error})") from error
    if missing := [name for name in fields if name not in contents]:
        raise ValueError(f"{path}: no array '{missing[0]}'; it holds {[key for key in contents if key[0] != '_']}")
    if wrong := [name for name in fields if contents[name].dtype.kind not in "biuf"]:
        raise ValueError(f"{path}: '{wrong[0]}' must be an array of real numbers, got {contents[wrong[0]].dtype}")
    return [contents[name] for name in fields]


def write_mat(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a Matlab file, as `write_whole` does. Without the time in its header, equal arrays give equal bytes."""

    def write(temporary: Path) -> None:
        with temporary.open("w+b") as file:  # scipy would append .mat to a name
            savemat(file, arrays)
            file.seek(0)
            file.write(MAT_HEADER.ljust(116))

    write_whole(Path(path), write)


def digest_files(paths: Iterable[str | Path]) -> str:
    """SHA-256 over the contents of files, in their order."""
    with ThreadPoolExecutor() as pool:
        digests = pool.map(lambda path: hashlib.sha256(Path(path).read_bytes()).digest(), paths)
        return hashlib.sha256(b"".join(digests)).hexdigest()


def require_file(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such annotation file; check the folder and the name")
    return Path(path)


def column(
    records: Sequence[dict], field: str, source: str, shape: tuple[int, ...] = (), dtype: type = np.float64
) -> np.ndarray:
    """One field of all records, (N, *shape).

    Raises:
        ValueError: the field is missing, has another shape or holds anything but finite (for an integer dtype: whole)
            numbers. The message names `source`, the first such record and the field.
    """
    values = _numbers(records, field, shape, dtype)
    if values is None:
        wrong = next(i for i in range(len(records)) if _numbers(records[i : i + 1], field, shape, dtype) is None)
        kind = "whole" if np.issubdtype(dtype, np.integer) else "finite"
        raise _wrong_record(records, wrong, field, source, f"must be {kind} numbers of shape {shape}")
    return values


def text_column(records: Sequence[dict], field: str, source: str) -> list[str]:
    """One text field of all records; ValueError naming the first record without it."""
    for position, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get(field), str) or not record[field]:
            raise _wrong_record(records, position, field, source, "must be text")
    return [record[field] for record in records]


def factor_table(records: Sequence[dict], source: str) -> pd.DataFrame:
    """What `records` have in "factors", one row each; ValueError naming the first whose factors are no object."""
    factors = [record.get("factors", {}) for record in records]
    for position, of_record in enumerate(factors):
        if not isinstance(of_record, dict):
            raise _wrong_record(records, position, "factors", source, "must be an object")
    return pd.DataFrame(factors)


def _numbers(records: Sequence[dict], field: str, shape: tuple[int, ...], dtype: type) -> np.ndarray | None:
    """The field of all records, or None where it is not of this shape and finite, for an integer dtype whole."""
    if not records:
        return np.zeros((0, *shape), dtype)
    try:
        values = np.array([record[field] for record in records])
    except (KeyError, TypeError, ValueError):
        return None
    if values.shape != (len(records), *shape) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return None
    if np.issubdtype(dtype, np.integer) and ((values != np.floor(values)) | (np.abs(values) >= 2**53)).any():
        return None  # JSON's numbers are exact below 2^53
    return values.astype(dtype)


def _wrong_record(records: Sequence[dict], position: int, field: str, source: str, rule: str) -> ValueError:
    record = records[position]
    if not isinstance(record, dict) or field not in record:
        return ValueError(f"{source}: record {position} has no field '{field}', got {record!r:.120}")
    number = record.get("id", "none")
    return ValueError(f"{source}: record {position} (id {number}): '{field}' {rule}, got {record[field]!r:.120}")


def reject(broken: np.ndarray, source: str, what: str, labels: Sequence) -> None:
    """ValueError "source: what: labels" naming the first of `labels` where `broken` is true, if any is."""
    if np.any(broken):
        offenders = np.asarray(labels)[broken]
        raise ValueError(f"{source}: {len(offenders)} {what}: {enumerate_first(offenders)}; correct or remove them")


def find_images(image_dir: str | Path, names: Sequence[str], source: str | Path) -> np.ndarray:
    """Paths of the images that `source` names, (N,) str objects.

    Each folder is listed once, which is far faster on a network's disk than to look for each file.

    Raises:
        FileNotFoundError: images are missing.
        ValueError: a name leads out of `image_dir`.
    """
    for name in names:
        if PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
            raise ValueError(f"{source}: image name {name!r} must be a path inside the image folder, without '..'")
    paths = {name: Path(image_dir) / name for name in names}
    folders = {path.parent for path in paths.values()}
    present = {folder: {path.name for path in folder.iterdir()} if folder.is_dir() else () for folder in folders}
    missing = [name for name, path in paths.items() if path.name not in present[path.parent]]
    if missing:
        raise FileNotFoundError(
            f"{image_dir}: {len(missing)} of the {len(paths)} images that {source} names are not there: "
            f"{enumerate_first(missing)}; give the folder that holds them"
        )
    return np.array([str(paths[name]) for name in names], dtype=object)


def check_images(people: People) -> dict[str, bytes]:
    """Decode every image once; return a thumbnail of it by path: 16 x 16 grey pixels.

    To check a sample, give `people.take(...)`. Images whose EXIF tag asks viewers to turn them are named in the log, at
    level WARNING: they are read as they are stored.

    Raises:
        ValueError: images are missing, empty, truncated or no images.
    """
    paths = list(dict.fromkeys(people.image_paths))
    with _silent_libraries(), ThreadPoolExecutor() as pool:  # OpenCV decodes outside the interpreter lock
        found = dict(zip(paths, pool.map(_check_image, paths), strict=True))
    if faults := [f"{path} ({fault})" for path, (fault, _, _) in found.items() if fault]:
        raise ValueError(f"{len(faults)} of {len(paths)} images cannot be used: {enumerate_first(faults)}")
    if turned := [f"{path} ({number})" for path, (_, _, number) in found.items() if number != UPRIGHT]:
        logging.getLogger(__name__).warning(
            f"{len(turned)} of {len(paths)} images have an EXIF orientation, by which viewers turn or mirror them: "
            f"{enumerate_first(turned)}; annotations must be of the pixels as stored: else turn them and remove the tag"
        )
    return {path: thumbnail for path, (_, thumbnail, _) in found.items()}


def check_coordinates(people: People, source: str, reach: float = REACH) -> None:
    """Refuse annotations whose numbers cannot mean what the format says; `source` names them in the message.

    In a real set most persons stand inside their picture, most keypoints lie in their person's box, nearly all in the
    picture, and next to none exactly in the picture's corner, where some tools put keypoints that are not labelled.
    Coordinates as fractions from 0 to 1, x and y in the other order, boxes as x1, y1, x2, y2, areas in another unit, or
    coordinates of a picture of another size break these rules.

    Args:
        reach: how far from the picture's corner most boxes may end, in terms of its width and height.

    Raises:
        ValueError: of the labelled keypoints more than half lie outside their box, more than a tenth outside their
            picture, or more than a hundredth at exactly 0, 0; or the boxes or areas of most persons cannot be right;
            or a box lies outside its picture. Of more than 20 persons, if nearly all are in the upper left quarter of
            their pictures, or the keypoints of most would be in their box if it were x1, y1, x2, y2.
    """
    sizes = {path: image_size(path) for path in dict.fromkeys(people.image_paths)}
    pictures = np.array([sizes[path] for path in people.image_paths], np.float64).reshape(-1, 2)  # (N, 2)
    labelled, keypoints = people.visibility > 0, people.keypoints.astype(np.float64)  # (N, K), (N, K, 2)
    start, extent = people.boxes[:, :2].astype(np.float64), people.boxes[:, 2:].astype(np.float64)
    end, centers, halves = start + extent, start + extent / 2, (pictures - 1) / 2
    outside = (start >= pictures).any(1) | (end < 0).any(1)
    reject(outside, source, "boxes outside the picture, by id", people.ids)

    area_shares = people.areas / np.maximum(extent, 1).prod(1)
    furthest = np.where(labelled[..., None], keypoints, 0).max(1)  # (N, 2)
    as_corners = (furthest <= extent).all(1) & (start >= TINY_PX).all(1) & labelled.any(1)
    in_corner = ~(keypoints >= halves[:, None]).any((1, 2)) & labelled.any(1)
    most, nearly_all = (1 / 2, 0.99) if len(people) > FEW_PERSONS else (1, 1)
    for what, wrong, allowed in (
        (f"are under {TINY_PX} px tall and wide", extent.max(1) < TINY_PX, 1 / 2),
        ("have a box that ends far outside their picture", (end > reach * pictures).any(1), 1 / 2),
        ("have a box that seems to be x1, y1, x2, y2", as_corners, most),
        ("have their centre outside the picture", ((centers < TINY_PX) | (centers >= pictures)).any(1), 1 / 2),
        (
            "have an area that their box cannot have",
            (area_shares < AREA_SHARES[0]) | (area_shares > AREA_SHARES[1]),
            1 / 2,
        ),
        ("are in the upper left quarter of their picture", in_corner | (centers < halves).all(1), nearly_all),
    ):
        if wrong.sum() > allowed * len(people):
            raise ValueError(f"{source}: most persons {what}: ids {enumerate_first(people.ids[wrong])}; {UNITS}")

    in_box = ((keypoints >= start[:, None]) & (keypoints <= end[:, None])).all(2)
    in_picture = ((keypoints >= 0) & (keypoints < pictures[:, None])).all(2)
    at_zero = np.isin(keypoints, (0, -1)).all(2) & (keypoints[..., 0] == keypoints[..., 1])  # MPII counts from 1
    for where, wrong, allowed in (
        ("outside the boxes of their persons", ~in_box, 1 / 2),
        ("outside their pictures", ~in_picture, 1 / 10),
        ("at exactly 0, 0 though a keypoint that is not labelled has visibility 0", at_zero, 1 / 100),
    ):
        count, of_all = int((wrong & labelled).sum()), int(labelled.sum())
        if count > allowed * of_all:
            ids = people.ids[(wrong & labelled).any(1)]
            what = f"{count} of {of_all} labelled keypoints lie {where}: of persons {enumerate_first(ids)}"
            raise ValueError(f"{source}: {what}; {UNITS}")


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) px as stored, from the file's header alone.

    Raises:
        ValueError: the file has no header of an image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error}); fetch it anew") from error


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Drop what libraries write past Python: libjpeg remarks on the bytes that `_has_all_pixels` adds."""
    terminal = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _check_image(path: str) -> tuple[str, bytes, int]:
    """What is wrong with an image ("" if nothing), its thumbnail, and its EXIF orientation."""
    if not Path(path).is_file():
        return "missing", b"", UPRIGHT
    if not Path(path).stat().st_size:
        return "empty file", b"", UPRIGHT
    try:
        with Image.open(path) as image:
            kind, orientation = image.format, UPRIGHT
            with suppress(Exception):  # Pillow raises many unrelated types on broken EXIF, which harms no pixel
                orientation = image.getexif().get(ORIENTATION, UPRIGHT)
            if kind not in JPEGS:
                image.load()  # fails where pixels are missing
        if kind == "TIFF" and orientation != UPRIGHT:  # OpenCV turns some of these and cannot read the others
            return "a TIFF with an orientation tag: save it upright", b"", UPRIGHT
        pixels = read_image(path)
        if kind in JPEGS and not _has_all_pixels(Path(path).read_bytes(), pixels):
            return "truncated", b"", UPRIGHT
    except (UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return "not an image", b"", UPRIGHT
    except (OSError, SyntaxError):  # what Pillow raises on a cut file
        return "truncated", b"", UPRIGHT
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return "", thumbnail.tobytes(), orientation


def _unsent(before: set[tuple[int, int]], marker: bytes, header: bytes) -> set[tuple[int, int]]:
    """What of a JPEG no scan up to this header has in full: pairs of a component and a coefficient.

    A progressive JPEG that is cut between two scans has all pixels, but coarse ones. Source: ITU-T T.81, B.2.2, B.2.3.
    """
    if marker in FRAMES:  # a sequential scan has all 64 coefficients at once
        return set(product(header[6::3], range(64 if marker == PROGRESSIVE else 1)))
    if marker == SCAN:
        *components, low, high, bits = header[1:]
        if not bits & 15:  # of the low half: how many bits of each coefficient are still to come
            return before - set(product(components[::2], range(low, high + 1)))
    return before


def _has_all_pixels(jpeg: bytes, pixels: np.ndarray) -> bool:
    """Whether all pixels of a JPEG, which OpenCV decodes to `pixels`, are in the file.

    OpenCV fills the lost part with grey and says nothing. Where all pixels are there, further bytes behind the image
    data change none; where some are missing, such bytes are taken for image data.
    """
    position, unsent = 0, set()
    while (marker := MARKER.search(jpeg, position)) and END_OF_IMAGE != marker[0] >= LEAST_MARKER:
        length = 0 if marker[0] == START_OF_IMAGE else int.from_bytes(jpeg[marker.end() : marker.end() + 2])
        position = marker.end() + length
        if position > len(jpeg):
            return False
        unsent = _unsent(unsent, marker[0], jpeg[marker.end() + 2 : position])
    if unsent:
        return False
    data = jpeg[: marker.start() if marker else None].rstrip(b"\xff") + MORE_DATA + END_OF_IMAGE
    longer = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.array_equal(pixels, longer)
