"""The table of annotated persons that every reader returns and everything downstream takes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

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

    Raises:
        ValueError: a shape, dtype or value is wrong. The message names the column and the ids of the persons.
    """

    skeleton: Skeleton
    image_paths: np.ndarray  # (N,) str objects, readable as they stand
    image_ids: np.ndarray  # (N,)
    ids: np.ndarray  # (N,) annotation id, unique
    keypoints: np.ndarray  # (N, K, 2), NaN where visibility is 0
    visibility: np.ndarray  # (N, K), 0 not labelled, 1 labelled but occluded, 2 visible
    boxes: np.ndarray  # (N, 4) x, y, w, h
    centers: np.ndarray  # (N, 2) centre of the crop
    sizes_px: np.ndarray  # (N, 2) w, h of the person before the crop's aspect and 1.25 padding
    areas: np.ndarray  # (N,) px^2, the area that OKS divides by; NaN where the format has none
    head_sizes_px: np.ndarray  # (N,) what PCKh divides by; NaN where the format has none
    scores: np.ndarray  # (N,) 1 for ground truth, the detector's score for detections
    factors: pd.DataFrame  # N rows; what is known of each person beyond the annotation, often no columns
    left_out: dict[str, int] = field(default_factory=dict)  # persons of the files who are not here, counted by reason

    def __post_init__(self):
        self._check_columns()
        self._check_values()

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def build(
        skeleton: Skeleton,
        *,
        image_paths: np.ndarray,
        image_ids: np.ndarray,
        ids: np.ndarray,
        keypoints: np.ndarray,
        visibility: np.ndarray,
        boxes: np.ndarray,
        centers: np.ndarray | None = None,
        sizes_px: np.ndarray | None = None,
        areas: np.ndarray | None = None,
        head_sizes_px: np.ndarray | None = None,
        scores: np.ndarray | None = None,
        factors: pd.DataFrame | None = None,
        left_out: dict[str, int] | None = None,
    ) -> "People":
        """People from columns of any numeric dtype; keypoints that are not labelled become NaN.

        A column that the format lacks may be left out. Then centre and size are those of the box, scores are 1, areas
        and head sizes are NaN, and factors have no columns. Reasons in `left_out` that apply to nobody are dropped.
        """
        n = len(ids)
        columns = {
            "image_paths": image_paths,
            "image_ids": image_ids,
            "ids": ids,
            "keypoints": np.where(visibility[..., None] > 0, keypoints, np.nan),
            "visibility": visibility,
            "boxes": boxes,
            "centers": boxes[:, :2] + boxes[:, 2:] / 2 if centers is None else centers,
            "sizes_px": boxes[:, 2:] if sizes_px is None else sizes_px,
            "areas": np.full(n, np.nan) if areas is None else areas,
            "head_sizes_px": np.full(n, np.nan) if head_sizes_px is None else head_sizes_px,
            "scores": np.ones(n) if scores is None else scores,
        }
        columns = {name: np.asarray(values).astype(COLUMNS[name][1]) for name, values in columns.items()}
        factors = pd.DataFrame(index=range(n)) if factors is None else factors
        counts = {reason: int(count) for reason, count in (left_out or {}).items() if count}
        return People(skeleton, **columns, factors=factors, left_out=counts)

    def take(self, indices) -> "People":
        """The persons at `indices` (positions, a boolean mask or a slice), in that order."""
        rows = np.arange(len(self))[indices]
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return replace(self, **columns, factors=self.factors.iloc[rows].reset_index(drop=True))

    def keep(self, kept: np.ndarray, reason: str) -> "People":
        """The persons where `kept` (N,) is true; the others are counted in `left_out` under `reason`."""
        left_out = dict(self.left_out)
        if not kept.all():
            left_out[reason] = left_out.get(reason, 0) + int((~kept).sum())
        return replace(self.take(kept), left_out=left_out)

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
        return People(parts[0].skeleton, **columns, factors=factors, left_out=dict(left_out))

    def describe(self) -> pd.DataFrame:
        """Counts: the first row is over all persons, each further row over those in whom one keypoint is labelled.

        Columns: persons, images, labelled and visible (keypoints), median_height_px (of the boxes).
        """
        labelled, visible = self.visibility > 0, self.visibility == 2
        everyone = np.ones(len(self), bool)
        rows = {"all": (everyone, slice(None))}
        rows |= {name: (labelled[:, k], k) for k, name in enumerate(self.skeleton.keypoints)}
        return pd.DataFrame.from_dict(
            {
                name: {
                    "persons": persons.sum(),
                    "images": len(np.unique(self.image_ids[persons])),
                    "labelled": labelled[:, k].sum(),
                    "visible": visible[:, k].sum(),
                    "median_height_px": pd.Series(self.boxes[persons, 3]).median(),
                }
                for name, (persons, k) in rows.items()
            },
            orient="index",
        ).astype({"persons": int, "images": int, "labelled": int, "visible": int})

    def _check_columns(self):
        for name, (shape, dtype) in COLUMNS.items():
            column = getattr(self, name)
            expected = (len(self), *(self.skeleton.num_keypoints if axis == "K" else axis for axis in shape))
            if column.shape != expected or column.dtype != dtype:
                raise ValueError(
                    f"People.{name} must be {expected} of {np.dtype(dtype)} for {self.skeleton.name}, "
                    f"got {column.shape} of {column.dtype}"
                )
        if len(self.factors) != len(self):
            raise ValueError(f"People.factors must have {len(self)} rows, one per person, got {len(self.factors)}")

    def _check_values(self):
        ids, counts = np.unique(self.ids, return_counts=True)
        rules = {
            "ids must be unique": np.isin(self.ids, ids[counts > 1]),
            "visibility must be 0, 1 or 2": (self.visibility > 2).any(1),
            "keypoints must be numbers where visibility is 1 or 2 and NaN where it is 0": (
                np.isnan(self.keypoints) != (self.visibility == 0)[..., None]
            ).any((1, 2))
            | np.isinf(self.keypoints).any((1, 2)),
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
