"""MPII Human Pose: PCKh, whose unit is the size of the person's head."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from hpelib.data.files import write_mat
from hpelib.data.mpii import read_mpii
from hpelib.data.people import People
from hpelib.formats import Dataset, PckFormat
from hpelib.metrics.accuracy import LEGACY_PCKH_THRESHOLD, area_under_curve, pckh
from hpelib.skeletons import MPII16


class Mpii(PckFormat):
    """Entries: `annotations` (json of the HRNet code), `images` (folder), `ground_truth` (mat, for scoring)."""

    name = "mpii"
    skeleton = MPII16
    required = ("annotations", "images")
    optional = ("ground_truth",)
    annotations = ("annotations", "ground_truth")
    arguments: ClassVar = {
        "annotations": "json file of the HRNet code",
        "images": "folder",
        "ground_truth": "mat file with head boxes",
    }
    public_persons = (22_246, 2_958)
    submission = "{algorithm}.mat"
    columns = ("PCKh@0.5", "PCKh@0.1", "PCKh@0.11 (legacy)", "AUC")
    main_metric = keypoint_metric = "PCKh@0.5"
    threshold = 0.5
    threshold_label = "threshold / head size"
    reach = 2.0  # boxes are squares about the whole body, of which a picture may show a part

    def read(self, dataset: Dataset, split: str) -> People:
        files = self.files(dataset, split)
        truth = dataset.root / files["ground_truth"] if "ground_truth" in files else None
        return read_mpii(dataset.root / files["annotations"], dataset.root / files["images"], truth)

    def check_truth(self, dataset: Dataset, split: str, people: People) -> None:
        super().check_truth(dataset, split, people)
        if np.isnan(people.head_sizes_px).any():
            raise ValueError(f"{dataset.root}: for PCKh give `ground_truth` of {split}, a mat file like gt_valid.mat")

    def lengths_px(self, people: People) -> np.ndarray:
        return people.head_sizes_px

    def figures(
        self, dataset: Dataset, people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str = "hard"
    ) -> dict[str, float]:
        case = keypoints, people.keypoints, people.visibility, people.head_sizes_px
        by_group = pckh(*case)
        return {
            "PCKh@0.5": by_group.pop("Mean"),
            "PCKh@0.1": pckh(*case, threshold=0.1)["Mean"],
            "PCKh@0.11 (legacy)": pckh(*case, threshold=LEGACY_PCKH_THRESHOLD)["Mean"],
            "AUC": area_under_curve(self.curve(people, keypoints)["correct"].to_numpy()),
        } | by_group

    def write_submission(
        self, path: Path, people: People, keypoints: np.ndarray, confidences: np.ndarray, nms: str
    ) -> None:
        """The array `preds` (N, 16, 2) px, which counts from 1 as pred.mat of the official HRNet code does."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mat(path, {"preds": keypoints.astype(np.float64) + 1})


FORMAT = Mpii()
