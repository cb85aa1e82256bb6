"""Train and evaluate the rows of one paper's ablations: what the ablate notebook calls."""

from collections.abc import Mapping

import pandas as pd

from hpelib.data.image_cache import ImageCache
from hpelib.study.config import Run
from hpelib.study.evaluation import save
from hpelib.study.steps.evaluate import evaluate
from hpelib.study.steps.train import build_network, train, training_people
from hpelib.study.steps.weights import drop_checkpoints


def train_rows(runs: Mapping[str, Run], key: str = "") -> pd.DataFrame:
    """Train the rows one after the other on the same people, and leave weights and history of each in its folder.

    Returns the rows' histories one below the other, with the columns name and seed. Interrupted, training goes on where
    it was at the next call, and finished rows are taken from their checkpoints. `key` is as in `train`.
    """
    first = next(iter(runs.values()))
    people = training_people(first)
    images = ImageCache(people.image_paths, first.inputs.image_cache_mb)  # decoded when the first row asks for them
    histories = []
    for row, run in runs.items():
        print(row)
        history = train(run, build_network(run, people), people, images, key)
        histories.append(history.assign(name=row, seed=run.seed))
    return pd.concat(histories, ignore_index=True)


def evaluate_rows(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Evaluate the trained rows and leave an evaluation in the folder of each.

    Returns the rows' figures one below the other: columns seed, metric, value (percent) and row.
    """
    found = []
    for row, run in runs.items():
        evaluation = evaluate([run])
        save(evaluation, run.evaluation)
        found.append(evaluation.figures.assign(row=row))
    drop_checkpoints(runs.values())  # only now: where one row fails, DVC empties the folders of all
    return pd.concat(found, ignore_index=True)
