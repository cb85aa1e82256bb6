"""How a network is trained: the part of a run that papers call implementation details.

A recipe is a value. It needs no torch, so that pages of results can read it.
"""

import math
from dataclasses import dataclass, field

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("step", "cosine")
PRECISIONS = ("fp32", "bf16", "auto")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Recipe:
    """Optimizer, schedule and objective of one run.

    The official HRNet and SimpleBaseline recipes use Adam without weight decay, whatever their
    configuration files say, and divide the learning rate by ten at two epochs.
    """

    epochs: int
    learning_rate: float
    schedule: str = "step"  # or "cosine": from the full learning rate to 0 over all epochs
    milestones: tuple[float, ...] = ()  # of "step": epochs, from 0, at whose start the learning rate falls to a tenth
    optimizer: str = "adam"
    weight_decay: float = 0.0
    warmup_steps: int = 0  # optimizer steps of linear growth to the full learning rate
    accumulation: int = 1  # batches per optimizer step
    precision: str = "fp32"  # "auto": bf16 where the device has matrix units for it, else fp32
    compile: bool = False  # the network by torch.compile: minutes at the start, then faster; equal but for rounding
    device: str = "cpu"
    processes: int = 1  # that train together, each on batches of its own, on the CPU or on a GPU of its own
    sync_batch_norm: bool = False  # statistics over the batches of all processes; on GPUs only
    loss: str = "mse"  # as in `hpelib.training.objectives.make_objective`
    loss_options: dict = field(default_factory=dict)
    checkpoint_steps: int = 1000  # optimizer steps between checkpoints; one is also written after every epoch

    def __post_init__(self) -> None:
        _require("optimizer", self.optimizer, OPTIMIZERS)
        _require("schedule", self.schedule, SCHEDULES)
        _require("precision", self.precision, PRECISIONS)
        _require("device", self.device, DEVICES)
        for name in ("epochs", "accumulation", "processes", "checkpoint_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"recipe: {name} must be at least 1, got {getattr(self, name)}")
        if self.warmup_steps < 0:
            raise ValueError(f"recipe: warmup_steps must not be negative, got {self.warmup_steps}")
        if not isinstance(self.milestones, tuple) or not all(
            isinstance(epoch, int | float) for epoch in self.milestones
        ):
            raise ValueError(f"recipe: milestones must be a list of epochs, got {self.milestones!r}")
        if not self.learning_rate > 0:
            raise ValueError(f"recipe: learning_rate must be positive, got {self.learning_rate}")
        if self.sync_batch_norm and self.device == "cpu":
            raise ValueError("recipe: sync_batch_norm is for GPUs, device is 'cpu'; leave it out")

    def learning_rate_at(self, epoch: float, step: int) -> float:
        """Learning rate of optimizer step number `step` of the run, after `epoch` epochs (0.5 is half of one)."""
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "cosine":
            decay = (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        else:
            decay = 0.1 ** sum(epoch >= milestone for milestone in self.milestones)
        return self.learning_rate * decay * warmup


def _require(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"recipe: {field} is {value!r}, must be one of {', '.join(choices)}")
