"""Score a trained run on any annotated pictures, such as a test set of one's own, in one of the study's formats.

    python -m hpelib.study.tools.score hrnet coco 0 --format coco --root own --annotations test.json --images images

evaluates the run of `hrnet` on `coco` from seed 0 under the current profile of params.yaml.
"""

import logging

import numpy as np
import pandas as pd
import torch

from hpelib.data.files import check_images, enumerate_first, write_arrays
from hpelib.metrics.statistics import bootstrap
from hpelib.study.config import Dataset, Run
from hpelib.study.steps.evaluate import make_test
from hpelib.study.steps.prepare import annotation_digest, find_alike, read_split
from hpelib.study.steps.weights import load_network
from hpelib.study.tools.arguments import SCORED, chosen_run, chosen_set, make_parser


def score(run: Run, dataset: Dataset, force: bool = False) -> pd.DataFrame:
    """Every figure of the format on the `test` split of `dataset`, by the run's test protocol.

    Columns metric, value, low, high, in percent (px where a metric ends in _px). The mean over keypoints and every
    joint group have a 95 % interval over pictures. Other figures, such as AP, have NaN there. How many persons are
    scored and how many are left out, by reason, goes to the log at level INFO; pictures that the run was trained on
    are named there at level WARNING.

    Args:
        force: use the weights also where they were trained under other settings.

    Raises:
        FileNotFoundError: the run was not trained, or a file is missing.
        ValueError: the run is of another skeleton or other settings, or an annotation cannot be scored. All this is
            found before anything is predicted.
    """
    form = dataset.form
    if form.keypoint_metric != run.dataset.form.keypoint_metric:
        raise ValueError(f"{run.network} on {run.dataset.name} has other keypoints than the format {dataset.format}")
    torch.set_num_threads(run.threads)
    people = read_split(dataset, "test")
    form.check(dataset, "test", people)
    form.check_truth(dataset, "test", people)
    network = load_network(run, people, force)
    _warn_of_training_pictures(run, check_images(people))
    people = form.scored(people)
    log = logging.getLogger(__name__)
    log.info("scored: %s", people.summary())
    if (detections := form.read_detections(dataset, "test")) is not None:
        check_images(detections)
        log.info("detected: %s", detections.summary())
    test = make_test(run, dataset, people, detections)
    found, predictions, _ = test(network)
    correct = form.keypoint_scores(people, predictions.keypoints)
    means = {form.keypoint_metric: correct}
    means |= {group: correct[:, members] for group, members in people.skeleton.groups.items()}
    intervals = {
        metric: vars(bootstrap(values, people.image_ids))
        for metric, values in means.items()
        if not np.isnan(values).all()
    }
    table = pd.DataFrame(found.items(), columns=["metric", "value"])
    return table.join(pd.DataFrame(intervals).T[["low", "high"]], on="metric")


def _warn_of_training_pictures(run: Run, pictures: dict[str, bytes]) -> None:
    """Name pictures that are also in the run's training set, encoded anew or not. `pictures` has thumbnails by path."""
    log = logging.getLogger(__name__)
    try:
        alike = find_alike(pictures, _training_thumbnails(run.dataset))
    except (FileNotFoundError, ValueError) as error:  # weights may be used where their training set is not
        log.info(f"not compared with the training pictures of {run.network}: {error}")
        return
    if alike:
        pairs = [f"{path} is {known}" for path, (known, _) in alike.items()]
        log.warning(
            f"{run.network} was trained on {len(alike)} of the {len(pictures)} pictures: {enumerate_first(pairs)}; "
            "figures on these do not tell how it does on others"
        )


def _training_thumbnails(dataset: Dataset) -> dict[str, bytes]:
    """A thumbnail of every training picture, by path. They are kept beside the profile's runs: decoding takes minutes.

    Raises:
        FileNotFoundError: the training set is not on this machine.
        ValueError: its annotations cannot be used, or pictures are missing.
    """
    kept = dataset.work / "thumbnails" / f"{dataset.name}-{annotation_digest(dataset)[:16]}.npz"
    if not kept.is_file():
        people = read_split(dataset, "train")
        count = len(set(people.image_paths))
        logging.getLogger(__name__).info(f"looking once at the {count} training pictures of {dataset.name}")
        made = check_images(people)
        pixels = np.array([np.frombuffer(thumbnail, np.uint8) for thumbnail in made.values()])
        write_arrays(kept, {"paths": np.array([*made]), "pixels": pixels})
    with np.load(kept) as read:
        return {str(path): row.tobytes() for path, row in zip(read["paths"], read["pixels"], strict=True)}


if __name__ == "__main__":
    parser = make_parser("score", __doc__.splitlines()[0])
    parser.add_argument("--format", choices=SCORED, required=True, help="of the pictures to score")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # who is scored and who is left out
    run = chosen_run(given)
    table = score(run, chosen_set(parser, given, given.format, run), given.force)
    print(table.to_string(index=False, float_format="%.1f", na_rep="-"))
