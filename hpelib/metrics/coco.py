"""COCO keypoint figures, and the steps between a network's keypoints and the results file that they read.

Sources: the COCO keypoint evaluation (pycocotools, the reference, does the scoring here); rescoring and OKS-NMS as in
the official code of SimpleBaseline (Xiao et al. 2018, section 3) and HRNet (Sun et al. 2019). Arrays of keypoints may
have another number K of them than COCO's 17 where another skeleton, or its sigmas, are given.
"""

import contextlib
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hpelib.data.coco import crowd_flags, person_category, read_document, unique_ids
from hpelib.data.files import column, read_json, reject
from hpelib.skeletons import COCO17, Skeleton

FIGURES = {  # what each figure is taken of: precision or recall, the OKS threshold (None: all ten), the size of persons
    "AP": ("precision", None, "all"),
    "AP50": ("precision", 0.5, "all"),
    "AP75": ("precision", 0.75, "all"),
    "APM": ("precision", None, "medium"),
    "APL": ("precision", None, "large"),
    "AR": ("recall", None, "all"),
    "AR50": ("recall", 0.5, "all"),
    "AR75": ("recall", 0.75, "all"),
    "ARM": ("recall", None, "medium"),
    "ARL": ("recall", None, "large"),
}
OKS_THRESHOLDS = np.arange(0.5, 1, 0.05)
PERSON = 1  # COCO's category id
MAX_PERSONS = 20  # results of an image that COCO scores


def coco_ap(
    ground_truth_json: str | Path,
    results: list[dict] | str | Path,
    skeleton: Skeleton = COCO17,
    ids: Collection[int] | None = None,
    max_persons: int = MAX_PERSONS,
) -> dict[str, float]:
    """The ten COCO keypoint figures by name, in percent (0 to 100).

    `results` is a COCO results list or the path of one. An image of the ground truth without a result counts as missed.
    A figure without any ground truth (no large person, for example) is NaN; without results all others are 0. Say
    beside the figures which boxes the results come from: annotated and detected boxes differ by about two points of AP.

    `ids` are the annotations to score, all where it is left out. Other persons cost nothing: neither whether they are
    found, nor a result that fits them. Of each image the `max_persons` best results are scored, 20 in COCO. A set of
    one's own with more persons in an image needs a larger number, or their persons count as missed.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: pycocotools would stop at something or score it wrongly without a word. Examples are missing
            fields, numbers that are not finite, results for unknown images or of another category id than 1, persons
            with id 0 or no area to measure OKS by.
    """
    evaluation = _evaluation(load_truth(ground_truth_json, skeleton), skeleton, ids, max_persons)
    _score(evaluation, results, skeleton)
    return {name: _figure(evaluation, *of) for name, of in FIGURES.items()}


def average_precisions(
    ground_truth_json: str | Path,
    variants: Iterable[list[dict]],
    skeleton: Skeleton = COCO17,
    ids: Collection[int] | None = None,
    max_persons: int = MAX_PERSONS,
) -> list[float]:
    """The figure AP of `coco_ap` for each of several COCO results lists, in percent (0 to 100).

    This takes half the time: the ground truth is read once, and no figures are taken by the size of persons.

    Raises:
        FileNotFoundError, ValueError: as for `coco_ap`.
    """
    evaluation = _evaluation(load_truth(ground_truth_json, skeleton), skeleton, ids, max_persons)
    everybody = evaluation.params.areaRngLbl.index("all")
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [evaluation.params.areaRng[everybody]], ["all"]
    found = []
    for results in variants:
        _score(evaluation, results, skeleton)
        found.append(_figure(evaluation, *FIGURES["AP"]))
    return found


def _evaluation(truth: COCO, skeleton: Skeleton, ids: Collection[int] | None, max_persons: int) -> COCOeval:
    """An evaluation for `_score`, by which only the persons `ids` count."""
    if ids is not None:
        scored = set(ids)
        for person in truth.dataset["annotations"]:
            if person["id"] not in scored:
                person["num_keypoints"] = 0  # by which pycocotools tells whom to ignore
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports progress
        evaluation = COCOeval(truth, iouType="keypoints")
    if skeleton.sigmas != COCO17.sigmas:  # pycocotools' own differ from these in the last bit
        evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
    evaluation.params.maxDets = [max_persons]
    return evaluation


