"""What a network shows of itself: its attention, gates and features by the names of its paper."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hpelib.layers.modes import eval_mode


@torch.no_grad()
def capture(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What `model` shows of itself on `images` (N, 3, H, W) by name, and its `heatmaps` (N, K, h, w).

    The docstring of a network's class lists the names with their shapes; `hpelib.records.quantity` says what a name
    means. The model runs in eval mode, as in a test, and gives the heatmaps that it gives without looking.
    """
    with eval_mode(model):
        heatmaps, looks = model(images, look=True)
    return {"heatmaps": heatmaps, **looks}


@contextmanager
def altered(module: nn.Module, change: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """Inside a `with` block, `module` gives `change` of its output: what does the network do without it?

    With None the module hands on what it gets. If it returns several values, only the first is replaced then.

    Example: `with altered(network.ditm.parameter_adapter, torch.zeros_like): ...` makes all kernels zero.
    """

    def replace(module: nn.Module, inputs: tuple, output: Tensor | tuple) -> Tensor | tuple:
        if change is not None:
            return change(output)
        return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]

    hook = module.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
