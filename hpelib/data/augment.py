"""Geometric training augmentation with the sampling rules of the official HRNet code, or those of MMPose 1.x.

All random numbers of an epoch are drawn at once, one row for each person. So a person's augmentation depends on seed,
epoch and person alone, and not on workers, processes or the order of batches.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.special import ndtr, ndtri

from hpelib.data.crops import crop_regions
from hpelib.data.people import People
from hpelib.layers.choices import NotNegative, Share, Whole, require_choice, require_types

HALF_BODY_PADDING = 1.5


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the augmentation, by default those of HRNet on COCO. `draw` says how each is used."""

    scale_factor: Annotated[float, Field(ge=0, lt=1)] = 0.35
    rotation_deg: NotNegative = 45.0
    rotation_probability: Share = 0.6
    flip_probability: Share = 0.5
    half_body_probability: Share = 0.3
    half_body_min_keypoints: Whole = 8
    shift_factor: NotNegative = 0.0  # of the region's sides
    shift_probability: Share = 0.0
    sampling: str = "clipped"  # as HRNet draws scale and angle, or "truncated" as MMPose does

    def __post_init__(self):
        require_types("augmentation", Augmentation, vars(self))
        require_choice("augmentation: sampling", self.sampling, ("clipped", "truncated"))


@dataclass(frozen=True)
class CropPlan:
    """The regions to cut for N persons, and who is mirrored afterwards."""

    centers: np.ndarray  # (N, 2) float64 image px
    sizes_px: np.ndarray  # (N, 2) float64 image px, padded
    rotations_deg: np.ndarray  # (N,) float64
    flips: np.ndarray  # (N,) bool


def plain(people: People, input_size: tuple[int, int]) -> CropPlan:
    """The plan without augmentation: every person upright and whole."""
    sizes_px = crop_regions(people.centers, people.sizes_px, input_size)
    return CropPlan(people.centers.astype(np.float64), sizes_px, np.zeros(len(people)), np.zeros(len(people), bool))


def draw(people: People, augmentation: Augmentation, input_size: tuple[int, int], seed: int, epoch: int) -> CropPlan:
    """The plan of one epoch over all of `people`.

    With `sampling` "clipped", as in the official HRNet code: scale ~ N(1, scale_factor), clipped to 1 +- scale_factor;
    with `rotation_probability` an angle ~ N(0, rotation_deg), clipped to +-2 rotation_deg. With "truncated", as in
    MMPose (`RandomBBoxTransform`): scale 1 + scale_factor z and angle rotation_deg z, where each z is a standard normal
    number between -1 and 1.

    With both: persons with more than `half_body_min_keypoints` labelled keypoints are reduced to half a body, with
    `half_body_probability`; crops are mirrored with `flip_probability`; and with `shift_probability` the centre moves
    by shift_factor z of each side of the region (in MMPose: of the box).
    """
    random = np.random.default_rng([seed, epoch])
    # every row takes the same draws whatever the probabilities, so that ablations share their randomness
    normal = random.standard_normal((len(people), 3))
    uniform = random.random((len(people), 3))
    shift_normal, shift_uniform = random.standard_normal((len(people), 2)), random.random(len(people))

    whole = plain(people, input_size)
    centers, sizes_px = half_bodies(people, input_size, prefer_upper=normal[:, 0] < 0.5)
    eligible = (people.visibility > 0).sum(1) > augmentation.half_body_min_keypoints
    chosen = eligible & (uniform[:, 0] < augmentation.half_body_probability) & np.isfinite(sizes_px).all(1)
    chosen = chosen[:, None]
    spread, angle = augmentation.scale_factor, augmentation.rotation_deg
    if augmentation.sampling == "truncated":
        scales, rotations_deg = 1 + spread * _truncated(normal[:, 1]), angle * _truncated(normal[:, 2])
    else:
        scales = np.clip(1 + spread * normal[:, 1], 1 - spread, 1 + spread)
        rotations_deg = np.clip(angle * normal[:, 2], -2 * angle, 2 * angle)
    sizes_px = np.where(chosen, sizes_px, whole.sizes_px)
    shifted = shift_uniform < augmentation.shift_probability
    shifts = np.where(shifted[:, None], augmentation.shift_factor * _truncated(shift_normal), 0)
    return CropPlan(
        centers=np.where(chosen, centers, whole.centers) + shifts * sizes_px,
        sizes_px=sizes_px * scales[:, None],
        rotations_deg=np.where(uniform[:, 1] < augmentation.rotation_probability, rotations_deg, 0),
        flips=uniform[:, 2] < augmentation.flip_probability,
    )


def _truncated(normal: np.ndarray) -> np.ndarray:
    """Standard normal numbers, moved to numbers of the same rank from a standard normal between -1 and 1."""
    return ndtri(ndtr(-1) + ndtr(normal) * (ndtr(1) - ndtr(-1)))


def half_bodies(people: People, input_size: tuple[int, int], prefer_upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres and padded sizes of the persons' upper or lower halves, both (N, 2) image px.

    A half is usable with two labelled keypoints or more; sizes are NaN where the chosen half is not. The upper half is
    chosen where it is preferred and has more than two labelled keypoints, or where the lower half has two at most.

    Shapes: prefer_upper (N,) bool.
    """
    labelled = people.visibility > 0  # (N, K)
    upper_keypoints = np.isin(np.arange(people.skeleton.num_keypoints), people.skeleton.upper_body)
    upper_count, lower_count = (labelled & upper_keypoints).sum(1), (labelled & ~upper_keypoints).sum(1)
    upper = (prefer_upper & (upper_count > 2)) | (lower_count <= 2)
    selected = labelled & (upper_keypoints == upper[:, None])  # (N, K)

    count = selected.sum(1)[:, None]
    keypoints = people.keypoints.astype(np.float64)
    centers = np.where(selected[..., None], keypoints, 0).sum(1) / np.maximum(count, 1)
    lowest = np.where(selected[..., None], keypoints, np.inf).min(1)
    highest = np.where(selected[..., None], keypoints, -np.inf).max(1)
    usable = (count[:, 0] >= 2) & (highest > lowest).any(1) & bool(people.skeleton.upper_body)
    sizes_px = np.where(usable[:, None], highest - lowest, 1)
    sizes_px = crop_regions(centers, sizes_px, input_size, HALF_BODY_PADDING)
    return centers, np.where(usable[:, None], sizes_px, np.nan)
