"""The processes of a training: one alone, several on this machine, or those that a launcher started."""

import os
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from hpelib.training.recipe import Recipe

Result = TypeVar("Result")

# torchrun and `accelerate launch` set all of these for every process that they start.
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Accelerate reads settings and ranks from these; here the recipe alone decides.
FOREIGN = ("ACCELERATE_", "FSDP_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "PMI_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")
# The libraries read these when they are loaded, so that nothing here can overrule them.
ARITHMETIC = (
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)


def is_launched() -> bool:
    """Whether torchrun or `accelerate launch` started this process, on one machine or on several."""
    return all(name in os.environ for name in LAUNCHER)


def require_device(recipe: Recipe) -> None:
    """Check that this machine has the recipe's devices.

    Raises:
        ValueError: torch sees no GPU though the recipe asks for one, or fewer GPUs than the recipe has processes.
    """
    if recipe.device == "cpu":
        return
    if not torch.cuda.is_available():
        raise ValueError(f"the recipe asks for device {recipe.device!r}, but torch sees no GPU; use the quick profile")
    if recipe.processes > torch.cuda.device_count() and not is_launched():
        raise ValueError(f"the recipe asks for {recipe.processes} processes on {torch.cuda.device_count()} GPUs")


def make_accelerator(recipe: Recipe) -> Accelerator:
    """The engine for a recipe's device and for this process, which may be one of several that train together.

    Environment variables that would change the training are removed from this process and named in a warning.

    Raises:
        ValueError: the recipe asks for GPUs that are not there.
    """
    require_device(recipe)
    _ignore_environment()
    return Accelerator(cpu=recipe.device == "cpu")


def launch(recipe: Recipe, function: Callable[..., Result], *arguments) -> list[Result]:
    """Call `function(*arguments)` in each of the recipe's processes and return what each returns, by rank.

    One process is this one; several are new ones, in which `make_accelerator` finds the rank of each. Function and
    arguments are pickled for them, except tensors, whose memory is shared.

    Raises:
        ValueError: the recipe asks for GPUs that are not there.
        RuntimeError: one of the processes died, which ends all.
    """
    require_device(recipe)
    if recipe.processes == 1:
        return [function(*arguments)]
    _ignore_environment()
    config = LaunchConfig(1, 1, recipe.processes, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0)
    try:
        of_rank = elastic_launch(config, _run)(recipe, function, arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise RuntimeError(
            f"process {rank} of {recipe.processes} ended: {_reason(failure)}; what it printed is above. Once that is "
            "mended, start again: a training goes on from its checkpoint"
        ) from error
    return [of_rank[rank] for rank in sorted(of_rank)]


def _reason(failure: ProcessFailure) -> str:
    """Why a process ended, in one line: the error that it raised, or the signal that ended it."""
    message = failure.message["message"] if isinstance(failure.message, dict) else failure.message
    return str(message)


@record  # keeps the error for the message above
def _run(recipe: Recipe, function: Callable[..., Result], arguments: tuple) -> Result:
    accelerator = make_accelerator(recipe)
    result = function(*arguments)
    accelerator.end_training()
    return result


def _ignore_environment() -> None:
    ignored = [name for name in os.environ if name.startswith(FOREIGN)]
    if not is_launched():  # left over from elsewhere
        ignored += [name for name in LAUNCHER if name in os.environ]
    for name in ignored:
        del os.environ[name]
    if ignored:
        names = ", ".join(sorted(ignored))
        warnings.warn(f"environment variables are ignored, the recipe alone decides: {names}", stacklevel=3)
    name_arithmetic()


def name_arithmetic() -> None:
    """Warn of environment variables that change what this process computes, in training and in tests."""
    if found := [f"{name}={os.environ[name]}" for name in ARITHMETIC if name in os.environ]:
        names = ", ".join(found)
        warnings.warn(f"environment variables change the precision of fp32: {names}; unset them", stacklevel=3)
