"""What the annotation formats decide: one file a format, found by listing this folder.

Each file holds its `FORMAT`: how a set is read, which persons its metric is defined for, and the figures of its tables.
No other file names it, so a new format is added without editing a table. No torch is needed to read and to score.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np
import pandas as pd

from hpelib.data.files import REACH, check_coordinates, enumerate_first
from hpelib.data.people import People
from hpelib.layers.choices import require_choice
from hpelib.metrics.accuracy import CURVE_THRESHOLDS, normalised_errors, shares_within
from hpelib.metrics.coco import Matches
from hpelib.skeletons import Skeleton, make_skeleton

SPLITS = ("train", "val", "test")
MAY_SHARE = "may_share_pictures"  # what an entry of any format may say: pictures of other splits are accepted
DRAWN = ("persons", "draw")  # what the entry of any training split may say: train on so many, drawn from this seed
KINDS = {  # of the values of an entry; all others are text
    MAY_SHARE: (bool,),
    "max_persons": (int,),
    "persons": (int,),
    "draw": (int,),
    "fraction": (int, float),
    "numbers": (list, tuple),
    "merged": (dict,),
}


class Dataset(Protocol):
    """What a format must know of a set; `hpelib.study.config.Dataset` is one."""

    name: str
    root: Path  # folder that the paths of `splits` are relative to
    splits: Mapping[str, Mapping]  # the entries of `SPLITS`, or of some: what the persons of a split are read from


class Format(ABC):
    """One format of annotations. Figures are in percent; keypoints are (N, K, 2) image px and confidences (N, K)."""

    name: ClassVar[str]
    skeleton: ClassVar[Skeleton]
    required: ClassVar[tuple[str, ...]]  # what the entry of a split must say, such as "annotations"
    optional: ClassVar[tuple[str, ...]] = ()  # what it may say besides
    of_test: ClassVar[tuple[str, ...]] = ()  # what the entry of the split `test` alone may say
    annotations: ClassVar[tuple[str, ...]] = ()  # those of them that are annotation files
    arguments: ClassVar[Mapping[str, str]] = {}  # keys that commands on own pictures take, and what each is
    public_persons: ClassVar[tuple[int, int]]  # of the public set, to train and to test
    submission: ClassVar[str | None] = None  # name of the file that its server takes, with {split} and {algorithm}
    columns: ClassVar[tuple[str, ...]]  # the figures of a results table, the leading one first
    main_metric: ClassVar[str]  # the leading figure of tables
    keypoint_metric: ClassVar[str]  # the mean over keypoints that learning curves and intervals are of
    reach: ClassVar[float] = REACH  # of boxes, as in `check_coordinates`
    threshold_label: ClassVar[str]  # of the curve of correct keypoints over thresholds, for axes

    def files(self, dataset: Dataset, split: str) -> Mapping:
        """The entry of one split.

        Raises:
            ValueError: the set has no such split, or its entry lacks a key, has one that the format does not know, or
                a value of another type.
        """
        if split not in dataset.splits:
            raise ValueError(f"dataset {dataset.name} has no split {split!r}; it has {', '.join(dataset.splits)}")
        files, own = dataset.splits[split] or {}, {"train": DRAWN, "test": self.of_test}
        optional = (*self.optional, MAY_SHARE, *own.get(split, ()))
        if wrong := sorted(set(self.required) - set(files) | set(files) - {*self.required, *optional}):
            raise ValueError(
                f"dataset {dataset.name}, split {split}: missing or unknown: {', '.join(wrong)}; an entry of "
                f"{self.name} needs {', '.join(self.required)} and may have {', '.join(optional)}"
            )
        for key, value in files.items():
            if type(value) not in KINDS.get(key, (str,)):
                kinds = " or ".join(kind.__name__ for kind in KINDS.get(key, (str,)))
                raise ValueError(f"dataset {dataset.name}, split {split}: {key} must be {kinds}, got {value!r}")
        return files

    def with_skeleton(self, skeleton: Skeleton) -> "Format":
        """The format for another keypoint set.

        Raises:
            ValueError: the format knows only its own.
        """
        raise ValueError(f"the format {self.name} has keypoints of its own; a set with another skeleton needs coco")

    @abstractmethod
    def read(self, dataset: Dataset, split: str) -> People:
        """The persons of one split, in the order of the annotation file.

        Raises:
            FileNotFoundError: a file or an image is missing.
            ValueError: an entry or an annotation cannot be used as it stands.
        """

    def read_detections(self, dataset: Dataset, split: str) -> People | None:
        """The boxes of a detector on a split's images; None where the set names none."""
        return None

    def annotation_files(self, dataset: Dataset) -> list[Path]:
        """Every annotation file of the set, once."""
        entries = [self.files(dataset, split) for split in dataset.splits]
        return sorted({dataset.root / files[kind] for files in entries for kind in self.annotations if kind in files})

    def check(self, dataset: Dataset, split: str, people: People) -> None:
        """Refuse annotations that cannot be right.

        Raises:
            ValueError: their coordinates are impossible, as `check_coordinates` says, or belong to other pictures.
        """
        check_coordinates(people, f"{dataset.name} {split}", self.reach)

    def check_truth(self, dataset: Dataset, split: str, people: People) -> None:
        """Refuse, before anything is predicted, what scoring would refuse afterwards.

        Persons that are annotated twice are named in the log, at level WARNING.

        Raises:
            ValueError: the metric is defined for none of `people`, or an annotation cannot be scored.
        """
        if not len(self.scored(people)):
            raise ValueError(f"{dataset.name} {split}: {self.main_metric} is defined for none of {len(people)} persons")
        if len(twice := people.ids[people.repeated()]):
            logging.getLogger(__name__).warning(
                f"{dataset.name} {split}: {len(twice)} persons are annotated twice, with the same keypoints in the "
                f"same picture: ids {enumerate_first(twice)}. Figures count both, and AP takes the second for missed: "
                "remove one of each"
            )

    def scored(self, people: People) -> People:
        """The persons that the metric is defined for; all figures of a table are over these."""
        return people

    @abstractmethod
    def errors(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        """Error of each keypoint (N, K) in the unit of `threshold_label`; NaN where not labelled or not scored."""

    @abstractmethod
    def keypoint_scores(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        """How right each keypoint is, (N, K) from 0 to 1; NaN where not labelled or not scored."""

    def keypoint_figure(self, people: People, keypoints: np.ndarray) -> dict[str, float]:
        """The mean of `keypoint_scores` in percent, by its name."""
        return {self.keypoint_metric: 100 * float(np.nanmean(self.keypoint_scores(people, keypoints)))}

    def match(
        self,
        dataset: Dataset,
        people: People,
        boxes: People,
        variants: Iterable[np.ndarray],
        confidences: np.ndarray,
        nms: str = "hard",
    ) -> list[Matches]:
        """For each of several keypoints that were predicted in `boxes`: which of them find `people`. Empty without AP.

        Shapes: each of `variants` (N, K, 2) image px, confidences (N, K), of the N `boxes`.
        """
        return []

    def curve(self, people: People, keypoints: np.ndarray) -> pd.DataFrame:
        """Share of keypoints, in percent, within each threshold of the truth: columns threshold and correct."""
        correct = shares_within(self.errors(people, keypoints))
        return pd.DataFrame({"threshold": CURVE_THRESHOLDS, "correct": correct})

    @abstractmethod
    def figures(
        self, dataset: Dataset, people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str = "hard"
    ) -> dict[str, float]:
        """All figures for predictions from the annotated boxes of the test split; joint groups by their names.

        `nms` is a key of `hpelib.metrics.coco.NMS`; formats without AP have no use for it. A format that reads
        detections has `detection_figures` too.
        """

    def public_persons_to_train(self, files: Mapping) -> int:
        """How many persons of public sets are in a training split with these `files`."""
        return self.public_persons[0]

    def submitted(self, dataset: Dataset) -> People:
        """The persons of the split `test` whose predictions the server takes, where there is a `submission`.

        Raises:
            FileNotFoundError, ValueError: as for `read`.
        """
        return self.read(dataset, "test")

    def write_submission(
        self, path: Path, people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str
    ) -> None:
        """Write the file that the server takes, of `people` as `submitted` returns them."""
        raise NotImplementedError


class PckFormat(Format):
    """A format whose keypoints are right within `threshold` times a length of the person."""

    threshold: ClassVar[float]

    @abstractmethod
    def lengths_px(self, people: People) -> np.ndarray:
        """The length (N,) that errors are measured by."""

    def errors(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        errors = normalised_errors(keypoints, people.keypoints, people.visibility, self.lengths_px(people))
        errors[:, people.skeleton.unscored] = np.nan
        return errors

    def keypoint_scores(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        errors = self.errors(people, keypoints)
        return np.where(np.isnan(errors), np.nan, errors <= self.threshold)


def _find() -> dict[str, Format]:
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    formats = [import_module(f"{__name__}.{name}").FORMAT for name in names]
    return {form.name: form for form in formats}


FORMATS = _find()


def form_of(name: str, skeleton: Mapping[str, dict] = MappingProxyType({})) -> Format:
    """The format `name`; with `skeleton`, {its name: an entry as in skeletons.yaml}, for that keypoint set.

    Raises:
        ValueError: the format is unknown, the entry is wrong, or the format knows only its own keypoints.
    """
    require_choice("format", name, FORMATS)
    form = FORMATS[name]
    for title, entry in skeleton.items():
        form = form.with_skeleton(make_skeleton(title, entry, "skeleton"))
    return form
