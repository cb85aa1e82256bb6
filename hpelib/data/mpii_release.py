"""The official release of MPII (mpii_human_pose_v1_u12_1.mat) as the files of the HRNet code that `read_mpii` reads.

    python -m hpelib.data.mpii_release mpii_human_pose_v1_u12_1.mat datasets/mpii/annot [valid.json]

writes train.json, valid.json and test.json with gt_train.mat and gt_valid.mat.
"""

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import mat_struct

from hpelib.data.files import read_json, reject, require_file, text_column, write_json
from hpelib.data.mpii import CENTER_DROP_PX, SCALE_UNIT_PX, K, write_mpii
from hpelib.data.splits import grouped_split

VALID_FRACTION = 0.1


@dataclass(frozen=True)
class _Person:
    image: str
    group: str  # the video, or the picture where that is not known
    train: bool
    alone: bool  # apart from others
    center: list[float] | None
    scale: list[float] | None
    head_box: list[float] | None  # x1, y1, x2, y2
    joints: dict[int, list[float] | None]

    @property
    def placed(self) -> bool:
        return self.center is not None and self.scale is not None and self.scale[0] > 0

    @property
    def complete(self) -> bool:
        return self.placed and self.head_box is not None and len(self.joints) > 0


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
        ValueError: the mat file is not the release, a joint has an unknown number, or `valid_json` names a picture that
            is no training picture of the release.
    """
    persons = _read_release(release_mat)
    impossible = [any(not 0 <= joint < K for joint in person.joints) for person in persons]
    reject(impossible, str(release_mat), f"persons with a joint outside 0 to {K - 1}", [p.image for p in persons])
    labelled = [person for person in persons if person.train and person.complete]
    tested = [person for person in persons if not person.train and person.alone and person.placed]
    left_out = sum(person.train and not person.complete for person in persons)
    if left_out:
        logger = logging.getLogger(__name__)
        logger.info(
            "%s: left out %d training persons without joints, scale, position or head box", release_mat, left_out
        )
    if not labelled or not tested:
        raise ValueError(f"{release_mat}: {len(labelled)} persons to train on and {len(tested)} to test, needs both")
    in_valid = _in_valid(labelled, valid_json)
    folder = Path(folder)
    for split, chosen in (("train", ~in_valid), ("valid", in_valid)):
        _write_labelled(folder, split, [labelled[i] for i in np.flatnonzero(chosen)])
    entries = [{"image": person.image, "center": person.center, "scale": person.scale[0]} for person in tested]
    write_json(folder / "test.json", entries)


def _read_release(path: str | Path) -> list[_Person]:
    """All persons of the release, picture by picture."""
    require_file(path)
    try:
        release = loadmat(path, struct_as_record=False, squeeze_me=True)["RELEASE"]
        parts = [np.atleast_1d(getattr(release, name)) for name in ("annolist", "img_train", "single_person")]
        return [person for picture in zip(*parts, strict=True) for person in _persons(*picture)]
    except Exception as error:  # scipy raises a dozen unrelated types on a broken file
        raise ValueError(
            f"{path}: not MPII's release, RELEASE with annolist, img_train and single_person ({error})"
        ) from error


def _persons(picture: mat_struct, train: int, alone: int | np.ndarray) -> Iterator[_Person]:
    image, video = str(picture.image.name), np.ravel(getattr(picture, "vididx", ()))
    for number, rect in enumerate(_entries(picture, "annorect"), start=1):  # single_person counts from 1
        yield _Person(
            image=image,
            group=f"video {video[0]}" if video.size else image,
            train=bool(train),
            alone=number in np.ravel(alone),
            center=_numbers(getattr(rect, "objpos", None), "x", "y"),
            scale=_numbers(rect, "scale"),
            head_box=_numbers(rect, "x1", "y1", "x2", "y2"),
            joints={
                int(point.id): _numbers(point, "x", "y")
                for point in _entries(getattr(rect, "annopoints", None), "point")
            },
        )


def _entries(struct: mat_struct | np.ndarray | None, field: str) -> np.ndarray:
    """The structs in a field, as a list. It is empty where Matlab left out the struct or the field."""
    return np.atleast_1d(getattr(struct, field, np.zeros(0)))


def _numbers(struct: mat_struct | np.ndarray | None, *fields: str) -> list[float] | None:
    """The numbers in these fields, or None where a field is left out, empty or not finite."""
    values = [np.ravel(getattr(struct, field, ())) for field in fields]
    if any(value.size != 1 or not np.isfinite(value.astype(float)).all() for value in values):
        return None
    return [float(value[0]) for value in values]


def _in_valid(persons: list[_Person], valid_json: str | Path | None) -> np.ndarray:
    """(N,) whether each person is for validation."""
    if valid_json is not None:
        names = np.array(sorted(set(text_column(read_json(valid_json), "image", str(valid_json)))))
        images = np.array([person.image for person in persons])
        reject(~np.isin(names, images), str(valid_json), "pictures that the release does not train on", names)
        return np.isin(images, names)
    members: dict[str, list[int]] = {}
    for i, person in enumerate(persons):
        members.setdefault(person.group, []).append(i)
    _, valid = grouped_split(len(persons), list(members.values()), (1 - VALID_FRACTION, VALID_FRACTION), seed=0)
    return np.isin(np.arange(len(persons)), valid)


def _write_labelled(folder: Path, split: str, persons: list[_Person]) -> None:
    joints, labelled = np.zeros((len(persons), K, 2)), np.zeros((len(persons), K))
    for n, person in enumerate(persons):
        for number, place in person.joints.items():
            joints[n, number], labelled[n, number] = place, 1
    scales = np.array([person.scale[0] for person in persons])
    centers = np.array([person.center for person in persons])
    centers[:, 1] += CENTER_DROP_PX * scales  # to where the crop's centre lies, which the writer undoes
    write_mpii(
        folder / f"{split}.json",
        [person.image for person in persons],
        joints - 1,
        labelled,
        centers - 1,
        scales * SCALE_UNIT_PX,
        np.array([person.head_box for person in persons]) - 1,
        folder / f"gt_{split}.mat",
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("release_mat", help="mpii_human_pose_v1_u12_1.mat")
    parser.add_argument("folder", help="for the converted annotations, such as datasets/mpii/annot")
    parser.add_argument("valid_json", nargs="?", help="valid.json of the HRNet code, whose pictures are for validation")
    convert_release(**vars(parser.parse_args()))
