"""Parameters and multiply-accumulates (MACs) of any network, counted by one counter in two ways.

The GFLOPs that HRNet and SimpleBaseline print come from a tool that divides MACs by 2^30 and counts a transposed
convolution at its output positions, stride^2 times too often. `legacy_gflops` repeats it, to compare with papers;
`macs` is what the network does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Complexity:
    """Cost of one image through a network in eval mode."""

    params: int
    macs: int  # convolutions, linear layers, matrix products and attention; no additions, no elementwise work
    legacy_gflops: float  # convolutions and linear layers only, as printed by the official HRNet tool
    macs_by_module: dict[str, int]  # of each submodule, by its dotted name, with all below it


def complexity(model: "nn.Module", input_size: tuple[int, int] = (192, 256)) -> Complexity:
    """Parameters and MACs of `model` for one image of `input_size` (width, height) px.

    Operations are counted, not modules, so that functional calls and kernels made on the fly are in. Nothing is
    computed; weights and mode of the model stay as they are.
    """
    # imported here, because pages of results import this package and need no torch
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    from hpelib.layers.modes import eval_mode

    aten = torch.ops.aten
    width, height = input_size
    weight = next(model.parameters())
    counter = FlopCounterMode(display=False)
    legacy = FlopCounterMode(display=False, custom_mapping={aten.convolution: _conv_flops_at_output})
    with eval_mode(model), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), counter, legacy:
        model(torch.empty(1, 3, height, width, dtype=weight.dtype, device=weight.device))
    legacy_flops = legacy.get_flop_counts()["Global"]
    return Complexity(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        legacy_gflops=sum(legacy_flops.get(op, 0) for op in (aten.convolution, aten.addmm, aten.mm)) / 2 / 2**30,
        macs_by_module={
            name.partition(".")[2]: sum(ops.values()) // 2
            for name, ops in counter.get_flop_counts().items()
            if "." in name  # the first part stands for the network itself
        },
    )


def _conv_flops_at_output(
    input_shape: Sequence[int], weight_shape: Sequence[int], *settings, out_shape: Sequence[int], **unused
) -> int:
    return 2 * input_shape[0] * prod(weight_shape) * prod(out_shape[2:])
