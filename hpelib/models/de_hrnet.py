"""DE-HRNet: an HRNet whose lower branches take up details from above, and which learns how to upsample.

Liu et al., "DE-HRNet: Detail enhanced high-resolution network for human pose estimation", PLoS ONE 20(9), 2025,
e0325540, section 3. Two changes to HRNet (Fig. 3), in every high-resolution module:

1. DEM, between the residual blocks and the fusion: branch i >= 1 is enhanced by branch i - 1, branch 0 passes.
2. DySample in place of every nearest-neighbour upsampling of the fusion.

Differs in: nothing known; equations and tables of the text that we had are lost, so that the position of a convolution
in the DEM and the widths were found from the printed sizes. docs/ledger_de_hrnet.md lists each choice and its option.

In (N, 3, H, W), H and W multiples of 32; out (N, K, H/4, W/4).
Parameters with 17 keypoints: W32 33,569,457 (paper 33.6 M), W48 74,821,345 (74.8 M).
GFLOPs as the HRNet tool counts, at 384x288: W32 17.66 (paper 17.7).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from hpelib.layers.choices import require_choice
from hpelib.layers.detail_enhancement import DetailEnhancement, Gate, GatePlace, SEGate, channel_gate
from hpelib.layers.dysample import DySample
from hpelib.models.hrnet import HighResolutionModule, HRNet, Looks, nearest

DEM_GATES = {"off": "none", "conv": "none", "se": "se", "eca": "eca"}


class DEHRNet(HRNet):
    """Heatmaps (N, K, H/4, W/4) in eval mode, `{"heatmaps": ...}` in training.

    Ablations (section 4.3), all off being exactly HRNet with its names:
    `dem`: "off", the module without a gate ("conv") or with an SE or ECA gate;
    `branch_gate`: an SE or ECA gate on every branch in place of the DEM (Table 5);
    `upsample`: HRNet's "nearest" or "dysample".

    Other readings of the lost tables: `gate_on` (what the DEM's gate weighs), `dysample_groups`, `dysample_scope` (the
    dynamic scope of DySample+) and `dysample_chained` (x2 several times rather than x4 or x8 at once).
    `width` and the last four options are HRNet's.

    Looks: HRNet's, and per module `stage3.0.dem1` (N, C, 1, 1), the weights of the DEM at branch 1, and
    `stage3.0.dysample2to0` (N, 2, groups, h, w), the (x, y) offsets in px of branch 2 on the way to branch 0; those of
    several steps are `stage3.0.dysample2to0.1`, ...
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        width: int = 32,
        dem: Literal["off", "conv", "se", "eca"] = "se",
        branch_gate: Gate = "none",
        upsample: Literal["nearest", "dysample"] = "dysample",
        gate_on: GatePlace = "concat",
        dropout: float = 0.1,
        dysample_groups: int = 4,
        dysample_scope: bool = False,
        dysample_chained: bool = False,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        bottlenecks: int = 4,
        stem_width: int = 64,
    ):
        require_choice("dem", dem, DEM_GATES)
        require_choice("branch_gate", branch_gate, ("none", "se", "eca"))
        require_choice("upsample", upsample, ("nearest", "dysample"))
        if dem != "off" and branch_gate != "none":
            raise ValueError(f"branch_gate={branch_gate!r} stands in place of the DEM; give it with dem='off'")
        enhance = partial(DetailEnhancement, gate=DEM_GATES[dem], gate_on=gate_on, dropout=dropout)
        sample = partial(_dysample, groups=dysample_groups, dynamic_scope=dysample_scope, chained=dysample_chained)
        module = partial(
            DetailEnhancedModule,
            dem=None if dem == "off" else enhance,
            branch_gate=branch_gate,
            upsample=sample if upsample == "dysample" else nearest,
        )
        super().__init__(num_keypoints, width, modules, blocks, bottlenecks, stem_width, module)
        for layer in self.modules():  # HRNet's start for every convolution has passed over these
            if isinstance(layer, SEGate | DySample):
                layer.reset_parameters()


class DetailEnhancedModule(HighResolutionModule):
    """HRNet's module with the DEMs, or the plain gates of Table 5, between residual blocks and fusion."""

    def __init__(
        self,
        widths: Sequence[int],
        blocks: int,
        outputs: int,
        dem: Callable[[int], DetailEnhancement] | None,
        branch_gate: Gate,
        upsample: Callable[[int, int], nn.Module],
    ):
        super().__init__(widths, blocks, outputs, upsample)
        self.dem = nn.ModuleList(dem(width) for width in widths[1:]) if dem else None
        gated = [] if branch_gate == "none" else widths
        self.gates = nn.ModuleList(channel_gate(branch_gate, width, width // 4) for width in gated)

    def forward(self, x: list[Tensor], looks: Looks | None = None) -> list[Tensor]:
        x = self.extract(x)
        weights = {}
        if self.dem is not None:
            enhanced = [dem(higher, lower) for dem, higher, lower in zip(self.dem, x[:-1], x[1:], strict=True)]
            weights = {f"dem{i}": w for i, (_, w) in enumerate(enhanced, start=1) if w is not None}
            x = [x[0], *(y for y, _ in enhanced)]
        elif len(self.gates):
            weights = {f"gate{i}": gate(x_i) for i, (gate, x_i) in enumerate(zip(self.gates, x, strict=True))}
            x = [w * x_i for w, x_i in zip(weights.values(), x, strict=True)]
        if looks is None:
            return self.fuse(x)
        looks |= weights
        return [self.relu(sum(self.bring(target, x, looks))) for target in range(len(self.fuse_layers))]

    def bring(self, target: int, x: list[Tensor], looks: Looks) -> Iterator[Tensor]:
        """Every branch as the fusion adds it to branch `target`, the offsets of DySamples noted in `looks`."""
        for source, (layer, x_j) in enumerate(zip(self.fuse_layers[target], x, strict=True)):
            samplers = [module for module in layer.modules() if isinstance(module, DySample)]
            x_j = layer[:2](x_j) if samplers else layer(x_j)
            for step, sampler in enumerate(samplers, start=1):
                name = f"dysample{source}to{target}" + (f".{step}" if len(samplers) > 1 else "")
                offsets = looks[name] = sampler.offsets(x_j)
                x_j = sampler.sample(x_j, offsets)
            yield x_j


def _dysample(channels: int, scale: int, groups: int, dynamic_scope: bool, chained: bool) -> nn.Module:
    """One DySample, or one per doubling."""
    if not chained or scale == 2:
        return DySample(channels, scale, groups, dynamic_scope)
    return nn.Sequential(*(DySample(channels, 2, groups, dynamic_scope) for _ in range(scale.bit_length() - 1)))
