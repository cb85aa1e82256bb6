"""Train and evaluate the rows of one paper's ablations."""

from collections.abc import Iterable

import pandas as pd

from hpelib.data.image_cache import ImageCache
from hpelib.study.config import Run
from hpelib.study.evaluation import Evaluation, save
from hpelib.study.steps.evaluate import evaluate
from hpelib.study.steps.train import build_network, train, training_people


def shared_images(runs: Iterable[Run]) -> ImageCache:
    """The pictures that rows are trained on, for all of them to share; decoded when the first asks for them."""
    first = next(iter(runs))
    return ImageCache(training_people(first).image_paths, first.inputs.image_cache_mb)


def train_row(run: Run, images: ImageCache) -> pd.DataFrame:
    """Train one row on `shared_images`, leave weights and history in its folder, and return the history.

    Interrupted, it goes on from its checkpoint at the next call; a finished row is taken from there.
    """
    people = training_people(run)
    return train(run, build_network(run, people), people, images)


def evaluate_row(run: Run) -> Evaluation:
    """All figures of one trained row, which are also left in the run's folder for `evaluate.load`."""
    evaluation = evaluate([run])
    save(evaluation, run.evaluation)
    return evaluation
