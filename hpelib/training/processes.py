"""Processes that train together, on this machine."""

from collections.abc import Callable
from typing import TypeVar

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

Result = TypeVar("Result")


def launch(count: int, function: Callable[..., Result], *arguments) -> dict[int, Result]:
    """What `function(*arguments)` returns in each of `count` new processes, by rank, where Accelerate finds its own.

    Function and arguments are pickled, tensors excepted: their memory is shared.

    Raises:
        ChildFailedError: one of the processes died, which ends all.
    """
    config = LaunchConfig(1, 1, count, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0)
    return elastic_launch(config, function)(*arguments)
