"""Train one run, from its parameters to its files. The train notebook calls this, or a shell:

    python -m hpelib.study.steps.train hrnet coco 0

That command trains on as many processes of this machine as the recipe asks for. Started by torchrun or by `accelerate
launch`, on one machine or on several that share a file system, it is one of the processes that they count:

    torchrun --nproc-per-node 4 -m hpelib.study.steps.train hrnet coco 0
"""

import copy
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record

from hpelib.data.crops import Crop, crop_person, to_crop
from hpelib.data.files import write_whole
from hpelib.data.image_cache import ImageCache
from hpelib.data.loader import make_loader
from hpelib.data.people import People
from hpelib.inference import predict
from hpelib.models import create_model
from hpelib.models.weights import load_weights
from hpelib.skeletons import Skeleton
from hpelib.study.command import call
from hpelib.study.config import Run, load_params, make_run
from hpelib.study.planned import differs_from_plan, plan_key, warn_of_old_plan
from hpelib.study.steps.prepare import read_split, require_prepared
from hpelib.study.steps.weights import checkpoint_path, weights_path, write_weights
from hpelib.training.engine import autocast, precision_here
from hpelib.training.fit import fit
from hpelib.training.objectives import make_objective
from hpelib.training.processes import is_launched, launch, make_accelerator


def build_network(run: Run, people: People) -> nn.Module:
    """The run's network with its initial weights, which depend on the seed alone."""
    torch.manual_seed(run.seed)
    return create_model(run.model, people.skeleton.num_keypoints, run.pretrained, people.skeleton, **run.options)


def training_people(run: Run) -> People:
    """The persons to train on: those of the split, or as many as the `persons` of its entry says. Control: shuffled.

    They are drawn by the entry's seed `draw`, 0 unless told. Of one seed, a smaller draw is a part of a larger one.

    Raises:
        FileNotFoundError: the dataset was not prepared.
        ValueError: its annotations changed since, or it has fewer persons than the entry asks for.
    """
    require_prepared(run.dataset)
    people, entry = read_split(run.dataset, "train"), run.dataset.form.files(run.dataset, "train")
    if (count := entry.get("persons", len(people))) > len(people):
        raise ValueError(f"dataset {run.dataset.name}, split train: persons is {count}, but it has {len(people)}")
    if "persons" in entry:
        people = people.take(np.sort(np.random.default_rng(entry.get("draw", 0)).permutation(len(people))[:count]))
    return people if run.labels == "true" else shuffle_labels(people, run.seed)


def shuffle_labels(people: People, seed: int) -> People:
    """Give everybody the keypoints of another person, in a random order and moved into their own box.

    There is nothing to learn from such labels. In the right order they would still teach the mean pose, and the mean
    pose alone is right about one keypoint in five.
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


def train(
    run: Run, network: nn.Module, people: People, images: ImageCache | None = None, key: str = ""
) -> pd.DataFrame:
    """Train `network` in place, leave weights.safetensors and history.csv in the run's folder, return the history.

    An interrupted training goes on from its checkpoint when this is called again, and ends with the same weights. A
    finished training is taken from there, which also survives a failure of what follows: `drop_checkpoints` removes
    it when the run is evaluated. `key` is part of the checkpoint's name: the caller's digest of the code, for example,
    so that no training goes on under other code.

    Runs on the same people, one after the other in one process, may share decoded `images`.

    Raises:
        ValueError: the recipe asks for GPUs that are not there, or, in a stage of DVC, the run is not as planned.
        RuntimeError: one of several processes died, which ends all.
    """
    if "DVC_STAGE" in os.environ:
        _require_planned(run)
    if is_launched():
        torch.manual_seed(run.seed)
    if is_launched() or run.recipe.processes == 1:
        return _train(run, network, people, images, key)
    (history, *_) = launch(run.recipe, _train_together, run, network, people, key)
    load_weights(network, weights_path(run))
    network.to(run.recipe.device)
    return history


def _require_planned(run: Run) -> None:
    """Refuse a stage's training if it was edited since the plan: DVC would record it with the old values."""
    if other := differs_from_plan(run):
        raise ValueError(
            f"{', '.join(other)} of {run.network} on {run.dataset.name} changed after the stage `plan` ran, in "
            "params.yaml or in a file that it names: run `dvc repro --force --single-item plan`, then this again"
        )


