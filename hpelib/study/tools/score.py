"""A finished run on any annotated pictures, such as a laboratory's own test set, in one of the study's formats.

    python -m hpelib.study.tools.score hrnet coco 0 --format coco --root pictures --annotations test.json --images images

evaluates the run of `hrnet` on `coco` from seed 0 under the current profile of params.yaml.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpelib.data.files import check_images
from hpelib.formats import FORMATS
from hpelib.metrics.statistics import bootstrap
from hpelib.study.config import Dataset, Run, load_params, make_run
from hpelib.study.steps.evaluate import load_network
from hpelib.study.steps.predictions import predict_people
from hpelib.study.steps.prepare import read_split


def score(run: Run, dataset: Dataset) -> pd.DataFrame:
    """Every figure of the format on the `test` split of `dataset`, by the run's test protocol.

    Columns metric, value, low, high, in percent. The mean over keypoints and every joint group have a 95 % interval
    over persons; what is no mean over keypoints, such as AP, has NaN there.

    Raises:
        FileNotFoundError: the run was not trained, or a file is missing.
        ValueError: the run is of another skeleton, heads have no size, or a file cannot be used.
    """
    form = FORMATS[dataset.format]
    if form.keypoint_metric != FORMATS[run.dataset.format].keypoint_metric:
        raise ValueError(f"{run.network} on {run.dataset.name} has other keypoints than the format {dataset.format}")
    torch.set_num_threads(run.threads)
    people = read_split(dataset, "test")
    check_images(people)
    form.check(dataset, "test", people)
    form.check_truth(dataset, "test", people)
    people = form.scored(people)
    logger = logging.getLogger(__name__)
    logger.info("scored: %s", people.summary())

    network = load_network(run, people)
    predictions = predict_people(run, network, people)
    found = form.figures(dataset, people, predictions.keypoints, predictions.scores, run.test.nms)
    detections = form.read_detections(dataset, "test")
    if detections is not None:
        logger.info("detected: %s", detections.summary())
        detected = predict_people(run, network, detections)
        case = people, detections, detected.keypoints, detected.scores
        found |= form.detection_figures(dataset, *case, run.test.nms)
    correct = form.keypoint_scores(people, predictions.keypoints)
    means = {form.keypoint_metric: correct}
    means |= {group: correct[:, members] for group, members in people.skeleton.groups.items()}
    intervals = {metric: bootstrap(values) for metric, values in means.items() if not np.isnan(values).all()}
    rows = [
        (metric, value, intervals[metric].low, intervals[metric].high)
        if metric in intervals
        else (metric, value, np.nan, np.nan)
        for metric, value in found.items()
    ]
    return pd.DataFrame(rows, columns=["metric", "value", "low", "high"])


def _parse() -> tuple[Run, Dataset]:
    parser = argparse.ArgumentParser("python -m hpelib.study.tools.score", description=__doc__.splitlines()[0])
    parser.add_argument("network", help="a network of the current profile in params.yaml")
    parser.add_argument("trained_on", help="the dataset that it was trained on")
    parser.add_argument("seed", type=int)
    parser.add_argument("--format", choices=("coco", "mpii", "lsp"), required=True, help="of the pictures to score")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that the other paths are relative to")
    parser.add_argument("--annotations", help="json file (coco, mpii)")
    parser.add_argument("--images", help="folder (coco, mpii)")
    parser.add_argument("--ground-truth", help="mat file with head boxes (mpii)")
    parser.add_argument("--detections", help="json file of a detector's boxes (coco)")
    given = parser.parse_args()
    files = {"folder": "."} if given.format == "lsp" else {"annotations": given.annotations, "images": given.images}
    if None in files.values():
        parser.error(f"the format {given.format} needs --annotations and --images")
    files |= {kind: getattr(given, kind) for kind in ("ground_truth", "detections") if getattr(given, kind)}
    run = make_run(load_params(), given.network, given.trained_on, given.seed)
    return run, Dataset(given.root.name, "own pictures", given.format, given.root, {"test": files})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(score(*_parse()).to_string(index=False, float_format="%.1f", na_rep="-"))
