"""How a network is trained: what papers call implementation details. Nothing here needs torch."""

import math
from dataclasses import dataclass, field

from hpelib.layers.choices import Count, NotNegative, Positive, Whole, require_choice, require_types

OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("step", "cosine")
PRECISIONS = ("fp32", "bf16", "auto")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Recipe:
    """Optimizer, schedule and objective of one run.

    The official code of HRNet and SimpleBaseline trains with Adam without weight decay (it ignores the `WD` of its
    configuration files) and divides the learning rate by ten at two epochs.

    Raises:
        ValueError: a value is not possible; the message names the field.
    """

    epochs: Count
    learning_rate: Positive
    schedule: str = "step"  # or "cosine": from the full learning rate to 0 over all epochs
    milestones: tuple[Positive, ...] = ()  # of "step": the learning rate falls to a tenth after these epochs
    optimizer: str = "adam"
    weight_decay: NotNegative = 0.0
    warmup_steps: Whole = 0  # optimizer steps of linear growth to the full learning rate
    accumulation: Count = 1  # batches per optimizer step
    precision: str = "fp32"  # "auto": bf16 where the device computes in it faster, else fp32
    compile: bool = False  # use torch.compile: takes minutes at first, then is faster; differs by rounding only
    device: str = "cpu"
    processes: Count = 1  # how many train together on this machine, each with its own batches and its own GPU
    sync_batch_norm: bool = False  # compute statistics over the batches of all processes; on GPUs only
    loss: str = "mse"  # as in `hpelib.training.objectives.make_objective`
    loss_options: dict = field(default_factory=dict)
    checkpoint_steps: Count = 1000  # optimizer steps between checkpoints; one is also written after every epoch

    def __post_init__(self) -> None:
        require_types("recipe", Recipe, vars(self))
        require_choice("recipe: optimizer", self.optimizer, OPTIMIZERS)
        require_choice("recipe: schedule", self.schedule, SCHEDULES)
        require_choice("recipe: precision", self.precision, PRECISIONS)
        require_choice("recipe: device", self.device, DEVICES)
        late = [epoch for epoch in self.milestones if epoch >= self.epochs]
        if late and self.schedule == "step":
            raise ValueError(f"recipe: milestones {late} lie beyond the end: there are {self.epochs} epochs")
        if self.sync_batch_norm and self.device == "cpu":
            raise ValueError("recipe: sync_batch_norm is for GPUs, device is 'cpu'; leave it out")

    def learning_rate_at(self, epoch: float, step: int) -> float:
        """Learning rate of optimizer step number `step`, counted from 0; `epoch` epochs are over, 0.5 is half of one.

        Formula: learning_rate * decay(epoch) * min(1, (step + 1) / (warmup_steps + 1)).
        """
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "cosine":
            decay = (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        else:
            decay = 0.1 ** sum(epoch >= milestone for milestone in self.milestones)
        return self.learning_rate * decay * warmup

    def require_warmup(self, batches: int) -> None:
        """Check that a training with `batches` in every epoch lasts longer than its warmup.

        Raises:
            ValueError: it would end before.
        """
        updates = self.epochs * math.ceil(batches / self.accumulation)
        if self.warmup_steps >= updates:
            raise ValueError(f"recipe: warmup_steps is {self.warmup_steps}, but the training has {updates} steps only")