def _train_together(run: Run, network: nn.Module, people: People, key: str) -> pd.DataFrame:
    """`_train` in one of several processes; torch hands `network` to it in memory that they share."""
    torch.manual_seed(run.seed)
    return _train(run, copy.deepcopy(network), people, None, key)


def _train(run: Run, network: nn.Module, people: People, images: ImageCache | None, key: str) -> pd.DataFrame:
    accelerator = make_accelerator(run.recipe)
    torch.set_num_threads(run.threads)
    place = {"device": accelerator.device, "rank": accelerator.process_index, "world_size": accelerator.num_processes}
    loader = make_loader(people, run, train=True, images=images, **place)
    objective = make_objective(run.recipe.loss, loader.codec, run.recipe.loss_options)
    files = checkpoint_path(run, key), log_path(run)
    history = pd.DataFrame(fit(network, loader, objective, run.recipe, *files, make_validation(run, **place)))
    if accelerator.is_main_process:
        write_weights(run, network)
        write_whole(run.folder / "history.csv", lambda path: history.to_csv(path, index=False, float_format="%.6g"))
    return history


def log_path(run: Run) -> Path:
    """The file with a record of each epoch, called as the item of the pipeline's stage: coco-hrnet-0.json.

    The rows of an ablation, which a stage trains one after the other, share one file: de_hrnet-0.json. The folder is
    that of `plots` in dvc.yaml.
    """
    item = [run.network, run.seed] if run.variant else [run.dataset.name, run.network, run.seed]
    name = run.dataset.name if run.is_control else "-".join(map(str, item))
    return Path("logs/learning") / f"{name}.json"


def make_validation(
    run: Run, device: torch.device | str, rank: int, world_size: int
) -> Callable[[nn.Module], dict[str, float]]:
    """What is measured after every epoch: the mean over keypoints on the val split, in percent, without flip test.

    The network computes in the precision that it trains in.
    """
    form = run.dataset.form
    people = form.scored(read_split(run.dataset, "val"))
    loader = make_loader(people, run, train=False, device=device, rank=rank, world_size=world_size)

    def validate(network: nn.Module) -> dict[str, float]:
        with autocast(run.recipe.precision, run.recipe.device):
            predictions = predict(network, loader, loader.codec, flip_test=False)
        return form.keypoint_figure(people, predictions.keypoints)

    return validate


def best_and_worst(
    run: Run, network: nn.Module, count: int = 6
) -> tuple[list[Crop], list[np.ndarray], list[str], Skeleton]:
    """The `count` persons of the val split with the best mean score over keypoints, then the `count` worst.

    Returns what `hpelib.figures.people.prediction_sheet` takes: crops, predicted keypoints (K, 2) in crop px, titles
    and the skeleton.
    """
    form = run.dataset.form
    people = form.scored(read_split(run.dataset, "val"))
    loader = make_loader(people, run, train=False, device=run.recipe.device)
    with autocast(run.recipe.precision, run.recipe.device):
        predictions = predict(network, loader, loader.codec)
    scores = np.nan_to_num(form.keypoint_scores(people, predictions.keypoints)).mean(axis=1)
    order = np.argsort(-scores, kind="stable")
    chosen = np.concatenate([order[:count], order[-count:]])
    crops = [crop_person(people, person, run.inputs) for person in chosen]
    predicted = [
        to_crop(predictions.keypoints[person], crop.matrix) for person, crop in zip(chosen, crops, strict=True)
    ]
    return crops, predicted, [f"{100 * score:.0f} %" for score in scores[chosen]], people.skeleton


def describe(run: Run) -> pd.DataFrame:
    """Everything that decides a training, as a table of names and values. The precision is the one in use here."""
    values = pd.json_normalize(run.describe()).iloc[0]
    values["recipe.precision"] = precision_here(run.recipe.precision, run.recipe.device)
    return values[~values.index.str.startswith(("dataset.splits", "test."))].to_frame("value")


@record  # a launcher names the error of the process that failed
def main(network: str, dataset: str, seed: int, labels: str = "true") -> None:
    run = make_run(load_params(), network, dataset, seed, labels)
    people = training_people(run)
    warn_of_old_plan(run)
    train(run, build_network(run, people), people, key=plan_key(run))
    if is_launched():
        make_accelerator(run.recipe).end_training()


if __name__ == "__main__":
    call(main)
