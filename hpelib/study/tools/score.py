"""Score a trained run on any annotated pictures, such as a test set of one's own, in one of the study's formats.

    python -m hpelib.study.tools.score hrnet coco 0 --format coco --root own --annotations test.json --images images

evaluates the run of `hrnet` on `coco` from seed 0 under the current profile of params.yaml.
"""

import logging

import numpy as np
import pandas as pd
import torch

from hpelib.data.files import check_images
from hpelib.formats import FORMATS
from hpelib.metrics.statistics import bootstrap
from hpelib.study.config import Dataset, Run
from hpelib.study.steps.evaluate import make_test
from hpelib.study.steps.prepare import read_split
from hpelib.study.steps.weights import load_network
from hpelib.study.tools.arguments import chosen_run, chosen_set, make_parser


def score(run: Run, dataset: Dataset, force: bool = False) -> pd.DataFrame:
    """Every figure of the format on the `test` split of `dataset`, by the run's test protocol.

    Columns metric, value, low, high, in percent. The mean over keypoints and every joint group have a 95 % interval
    over persons. Other figures, such as AP, are no means over persons and have NaN there. How many persons are scored
    and how many are left out, by reason, goes to the log at level INFO.

    Args:
        force: use the weights also where they were trained under other settings.

    Raises:
        FileNotFoundError: the run was not trained, or a file is missing.
        ValueError: the run is of another skeleton or other settings, or an annotation cannot be scored. All this is
            found before anything is predicted.
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
    log = logging.getLogger(__name__)
    log.info("scored: %s", people.summary())
    if (detections := form.read_detections(dataset, "test")) is not None:
        log.info("detected: %s", detections.summary())
    test = make_test(run, dataset, people, detections)
    found, predictions, _ = test(load_network(run, people, force))
    correct = form.keypoint_scores(people, predictions.keypoints)
    means = {form.keypoint_metric: correct}
    means |= {group: correct[:, members] for group, members in people.skeleton.groups.items()}
    intervals = {metric: vars(bootstrap(values)) for metric, values in means.items() if not np.isnan(values).all()}
    table = pd.DataFrame(found.items(), columns=["metric", "value"])
    return table.join(pd.DataFrame(intervals).T[["low", "high"]], on="metric")


if __name__ == "__main__":
    parser = make_parser("score", __doc__.splitlines()[0])
    parser.add_argument("--format", choices=("coco", "mpii", "lsp"), required=True, help="of the pictures to score")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # who is scored and who is left out
    table = score(chosen_run(given), chosen_set(parser, given, given.format), given.force)
    print(table.to_string(index=False, float_format="%.1f", na_rep="-"))
