"""The metrics of each annotation format, under the names that every table uses. All in percent."""

import numpy as np
import pandas as pd

from hpelib.data.crops import crop_regions
from hpelib.data.people import People
from hpelib.formats import FORMATS
from hpelib.metrics.accuracy import (
    CURVE_THRESHOLDS,
    LEGACY_PCKH_THRESHOLD,
    area_under_curve,
    hits,
    normalised_errors,
    pck,
    pckh,
    pckh_curve,
    torso_size,
)
from hpelib.metrics.coco import coco_ap, coco_results, keypoint_similarity
from hpelib.study.config import Dataset


def scorable(dataset: Dataset, people: People) -> People:
    """The persons that the format's metric is defined for: on LSP and LSPET those whose torso is labelled."""
    if dataset.format in ("lsp", "lspet"):
        return people.take(torso_size(people.keypoints) > 0)
    return people


def keypoint_scores(dataset: Dataset, people: People, keypoints: np.ndarray) -> np.ndarray:
    """How right each keypoint (N, K, 2) is, 0 to 1: OKS similarity, or a hit at PCKh@0.5 or PCK@0.2; (N, K).

    NaN where a keypoint is not labelled or the format does not score it.
    """
    if dataset.format == "coco":
        return keypoint_similarity(keypoints, people.keypoints, people.areas)
    threshold = 0.5 if dataset.format == "mpii" else 0.2
    hit = hits(keypoints, people.keypoints, people.visibility, _sizes(dataset, people), threshold)
    hit[:, people.skeleton.unscored] = np.nan
    return hit


def keypoint_figure(dataset: Dataset, people: People, keypoints: np.ndarray) -> dict[str, float]:
    """The mean of `keypoint_scores` under its name."""
    return {
        FORMATS[dataset.format].keypoint_metric: 100 * float(np.nanmean(keypoint_scores(dataset, people, keypoints)))
    }


def figures(
    dataset: Dataset, people: People, keypoints: np.ndarray, scores: np.ndarray, nms: str = "hard"
) -> dict[str, float]:
    """All figures of the format for predictions from annotated boxes; joint groups by their names."""
    match dataset.format:
        case "coco":
            similarity = keypoint_scores(dataset, people, keypoints)
            groups = {
                group: 100 * float(np.nanmean(similarity[:, members]))
                for group, members in people.skeleton.groups.items()
            }
            results = person_results(people, keypoints, scores, nms)
            truth = dataset.root / dataset.splits["test"]["annotations"]
            ap = {f"{name}_gt": value for name, value in coco_ap(truth, results).items()}
            return ap | keypoint_figure(dataset, people, keypoints) | groups
        case "mpii":
            case = (keypoints, people.keypoints, people.visibility, people.head_sizes_px)
            by_group = pckh(*case)
            mean = by_group.pop("Mean")
            curve = pckh_curve(*case)
            return {
                "PCKh@0.5": mean,
                "PCKh@0.1": pckh(*case, threshold=0.1)["Mean"],
                "PCKh@0.11 (legacy)": pckh(*case, threshold=LEGACY_PCKH_THRESHOLD)["Mean"],
                "AUC": area_under_curve(curve),
            } | by_group
        case _:
            by_group = pck(keypoints, people.keypoints, people.visibility, torso_size(people.keypoints))
            return {"PCK@0.2": by_group.pop("Mean")} | by_group


def detection_figures(
    dataset: Dataset, detections: People, keypoints: np.ndarray, scores: np.ndarray, nms: str = "hard"
) -> dict[str, float]:
    """The COCO figures for predictions from a detector's boxes."""
    truth = dataset.root / dataset.splits["test"]["annotations"]
    results = person_results(detections, keypoints, scores, nms)
    return {f"{name}_det": value for name, value in coco_ap(truth, results).items()}


def person_results(people: People, keypoints: np.ndarray, scores: np.ndarray, nms: str = "hard") -> list[dict]:
    """COCO results after rescoring and OKS-NMS; the area is that of the padded box, with the official code's 3:4."""
    width_px, height_px = crop_regions(people.centers, people.sizes_px, (3, 4)).T
    return coco_results(people.image_ids, keypoints, scores, people.scores, width_px * height_px, nms=nms)


def curve(dataset: Dataset, people: People, keypoints: np.ndarray) -> pd.DataFrame:
    """Share of keypoints, in percent, within each threshold of the truth: columns threshold and correct.

    Thresholds are fractions of the head size (MPII) or torso (LSP); on COCO 1 - similarity takes their place.
    """
    if dataset.format == "mpii":
        case = (people.keypoints, people.visibility, people.head_sizes_px)
        return pd.DataFrame({"threshold": CURVE_THRESHOLDS, "correct": pckh_curve(keypoints, *case)})
    if dataset.format == "coco":
        errors = 1 - keypoint_scores(dataset, people, keypoints)
    else:
        errors = normalised_errors(keypoints, people.keypoints, people.visibility, torso_size(people.keypoints))
    errors = errors[~np.isnan(errors)]
    correct = [100 * float((errors <= threshold).mean()) for threshold in CURVE_THRESHOLDS]
    return pd.DataFrame({"threshold": CURVE_THRESHOLDS, "correct": correct})


def _sizes(dataset: Dataset, people: People) -> np.ndarray:
    return people.head_sizes_px if dataset.format == "mpii" else torso_size(people.keypoints)
