"""From predicted persons to COCO's figures: rescoring, OKS-NMS, AP; against plain loops and pycocotools."""

import contextlib
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks import plain
from benchmarks.timing import Comparison, compare
from hpelib.data.coco import write_coco
from hpelib.metrics.coco import coco_ap, coco_results
from hpelib.skeletons import COCO17

SIZES = {1_000: 7, 10_000: 5, 104_000: 3}  # detected persons: rounds; COCO val has 104,125 boxes of the usual detector
DETECTIONS_PER_IMAGE, PERSONS_PER_IMAGE = 21, 2


@dataclass(frozen=True)
class Detections:
    """Predicted persons, arrays as `coco_results` takes them, and the annotations that they are judged by."""

    truth: Path
    image_ids: np.ndarray
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray


def measure() -> list[Comparison]:
    found = []
    for count, rounds in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            detections = synthetic(count, Path(folder) / "truth.json")
            found += compare(
                f"AP from {count:,} detected persons",
                lambda detections=detections: by_library(detections),
                {"plain NMS and pycocotools": lambda detections=detections: by_plain_path(detections)},
                1,
                rounds,
            )
    return found


def by_library(given: Detections) -> dict[str, float]:
    results = coco_results(
        given.image_ids, given.keypoints, given.keypoint_scores, given.box_scores, given.areas, nms_threshold=0.9
    )
    return coco_ap(given.truth, results)


def by_plain_path(given: Detections) -> list[float]:
    """The ten figures, from 0 to 1, as the official code comes to them."""
    persons_of = {image_id: [] for image_id in given.image_ids.tolist()}
    for i, image_id in enumerate(given.image_ids.tolist()):
        persons_of[image_id].append(i)
    results = []
    for image_id, persons in persons_of.items():
        scores = np.zeros(len(persons))
        for row, person in enumerate(persons):
            confident = [score for score in given.keypoint_scores[person] if score > 0.2]
            scores[row] = given.box_scores[person] * (sum(confident) / len(confident) if confident else 0)
        for row in plain.oks_nms(given.keypoints[persons], scores, given.areas[persons]):
            keypoints = np.c_[given.keypoints[persons[row]], given.keypoint_scores[persons[row]]]
            result = {"image_id": image_id, "category_id": 1, "keypoints": keypoints.ravel().tolist()}
            results.append(result | {"score": float(scores[row])})
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / "results.json"
        file.write_text(json.dumps(results))
        truth = COCO(str(given.truth))
        evaluation = COCOeval(truth, truth.loadRes(str(file)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def synthetic(count: int, truth: Path) -> Detections:
    """Persons at random, found many times, more or less well, as from a detector with a low threshold."""
    random = np.random.default_rng(0)
    images = -(-count // DETECTIONS_PER_IMAGE)
    sizes = random.uniform(40, 300, (images * PERSONS_PER_IMAGE, 1, 1))  # px
    centers = random.uniform(150, 450, (images * PERSONS_PER_IMAGE, 1, 2))
    keypoints = centers + sizes * random.uniform(-0.5, 0.5, (len(sizes), COCO17.num_keypoints, 2))
    areas = 0.5 * sizes[:, 0, 0] ** 2
    _write_truth(truth, images, keypoints, areas)

    image_ids = np.arange(count) % images
    source = image_ids * PERSONS_PER_IMAGE + random.integers(0, PERSONS_PER_IMAGE, count)
    blur = random.exponential(0.06, (count, 1, 1))  # of the person's size
    noise = random.standard_normal((count, COCO17.num_keypoints, 2)) * blur * sizes[source]
    return Detections(
        truth,
        image_ids=image_ids + 1,
        keypoints=keypoints[source] + noise,
        keypoint_scores=np.clip(random.normal(0.6, 0.2, (count, COCO17.num_keypoints)), 0, 1),
        box_scores=np.exp(-5 * blur[:, 0, 0]) * random.random(count),
        areas=areas[source] * 2 * 1.25**2,
    )


def _write_truth(path: Path, images: int, keypoints: np.ndarray, areas: np.ndarray) -> None:
    labelled = np.concatenate([keypoints, np.full((*keypoints.shape[:2], 1), 2)], 2).reshape(len(keypoints), -1)
    boxes = np.concatenate([keypoints.min(1), np.ptp(keypoints, axis=1)], 1)
    write_coco(
        path,
        [{"id": i + 1, "file_name": f"{i + 1}.jpg", "width": 640, "height": 640} for i in range(images)],
        [
            {"id": n + 1, "image_id": n // PERSONS_PER_IMAGE + 1, "bbox": boxes[n], "area": areas[n]}
            | {"keypoints": labelled[n]}
            for n in range(len(keypoints))
        ],
    )
