"""Predictions of a run as the files that evaluation servers take.

    python -m hpelib.study.tools.submit hrnet coco 0 DE-HRNet --root datasets/coco --images test2017 \\
        --annotations annotations/image_info_test-dev2017.json --detections test-dev_boxes.json

writes the zip for COCO's test-dev from the run of `hrnet` on `coco` from seed 0 under the current profile.
"""

import json
import logging
import re
import zipfile
from pathlib import Path

import numpy as np
import torch

from hpelib.data.files import check_images, write_mat, write_whole
from hpelib.formats import FORMATS
from hpelib.formats.coco import person_results
from hpelib.study.config import Dataset, Run
from hpelib.study.steps.predictions import make_predictor
from hpelib.study.steps.prepare import read_split
from hpelib.study.steps.weights import load_network
from hpelib.study.tools.arguments import chosen_run, chosen_set, make_parser, require_apart


def submit(run: Run, dataset: Dataset, algorithm: str, folder: Path, force: bool = False) -> Path:
    """Predict the `test` split of `dataset` by the run's test protocol, write the submission into `folder`, return it.

    COCO: predictions from a detector's boxes, rescored and after OKS-NMS, as `write_coco_zip` writes them. MPII:
    predictions from the persons' centres and scales. The array `preds` (N, 16, 2) px counts from 1, as pred.mat of the
    official HRNet code does.

    Args:
        algorithm: the name of the submission: letters, digits and '-'.
        force: use the weights also where they were trained under other settings.

    Raises:
        FileNotFoundError: the run was not trained, or a file is missing.
        FileExistsError: there is a submission of that name.
        ValueError: no server takes this format or name, COCO's split names no detections, the weights are of other
            settings, or `folder` holds a source. All this is found before anything is predicted.
    """
    if dataset.format not in ("coco", "mpii") or dataset.format != run.dataset.format:
        raise ValueError(f"no server takes predictions of a run on {run.dataset.format} for {dataset.format}")
    path = submission_path(dataset, algorithm, folder)
    is_coco = dataset.format == "coco"
    people = FORMATS["coco"].read_detections(dataset, "test") if is_coco else read_split(dataset, "test")
    if people is None:
        raise ValueError(f"{dataset.root}: test-dev has no annotated boxes; give `detections`, a detector's")
    check_images(people)
    logging.getLogger(__name__).info("predicted: %s", people.summary())
    torch.set_num_threads(run.threads)
    found = make_predictor(run, people)(load_network(run, people, force))
    if is_coco:
        write_coco_zip(path, person_results(people, found.keypoints, found.scores, run.test.nms))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mat(path, {"preds": found.keypoints.astype(np.float64) + 1})
    return path


def submission_path(dataset: Dataset, algorithm: str, folder: Path) -> Path:
    """The file of a submission, by the name that its server asks for. Errors are those of `submit`."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", algorithm):
        raise ValueError(f"algorithm {algorithm!r}: letters, digits and '-' only; COCO's server splits names at '_'")
    files = dataset.splits["test"]
    require_apart(folder, [dataset.root / name for name in files.values()])
    name = f"{algorithm}.mat"
    if dataset.format == "coco":
        split = Path(files["annotations"]).stem.rpartition("_")[2]  # image_info_test-dev2017 -> test-dev2017
        name = f"person_keypoints_{split}_{algorithm}_results.zip"
    if (folder / name).exists():
        raise FileExistsError(f"{folder / name} exists; remove it, or choose another name or folder")
    return folder / name


def write_coco_zip(path: Path, results: list[dict]) -> None:
    """Write the zip that COCO's server takes: one json, called like the zip.

    Coordinates have two digits after the point, which keeps a file of test-dev small.
    """
    rounded = [result | {"keypoints": np.round(result["keypoints"], 2).tolist()} for result in results]

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.json", json.dumps(rounded, allow_nan=False))

    write_whole(path, write)


if __name__ == "__main__":
    parser = make_parser("submit", __doc__.splitlines()[0])
    parser.add_argument("algorithm", help="the name of the submission")
    parser.add_argument("--out", type=Path, help="folder to write into; by default submissions/ in the profile's work")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # who is left out
    run = chosen_run(given)
    dataset = chosen_set(parser, given, run.dataset.format)
    print(submit(run, dataset, given.algorithm, given.out or run.dataset.work / "submissions", given.force))