def _score(evaluation: COCOeval, results: list[dict] | str | Path, skeleton: Skeleton) -> None:
    """Match `results` with the truth. The outcome is in `evaluation.eval`."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.cocoDt = _load_results(evaluation.cocoGt, results, skeleton)
        evaluation.evaluate()
        evaluation.accumulate()


def _figure(evaluation: COCOeval, kind: str, threshold: float | None, size: str) -> float:
    """As `COCOeval.summarize` takes a figure, which knows no other number of persons than 20."""
    values = evaluation.eval[kind][..., evaluation.params.areaRngLbl.index(size), 0]  # thresholds first
    if threshold is not None:
        values = values[evaluation.params.iouThrs == threshold]
    values = values[values > -1]
    return 100 * float(np.mean(values)) if values.size else np.nan


def load_truth(path: str | Path, skeleton: Skeleton = COCO17) -> COCO:
    """The persons of an annotation file for pycocotools, as the only category, whose id is that of results: 1.

    Raises:
        FileNotFoundError, ValueError: as for `coco_ap`.
    """
    document = read_document(path, "images", "annotations", "categories")
    category, source = person_category(document, path), f"{path}: annotations"
    unique_ids(document["images"], f"{path}: images")
    of_persons = column(document["annotations"], "category_id", source, dtype=np.int64) == category["id"]
    if not of_persons.any():
        raise ValueError(f"{source}: none is of category {category['id']}, the persons")
    persons = [
        {"iscrowd": 0} | document["annotations"][i] | {"category_id": PERSON} for i in np.flatnonzero(of_persons)
    ]
    ids = unique_ids(persons, source)
    reject(ids < 1, source, "ids below 1, which pycocotools takes for no match", ids)
    crowd_flags(persons, source)
    column(persons, "bbox", source, (4,))
    labelled = (column(persons, "keypoints", source, (3 * skeleton.num_keypoints,))[:, 2::3] > 0).any(1)
    counted = column(persons, "num_keypoints", source, dtype=np.int64) > 0
    reject(labelled != counted, source, "whose 'num_keypoints' is not that of its 'keypoints', by id", ids)
    areas = column(persons, "area", source)
    reject(labelled & (areas <= 0), source, "without a positive 'area', which OKS is measured by, by id", ids)
    truth = COCO()
    truth.dataset = document | {"annotations": persons, "categories": [category | {"id": PERSON}]}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _load_results(truth: COCO, results: list[dict] | str | Path, skeleton: Skeleton) -> COCO:
    if isinstance(results, str | Path):
        results = read_json(results)
    if not isinstance(results, list):
        raise ValueError(f"results must be a list of COCO results, got {type(results).__name__}")
    if not results:  # pycocotools cannot load an empty list
        empty = COCO()
        empty.dataset = truth.dataset | {"annotations": []}
        empty.createIndex()
        return empty
    column(results, "keypoints", "results", (3 * skeleton.num_keypoints,))
    column(results, "score", "results")
    image_ids, categories = (column(results, field, "results", dtype=np.int64) for field in ("image_id", "category_id"))
    reject(categories != PERSON, "results", "of a category other than 1 (person), by position", range(len(results)))
    reject(~np.isin(image_ids, truth.getImgIds()), "results", "for images that are not in the ground truth", image_ids)
    return truth.loadRes([dict(result) for result in results])  # copies, as loadRes adds fields to what it is given


def keypoint_similarity(
    keypoints: np.ndarray, reference: np.ndarray, areas: np.ndarray, sigmas: Sequence[float] = COCO17.sigmas
) -> np.ndarray:
    """Similarity of each keypoint to its reference, 0 to 1. A person's OKS is its mean over the labelled keypoints.

    exp(-d^2 / (2 area k^2)) with k = 2 sigma, as in pycocotools; NaN where either keypoint is NaN.

    Shapes: keypoints and reference (..., K, 2) px, areas (...) px^2, sigmas (K,) -> (..., K); leading axes broadcast.
    """
    variances = np.square(2 * np.array(sigmas))  # (K,)
    squares = np.square(np.subtract(keypoints, reference, dtype=np.float64))
    distances_squared = squares[..., 0] + squares[..., 1]  # (..., K); far faster than to sum so short an axis
    return np.exp(-distances_squared / (2 * variances * (np.asarray(areas, np.float64)[..., None] + np.spacing(1))))


def oks_recall(similarity: np.ndarray) -> np.ndarray:
    """Share of the OKS thresholds 0.50, 0.55, ..., 0.95 that each person reaches, 0 to 1.

    It is on the scale of AP, and unlike AP it is a mean over persons. NaN for a person without labelled keypoints.

    Shapes: similarity (..., N, K) from `keypoint_similarity`, NaN where not labelled -> (..., N, 1).
    """
    labelled = ~np.isnan(similarity)
    counts = labelled.sum(axis=-1, keepdims=True)  # (..., N, 1)
    oks = np.where(labelled, similarity, 0).sum(axis=-1, keepdims=True) / np.maximum(counts, 1)
    reached = (oks >= OKS_THRESHOLDS).mean(axis=-1, keepdims=True)
    return np.where(counts > 0, reached, np.nan)


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    threshold: float = 0.9,
    sigmas: Sequence[float] = COCO17.sigmas,
) -> np.ndarray:
    """Indices of the persons of one image that stay when near-copies of better ones go, best first.

    A person goes when its OKS with a kept one is above `threshold`; OKS is over all keypoints and the mean of the two
    areas. Equals the official hard OKS-NMS of HRNet; among equal scores the later person comes first.

    Shapes: keypoints (N, K, 3) as x, y, score; scores (N,); areas (N,) px^2; sigmas (K,) -> (M,) int.
    """
    oks, scores = _pairwise_oks(keypoints, scores, areas, sigmas)
    order = np.argsort(scores, kind="stable")[::-1]
    near = oks[order][:, order] > threshold
    stays = np.ones(len(order), bool)
    for place, copies in enumerate(near):
        if stays[place]:
            stays[place + 1 :] &= ~copies[place + 1 :]
    return order[stays]


def soft_oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    threshold: float = 0.9,
    limit: int = MAX_PERSONS,
    sigmas: Sequence[float] = COCO17.sigmas,
) -> np.ndarray:
    """Indices of the `limit` persons of one image that stay when near-copies of better ones lose score, best first.

    Each person who is kept multiplies the scores of the rest by exp(-OKS^2 / threshold), and the best of the rest is
    next. Equals the official soft OKS-NMS of HRNet (`soft_oks_nms` of lib/nms/nms.py). The scores in the results file
    stay as they were there, so that near-copies go only from images with more than `limit` persons.

    Shapes as for `oks_nms`.
    """
    oks, scores = _pairwise_oks(keypoints, scores, areas, sigmas)
    order = np.argsort(scores, kind="stable")[::-1]
    scores = scores[order].astype(np.float64)
    decay = np.exp(-np.square(oks) / threshold)
    kept = []
    while order.size and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(best)
        scores = scores[1:] * decay[best, order]
        again = np.argsort(scores, kind="stable")[::-1]
        order, scores = order[again], scores[again]
    return np.array(kept, dtype=np.int64)


NMS = {"hard": oks_nms, "soft": soft_oks_nms}


def _pairwise_oks(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """OKS (N, N) of all pairs of persons of one image, and their scores (N,)."""
    keypoints, scores, areas = np.asarray(keypoints), np.asarray(scores), np.asarray(areas, np.float64)
    if keypoints.shape != (len(scores), len(sigmas), 3) or areas.shape != scores.shape:
        shapes = keypoints.shape, scores.shape, areas.shape
        raise ValueError(f"expected keypoints (N, {len(sigmas)}, 3), scores (N,) and areas (N,), got {shapes}")
    points = keypoints[..., :2]
    return keypoint_similarity(points[:, None], points, (areas[:, None] + areas) / 2, sigmas).mean(-1), scores


def rescore(box_scores: np.ndarray, keypoint_scores: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """Person scores (N,): box score x mean of the keypoint scores (N, K) above `threshold`, 0 where none is.

    As in the official code of HRNet and SimpleBaseline; an annotated box has score 1.
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
    sigmas: Sequence[float] = COCO17.sigmas,
    max_persons: int = MAX_PERSONS,
) -> list[dict]:
    """COCO results of predicted persons: rescored and after OKS-NMS within each image, by image and best first.

    `nms` is "hard" (`oks_nms`) or "soft" (`soft_oks_nms`, which keeps `max_persons` of an image).

    Shapes: image_ids (N,), keypoints (N, K, 2) image px, keypoint_scores (N, K), box_scores (N,), areas (N,) px^2 of
    the padded crop (1.25 per side), which the official code takes as the area of a prediction.
    """
    scores = rescore(box_scores, keypoint_scores)
    poses = np.concatenate([keypoints, np.asarray(keypoint_scores)[..., None]], axis=-1, dtype=np.float64)  # (N, K, 3)
    limit = {"limit": max_persons} if nms == "soft" else {}
    results = []
    order = np.argsort(image_ids, kind="stable")
    found_ids, starts = np.unique(np.asarray(image_ids)[order], return_index=True)
    for image_id, persons in zip(found_ids.tolist(), np.split(order, starts)[1:], strict=True):
        kept = persons[NMS[nms](poses[persons], scores[persons], areas[persons], nms_threshold, sigmas=sigmas, **limit)]
        for keypoints_of, score in zip(poses[kept].reshape(len(kept), -1).tolist(), scores[kept].tolist(), strict=True):
            results.append({"image_id": image_id, "category_id": PERSON, "keypoints": keypoints_of, "score": score})
    return results
