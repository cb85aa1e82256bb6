import pytest
import torch
from torch import nn

from hpelib.training.engine import make_optimizer, precision_here
from hpelib.training.recipe import PRECISIONS, Recipe


def test_learning_rate_follows_the_official_schedule():
    # HRNet: 1e-3, a tenth from epoch 170, a hundredth from epoch 200 (counted from 0)
    recipe = Recipe(epochs=210, learning_rate=1e-3, milestones=(170, 200))
    rates = [recipe.learning_rate_at(epoch, step=10_000) for epoch in (0, 169, 170, 199, 200, 209)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_cosine_falls_from_all_to_nothing():
    recipe = Recipe(epochs=8, learning_rate=0.2, schedule="cosine")
    assert [recipe.learning_rate_at(epoch, 0) for epoch in (0, 2, 4, 8)] == pytest.approx(
        [0.2, 0.2 * (1 + 0.5**0.5) / 2, 0.1, 0.0]
    )


def test_warmup_grows_linearly_and_ends():
    recipe = Recipe(epochs=1, learning_rate=0.5, warmup_steps=4)
    assert [recipe.learning_rate_at(0, step) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_optimizer_is_the_named_one(name, kind):
    recipe = Recipe(epochs=1, learning_rate=0.1, optimizer=name, weight_decay=0.01)
    optimizer = make_optimizer(recipe, nn.Linear(2, 2))
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["weight_decay"] == 0.01


@pytest.mark.parametrize(
    ("abilities", "auto"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bf16"),
        ({"amx_bf16": False, "avx512_bf16": False}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_precision_is_bf16_only_where_the_cpu_has_instructions_for_it(abilities, auto, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    meant = {precision: precision_here(precision, "cpu") for precision in PRECISIONS}
    assert meant == {"fp32": "fp32", "bf16": "bf16", "auto": auto}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"optimizer": "sgd"}, "optimizer='sgd' is none of 'adam', 'adamw'"),
        ({"schedule": "linear"}, "schedule='linear' is none of 'step', 'cosine'"),
        ({"precision": "fp16"}, "precision='fp16' is none of 'fp32', 'bf16', 'auto'"),
        ({"epochs": 0}, "epochs"),
        ({"accumulation": 0}, "accumulation"),
        ({"processes": 0}, "processes"),
        ({"sync_batch_norm": True}, "sync_batch_norm is for GPUs"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"device": "cuda:1"}, "device='cuda:1' is none of 'cpu', 'cuda'"),
        ({"warmup_steps": -1}, "warmup_steps must be greater than or equal to 0, got -1"),
        ({"milestones": 5}, "milestones must be a list, got 5"),
        ({"milestones": ("5",)}, r"milestones\[0\] must be a valid number, got '5'"),
    ],
)
def test_impossible_recipes_are_refused_by_name(values, named):
    with pytest.raises(ValueError, match=named):
        Recipe(**({"epochs": 1, "learning_rate": 0.1} | values))
