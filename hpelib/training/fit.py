"""The training loop, through Accelerate: the same for one CPU, one GPU or several."""

import contextlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn
from tqdm import tqdm

from hpelib.data.files import write_whole
from hpelib.data.loader import PeopleLoader
from hpelib.training.checkpoints import load_checkpoint, save_checkpoint
from hpelib.training.engine import autocast, make_optimizer
from hpelib.training.processes import make_accelerator
from hpelib.training.recipe import Recipe

Objective = Callable[[dict, dict], Tensor]  # (network output, batch) -> scalar loss


def fit(
    model: nn.Module,
    loader: PeopleLoader,
    objective: Objective,
    recipe: Recipe,
    checkpoint: Path,
    log: Path,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
) -> list[dict]:
    """Train `model` in place and return one record per epoch: epoch, learning_rate, loss and what `validate` measures.

    The full state is kept at `checkpoint`. If that file exists, training goes on from it and ends with the weights of
    an uninterrupted training: the order and augmentation of persons depend on (seed, epoch, person) alone, and the
    random state is part of the checkpoint. The records also go to `log`, a JSON list that DVC draws as curves.

    Several processes may call this together. In every step each takes the share that its `loader` gives it, and their
    gradients are averaged. After an epoch all take the first process's buffers, which hold the statistics of batch
    norm. Only the first process writes files. A checkpoint can be continued by another number of processes.

    Raises:
        ValueError: `loader` is not made for this process, or the training ends before its warmup.
        FloatingPointError: the loss is no longer finite.
    """
    accelerator = make_accelerator(recipe)
    share = loader.batches.rank, loader.batches.world_size
    expected = accelerator.process_index, accelerator.num_processes
    if share != expected:
        raise ValueError(f"the loader gives (rank, world_size) {share} its batches, this process is {expected}")
    recipe.require_warmup(len(loader))
    model = model.to(memory_format=torch.channels_last)
    if recipe.sync_batch_norm:
        from timm.layers import convert_sync_batchnorm  # torch's would drop the activation of timm's norm layers

        model = convert_sync_batchnorm(model)
    if recipe.compile:
        model.compile()  # in place: the weights keep their names
    optimizer = make_optimizer(recipe, model)
    model, optimizer = accelerator.prepare(model, optimizer)
    progress = _Progress(accelerator, model, optimizer, checkpoint, loader.batches.step_size, recipe.accumulation)
    accelerator.wait_for_everyone()  # until all have read the checkpoint
    for epoch in range(progress.epoch, recipe.epochs):
        loader.set_epoch(epoch, progress.step)
        model.train()
        _train_epoch(accelerator, model, optimizer, loader, objective, recipe, progress)
        record = {"epoch": epoch + 1, "learning_rate": _learning_rate(optimizer), "loss": progress.mean_loss()}
        if accelerator.num_processes > 1:
            _share_buffers(model)
        if validate is not None:
            record |= validate(accelerator.unwrap_model(model))
        progress.end_epoch(record)
        if accelerator.is_main_process:
            progress.save()
            _write_log(log, progress.history)
            _print_record(record, recipe.epochs)
    return progress.history


class _Progress:
    """How far a training is, and its checkpoint."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        path: Path,
        step_size: int,
        accumulation: int,
    ):
        self.accelerator, self.model, self.optimizer = accelerator, accelerator.unwrap_model(model), optimizer
        self.path, self.step_size = path, step_size  # persons in a batch of all processes
        self.epoch, self.step, self.updates = 0, 0, 0  # the next epoch, its next batch, optimizer steps so far
        self.loss_sum: Tensor | float = 0.0
        self.history: list[dict] = []
        state = load_checkpoint(path)
        if state is not None:
            self._restore(state, accumulation)

    def mean_loss(self) -> float:
        """The mean over the epoch's batches so far, of all processes; every process must call this together."""
        own = torch.as_tensor(self.loss_sum, device=self.accelerator.device)
        self.loss_sum = self.accelerator.reduce(own, "mean")  # also what a checkpoint then holds
        return self.loss_sum.item() / max(self.step, 1)

    def require_finite_loss(self) -> None:
        loss = self.mean_loss()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss} by batch {self.step} of epoch {self.epoch + 1} at learning rate "
                f"{_learning_rate(self.optimizer):g}; lower learning_rate or lengthen warmup_steps"
            )

    def end_epoch(self, record: dict) -> None:
        self.history.append(record)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "epoch": self.epoch,
            "step": self.step,
            "step_size": self.step_size,
            "updates": self.updates,
            "loss_sum": float(self.loss_sum),
            "random": torch.get_rng_state(),
        }
        if self.accelerator.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state()
        save_checkpoint(self.path, state)

    def _restore(self, state: dict, accumulation: int) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]
        self.epoch, self.step, self.updates = state["epoch"], state["step"], state["updates"]
        self.loss_sum = state["loss_sum"]
        if state["step_size"] != self.step_size:  # another number of processes: skip the persons that were seen
            updates = state["step"] * state["step_size"] // (self.step_size * accumulation)
            self.step = updates * accumulation
            self.loss_sum *= self.step / max(state["step"], 1)
        torch.set_rng_state(state["random"])
        if "random_cuda" in state and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"])
        self.accelerator.print(f"resuming at epoch {self.epoch + 1}, batch {self.step}", file=sys.stderr, flush=True)


def _train_epoch(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: PeopleLoader,
    objective: Objective,
    recipe: Recipe,
    progress: _Progress,
) -> None:
    last = len(loader)  # steps of the whole epoch, also if it is resumed in the middle
    title, silent = f"epoch {progress.epoch + 1}/{recipe.epochs}", not accelerator.is_main_process
    for batch in tqdm(loader, title, mininterval=2, leave=False, file=sys.stderr, disable=silent):
        first = progress.step // recipe.accumulation * recipe.accumulation  # of the batches of this update
        updates_now = (progress.step + 1) % recipe.accumulation == 0 or progress.step + 1 == last
        with contextlib.nullcontext() if updates_now else accelerator.no_sync(model):
            with autocast(recipe.precision, recipe.device):
                output = model(batch["images"])
            loss = objective(output, batch)
            accelerator.backward(loss / min(recipe.accumulation, last - first))
        if updates_now:
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(progress.epoch + progress.step / last, progress.updates)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.updates += 1
        progress.loss_sum = progress.loss_sum + loss.detach()  # stays on the device: reading it would stall a GPU
        progress.step += 1
        # only after an optimizer step: gradients that still accumulate are not part of a checkpoint
        if updates_now and progress.updates % recipe.checkpoint_steps == 0 and progress.step < last:
            progress.require_finite_loss()
            if accelerator.is_main_process:
                progress.save()
    progress.require_finite_loss()


def _share_buffers(model: nn.Module) -> None:
    """Give all processes the buffers of the first: each has batch norm statistics of its own batches."""
    for buffer in model.buffers():
        distributed.broadcast(buffer, 0)


def _learning_rate(optimizer: torch.optim.Optimizer) -> float:
    return optimizer.param_groups[0]["lr"]


def _write_log(path: Path, history: list[dict]) -> None:
    text = "[\n" + ",\n".join(map(json.dumps, history)) + "\n]\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def _print_record(record: dict, epochs: int) -> None:
    figures = "  ".join(f"{name} {value:.4g}" for name, value in record.items() if name != "epoch")
    print(f"epoch {record['epoch']:3d}/{epochs}  {figures}", flush=True)
