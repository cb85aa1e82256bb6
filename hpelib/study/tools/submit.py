"""Predictions of a run as the files that evaluation servers take.

    python -m hpelib.study.tools.submit hrnet coco 0 DE-HRNet --root datasets/coco --images test2017 \\
        --annotations annotations/image_info_test-dev2017.json --detections test-dev_boxes.json

writes the zip for COCO's test-dev from the run of `hrnet` on `coco` from seed 0 under the current profile.
"""

import logging
import re
from pathlib import Path

import torch

from hpelib.data.files import check_coordinates, check_images
from hpelib.study.config import Dataset, Run
from hpelib.study.steps.predictions import make_predictor
from hpelib.study.steps.weights import load_network
from hpelib.study.tools.arguments import chosen_run, chosen_set, make_parser, require_apart


def submit(run: Run, dataset: Dataset, algorithm: str, folder: Path, force: bool = False) -> Path:
    """Predict the `test` split of `dataset` by the run's test protocol, write the submission into `folder`, return it.

    COCO: predictions from a detector's boxes, rescored and after OKS-NMS. MPII: predictions from the persons' centres
    and scales. The formats' `write_submission` says what is in the file.

    Args:
        algorithm: the name of the submission: letters, digits and '-'.
        force: use the weights also where they were trained under other settings.

    Raises:
        FileNotFoundError: the run was not trained, or a file is missing.
        FileExistsError: there is a submission of that name.
        ValueError: no server takes this format or name, COCO's split names no detections, boxes are impossible, the
            weights are of other settings, or `folder` holds a source. All this is found before anything is predicted.
    """
    form = dataset.form
    if form.submission is None or dataset.format != run.dataset.format:
        raise ValueError(f"no server takes predictions of a run on {run.dataset.format} for {dataset.format}")
    path = submission_path(dataset, algorithm, folder)
    people = form.submitted(dataset)
    check_coordinates(people, str(dataset.root), form.reach)
    network = load_network(run, people, force)
    check_images(people)
    logging.getLogger(__name__).info("predicted: %s", people.summary())
    torch.set_num_threads(run.threads)
    found = make_predictor(run, people)(network)
    form.write_submission(path, people, found.keypoints, found.scores, run.test.nms)
    return path


def submission_path(dataset: Dataset, algorithm: str, folder: Path) -> Path:
    """The file of a submission, by the name that its server asks for. Errors are those of `submit`."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", algorithm):
        raise ValueError(f"algorithm {algorithm!r}: letters, digits and '-' only; COCO's server splits names at '_'")
    files = dataset.splits["test"]
    if "max_persons" in files:
        raise ValueError("--max-persons is for scoring: a server has a limit of its own, of 20 persons on COCO")
    require_apart(folder, [dataset.root / name for name in files.values()])
    split = Path(files["annotations"]).stem.rpartition("_")[2]  # image_info_test-dev2017 -> test-dev2017
    name = dataset.form.submission.format(split=split, algorithm=algorithm)
    if (folder / name).exists():
        raise FileExistsError(f"{folder / name} exists; remove it, or choose another name or folder")
    return folder / name


if __name__ == "__main__":
    parser = make_parser("submit", __doc__.splitlines()[0])
    parser.add_argument("algorithm", help="the name of the submission")
    parser.add_argument("--out", type=Path, help="folder to write into; by default submissions/ in the profile's work")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # who is left out
    run = chosen_run(given)
    dataset = chosen_set(parser, given, run.dataset.format, run)
    print(submit(run, dataset, given.algorithm, given.out or run.dataset.work / "submissions", given.force))
