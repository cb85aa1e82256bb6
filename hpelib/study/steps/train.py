"""One run from its parameters to its files: what the train notebook calls."""

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record

from hpelib.data.crops import crop_person, to_crop
from hpelib.data.files import write_whole
from hpelib.data.image_cache import ImageCache
from hpelib.data.loader import make_loader
from hpelib.data.people import People
from hpelib.figures.people import prediction_sheet
from hpelib.formats import FORMATS
from hpelib.inference import predict
from hpelib.models import create_model
from hpelib.models.weights import load_weights
from hpelib.study.config import Run
from hpelib.study.steps.prepare import read_split, require_prepared
from hpelib.training.checkpoints import save_weights
from hpelib.training.engine import autocast, precision_here
from hpelib.training.fit import fit, make_accelerator, require_device
from hpelib.training.objectives import make_objective
from hpelib.training.processes import launch


def build_network(run: Run, people: People) -> nn.Module:
    """The run's network with its initial weights, which depend on the seed alone."""
    torch.manual_seed(run.seed)
    return create_model(run.model, people.skeleton.num_keypoints, run.pretrained, **run.options)


def training_people(run: Run) -> People:
    """The persons to train on, checked to be those that were prepared; with shuffled labels for the control."""
    require_prepared(run.dataset)
    people = read_split(run.dataset, "train")
    return people if run.labels == "true" else shuffle_labels(people, run.seed)


def shuffle_labels(people: People, seed: int) -> People:
    """Everybody with somebody else's keypoints in a random order, moved into their own box: nothing to learn from.

    Were the order kept, the mean pose would be left, which alone is right about one keypoint in five.
    """
    random = np.random.default_rng(seed)
    other = people.take(random.permutation(len(people)))
    order = random.permuted(np.tile(np.arange(people.skeleton.num_keypoints), (len(people), 1)), axis=1)  # (N, K)
    relative = (other.keypoints - other.centers[:, None]) / other.sizes_px.max(1)[:, None, None]
    keypoints = people.centers[:, None] + relative * people.sizes_px.max(1)[:, None, None]
    return dataclasses.replace(
        people,
        keypoints=np.take_along_axis(keypoints, order[..., None], axis=1).astype(np.float32),
        visibility=np.take_along_axis(other.visibility, order, axis=1),
    )


def train(run: Run, network: nn.Module, people: People, images: ImageCache | None = None) -> pd.DataFrame:
    """Train `network` and leave weights.safetensors and history.csv in the run's folder; return the history.

    Interrupted, it goes on from `work/checkpoints` at the next call, and a finished training is taken from there until
    `forget`: DVC empties a stage's folders before it repeats it. Runs on the same people that one process trains one
    after the other may share decoded `images`.

    Raises:
        RuntimeError: one of several processes died, which ends all.
    """
    if run.recipe.processes == 1:
        return _train(run, network, people, images)
    require_device(run.recipe)
    try:
        history = launch(run.recipe.processes, _train_together, run, network, people)[0]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise RuntimeError(
            f"training process {rank} of {run.recipe.processes} ended: {failure.message}; once that is mended, "
            f"run again to go on from {checkpoint_path(run)}"
        ) from error
    load_weights(network, run.folder / "weights.safetensors")
    network.to(run.recipe.device)
    return history


def checkpoint_path(run: Run) -> Path:
    """Where a training is kept until `forget`: another place for other parameters, annotations or code."""
    frozen = Path("work/src/imports")  # as the pipeline does, by what is not comment
    code = [
        path.read_text() for path in (frozen / "train.txt", frozen / "models" / f"{run.network}.txt") if path.is_file()
    ]
    made_of = [run.digest, require_prepared(run.dataset)["annotations_sha256"], *code]
    key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    return Path("work/checkpoints") / f"{run.dataset.name}-{run.network}-{run.seed}-{key}.pt"


def forget(runs: Iterable[Run]) -> None:
    """Remove the checkpoints of trainings, once nothing can interrupt their stage any more."""
    for run in runs:
        checkpoint_path(run).unlink(missing_ok=True)


@record  # its error, for the message above
def _train_together(run: Run, network: nn.Module, people: People) -> pd.DataFrame:
    """`_train` in one of several processes, to which torch hands `network` in memory that they share."""
    torch.manual_seed(run.seed)
    history = _train(run, copy.deepcopy(network), people)
    make_accelerator(run.recipe).end_training()
    return history


def _train(run: Run, network: nn.Module, people: People, images: ImageCache | None = None) -> pd.DataFrame:
    accelerator = make_accelerator(run.recipe)
    torch.set_num_threads(run.threads)
    place = {"device": accelerator.device, "rank": accelerator.process_index, "world_size": accelerator.num_processes}
    loader = make_loader(people, run, train=True, images=images, **place)
    checkpoint = checkpoint_path(run)
    name = "-".join(filter(None, (run.dataset.name, run.network, run.variant)))
    log = Path("logs") / f"{name}-seed{run.seed}.jsonl"
    objective = make_objective(run.recipe.loss, loader.codec, run.recipe.loss_options)
    history = pd.DataFrame(fit(network, loader, objective, run.recipe, checkpoint, log, make_validation(run, **place)))
    if accelerator.is_main_process:
        precision = precision_here(run.recipe.precision, run.recipe.device)
        save_weights(network, run.folder / "weights.safetensors", precision)
        write_whole(run.folder / "history.csv", lambda path: history.to_csv(path, index=False, float_format="%.6g"))
    return history


def make_validation(
    run: Run, device: torch.device | str, rank: int, world_size: int
) -> Callable[[nn.Module], dict[str, float]]:
    """What is measured after every epoch: the mean over keypoints on the val split, without flip test.

    The network computes in the precision that it trains in.
    """
    people = FORMATS[run.dataset.format].scored(read_split(run.dataset, "val"))
    loader = make_loader(people, run, train=False, device=device, rank=rank, world_size=world_size)

    def validate(network: nn.Module) -> dict[str, float]:
        with autocast(run.recipe.precision, run.recipe.device):
            predictions = predict(network, loader, loader.codec, flip_test=False)
        return FORMATS[run.dataset.format].keypoint_figure(people, predictions.keypoints)

    return validate


def best_and_worst(run: Run, network: nn.Module, count: int = 6) -> Figure:
    """The `count` persons of the val split with the best, and with the worst, mean score over keypoints."""
    people = FORMATS[run.dataset.format].scored(read_split(run.dataset, "val"))
    loader = make_loader(people, run, train=False, device=run.recipe.device)
    with autocast(run.recipe.precision, run.recipe.device):
        predictions = predict(network, loader, loader.codec)
    scores = FORMATS[run.dataset.format].keypoint_scores(people, predictions.keypoints)
    scores = np.nan_to_num(scores).mean(axis=1)
    order = np.argsort(-scores, kind="stable")
    chosen = np.concatenate([order[:count], order[-count:]])
    crops = [crop_person(people, person, run.inputs) for person in chosen]
    return prediction_sheet(
        crops,
        [to_crop(predictions.keypoints[person], crop.matrix) for person, crop in zip(chosen, crops, strict=True)],
        [f"{100 * score:.0f} %" for score in scores[chosen]],
        people.skeleton,
    )


def describe(run: Run) -> pd.DataFrame:
    """All that decides a training as a table of names and values, for a reader; of precisions the one in use here."""
    values = pd.json_normalize(run.describe()).iloc[0]
    values["recipe.precision"] = precision_here(run.recipe.precision, run.recipe.device)
    return values[~values.index.str.startswith(("dataset.splits", "test."))].to_frame("value")
