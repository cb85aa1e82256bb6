"""Training steps and inference on one CPU thread: against timm's trunks in plain eager mode, and other precisions."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
from torch import Tensor, nn

from benchmarks.timing import Case, Comparison, compare
from hpelib.models import create_model
from hpelib.skeletons import COCO17
from hpelib.study.config import Run
from hpelib.training.engine import precision_here
from hpelib.training.objectives import make_objective
from hpelib.training.recipe import Recipe

ROUNDS = 7
BATCH_SIZE = 4
INPUT_SIZE = (96, 128)  # (width, height) px of the full-size trunks: a quarter of the papers' pixels
FORMATS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class Way:
    """How a network is computed."""

    precision: str  # "fp32" or "bf16"
    memory_format: str  # of `FORMATS`

    def __str__(self) -> str:
        return f"{self.precision}, {self.memory_format}"

    def place(self, model: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
        memory_format = FORMATS[self.memory_format]
        return copy.deepcopy(model).to(memory_format=memory_format), images.to(memory_format=memory_format)

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16")


PLAIN = Way("fp32", "contiguous")
WAYS = (PLAIN, Way("fp32", "channels last"), Way("bf16", "contiguous"), Way("bf16", "channels last"))


def way_of(recipe: Recipe) -> Way:
    """How `fit` computes a network under the recipe on this machine."""
    return Way(precision_here(recipe.precision, recipe.device), "channels last")


def training_step(model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], images: Tensor, way: Way) -> Case:
    """Forward, loss, backward and Adam, as `hpelib.training.fit` makes a step."""
    model, images = way.place(model.train(), images)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step():
        with way.autocast(images.device):
            value = loss(model, images)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def inference(model: nn.Module, features: Callable[[nn.Module, Tensor], Tensor], images: Tensor, way: Way) -> Case:
    model, images = way.place(model.eval(), images)

    @torch.inference_mode()
    def forward():
        with way.autocast(images.device):
            features(model, images)

    return forward


def trunks(best: Way) -> list[Comparison]:
    """HRNet-W32 and ResNet-50 up to their last features, computed in the `best` way, against timm's as they come.

    And against the library's own in timm's way: what is left then is how layers are called.
    """
    hrnet, resnet = create_model("hrnet_w32"), create_model("simple_baseline_resnet50")
    # the branches after the last exchange, without the layers that classification adds to each
    timm_hrnet = timm.create_model("hrnet_w32", features_only=True, feature_location="", out_indices=(1, 2, 3, 4))
    timm_resnet = timm.create_model("resnet50", features_only=True, out_indices=(4,))
    images = torch.randn(BATCH_SIZE, 3, *reversed(INPUT_SIZE))
    found = []
    for name, ours, features, theirs in (
        ("HRNet-W32", hrnet, lambda model, x: model.features(x), timm_hrnet),
        ("ResNet-50", resnet, lambda model, x: model.encode(x)[-1], timm_resnet),
    ):
        forwards = {"ours": (ours, features), "theirs": (theirs, lambda model, x: model(x)[0])}
        steps = {who: (model, lambda *given, f=f: f(*given).square().mean()) for who, (model, f) in forwards.items()}
        for kind, make, sides in (("training step", training_step, steps), ("inference", inference, forwards)):
            others = {
                f"timm, {PLAIN}": make(*sides["theirs"], images, PLAIN),
                f"hpelib, {PLAIN}": make(*sides["ours"], images, PLAIN),
            }
            found += compare(f"{name}, {kind}", make(*sides["ours"], images, best), others, BATCH_SIZE, ROUNDS)
    return found


def study_networks(runs: list[Run]) -> list[Comparison]:
    """A training step of each network of the profile, as its recipe has it, against other precisions and formats."""
    found = []
    for run in runs:
        others = {str(way): _step_of(run, way) for way in WAYS}
        found += compare(run.network, _step_of(run, way_of(run.recipe)), others, run.inputs.batch_size, ROUNDS)
    return found


def _step_of(run: Run, way: Way) -> Case:
    torch.manual_seed(0)
    network = create_model(run.model, COCO17.num_keypoints, **run.options)
    batch_size, (width, height) = run.inputs.batch_size, run.inputs.input_size
    batch = {
        "keypoints": torch.rand(batch_size, COCO17.num_keypoints, 2) * torch.tensor((width, height)),
        "visible": torch.full((batch_size, COCO17.num_keypoints), 2),
    }
    objective = make_objective(run.recipe.loss, run.inputs.make_codec(), run.recipe.loss_options)
    images = torch.randn(batch_size, 3, height, width)
    return training_step(network, lambda model, x: objective(model(x), batch), images, way)
