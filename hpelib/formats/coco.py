"""COCO keypoints: AP and AR from annotated and from detected boxes, and the mean keypoint similarity."""

import logging
from collections.abc import Iterable
from functools import partial

import numpy as np

from hpelib.data.coco import check_coco, read_coco, read_detections
from hpelib.data.crops import crop_regions
from hpelib.data.people import People
from hpelib.formats import Dataset, Format
from hpelib.metrics.coco import (
    MAX_PERSONS,
    average_precisions,
    coco_ap,
    coco_results,
    keypoint_similarity,
    load_truth,
    oks_recall,
)
from hpelib.skeletons import COCO17


class Coco(Format):
    """Entries: `annotations` (json), `images` (folder), `detections` (json), `max_persons` (of an image, for AP)."""

    name = "coco"
    skeleton = COCO17
    required = ("annotations", "images")
    optional = ("detections", "max_persons")
    annotations = ("annotations", "detections")
    columns = ("AP_gt", "AP50_gt", "AP75_gt", "AR_gt", "AP_det", "OKS")
    main_metric = "AP_gt"
    keypoint_metric = "OKS"
    judged_metric = "OKS recall"
    judges = ("AP_gt", "AP_det")
    threshold_label = "1 - keypoint similarity"

    def read(self, dataset: Dataset, split: str) -> People:
        files = self.files(dataset, split)
        return read_coco(dataset.root / files["annotations"], dataset.root / files["images"])

    def read_detections(self, dataset: Dataset, split: str) -> People | None:
        files = self.files(dataset, split)
        if "detections" not in files:
            return None
        return read_detections(*(dataset.root / files[kind] for kind in ("detections", "annotations", "images")))

    def check(self, dataset: Dataset, split: str, people: People) -> None:
        super().check(dataset, split, people)
        check_coco(dataset.root / self.files(dataset, split)["annotations"], people)

    def check_truth(self, dataset: Dataset, split: str, people: People) -> None:
        """As `Format.check_truth`; images with more persons than AP scores are counted in the log, at level WARNING."""
        super().check_truth(dataset, split, people)
        files = self.files(dataset, split)
        load_truth(dataset.root / files["annotations"], people.skeleton)
        self.read_detections(dataset, split)
        limit = files.get("max_persons", MAX_PERSONS)
        crowded = (np.unique(people.image_ids, return_counts=True)[1] > limit).sum()
        if crowded:
            logging.getLogger(__name__).warning(
                "%s %s: %d images have more than %d persons. As on COCO, AP scores the %d best results of an image and "
                "takes all other persons for missed; `max_persons` in the entry of the split sets another limit",
                dataset.name,
                split,
                crowded,
                limit,
                limit,
            )

    def keypoint_scores(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        return keypoint_similarity(keypoints, people.keypoints, people.areas, people.skeleton.sigmas)

    def judged_scores(self, keypoint_scores: np.ndarray) -> np.ndarray:
        return oks_recall(keypoint_scores)

    def figures(
        self, dataset: Dataset, people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str = "hard"
    ) -> dict[str, float]:
        similarity = self.keypoint_scores(people, keypoints)
        groups = {
            group: 100 * float(np.nanmean(similarity[:, members])) for group, members in people.skeleton.groups.items()
        }
        ap = self._ap(dataset, people, people, keypoints, confidences, nms)
        found = {f"{name}_gt": value for name, value in ap.items()}
        return found | self.keypoint_figure(people, keypoints) | groups

    def detection_figures(
        self,
        dataset: Dataset,
        people: People,
        detections: People,
        keypoints: np.ndarray,
        confidences: np.ndarray,
        nms: str = "hard",
    ) -> dict[str, float]:
        ap = self._ap(dataset, people, detections, keypoints, confidences, nms)
        return {f"{name}_det": value for name, value in ap.items()}

    def _ap(
        self,
        dataset: Dataset,
        people: People,
        boxes: People,
        keypoints: np.ndarray,
        confidences: np.ndarray,
        nms: str,
    ) -> dict[str, float]:
        """AP and its like over `people` from predictions in `boxes`."""
        files = self.files(dataset, "test")
        limit = files.get("max_persons", MAX_PERSONS)
        results = person_results(boxes, keypoints, confidences, nms, limit)
        return coco_ap(dataset.root / files["annotations"], results, people.skeleton, people.ids.tolist(), limit)

    def ap_of_variants(
        self,
        dataset: Dataset,
        people: People,
        variants: Iterable[np.ndarray],
        confidences: np.ndarray,
        nms: str = "hard",
    ) -> list[float]:
        """The figure AP_gt alone, for several variants of the keypoints that were predicted in the annotated boxes.

        Shapes: each of `variants` (N, K, 2) image px, confidences (N, K).
        """
        files = self.files(dataset, "test")
        limit = files.get("max_persons", MAX_PERSONS)
        results = (person_results(people, keypoints, confidences, nms, limit) for keypoints in variants)
        truth = dataset.root / files["annotations"]
        return average_precisions(truth, results, people.skeleton, people.ids.tolist(), limit)

    def errors(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        return 1 - self.keypoint_scores(people, keypoints)


def person_results(
    people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str = "hard", max_persons: int = MAX_PERSONS
) -> list[dict]:
    """COCO results after rescoring and OKS-NMS; the area is that of the padded box, with the official code's 3:4.

    Shapes: keypoints (N, K, 2) image px, confidences (N, K).
    """
    width_px, height_px = crop_regions(people.centers, people.sizes_px, (3, 4)).T
    make = partial(coco_results, sigmas=people.skeleton.sigmas, nms=nms, max_persons=max_persons)
    return make(people.image_ids, keypoints, confidences, people.scores, width_px * height_px)


FORMAT = Coco()
