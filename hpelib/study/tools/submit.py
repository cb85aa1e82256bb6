"""Predictions of a run as the files that evaluation servers take.

    python -m hpelib.study.tools.submit hrnet coco 0 DE-HRNet --root datasets/coco --images test2017 \\
        --annotations annotations/image_info_test-dev2017.json --detections test-dev_boxes.json

writes the zip for COCO's test-dev from the run of `hrnet` on `coco` from seed 0 under the current profile.
"""

import argparse
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import torch

from hpelib.data.files import check_images, write_mat
from hpelib.formats import FORMATS
from hpelib.formats.coco import person_results
from hpelib.study.config import Dataset, Run, load_params, make_run
from hpelib.study.steps.evaluate import load_network
from hpelib.study.steps.predictions import predict_people
from hpelib.study.steps.prepare import read_split


def submit(run: Run, dataset: Dataset, algorithm: str, folder: Path) -> Path:
    """Write the predictions for the `test` split of `dataset`, by the run's test protocol, into `folder`.

    Returns the file.

    COCO: from a detector's boxes, rescored and after OKS-NMS, as `write_coco_zip`. MPII: from the persons' centres and
    scales, as `write_mpii_mat`. Raises ValueError for another format or where COCO's split names no detections.
    """
    if dataset.format not in ("coco", "mpii") or dataset.format != run.dataset.format:
        raise ValueError(f"no server takes predictions of a run on {run.dataset.format} for {dataset.format}")
    form = FORMATS[dataset.format]
    people = form.read_detections(dataset, "test") if dataset.format == "coco" else read_split(dataset, "test")
    if people is None:
        raise ValueError(f"{dataset.root}: test-dev has no annotated boxes; give `detections`, a detector's")
    check_images(people)
    torch.set_num_threads(run.threads)
    found = predict_people(run, load_network(run, people), people)
    if dataset.format == "mpii":
        return write_mpii_mat(folder / f"{algorithm}.mat", found.keypoints)
    split = Path(dataset.splits["test"]["annotations"]).stem.rpartition("_")[2]  # of image_info_test-dev2017, say
    results = person_results(people, found.keypoints, found.scores, run.test.nms)
    return write_coco_zip(folder, split, algorithm, results)


def write_coco_zip(folder: Path, split: str, algorithm: str, results: list[dict]) -> Path:
    """The zip that COCO's server takes: one json, both named person_keypoints_[split]_[algorithm]_results.

    Coordinates have two digits after the point, which keeps a file of test-dev small. Raises ValueError for a name that
    would not do.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+", algorithm):
        raise ValueError(f"algorithm {algorithm!r}: letters, digits and '-' only; the server splits names at '_'")
    name = f"person_keypoints_{split}_{algorithm}_results"
    rounded = [result | {"keypoints": np.round(result["keypoints"], 2).tolist()} for result in results]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.json", json.dumps(rounded, allow_nan=False))
    return path


def write_mpii_mat(path: Path, keypoints: np.ndarray) -> Path:
    """Keypoints (N, 16, 2) px as the array `preds` that the official HRNet code leaves (pred.mat): counted from 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mat(path, {"preds": keypoints.astype(np.float64) + 1})
    return path


def _parse() -> tuple[Run, Dataset, str, Path]:
    parser = argparse.ArgumentParser("python -m hpelib.study.tools.submit", description=__doc__.splitlines()[0])
    parser.add_argument("network", help="a network of the current profile in params.yaml")
    parser.add_argument("trained_on", help="the dataset that it was trained on: coco or mpii")
    parser.add_argument("seed", type=int)
    parser.add_argument("algorithm", help="the name of the submission")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that the other paths are relative to")
    parser.add_argument("--annotations", required=True, help="json file that lists the images, or MPII's persons")
    parser.add_argument("--images", required=True, help="folder")
    parser.add_argument("--detections", help="json file of a detector's boxes (coco)")
    parser.add_argument("--out", type=Path, default=Path("work/submissions"), help="folder to write into")
    given = parser.parse_args()
    files = {kind: getattr(given, kind) for kind in ("annotations", "images", "detections") if getattr(given, kind)}
    run = make_run(load_params(), given.network, given.trained_on, given.seed)
    dataset = Dataset(given.root.name, "server", run.dataset.format, given.root, {"test": files})
    return run, dataset, given.algorithm, given.out


if __name__ == "__main__":
    print(submit(*_parse()))
