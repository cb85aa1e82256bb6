"""The recipe alone decides a training: what Accelerate would read from the environment is ignored and named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hpelib.study.steps.evaluate import make_test
from hpelib.training.processes import make_accelerator
from hpelib.training.recipe import Recipe

FOREIGN = {
    "ACCELERATE_MIXED_PRECISION": "bf16",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_DYNAMO_BACKEND": "EAGER",
    "ACCELERATE_TORCH_DEVICE": "meta",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "PMI_SIZE": "2",
    "OMPI_COMM_WORLD_SIZE": "2",
}
ARITHMETIC = {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}


def describe_training() -> str:
    """A gradient, and what the engine says of itself."""
    accelerator = make_accelerator(Recipe(epochs=1, learning_rate=0.01))
    torch.manual_seed(0)
    model = accelerator.prepare(nn.Linear(4, 4))
    accelerator.backward(model(torch.ones(3, 4)).square().mean())
    engine = accelerator.mixed_precision, accelerator.device, accelerator.process_index, accelerator.num_processes
    return str([next(model.parameters()).grad.tolist(), *engine])


def test_variables_that_would_change_a_training_are_ignored_or_named():
    environment = os.environ | FOREIGN | ARITHMETIC | {"PYTHONPATH": str(Path(__file__).parents[2])}
    outcome = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert outcome.stdout.strip() == describe_training(), outcome.stderr
    assert all(name in outcome.stderr for name in FOREIGN | ARITHMETIC)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(describe_training())


def test_variables_that_change_what_is_computed_are_named_by_tests_too(monkeypatch):
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    with pytest.warns(UserWarning, match="ONEDNN_DEFAULT_FPMATH_MODE=BF16"), pytest.raises(AttributeError):
        make_test(None, None, None, None)
