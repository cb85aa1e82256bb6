"""COCO keypoints: AP and AR from annotated and from detected boxes, and the mean keypoint similarity."""

import json
import logging
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from hpelib.data.coco import check_coco, read_coco, read_detections
from hpelib.data.crops import crop_regions
from hpelib.data.files import check_coordinates, write_whole
from hpelib.data.people import People
from hpelib.formats import Dataset, Format
from hpelib.metrics.coco import (
    MAX_PERSONS,
    Matches,
    coco_results,
    keypoint_similarity,
    load_truth,
    match,
)
from hpelib.skeletons import COCO17, Skeleton

SIGMA = 0.05  # of keypoints for which nobody measured how exactly people mark them: between an eye and a hip


class Coco(Format):
    """Entries: `annotations` (json), `images` (folder), `detections` (json), `max_persons` (of an image, for AP)."""

    name = "coco"
    skeleton = COCO17
    required = ("annotations", "images")
    of_test = ("detections", "max_persons")
    annotations = ("annotations", "detections")
    arguments: ClassVar = {
        "annotations": "json file",
        "images": "folder",
        "detections": "json file of a detector's boxes",
        "max_persons": "results of an image that AP scores, 20 unless told",
    }
    public_persons = (149_813, 6_352 + 104_125)  # to test with detections
    submission = "person_keypoints_{split}_{algorithm}_results.zip"
    columns = ("AP_gt", "AP50_gt", "AP75_gt", "AR_gt", "AP_det", "OKS")
    main_metric = "AP_gt"
    keypoint_metric = "OKS"
    threshold_label = "1 - keypoint similarity"

    def __init__(self, skeleton: Skeleton = COCO17):
        self.skeleton = skeleton

    def with_skeleton(self, skeleton: Skeleton) -> "Coco":
        """The format for another keypoint set. Without sigmas of its own, each keypoint has `SIGMA`.

        Raises:
            ValueError: a group is called as a figure is, or keypoints are unscored, which AP knows nothing of.
        """
        taken = [group for group in skeleton.groups if group == "OKS" or group.endswith(("_gt", "_det"))]
        if taken:
            raise ValueError(f"skeleton {skeleton.name}: the group {taken[0]!r} is the name of a figure; rename it")
        if skeleton.unscored:
            names = ", ".join(skeleton.keypoints[k] for k in skeleton.unscored)
            raise ValueError(f"skeleton {skeleton.name}: the format coco scores all keypoints, also unscored: {names}")
        return Coco(replace(skeleton, sigmas=skeleton.sigmas or (SIGMA,) * skeleton.num_keypoints))

    def read(self, dataset: Dataset, split: str) -> People:
        files = self.files(dataset, split)
        return read_coco(dataset.root / files["annotations"], dataset.root / files["images"], self.skeleton)

    def read_detections(self, dataset: Dataset, split: str) -> People | None:
        files = self.files(dataset, split)
        if "detections" not in files:
            return None
        paths = (dataset.root / files[kind] for kind in ("detections", "annotations", "images"))
        return read_detections(*paths, self.skeleton)

    def check(self, dataset: Dataset, split: str, people: People) -> None:
        check_coco(dataset.root / self.files(dataset, split)["annotations"], people, f"{dataset.name} {split}")
        if (detections := self.read_detections(dataset, split)) is not None:
            check_coordinates(detections, f"{dataset.name} {split}, detections")

    def check_truth(self, dataset: Dataset, split: str, people: People) -> None:
        """As `Format.check_truth`; images with more persons than AP scores are counted in the log, at level WARNING."""
        super().check_truth(dataset, split, people)
        load_truth(dataset.root / self.files(dataset, split)["annotations"], people.skeleton)
        if set(people.skeleton.sigmas) == {SIGMA}:
            logging.getLogger(__name__).warning(
                f"{dataset.name} {split}: {people.skeleton.name} gives no sigmas, so OKS and AP take {SIGMA} for each "
                "keypoint. Figures compare networks with each other, not with other sets"
            )
        if split != "test":  # val has no AP
            return
        limit = self._limit(dataset)
        if crowded := (np.unique(people.image_ids, return_counts=True)[1] > limit).sum():
            logging.getLogger(__name__).warning(
                f"{dataset.name} {split}: {crowded} images have more than {limit} persons. As on COCO, AP scores the "
                f"{limit} best results of an image and takes all other persons for missed; `max_persons` in the entry "
                "of the split sets another limit"
            )

    def errors(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        return 1 - self.keypoint_scores(people, keypoints)

    def keypoint_scores(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        return keypoint_similarity(keypoints, people.keypoints, people.areas, people.skeleton.sigmas)

    def figures(
        self, dataset: Dataset, people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str = "hard"
    ) -> dict[str, float]:
        similarity = self.keypoint_scores(people, keypoints)
        groups = {
            group: 100 * float(np.nanmean(similarity[:, members])) for group, members in people.skeleton.groups.items()
        }
        (matches,) = self.match(dataset, people, people, [keypoints], confidences, nms)
        return named(matches, "gt") | self.keypoint_figure(people, keypoints) | groups

    def detection_figures(
        self,
        dataset: Dataset,
        people: People,
        detections: People,
        keypoints: np.ndarray,
        confidences: np.ndarray,
        nms: str = "hard",
    ) -> dict[str, float]:
        """AP and AR for predictions from the boxes of `detections`, which should find `people`."""
        (matches,) = self.match(dataset, people, detections, [keypoints], confidences, nms)
        return named(matches, "det")

    def match(
        self,
        dataset: Dataset,
        people: People,
        boxes: People,
        variants: Iterable[np.ndarray],
        confidences: np.ndarray,
        nms: str = "hard",
    ) -> list[Matches]:
        limit = self._limit(dataset)
        results = (person_results(boxes, keypoints, confidences, nms, limit) for keypoints in variants)
        truth = dataset.root / self.files(dataset, "test")["annotations"]
        return match(truth, results, people.skeleton, people.ids.tolist(), limit)

    def _limit(self, dataset: Dataset) -> int:
        limit = self.files(dataset, "test").get("max_persons", MAX_PERSONS)
        if limit < 1:
            raise ValueError(f"dataset {dataset.name}, split test: max_persons must be at least 1, got {limit}")
        return limit

    def submitted(self, dataset: Dataset) -> People:
        if (detections := self.read_detections(dataset, "test")) is None:
            raise ValueError(f"{dataset.root}: test-dev has no annotated boxes; give `detections`, a detector's")
        return detections

    def write_submission(
        self, path: Path, people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str
    ) -> None:
        """A zip with one json, called like it; coordinates have two digits, which keeps a file of test-dev small."""
        results = person_results(people, keypoints, confidences, nms)
        rounded = [result | {"keypoints": np.round(result["keypoints"], 2).tolist()} for result in results]

        def write(temporary: Path) -> None:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(f"{path.stem}.json", json.dumps(rounded, allow_nan=False))

        write_whole(path, write)


def named(matches: Matches, boxes: str) -> dict[str, float]:
    """AP and AR with the name of the boxes behind them, "gt" or "det"."""
    return {f"{name}_{boxes}": float(value[0]) for name, value in matches.figures().items()}


def person_results(
    people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str = "hard", max_persons: int = MAX_PERSONS
) -> list[dict]:
    """COCO results after rescoring and OKS-NMS; the area is that of the padded box, with the official code's 3:4.

    Shapes: keypoints (N, K, 2) image px, confidences (N, K).
    """
    width_px, height_px = crop_regions(people.centers, people.sizes_px, (3, 4)).T
    persons = people.image_ids, keypoints, confidences, people.scores, width_px * height_px
    return coco_results(*persons, nms=nms, sigmas=people.skeleton.sigmas, max_persons=max_persons)


FORMAT = Coco()
