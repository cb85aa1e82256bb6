"""COCO keypoint figures, and the steps between a network's keypoints and the results file that they read.

Sources: the COCO keypoint evaluation (pycocotools is the reference and does the scoring here); rescoring and
OKS-NMS as in the official code of SimpleBaseline (Xiao et al. 2018, section 3) and HRNet (Sun et al. 2019).
"""

import contextlib
import io
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hpelib.data.coco import read_document, unique_ids
from hpelib.data.files import column, read_json, reject
from hpelib.skeletons import COCO17

FIGURES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")  # in the order of COCOeval.stats
RESULT_FIELDS = {"image_id", "category_id", "keypoints", "score"}
PERSON = 1  # COCO's category id
SOFT_NMS_LIMIT = 20  # persons of an image that soft OKS-NMS keeps, as many as COCO scores


def coco_ap(ground_truth_json: str | Path, results: list[dict] | str | Path) -> dict[str, float]:
    """The ten COCO keypoint figures by name, in percent (0 to 100).

    `results` is a COCO results list or the path of one. All images of the ground truth count, those without a
    result as missed. A figure without any ground truth (no large person, say) is NaN; without results all are 0.
    Which boxes the results come from (annotated or detected) decides two points of AP: say so where you print it.

    Raises FileNotFoundError for a missing file, and ValueError for what pycocotools stumbles over or scores wrongly in
    silence: fields that are missing or no finite numbers, results for images that the ground truth does not have,
    persons there with an id of 0, another category id than 1 or no area to measure OKS by.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports progress
        truth = _load_truth(ground_truth_json)
        evaluation = COCOeval(truth, _load_results(truth, results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = dict(zip(FIGURES, evaluation.stats.tolist(), strict=True))
    return {name: 100 * value if value >= 0 else np.nan for name, value in figures.items()}


def _load_truth(path: str | Path) -> COCO:
    """The persons of an annotation file, other categories left out."""
    document = read_document(path, "images", "annotations", "categories")
    people = [category for category in document["categories"] if category.get("id") == PERSON]
    if [category.get("name") for category in people] != ["person"]:
        raise ValueError(f"{path}: category {PERSON} must be 'person', as results have it, got {people!r:.120}")
    source = f"{path}: annotations"
    persons = [{"iscrowd": 0} | person for person in document["annotations"] if person.get("category_id") == PERSON]
    ids = unique_ids(persons, source)
    reject(ids < 1, source, "ids below 1, which pycocotools takes for no match", ids)
    column(persons, "bbox", source, (4,))
    labelled = (column(persons, "keypoints", source, (3 * COCO17.num_keypoints,))[:, 2::3] > 0).any(1)
    counted = column(persons, "num_keypoints", source, dtype=np.int64) > 0
    reject(labelled != counted, source, "whose 'num_keypoints' is not that of its 'keypoints', by id", ids)
    areas = column(persons, "area", source)
    reject(labelled & (areas <= 0), source, "without a positive 'area', which OKS is measured by, by id", ids)
    truth = COCO()
    truth.dataset = document | {"annotations": persons, "categories": people}
    truth.createIndex()
    return truth


def _load_results(truth: COCO, results: list[dict] | str | Path) -> COCO:
    if isinstance(results, str | Path):
        results = read_json(results)
    if not isinstance(results, list):
        raise ValueError(f"results must be a list of COCO results, got {type(results).__name__}")
    if not results:  # pycocotools cannot load an empty list
        empty = COCO()
        empty.dataset = truth.dataset | {"annotations": []}
        empty.createIndex()
        return empty
    for position, result in enumerate(results):
        if missing := RESULT_FIELDS - result.keys():
            raise ValueError(f"result {position} lacks {sorted(missing)}")
    column(results, "keypoints", "results", (3 * COCO17.num_keypoints,))
    column(results, "score", "results")
    others = column(results, "category_id", "results", dtype=np.int64) != PERSON
    reject(others, "results", f"of a category other than {PERSON} (person), by position", range(len(results)))
    if unknown := {result["image_id"] for result in results} - set(truth.getImgIds()):
        raise ValueError(f"results for images that are not in the ground truth: {sorted(unknown)[:5]}")
    return truth.loadRes([dict(result) for result in results])  # copies, as loadRes adds fields to what it is given


def keypoint_similarity(keypoints: np.ndarray, reference: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Similarity of each COCO keypoint to its reference, 0 to 1, the mean of which over a person's keypoints is OKS.

    exp(-d^2 / (2 area k^2)) with k = 2 sigma, as in pycocotools; NaN where either is NaN.

    Shapes: keypoints and reference (..., 17, 2) px, areas (...) px^2 -> (..., 17); leading axes broadcast.
    """
    variances = np.square(2 * np.array(COCO17.sigmas))  # (17,)
    squares = np.square(np.subtract(keypoints, reference, dtype=np.float64))
    distances_squared = squares[..., 0] + squares[..., 1]  # (..., 17); far faster than to sum so short an axis
    return np.exp(-distances_squared / (2 * variances * (np.asarray(areas, np.float64)[..., None] + np.spacing(1))))


