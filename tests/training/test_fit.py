"""The loop against a plain one written out here, and against being killed."""

import json
import math
import os
import shutil
import signal
from dataclasses import replace
from multiprocessing import get_context

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from hpelib.data.augment import Augmentation
from hpelib.data.loader import InputSettings, make_loader
from hpelib.data.people import People
from hpelib.losses import heatmap_loss
from hpelib.skeletons import LSP14
from hpelib.training.fit import fit
from hpelib.training.objectives import make_objective
from hpelib.training.processes import make_accelerator
from hpelib.training.recipe import Recipe

INPUTS = InputSettings("dark", (32, 32), (8, 8), sigma=1.0, batch_size=4, seed=3, augmentation=Augmentation())


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Ten persons in noise."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [str(folder / f"{i}.png") for i in range(10)]
    for path in paths:
        cv2.imwrite(path, random.integers(0, 255, (40, 40, 3), np.uint8))
    return People(
        LSP14,
        image_paths=np.array(paths, object),
        image_ids=np.arange(10),
        ids=np.arange(10),
        keypoints=random.uniform(5, 35, (10, 14, 2)),
        visibility=np.full((10, 14), 2),
        boxes=np.tile([5.0, 5, 30, 30], (10, 1)),
    )


class Tiny(nn.Module):
    """Heatmaps of a strided convolution; dropout makes it depend on the random state."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Conv2d(8, 14, 1)

    def forward(self, images):
        heatmaps = self.head(self.body(images))
        return {"heatmaps": heatmaps} if self.training else heatmaps


def make_tiny() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


def run_fit(people, folder, recipe, inputs=INPUTS, **extra):
    model, loader = make_tiny(), make_loader(people, inputs, train=True)
    history = fit(
        model,
        loader,
        make_objective("mse", loader.codec),
        recipe,
        folder / "run.pt",
        folder / "log.json",
        **extra,
    )
    return model, history


def assert_same_weights(model, other):
    for (name, tensor), (_, expected) in zip(model.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize(
    ("schedule", "factor"),  # of the learning rate, of how many epochs are over; two batches are one
    [
        ({"milestones": (2,)}, lambda over: 0.1 if over >= 2 else 1),
        ({"milestones": (0.5, 1.5)}, lambda over: [1, 0.1, 0.1**2][(over >= 0.5) + (over >= 1.5)]),
        ({"schedule": "cosine"}, lambda over: (1 + math.cos(math.pi * over / 3)) / 2),
    ],
    ids=["step", "half epochs", "cosine"],
)
def test_equals_a_plain_loop(people, tmp_path, schedule, factor):
    recipe = Recipe(epochs=3, learning_rate=0.01, warmup_steps=2, **schedule)
    model, history = run_fit(people, tmp_path, recipe)

    expected, loader = make_tiny(), make_loader(people, INPUTS, train=True)
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01, fused=True)
    step, losses = 0, []
    for epoch in range(3):
        loader.set_epoch(epoch)
        losses.append([])
        for batch in loader:
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * factor(step / 2) * min(1, (step + 1) / 3)
            targets, weights = loader.codec.encode(batch["keypoints"], batch["visible"])
            loss = heatmap_loss(expected(batch["images"]), targets, weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
            step += 1
    assert_same_weights(model, expected)
    assert [record["loss"] for record in history] == pytest.approx([np.mean(epoch) for epoch in losses])
    assert json.loads((tmp_path / "log.json").read_text()) == history


def test_a_warmup_longer_than_the_training_is_refused(people, tmp_path):
    """Two batches an epoch, so six optimizer steps in three epochs, and three where two batches are one step."""
    run_fit(people, tmp_path, Recipe(epochs=3, learning_rate=0.01, warmup_steps=5))
    for recipe in (
        Recipe(epochs=3, learning_rate=0.01, warmup_steps=6),
        Recipe(epochs=3, learning_rate=0.01, warmup_steps=3, accumulation=2),
    ):
        with pytest.raises(ValueError, match=f"warmup_steps is {recipe.warmup_steps}, but the training has . steps"):
            run_fit(people, tmp_path / str(recipe.accumulation), recipe)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_network_learns_the_same_under_the_same_names(people, tmp_path, monkeypatch):
    """Losses agree to 1e-4 of their size. Dropout, which a compiled network draws in its own order, is off."""
    monkeypatch.setattr(nn.Dropout, "forward", lambda _, features: features)
    recipes = [Recipe(epochs=2, learning_rate=0.01, compile=compile) for compile in (False, True)]
    plain, compiled = (run_fit(people, tmp_path / str(recipe.compile), recipe) for recipe in recipes)
    assert [r["loss"] for r in compiled[1]] == pytest.approx([r["loss"] for r in plain[1]], rel=1e-4)
    assert plain[0].state_dict().keys() == compiled[0].state_dict().keys()
    checkpoint = torch.load(tmp_path / "True" / "run.pt", weights_only=True)
    assert checkpoint["model"].keys() == plain[0].state_dict().keys()


def test_accumulated_batches_make_one_step_of_their_mean(people, tmp_path):
    model, _ = run_fit(people, tmp_path, Recipe(epochs=1, learning_rate=0.01, accumulation=2))

    expected, loader = make_tiny(), make_loader(people, INPUTS, train=True)
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01)
    losses = []
    for batch in loader:  # ten persons: two batches of four
        targets, weights = loader.codec.encode(batch["keypoints"], batch["visible"])
        losses.append(heatmap_loss(expected(batch["images"]), targets, weights) / 2)
    sum(losses).backward()
    optimizer.step()
    for (name, tensor), (_, wanted) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        torch.testing.assert_close(tensor, wanted, msg=name)


def test_batches_left_over_at_the_end_of_an_epoch_make_a_step_of_their_own_mean(people, tmp_path):
    inputs = replace(INPUTS, batch_size=2)
    people = people.take(slice(8))  # four batches, three of which make a step
    model, history = run_fit(people, tmp_path, Recipe(epochs=2, learning_rate=0.01, accumulation=3), inputs)

    expected, loader = make_tiny(), make_loader(people, inputs, train=True)
    optimizer = torch.optim.Adam(expected.parameters(), lr=0.01, fused=True)
    losses = np.empty((2, 4))
    for epoch in range(2):
        loader.set_epoch(epoch)
        for i, batch in enumerate(loader):
            targets, weights = loader.codec.encode(batch["keypoints"], batch["visible"])
            loss = heatmap_loss(expected(batch["images"]), targets, weights)
            (loss / (3 if i < 3 else 1)).backward()
            losses[epoch, i] = loss.item()
            if i in (2, 3):
                optimizer.step()
                optimizer.zero_grad()
    assert_same_weights(model, expected)
    assert [record["loss"] for record in history] == pytest.approx(losses.mean(1))


def test_validation_is_recorded(people, tmp_path):
    seen = []
    validate = lambda model: seen.append(model.training) or {"PCK@0.2": 12.5}  # noqa: E731
    _, history = run_fit(people, tmp_path, Recipe(epochs=2, learning_rate=0.01), validate=validate)
    assert len(seen) == 2
    assert [record["PCK@0.2"] for record in history] == [12.5, 12.5]


class StopHere(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize(("after", "precision"), [*((n, "fp32") for n in (1, 2, 3, 4, 5)), (3, "bf16")])
def test_goes_on_from_any_batch_to_the_same_weights(people, tmp_path, after, precision):
    recipe = Recipe(epochs=3, learning_rate=0.01, checkpoint_steps=1, precision=precision)
    whole, history = run_fit(people, tmp_path / "whole", recipe)

    model, loader = make_tiny(), make_loader(people, INPUTS, train=True)
    objective, calls = make_objective("mse", loader.codec), []

    def interrupt(output, batch):
        calls.append(1)
        if len(calls) > after:
            raise StopHere
        return objective(output, batch)

    files = (tmp_path / "run.pt", tmp_path / "log.json")
    with pytest.raises(StopHere):
        fit(model, loader, interrupt, recipe, *files)
    resumed, resumed_history = run_fit(people, tmp_path, recipe)
    assert_same_weights(resumed, whole)
    assert resumed_history == history


def test_a_loss_that_is_not_finite_stops_the_run(people, tmp_path):
    model, loader = make_tiny(), make_loader(people, INPUTS, train=True)
    broken = lambda output, batch: output["heatmaps"].sum() * float("nan")  # noqa: E731
    with pytest.raises(FloatingPointError, match=r"epoch 1.*learning rate 0\.01"):
        fit(model, loader, broken, Recipe(epochs=1, learning_rate=0.01), tmp_path / "c.pt", tmp_path / "l.json")
    assert not (tmp_path / "c.pt").exists()


def test_bf16_runs_and_keeps_float32_weights(people, tmp_path):
    model, history = run_fit(people, tmp_path, Recipe(epochs=1, learning_rate=0.01, precision="bf16"))
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert np.isfinite(history[0]["loss"])


def test_a_gpu_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=r"cuda.*no GPU"):
        make_accelerator(Recipe(epochs=1, learning_rate=0.01, device="cuda"))


def test_killed_again_and_again_ends_with_the_same_weights(people, tmp_path):
    recipe = Recipe(epochs=3, learning_rate=0.01, checkpoint_steps=1)
    assert [run_killed(people, tmp_path, recipe, after) for after in (2, 3, 1)] == [-signal.SIGKILL] * 3
    resumed, _ = run_fit(people, tmp_path, recipe)
    whole, _ = run_fit(people, tmp_path / "whole", recipe)
    assert_same_weights(resumed, whole)


def run_killed(people, folder, recipe, after: int) -> int:
    """Train in a new process that dies in its batch number `after`; return its exit status."""
    # from a server: autograd's threads do not survive a fork of a process that has trained
    process = get_context("forkserver").Process(target=train_and_die, args=(people, folder, recipe, after))
    process.start()
    process.join()
    return process.exitcode


def train_and_die(people, folder, recipe, after: int) -> None:
    model, loader = make_tiny(), make_loader(people, INPUTS, train=True)
    left = [after]

    def die(output, batch):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return make_objective("mse", loader.codec)(output, batch)

    fit(model, loader, die, recipe, folder / "run.pt", folder / "log.json")
