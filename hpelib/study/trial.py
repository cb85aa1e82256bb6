"""Try what every run of the study is made of, so that what cannot train is refused before anything is computed."""

import json
import warnings
from pathlib import Path

import torch
from torch import nn

from hpelib.formats import SPLITS
from hpelib.models import create_model, require_imagenet
from hpelib.study.ablations import planned_runs
from hpelib.study.checks import warn_of_idle_settings
from hpelib.study.config import Run
from hpelib.training.objectives import make_objective


def try_runs(params: dict) -> None:
    """Compute the loss of one batch for every run and for every row of the ablations; say which settings act nowhere.

    Tensors have shapes and no numbers, so that a network of full size takes half a second and no memory.

    Raises:
        ValueError: naming the first run that could not train.
    """
    sizes: dict[str, tuple[int, int]] = {}  # of heatmaps, by network, codec and loss
    for name, run in planned_runs(params):
        form, inputs, recipe = run.dataset.form, run.inputs, run.recipe
        network = run.model, run.options, form.skeleton.name, form.skeleton.keypoints
        codec = inputs.codec, inputs.input_size, inputs.heatmap_size, inputs.sigma
        start = run.pretrained if isinstance(run.pretrained, str) else False  # a file; timm's weights are not fetched
        key = json.dumps([network, codec, recipe.loss, recipe.loss_options, start])
        try:
            for split in SPLITS:
                form.files(run.dataset, split)
            if (persons := run.dataset.splits["train"].get("persons")) is not None:
                run.require_persons(persons)
            if isinstance(run.pretrained, str) and not Path(run.pretrained).is_file():
                raise ValueError(f"there is no file of pretrained weights {run.pretrained}")
            if run.pretrained is True:
                require_imagenet(run.model, **run.options)
            if key not in sizes:
                sizes[key] = _try_step(run, start)
            if sizes[key] != inputs.heatmap_size:
                raise ValueError(
                    f"inputs: heatmap_size is {inputs.heatmap_size}, but of an input of {inputs.input_size} px the "
                    f"network makes heatmaps of {sizes[key]}, as (width, height)"
                )
        except (ValueError, TypeError, RuntimeError, LookupError) as error:  # what layers say of a wrong number
            raise ValueError(f"params.yaml: {name} cannot train: {error}") from error
    warn_of_idle_settings(params)


@torch.no_grad()
def _try_step(run: Run, start: str | bool) -> tuple[int, int]:
    """Compute the loss of one batch on the device "meta", and return (width, height) of the network's heatmaps.

    The file of weights `start`, if there is one, must fit the network.

    Where the heatmaps are not those of the codec, the loss is not computed: the caller names the two sizes.
    """
    form, inputs, recipe = run.dataset.form, run.inputs, run.recipe
    keypoints = form.skeleton.num_keypoints
    objective = make_objective(recipe.loss, inputs.make_codec(), recipe.loss_options)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are not copied to this device
        network = create_model(run.model, keypoints, start, form.skeleton, **run.options).train()
        images, visible = torch.empty(2, 3, *inputs.input_size[::-1]), torch.empty(2, keypoints, dtype=torch.bool)
        batch = {"keypoints": torch.empty(2, keypoints, 2), "visible": visible}
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()  # on this device, statistics of a batch cost ten times as much
    output = network(images)
    size = tuple(output["heatmaps"].shape[:1:-1])
    if size == inputs.heatmap_size:
        objective(output, batch)
    return size