def oks_nms(keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float = 0.9) -> np.ndarray:
    """Indices of the persons of one image that stay when near-copies of better ones go, best first.

    A person goes when its OKS with a kept one is above `threshold`; OKS is over all 17 keypoints and the mean of the
    two areas. Equals the official hard OKS-NMS of HRNet, among equal scores the later person first.

    Shapes: keypoints (N, 17, 3) x, y, score; scores (N,); areas (N,) px^2 -> (M,) int.
    """
    points, scores, areas = _check_persons(keypoints, scores, areas)
    order = np.argsort(scores, kind="stable")[::-1]
    near = _oks(points[order], areas[order]) > threshold
    stays = np.ones(len(order), bool)
    for place, copies in enumerate(near):
        if stays[place]:
            stays[place + 1 :] &= ~copies[place + 1 :]
    return order[stays]


def soft_oks_nms(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, threshold: float = 0.9, limit: int = SOFT_NMS_LIMIT
) -> np.ndarray:
    """Indices of the `limit` persons of one image that stay when near-copies of better ones lose score, best first.

    Each person who is kept multiplies the scores of the rest by exp(-OKS^2 / threshold), and the best of these is
    next. Equals the official soft OKS-NMS of HRNet (`soft_oks_nms` of lib/nms/nms.py), which leaves the scores in the
    results file as they were: near-copies go only where an image has more than `limit` persons.

    Shapes as for `oks_nms`.
    """
    points, scores, areas = _check_persons(keypoints, scores, areas)
    order = np.argsort(scores, kind="stable")[::-1]
    scores = scores[order].astype(np.float64)
    decay = np.exp(-np.square(_oks(points, areas)) / threshold)
    kept = []
    while order.size and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(best)
        scores = scores[1:] * decay[best, order]
        again = np.argsort(scores, kind="stable")[::-1]
        order, scores = order[again], scores[again]
    return np.array(kept, dtype=np.int64)


NMS = {"hard": oks_nms, "soft": soft_oks_nms}


def _check_persons(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 17, 2), scores (N,) and areas (N,) of one image's persons."""
    keypoints, scores, areas = np.asarray(keypoints), np.asarray(scores), np.asarray(areas, np.float64)
    if keypoints.shape != (len(scores), COCO17.num_keypoints, 3) or areas.shape != scores.shape:
        raise ValueError(
            f"expected keypoints (N, 17, 3), scores (N,), areas (N,), "
            f"got {keypoints.shape}, {scores.shape}, {areas.shape}"
        )
    return keypoints[..., :2], scores, areas


def _oks(points: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """OKS of all pairs of persons (N, N), over all keypoints and the mean of the two areas."""
    return keypoint_similarity(points[:, None], points, (areas[:, None] + areas) / 2).mean(-1)


def rescore(box_scores: np.ndarray, keypoint_scores: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """Person scores (N,): box score x mean of the keypoint scores (N, 17) above `threshold`, 0 where none is.

    As in the official code of HRNet and SimpleBaseline; with annotated boxes the box score is 1.
    """
    confident = np.asarray(keypoint_scores) > threshold  # (N, K)
    totals = np.where(confident, keypoint_scores, 0).sum(1, dtype=np.float64)
    return np.asarray(box_scores, np.float64) * totals / np.maximum(confident.sum(1), 1)


def coco_results(
    image_ids: np.ndarray,
    keypoints: np.ndarray,
    keypoint_scores: np.ndarray,
    box_scores: np.ndarray,
    areas: np.ndarray,
    nms_threshold: float = 0.9,
    nms: str = "hard",
) -> list[dict]:
    """COCO results of predicted persons: rescored, OKS-NMS within each image, by image and best first.

    Shapes: image_ids (N,), keypoints (N, 17, 2) image px, keypoint_scores (N, 17), box_scores (N,), areas (N,) px^2
    of the padded crop (1.25 per side), which the official code takes as the area of a prediction. `nms` is "hard"
    (`oks_nms`) or "soft" (`soft_oks_nms`).
    """
    scores = rescore(box_scores, keypoint_scores)
    poses = np.concatenate([keypoints, np.asarray(keypoint_scores)[..., None]], axis=-1, dtype=np.float64)  # (N, 17, 3)
    results = []
    order = np.argsort(image_ids, kind="stable")
    found_ids, starts = np.unique(np.asarray(image_ids)[order], return_index=True)
    for image_id, persons in zip(found_ids, np.split(order, starts)[1:], strict=True):
        for person in persons[NMS[nms](poses[persons], scores[persons], areas[persons], nms_threshold)]:
            results.append(
                {
                    "image_id": int(image_id),
                    "category_id": PERSON,
                    "keypoints": poses[person].ravel().tolist(),
                    "score": float(scores[person]),
                }
            )
    return results
