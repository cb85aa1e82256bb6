"""What a training leaves: weights with the settings that they belong to, and checkpoints until it was evaluated."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from hpelib.data.people import People
from hpelib.models import create_model
from hpelib.models.weights import load_weights
from hpelib.study.config import Run
from hpelib.study.steps.prepare import require_prepared
from hpelib.training.checkpoints import read_header, save_weights
from hpelib.training.engine import machine_here, precision_here

SHIPPED = Path("weights")  # in half precision: PROFILE/DATASET/NETWORK.safetensors, made by hpelib.study.tools.ship

# Settings of a run that may differ between its training and its use: where files lie, what changes speed alone, and how
# it is tested. The splits val and test may differ as well.
FREE = {
    "": ("test", "threads"),
    "dataset": ("root", "work"),
    "inputs": ("workers", "image_cache_mb"),
    "recipe": ("device", "processes", "compile", "checkpoint_steps"),
}


def weights_path(run: Run) -> Path:
    """Where the trained weights of a run lie."""
    return run.folder / "weights.safetensors"


def find_weights(run: Run) -> Path | None:
    """The weights to look at: those of the run's own training, else those that the repository brings for its settings.

    The pipeline itself never needs the latter: it trains a run before it evaluates it.
    """
    shipped = SHIPPED / run.profile / run.dataset.name / f"{run.network}.safetensors"
    if weights_path(run).is_file():
        return weights_path(run)
    asked = settings(run, run.dataset.form.skeleton.name)
    fits = shipped.is_file() and not _differences(read_header(shipped)["settings"], asked)
    return shipped if fits else None


def write_weights(run: Run, network: nn.Module) -> None:
    """Write the trained weights, with what they belong to in the file's header: settings, precision and machine."""
    header = {
        "settings": settings(run, run.dataset.form.skeleton.name),
        "digest": run.digest,
        "annotations_sha256": _annotations(run),
        "precision": precision_here(run.recipe.precision, run.recipe.device),
        "machine": machine_here(run.recipe.device),
    }
    save_weights(network, weights_path(run), header)


def trained_in(runs: Sequence[Run], what: str) -> str:
    """The "precision" or the "machine" in which runs were trained, each once; "unknown" for weights from elsewhere."""
    return ", ".join(sorted({read_header(weights_path(run)).get(what, "unknown") for run in runs}))


def settings(run: Run, skeleton: str) -> dict:
    """What weights belong to, as plain JSON values: all of a run but `FREE`, and the name of the skeleton."""
    described = run.describe()
    for section, names in FREE.items():
        for name in names:
            del (described[section] if section else described)[name]
    described["dataset"]["splits"] = described["dataset"]["splits"]["train"]
    return described | {"skeleton": skeleton}


def load_network(run: Run, people: People, force: bool = False) -> nn.Module:
    """The run's trained network in eval mode, for persons like `people`.

    Weights from elsewhere, such as official ones, say nothing of their settings and are taken as they are. Where the
    annotations changed since the training, the log says so, at level WARNING.

    Args:
        force: use the weights also where they were trained under other settings than the run's.

    Raises:
        FileNotFoundError: the run was not trained, and the repository brings no weights for its settings.
        ValueError: the weights were trained under other settings, which the message names.
    """
    path = find_weights(run)
    if path is None:
        raise FileNotFoundError(f"{weights_path(run)} not found; run: make study")
    if path != weights_path(run):
        logging.getLogger(__name__).info(f"{run.network} was not trained here: taking {path}, which the repository has")
    trained, asked = read_header(path).get("settings"), settings(run, people.skeleton.name)
    if trained is not None and not force and (changes := _differences(trained, asked)):
        raise ValueError(
            f"{path} was trained under other settings than are asked for now: {'; '.join(changes)}. Train the run "
            "again, ask for the settings of its training, or insist with --force (in a notebook force=True)"
        )
    if None not in (before := read_header(path).get("annotations_sha256"), now := _annotations(run)) and before != now:
        logging.getLogger(__name__).warning(f"{path}: annotations of {run.dataset.name} changed since its training")
    skeleton = people.skeleton
    network = create_model(run.model, skeleton.num_keypoints, skeleton=skeleton, **run.options)
    load_weights(network, path)
    return network.eval().to(run.recipe.device, memory_format=torch.channels_last)  # as in training


def _annotations(run: Run) -> str | None:
    """Digest of the annotations that were checked, if they were."""
    manifest = run.dataset.manifest
    return json.loads(manifest.read_text())["annotations_sha256"] if manifest.is_file() else None


def _differences(trained: dict, asked: dict) -> list[str]:
    """The settings that differ. Example: "inputs.codec was 'dark', is 'udp'"."""
    before, now = (pd.json_normalize(described).iloc[0].to_dict() for described in (trained, asked))
    names = dict.fromkeys([*before, *now])
    pairs = {name: (before.get(name, "not set"), now.get(name, "not set")) for name in names}
    return [
        f"{name} was {old!r}, is {new!r}" for name, (old, new) in pairs.items() if json.dumps(old) != json.dumps(new)
    ]


def checkpoint_path(run: Run, key: str) -> Path:
    """Where a training is kept until the run was evaluated. Other parameters, annotations or `key` are another file."""
    made_of = "\n".join([run.digest, require_prepared(run.dataset)["annotations_sha256"], key])
    return _checkpoint_folder(run) / f"{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.pt"


def drop_checkpoints(runs: Iterable[Run]) -> None:
    """Remove all checkpoints of runs that were evaluated: nothing can fail any more that would need them."""
    for run in runs:
        shutil.rmtree(_checkpoint_folder(run), ignore_errors=True)


def _checkpoint_folder(run: Run) -> Path:
    work = run.dataset.work
    return work / "checkpoints" / run.folder.relative_to(work)
