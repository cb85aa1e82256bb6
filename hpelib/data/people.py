"""The table of annotated persons that every reader returns and everything downstream takes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np
import pandas as pd

from hpelib.skeletons import Skeleton

COLUMNS = {  # shape per person and dtype; "K" is the number of keypoints
    "image_paths": ((), object),
    "image_ids": ((), np.int64),
    "ids": ((), np.int64),
    "keypoints": (("K", 2), np.float32),
    "visibility": (("K",), np.uint8),
    "boxes": ((4,), np.float32),
    "centers": ((2,), np.float32),
    "sizes_px": ((2,), np.float32),
    "areas": ((), np.float32),
    "head_sizes_px": ((), np.float32),
    "scores": ((), np.float32),
}


@dataclass(frozen=True, eq=False)
class People:
    """N persons, one row each. Coordinates are continuous px: pixel centres at integers, origin top-left, x before y.

    Columns may be given in any numeric dtype, and those that a format lacks may be left out: the last ones, which have
    a default. Keypoints that are not labelled become NaN.

    Raises:
        ValueError: a shape or value is wrong. The message names the column and the ids of the persons.
    """

    skeleton: Skeleton
    _: KW_ONLY
    image_paths: np.ndarray  # (N,) str objects, readable as they stand
    image_ids: np.ndarray  # (N,)
    ids: np.ndarray  # (N,) annotation id, unique
    keypoints: np.ndarray  # (N, K, 2), NaN where visibility is 0
    visibility: np.ndarray  # (N, K), 0 not labelled, 1 labelled but occluded, 2 visible
    boxes: np.ndarray  # (N, 4) x, y, w, h
    centers: np.ndarray = None  # (N, 2) centre of the crop; by default that of the box
    sizes_px: np.ndarray = None  # (N, 2) w, h before the crop's aspect and 1.25 padding; by default those of the box
    areas: np.ndarray = None  # (N,) px^2, the area that OKS divides by; NaN where the format has none
    head_sizes_px: np.ndarray = None  # (N,) what PCKh divides by; NaN where the format has none
    scores: np.ndarray = None  # (N,) 1 for ground truth, the detector's score for detections
    factors: pd.DataFrame = None  # N rows; what is known of each person beyond the annotation, often no columns
    left_out: dict[str, int] = field(default_factory=dict)  # persons of the files who are not here, counted by reason

    def __post_init__(self):
        n, boxes, missing = len(self), np.asarray(self.boxes), np.full(len(self), np.nan)
        defaults = {"centers": boxes[:, :2] + boxes[:, 2:] / 2, "sizes_px": boxes[:, 2:], "scores": np.ones(n)}
        defaults |= {"areas": missing, "head_sizes_px": missing}
        columns = {name: defaults[name] if (given := getattr(self, name)) is None else given for name in COLUMNS}
        columns = {name: np.asarray(column).astype(COLUMNS[name][1]) for name, column in columns.items()}
        for name, column in columns.items():
            expected = (n, *(self.skeleton.num_keypoints if axis == "K" else axis for axis in COLUMNS[name][0]))
            if column.shape != expected:
                raise ValueError(f"People.{name} must be {expected} for {self.skeleton.name}, got {column.shape}")
        columns["keypoints"] = np.where(columns["visibility"][..., None] > 0, columns["keypoints"], np.nan)
        columns["factors"] = pd.DataFrame(index=range(n)) if self.factors is None else self.factors
        columns["left_out"] = {reason: int(count) for reason, count in self.left_out.items() if count}
        for name, column in columns.items():
            object.__setattr__(self, name, column)  # as the table cannot be changed afterwards
        self._check_values()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices) -> "People":
        """The persons at `indices` (positions, a boolean mask or a slice), in that order."""
        rows = np.arange(len(self))[indices]
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return replace(self, **columns, factors=self.factors.iloc[rows].reset_index(drop=True))

    def keep(self, kept: np.ndarray, reason: str) -> "People":
        """The persons where `kept` (N,) is true; the others are counted in `left_out` under `reason`."""
        left_out = Counter(self.left_out) + Counter({reason: (~kept).sum()})
        return replace(self.take(kept), left_out=left_out)

    def repeated(self) -> np.ndarray:
        """Whether an earlier person has the same keypoints in the same picture, (N,) bool."""
        keypoints = self.keypoints.reshape(len(self), -1)
        same = pd.DataFrame(keypoints).assign(image=self.image_ids).duplicated().to_numpy()
        return same & (self.visibility > 0).any(axis=1)

    def summary(self) -> str:
        """How many persons there are and how many were left out, by reason.

        Example: "6352 persons; left out: 227 crowds, 12 persons without a labelled keypoint".
        """
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        return f"{len(self)} persons" + (f"; left out: {reasons}" if reasons else "")

    @staticmethod
    def concatenate(parts: Sequence["People"]) -> "People":
        """All persons of several sets, one set after the other.

        Ids and image ids of every set after the first are raised above those before it, because sets count from the
        same numbers.

        Raises:
            ValueError: the sets have different skeletons, or there are none.
        """
        skeletons = sorted({part.skeleton.name for part in parts})
        if len(skeletons) != 1:
            raise ValueError(f"People.concatenate needs parts of one skeleton, got {skeletons or 'no parts'}")
        highest = [max(part.ids.max(), part.image_ids.max()) + 1 if len(part) else 0 for part in parts]
        offsets = np.cumsum([0, *highest[:-1]])
        parts = [
            replace(part, ids=part.ids + offset, image_ids=part.image_ids + offset)
            for part, offset in zip(parts, offsets, strict=True)
        ]
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
        factors = pd.concat([part.factors for part in parts], ignore_index=True)
        left_out = sum((Counter(part.left_out) for part in parts), Counter())
        return People(parts[0].skeleton, **columns, factors=factors, left_out=left_out)

    def describe(self) -> pd.DataFrame:
        """Counts: the first row is over all persons, each further row over those in whom one keypoint is labelled.

        Columns: persons, images, labelled and visible (keypoints), median_height_px (of the boxes).
        """
        labelled, visible = self.visibility > 0, self.visibility == 2
        rows = {"all": (np.ones(len(self), bool), slice(None))}
        rows |= {name: (labelled[:, k], k) for k, name in enumerate(self.skeleton.keypoints)}
        counts = {
            name: (
                persons.sum(),
                len(np.unique(self.image_ids[persons])),
                labelled[:, k].sum(),
                visible[:, k].sum(),
                pd.Series(self.boxes[persons, 3]).median(),
            )
            for name, (persons, k) in rows.items()
        }
        columns = ["persons", "images", "labelled", "visible", "median_height_px"]
        return pd.DataFrame.from_dict(counts, orient="index", columns=columns)

    def _check_values(self):
        if len(self.factors) != len(self):
            raise ValueError(f"People.factors must have {len(self)} rows, one per person, got {len(self.factors)}")
        ids, counts = np.unique(self.ids, return_counts=True)
        rules = {
            "ids must be unique": np.isin(self.ids, ids[counts > 1]),
            "visibility must be 0, 1 or 2": (self.visibility > 2).any(1),
            "keypoints must be finite where visibility is 1 or 2": (
                np.isfinite(self.keypoints) != (self.visibility > 0)[..., None]
            ).any((1, 2)),
            "boxes must be finite": ~np.isfinite(self.boxes).all(1),
            "centers must be finite": ~np.isfinite(self.centers).all(1),
            "sizes_px must be finite, not negative, and positive in one side at least": (
                ~np.isfinite(self.sizes_px).all(1) | (self.sizes_px < 0).any(1) | (self.sizes_px == 0).all(1)
            ),
            "areas must be positive, or NaN": (self.areas <= 0) | np.isinf(self.areas),
            "head_sizes_px must be positive, or NaN": (self.head_sizes_px <= 0) | np.isinf(self.head_sizes_px),
            "scores must be finite": ~np.isfinite(self.scores),
        }
        for rule, broken in rules.items():
            if broken.any():
                raise ValueError(f"People: {rule}; not so for {broken.sum()} person(s), ids {self.ids[broken][:5]}")
