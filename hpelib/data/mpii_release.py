"""The official release of MPII (mpii_human_pose_v1_u12_1.mat) as the files of the HRNet code that `read_mpii` reads.

    python -m hpelib.data.mpii_release mpii_human_pose_v1_u12_1.mat datasets/mpii/annot [valid.json]

writes train.json, valid.json and test.json with gt_train.mat and gt_valid.mat.
"""

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from hpelib.data.files import read_json, reject, require_file, text_column, write_json
from hpelib.data.mpii import CENTER_DROP_PX, SCALE_UNIT_PX, K, write_mpii
from hpelib.data.splits import grouped_split

VALID_FRACTION = 0.1
WRITTEN = ("train.json", "valid.json", "test.json", "gt_train.mat", "gt_valid.mat")


def convert_release(release_mat: str | Path, folder: str | Path, valid_json: str | Path | None = None) -> None:
    """Write the release's persons into `folder`: train, valid and test json, and the ground truth of the first two.

    From the training pictures come all persons with a labelled joint, a scale, a position and a head box. From the test
    pictures, whose joints are not public, come the persons who stand apart from others (`single_person`). Numbers are
    those of the release, counted from 1; the files of the HRNet code have them rounded. Every joint of the release is
    labelled, occluded or not.

    The release does not say which pictures are for validation. If `valid_json` is given, they are the pictures that it
    names: a list of entries with an `image`, such as valid.json of the HRNet code. Otherwise a tenth of the training
    persons is drawn, and all persons of one video stay together.

    Raises:
        FileNotFoundError: a file is missing.
        FileExistsError: one of the files is in `folder` already.
        ValueError: the mat file is not the release, a joint has an unknown number, or `valid_json` names a picture that
            is no training picture of the release.
    """
    for name in WRITTEN:
        if (Path(folder) / name).exists():
            raise FileExistsError(f"{Path(folder) / name} is there already; move it, or give another folder")
    persons = _read_release(release_mat)
    impossible = np.array([any(not 0 <= joint < K for joint in joints) for joints in persons["joints"]])
    reject(impossible, str(release_mat), f"persons with a joint outside 0 to {K - 1}", persons["image"])
    placed = persons[["x", "y", "scale"]].notna().all(axis=1) & (persons["scale"] > 0)
    complete = placed & persons[["x1", "y1", "x2", "y2"]].notna().all(axis=1) & persons["joints"].astype(bool)
    labelled = persons[persons["train"] & complete]
    tested = persons[~persons["train"] & persons["alone"] & placed]
    if left_out := (persons["train"] & ~complete).sum():
        text = "%s: left out %d training persons without joints, scale, position or head box"
        logging.getLogger(__name__).info(text, release_mat, left_out)
    if not len(labelled) or not len(tested):
        raise ValueError(f"{release_mat}: {len(labelled)} persons to train on and {len(tested)} to test, needs both")
    in_valid = _in_valid(labelled, valid_json)
    _write_labelled(Path(folder), "train", labelled[~in_valid])
    _write_labelled(Path(folder), "valid", labelled[in_valid])
    entries = tested.assign(center=tested[["x", "y"]].to_numpy().tolist())[["image", "center", "scale"]]
    write_json(Path(folder) / "test.json", entries.to_dict("records"))


def _read_release(path: str | Path) -> pd.DataFrame:
    """All persons of the release, picture by picture; numbers that are left out or not finite are NaN."""
    require_file(path)
    try:
        release = loadmat(path, simplify_cells=True)["RELEASE"]
        pictures = zip(*(release[name] for name in ("annolist", "img_train", "single_person")), strict=True)
        return pd.DataFrame([person for picture in pictures for person in _persons(*picture)])
    except Exception as error:  # scipy raises a dozen unrelated types on a broken file
        raise ValueError(
            f"{path}: not MPII's release, RELEASE with annolist, img_train and single_person ({error})"
        ) from error


def _persons(picture: dict, train: int, alone: int | np.ndarray) -> Iterator[dict]:
    image, video = str(picture["image"]["name"]), np.ravel(picture.get("vididx", ()))
    for number, rect in enumerate(_structs(picture, "annorect"), start=1):  # single_person counts from 1
        position = _structs(rect, "objpos") or [{}]
        points = [point for part in _structs(rect, "annopoints") for point in _structs(part, "point")]
        yield {
            "image": image,
            "group": f"video {video[0]}" if video.size else image,
            "train": bool(train),
            "alone": number in np.ravel(alone),
            **{name: _number(position[0], name) for name in ("x", "y")},
            **{name: _number(rect, name) for name in ("scale", "x1", "y1", "x2", "y2")},
            "joints": {int(point["id"]): (_number(point, "x"), _number(point, "y")) for point in points},
        }


def _structs(struct: dict, field: str) -> list[dict]:
    """The structs in a field: one, several, or none where Matlab left out the field."""
    value = struct.get(field, [])
    return [value] if isinstance(value, dict) else list(value)


def _number(struct: dict, field: str) -> float:
    value = np.ravel(struct.get(field, ())).astype(float)
    return value[0] if value.size == 1 and np.isfinite(value[0]) else np.nan


def _in_valid(persons: pd.DataFrame, valid_json: str | Path | None) -> np.ndarray:
    """(N,) whether each person is for validation."""
    if valid_json is not None:
        names = np.unique(text_column(read_json(valid_json), "image", str(valid_json)))
        reject(~np.isin(names, persons["image"]), str(valid_json), "pictures that the release does not train on", names)
        return persons["image"].isin(names).to_numpy()
    group, _ = pd.factorize(persons["group"])
    groups = [np.flatnonzero(group == number) for number in range(group.max() + 1)]
    _, valid = grouped_split(len(persons), groups, (1 - VALID_FRACTION, VALID_FRACTION), seed=0)
    return np.isin(np.arange(len(persons)), valid)


def _write_labelled(folder: Path, split: str, persons: pd.DataFrame) -> None:
    joints, labelled = np.zeros((len(persons), K, 2)), np.zeros((len(persons), K))
    for n, of_person in enumerate(persons["joints"]):
        joints[n, list(of_person)], labelled[n, list(of_person)] = list(of_person.values()), 1
    scales, centers = persons["scale"].to_numpy(), persons[["x", "y"]].to_numpy(copy=True)
    centers[:, 1] += CENTER_DROP_PX * scales  # to where the crop's centre lies, which the writer undoes
    write_mpii(
        folder / f"{split}.json",
        persons["image"].tolist(),
        joints - 1,
        labelled,
        centers - 1,
        scales * SCALE_UNIT_PX,
        persons[["x1", "y1", "x2", "y2"]].to_numpy() - 1,
        folder / f"gt_{split}.mat",
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("release_mat", help="mpii_human_pose_v1_u12_1.mat")
    parser.add_argument("folder", help="for the converted annotations, such as datasets/mpii/annot")
    parser.add_argument("valid_json", nargs="?", help="valid.json of the HRNet code, whose pictures are for validation")
    convert_release(**vars(parser.parse_args()))
