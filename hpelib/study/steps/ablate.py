"""Train and evaluate the rows of one paper's ablations: what the ablate notebook calls."""

from collections.abc import Iterable, Mapping

import pandas as pd

from hpelib.data.image_cache import ImageCache
from hpelib.study.config import Run
from hpelib.study.evaluation import save
from hpelib.study.steps.evaluate import evaluate
from hpelib.study.steps.train import build_network, train, training_people
from hpelib.study.steps.weights import drop_checkpoints


def train_rows(runs: Mapping[str, Run], key: str = "") -> pd.DataFrame:
    """Train the rows on one dataset, one by one on the same people, and leave weights and history in their folders.

    Returns the rows' histories one below the other, with the columns name and seed. Interrupted, training goes on where
    it was at the next call, and finished rows are taken from their checkpoints. `key` is as in `train`.

    Raises:
        ValueError: there are too few persons for a row. This is found before the first row trains.
    """
    first = next(iter(runs.values()))
    people = training_people(first)
    for run in runs.values():
        run.require_persons(len(people))
    images = ImageCache(people.image_paths, first.inputs.image_cache_mb)  # decoded when the first row asks for them
    histories = []
    for row, run in runs.items():
        print(first.dataset.name, row)
        history = train(run, build_network(run, people), people, images, key)
        histories.append(history.assign(name=row, seed=run.seed))
    return pd.concat(histories, ignore_index=True)


def evaluate_rows(runs: Iterable[Run]) -> pd.DataFrame:
    """Evaluate the trained rows of all datasets and leave an evaluation in the folder of each.

    Returns the rows' figures one below the other: columns seed, metric, value (percent), dataset and row.
    """
    runs, found = [*runs], []
    for run in runs:
        evaluation = evaluate([run])
        save(evaluation, run.evaluation)
        found.append(evaluation.figures.assign(dataset=run.dataset.name, row=run.variant))
    drop_checkpoints(runs)  # only now: where one row fails, DVC empties the folders of all
    return pd.concat(found, ignore_index=True)
