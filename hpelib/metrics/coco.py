"""COCO keypoint figures, and the steps between a network's keypoints and the results file that they read.

Sources: the COCO keypoint evaluation (pycocotools, the reference, does the scoring here); rescoring and OKS-NMS as in
the official code of SimpleBaseline (Xiao et al. 2018, section 3) and HRNet (Sun et al. 2019). Arrays of keypoints may
have another number K of them than COCO's 17 where another skeleton, or its sigmas, are given.
"""

import contextlib
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hpelib.data.coco import crowd_flags, person_category, read_document, unique_ids
from hpelib.data.files import column, read_json, reject
from hpelib.layers.choices import Count, require_types
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
SIZES = ("all", "medium", "large")
OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as pycocotools has them, to the last bit
RECALLS = np.linspace(0, 1, 101)
PERSON = 1  # COCO's category id
MAX_PERSONS = 20  # results of an image that COCO scores


@dataclass(frozen=True)
class Matches:
    """D results of a test set of I images, matched once with the truth: AP of any redrawn images follows from it.

    Results are from the best score to the worst, those of equal score by image. Sizes of persons are in the order of
    `SIZES`, OKS thresholds in that of `OKS_THRESHOLDS`.
    """

    images: np.ndarray  # (D,) which image a result is of: its place among all of the truth, by id
    states: (
        np.ndarray
    )  # (D, 3, 10) int8, by size and OKS threshold: 1 finds a person, 0 finds nobody, -1 does not count
    persons: np.ndarray  # (I, 3) how many persons of each size are to be found in an image

    def figures(
        self, times: np.ndarray | None = None, names: Collection[str] = tuple(FIGURES)
    ) -> dict[str, np.ndarray]:
        """Figures (B,) in percent, for B times that images were redrawn, equal to pycocotools' to the last bit.

        A figure is NaN where there is nobody to find.

        Args:
            times: (B, I) how often each image is drawn; every image once where it is left out, with B = 1.
            names: keys of `FIGURES`.
        """
        times = np.ones((1, len(self.persons)), np.int64) if times is None else times
        step = max(1, 2_000_000 // max(1, len(self.images)))  # so many draws need 16 MB for an array
        parts = [self._figures(times[i : i + step], names) for i in range(0, len(times), step)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _figures(self, times: np.ndarray, names: Collection[str]) -> dict[str, np.ndarray]:
        curves = {size: self._curves(times, SIZES.index(size)) for size in {FIGURES[name][2] for name in names}}
        found = {}
        for name in names:
            kind, threshold, size = FIGURES[name]
            values = curves[size][kind]  # (B, T, ...)
            values = values if threshold is None else values[:, threshold == OKS_THRESHOLDS]
            found[name] = 100 * np.ascontiguousarray(values.reshape(len(times), -1)).mean(axis=1)
        return found

    def _curves(self, times: np.ndarray, size: int) -> dict[str, np.ndarray]:
        """Precision (B, T, 101) at each of COCO's recalls, and recall (B, T), as `COCOeval.accumulate` takes them."""
        drawn, persons = times[:, self.images], times @ self.persons[:, size]  # (B, D), (B,)
        B, D = drawn.shape
        precision, recall = np.zeros((B, len(OKS_THRESHOLDS), len(RECALLS))), np.zeros((B, len(OKS_THRESHOLDS)))
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.ceil(RECALLS * persons[:, None])  # (B, 101) persons found from which a recall is reached
            needed -= (needed - 1) / persons[:, None] >= RECALLS  # as comparing the rounded quotients says
            needed += needed / persons[:, None] < RECALLS
            rows, most = np.arange(B)[:, None], int(persons.max(initial=0)) + 2
            keys = (np.nan_to_num(needed).clip(0).astype(np.int64) + rows * most).ravel()
            for t in range(len(OKS_THRESHOLDS) if D else 0):
                right = np.cumsum(drawn * (self.states[:, size, t] == 1), axis=1)
                wrong = np.cumsum(drawn * (self.states[:, size, t] == 0), axis=1)
                share = np.maximum.accumulate((right / (wrong + right + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
                places = np.searchsorted((right + rows * most).ravel(), keys).reshape(B, -1) - rows * D
                reached = places < D
                precision[:, t] = np.where(reached, share[rows, places.clip(max=D - 1)], 0)
                recall[:, t] = right[:, -1] / persons
        nobody = persons == 0
        precision[nobody], recall[nobody] = np.nan, np.nan
        return {"precision": precision, "recall": recall}


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

    `ids` are the annotations to score, all where it is left out. Other persons are ignored: to
    miss one, or to find one, changes no figure. Of each image the `max_persons` best results are scored, 20 in COCO. A
    set of one's own with more persons in an image needs a larger number, or their persons count as missed.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: pycocotools would stop at something or score it wrongly without a word. Examples are missing
            fields, numbers that are not finite, results for unknown images or of another category id than 1, persons
            with id 0 or no area to measure OKS by.
    """
    (found,) = match(ground_truth_json, [results], skeleton, ids, max_persons)
    return {name: float(value[0]) for name, value in found.figures().items()}


def match(
    ground_truth_json: str | Path,
    variants: Iterable[list[dict] | str | Path],
    skeleton: Skeleton = COCO17,
    ids: Collection[int] | None = None,
    max_persons: Count = MAX_PERSONS,
) -> list[Matches]:
    """Match each of several results with the truth, which is read once; rules and errors are those of `coco_ap`."""
    require_types("COCO AP", match, {"max_persons": max_persons})
    truth = load_truth(ground_truth_json, skeleton)
    if ids is not None:
        scored = set(ids)
        for person in truth.dataset["annotations"]:
            if person["id"] not in scored:
                person["num_keypoints"] = 0  # by which pycocotools tells whom to ignore
    found = []
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports progress
        evaluation = COCOeval(truth, iouType="keypoints")
        if skeleton.sigmas != COCO17.sigmas:  # pycocotools' own differ from these in the last bit
            evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        evaluation.params.maxDets = [max_persons]
        for results in variants:
            evaluation.cocoDt = _load_results(truth, results, skeleton)
            evaluation.evaluate()
            found.append(_matches(evaluation))
    return found


def _matches(evaluation: COCOeval) -> Matches:
    """What `COCOeval.evaluate` found, without accumulating it."""
    images = len(evaluation.params.imgIds)
    of_sizes = [evaluation.evalImgs[i : i + images] for i in range(0, 3 * images, images)]  # None: an empty image
    persons = [[int((~image["gtIgnore"].astype(bool)).sum()) if image else 0 for image in of] for of in of_sizes]
    scores = np.array([score for image in of_sizes[0] if image for score in image["dtScores"]])
    places = np.repeat(np.arange(images), [len(image["dtScores"]) if image else 0 for image in of_sizes[0]])
    states = np.empty((len(scores), len(SIZES), len(OKS_THRESHOLDS)), np.int8)
    for size, of in enumerate(of_sizes):
        if len(scores):
            right = np.concatenate([image["dtMatches"] for image in of if image], axis=1) > 0  # (10, D)
            ignored = np.concatenate([image["dtIgnore"] for image in of if image], axis=1).astype(bool)
            states[:, size] = np.where(ignored, -1, right).T
    order = np.argsort(-scores, kind="mergesort")
    return Matches(places[order], states[order], np.array(persons).reshape(len(SIZES), images).T)


def load_truth(path: str | Path, skeleton: Skeleton = COCO17) -> COCO:
    """The persons of an annotation file for pycocotools, as the only category, whose id is that of results: 1.

    Raises:
        FileNotFoundError, ValueError: as for `coco_ap`.
    """
    document = read_document(path, "images", "annotations", "categories")
    category, source = person_category(document, path, skeleton), f"{path}: annotations"
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
