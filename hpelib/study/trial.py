"""Try what every run of the study is made of, so that what cannot train is refused before anything is computed."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from hpelib.formats import SPLITS
from hpelib.models import create_model
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import Run, make_run, networks_on
from hpelib.training.objectives import make_objective


def try_runs(params: dict) -> None:
    """Make codec, network and loss of every run and of every row of the ablations, and let each network see a picture.

    Tensors have shapes and no numbers, so that a network of full size takes a fifth of a second and no memory.

    Raises:
        ValueError: naming the first run that could not train.
    """
    sizes: dict[str, tuple[int, int]] = {}  # of heatmaps, by what decides them
    for name, run in planned_runs(params):
        form, inputs, recipe = run.dataset.form, run.inputs, run.recipe
        key = json.dumps([run.model, run.options, form.skeleton.name, inputs.input_size], sort_keys=True)
        try:
            for split in SPLITS:
                form.files(run.dataset, split)
            if isinstance(run.pretrained, str) and not Path(run.pretrained).is_file():
                raise ValueError(f"there is no file of pretrained weights {run.pretrained}")
            make_objective(recipe.loss, inputs.make_codec(), recipe.loss_options)
            if key not in sizes:
                with torch.device("meta"):
                    network = create_model(
                        run.model, form.skeleton.num_keypoints, skeleton=form.skeleton, **run.options
                    )
                sizes[key] = _heatmap_size(network, inputs.input_size)
            if sizes[key] != inputs.heatmap_size:
                raise ValueError(
                    f"inputs: heatmap_size is {inputs.heatmap_size}, but of an input of {inputs.input_size} px the "
                    f"network makes heatmaps of {sizes[key]}, as (width, height)"
                )
        except (ValueError, TypeError, RuntimeError, LookupError) as error:  # what layers say of a wrong number
            raise ValueError(f"params.yaml: {name} cannot train: {error}") from error


@torch.no_grad()
def _heatmap_size(network: nn.Module, input_size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the heatmaps that a network on the device "meta" makes of an input of this (width, height)."""
    heatmaps = network.eval()(torch.empty(1, 3, *input_size[::-1], device="meta"))  # (1, K, h, w)
    return heatmaps.shape[3], heatmaps.shape[2]


def planned_runs(params: dict) -> Iterator[tuple[str, Run]]:
    """A run of every network on each of its datasets, and of every row, with what messages call it."""
    for dataset in params["all_datasets"]:
        for network in networks_on(params, dataset):
            yield f"{network} on {dataset}", make_run(params, network, dataset, params["seeds"][0])
    for paper, ablation in params["ablations"].items():
        for dataset in ablation["datasets"]:
            for row, run in ablation_runs(params, paper, params["ablation_seeds"][0], dataset).items():
                yield f"row {row} of {paper} on {dataset}", run
