"""Parameters and multiply-accumulates (MACs) of a network, counted in two ways.

Papers print "GFLOPs", but mean different things by it. The tool of the official HRNet code, whose figures HRNet and
SimpleBaseline print, divides MACs by 2^30. It also counts a transposed convolution at each of its output positions,
which is stride^2 times too often. `legacy_gflops` repeats that rule, for a comparison with papers. `macs` is what the
network really does.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Complexity:
    """What one image costs in a network in eval mode."""

    params: int
    macs: int  # of convolutions, linear layers, matrix products and attention; nothing elementwise is counted
    legacy_gflops: float  # of convolutions and linear layers only, as the official HRNet tool prints it
    macs_by_module: dict[str, int]  # of each submodule and all below it, by its dotted name


def complexity(model: "nn.Module", input_size: tuple[int, int] = (192, 256)) -> Complexity:
    """Count parameters and MACs of `model` for one image of `input_size` (width, height) px.

    What is counted are operations, not modules. So functional calls, and convolutions whose kernels the network itself
    makes, are included. Nothing is computed, and the model keeps its weights and its mode.
    """
    # imported here, because pages of results import this package and need no torch
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

    from hpelib.layers.modes import eval_mode

    aten = torch.ops.aten
    legacy_macs = 0

    def count_convolution(x, kernel, _bias, _stride, _padding, _dilation, transposed, *_, out_shape, **unused) -> int:
        """FLOPs of one convolution, from shapes. On the way its legacy MACs are added up."""
        nonlocal legacy_macs
        legacy_macs += x[0] * prod(kernel) * prod(out_shape[2:])
        return conv_flop_count(x, kernel, out_shape, transposed=transposed)

    weight = next(model.parameters())
    image = torch.empty(1, 3, *input_size[::-1], dtype=weight.dtype, device=weight.device)
    # tensors on the device "meta" compute nothing anyway, and are faster
    fake = nullcontext() if weight.is_meta else FakeTensorMode(allow_non_fake_inputs=True)
    counter = FlopCounterMode(display=False, custom_mapping={aten.convolution: count_convolution})
    with eval_mode(model), torch.no_grad(), fake, counter:
        model(image)
    flops = counter.get_flop_counts()
    linear_flops = sum(flops["Global"].get(op, 0) for op in (aten.addmm, aten.mm))
    return Complexity(
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // 2,
        legacy_gflops=(legacy_macs + linear_flops / 2) / 2**30,
        macs_by_module={
            name.partition(".")[2]: sum(ops.values()) // 2
            for name, ops in flops.items()
            if "." in name  # the first part stands for the network itself
        },
    )
