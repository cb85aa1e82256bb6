"""Percentage of correct keypoints: PCKh on MPII and PCK on LSP, from one matrix of hits.

Sources: PCKh from Andriluka et al. 2014 as the official HRNet code computes it; PCK on LSP from Yang and Ramanan 2013
as in bearpaw/eval_pose. Both count a keypoint whose error is exactly the threshold. Keypoints are scored where they are
labelled (visibility above 0), occluded or not.
"""

import numpy as np

from hpelib.skeletons import LSP14, MPII16, Skeleton

# HRNet and SimpleBaseline print PCKh at this threshold as "Mean@0.1": their index 11 into steps of 0.01 was to be 0.10
LEGACY_PCKH_THRESHOLD = 0.11
CURVE_THRESHOLDS = np.arange(51) / 100  # 0, 0.01, ..., 0.5


def pckh(
    pred: np.ndarray, gt: np.ndarray, visible: np.ndarray, head_size: np.ndarray, threshold: float = 0.5
) -> dict[str, float]:
    """MPII's PCKh in percent: Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle and Mean.

    A group is the plain average of left and right; Head is the head top alone. Mean is over all labelled keypoints
    without pelvis and thorax, so that a keypoint counts as often as it is labelled. A figure is NaN where none of its
    keypoints is labelled.

    Shapes: pred and gt (N, 16, 2) px, visible (N, 16), head_size (N,) px: 0.6 x diagonal of the head box.

    Raises:
        ValueError: as for `normalised_errors`.
    """
    return _figures(hits(pred, gt, visible, head_size, threshold), MPII16)


def pck(
    pred: np.ndarray, gt: np.ndarray, visible: np.ndarray, torso_size: np.ndarray, threshold: float = 0.2
) -> dict[str, float]:
    """LSP's person-centric PCK in percent, with the names of `pckh`; Head is head top and neck.

    Mean is over all labelled keypoints; all 14 are scored.

    Shapes: pred and gt (N, 14, 2) px, visible (N, 14), torso_size (N,) px from `torso_size(gt)`.

    Raises:
        ValueError: as for `normalised_errors`.
    """
    return _figures(hits(pred, gt, visible, torso_size, threshold), LSP14)


def torso_size(gt: np.ndarray) -> np.ndarray:
    """Distance in px from left shoulder to right hip, (N,), of LSP keypoints (N, 14, 2); NaN where one is missing."""
    return np.linalg.norm(gt[:, LSP14.index("left_shoulder")] - gt[:, LSP14.index("right_hip")], axis=-1)


def shares_within(errors: np.ndarray) -> np.ndarray:
    """Share of the errors, in percent, within each of `CURVE_THRESHOLDS`, (51,); errors that are NaN do not count."""
    errors = errors[~np.isnan(errors)]
    return np.array([_percent(errors <= threshold) for threshold in CURVE_THRESHOLDS])


def area_under_curve(shares: np.ndarray) -> float:
    """Area under `shares_within` over the range of its thresholds, in percent: 100 where every error is zero."""
    return float(np.trapezoid(shares, CURVE_THRESHOLDS) / np.ptp(CURVE_THRESHOLDS))


def hits(pred: np.ndarray, gt: np.ndarray, visible: np.ndarray, size: np.ndarray, threshold: float) -> np.ndarray:
    """1 where a keypoint lies within threshold x size of the truth, 0 where not, NaN where not labelled: (N, K).

    A prediction that is NaN is a miss. Shapes and errors are those of `normalised_errors`.
    """
    errors = normalised_errors(pred, gt, visible, size)
    return np.where(np.isnan(errors), np.nan, errors <= threshold)


def normalised_errors(pred: np.ndarray, gt: np.ndarray, visible: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Distance to the truth over the person's size, (N, K): NaN where not labelled, infinite where not predicted.

    Shapes: pred and gt (N, K, 2) px, visible (N, K), size (N,) px.

    Raises:
        ValueError: shapes disagree, a labelled keypoint has no position, or a person with labelled keypoints has no
            positive size.
    """
    pred, gt, size = (np.asarray(array, np.float64) for array in (pred, gt, size))
    labelled = np.asarray(visible) > 0
    N, K = labelled.shape
    if pred.shape != (N, K, 2) or gt.shape != (N, K, 2) or size.shape != (N,):
        shapes = pred.shape, gt.shape, size.shape
        raise ValueError(f"expected pred and gt {(N, K, 2)} and sizes {(N,)} for visible {(N, K)}, got {shapes}")
    if lost := np.argwhere(labelled & np.isnan(gt).any(-1)).tolist():
        raise ValueError(f"labelled but NaN in the truth: person, keypoint {lost[:5]}")
    if sizeless := np.flatnonzero(labelled.any(1) & ~(size > 0)).tolist():
        raise ValueError(f"persons {sizeless[:5]} have labelled keypoints but no positive size")
    errors = np.full((N, K), np.nan)
    distances = np.linalg.norm(pred - gt, axis=-1) / np.where(size > 0, size, np.nan)[:, None]
    errors[labelled] = np.nan_to_num(distances[labelled], nan=np.inf)
    return errors


def errors_px(pred: np.ndarray, gt: np.ndarray, visible: np.ndarray) -> dict[str, float]:
    """Median and 90th percentile of the distance to the truth, over all labelled keypoints, in px of the picture.

    Shapes: pred and gt (N, K, 2) px, visible (N, K).
    """
    distances = np.linalg.norm(np.subtract(pred, gt, dtype=np.float64), axis=-1)[np.asarray(visible) > 0]
    median, most = np.quantile(distances, (0.5, 0.9))
    return {"median_px": float(median), "p90_px": float(most)}


def _figures(hit: np.ndarray, skeleton: Skeleton) -> dict[str, float]:
    if hit.shape[1] != skeleton.num_keypoints:
        raise ValueError(f"{skeleton.name} has {skeleton.num_keypoints} keypoints, got {hit.shape[1]}")
    per_keypoint = np.array([_percent(column) for column in hit.T])
    figures = {group: float(per_keypoint[list(members)].mean()) for group, members in skeleton.groups.items()}
    return figures | {"Mean": _percent(np.delete(hit, skeleton.unscored, axis=1))}


def _percent(hit: np.ndarray) -> float:
    labelled = hit[~np.isnan(hit)]
    return 100 * float(labelled.mean()) if labelled.size else np.nan
