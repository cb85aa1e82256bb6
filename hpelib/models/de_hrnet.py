"""DE-HRNet: an HRNet whose lower branches receive details from the branch above, and which learns how to upsample.

Liu et al., "DE-HRNet: Detail enhanced high-resolution network for human pose estimation", PLoS ONE 20(9), 2025,
e0325540, section 3. It changes HRNet in two places of every high-resolution module (Fig. 3):

1. A detail enhancement module (DEM) stands between the residual blocks and the fusion. Branch i >= 1 is enhanced by
   branch i - 1. Branch 0 stays as it is.
2. DySample takes the place of every nearest-neighbour upsampling in the fusion.

What the paper leaves open: our text of it has lost equations and tables. So the convolution inside the DEM and the
widths were searched until the network had the printed sizes. notebooks/networks/de_hrnet.ipynb lists every
choice, and the option that gives the alternative.

Differs from the paper: the hidden units of an SE gate are normalised over the batch. Without it most of them close
within an epoch, and a gate without open units weighs everybody alike (`SEGate`).

Parameters with 17 keypoints: W32 33,573,809 (paper 33.6 M), W48 74,827,873 (74.8 M).
GFLOPs as the HRNet tool counts, at 384x288: W32 17.66 (paper 17.7).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import EcaModule
from torch import Tensor, nn

from hpelib.layers.choices import Count, require_choice
from hpelib.models.hrnet import HighResolutionModule, HRNet, Looks

Gate = Literal["none", "se", "eca"]
GatePlace = Literal["concat", "output", "concat_to_output"]
DEM_GATES = {"off": "none", "conv": "none", "se": "se", "eca": "eca"}


class SEGate(nn.Sequential):
    """Squeeze and excitation (Hu et al. 2018): (N, C, H, W) -> weights (N, weighed, 1, 1) in (0, 1).

    weights = sigmoid(W2 ReLU(BN(W1 mean(x))) + b2)

    The norm is ours; timm's `SEModule` has a place for it. The means of rectified features are all positive and hardly
    differ between persons. So a step of the optimizer moves a hidden unit for everybody at once, and what it closes
    stays closed. With the norm each unit is open for about half of the persons. In training a batch needs two samples.
    `norm=False` leaves it out and gives W1 a bias. W1 and W2 have torch's default start.
    """

    def __init__(self, channels: int, hidden: int, weighed: int, norm: bool = True):
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, kernel_size=1, bias=not norm),
            nn.BatchNorm2d(hidden) if norm else nn.Identity(),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, weighed, kernel_size=1),
            nn.Sigmoid(),
        )

    def reset_parameters(self) -> None:
        for fc in (self[1], self[4]):
            fc.reset_parameters()


class ECAGate(EcaModule):
    """Efficient channel attention (Wang et al. 2020): (N, C, H, W) -> weights (N, C, 1, 1) in (0, 1)."""

    def __init__(self, channels: int):
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3))[:, None]  # (N, 1, C)
        return self.gate(self.conv(means))[:, 0, :, None, None]


def channel_gate(kind: Gate, channels: int, hidden: int, weighed: int, norm: bool) -> nn.Module | None:
    """The gate of this kind from `channels` to `weighed` channels; the rest is of SE. None for "none"."""
    gates = {
        "none": lambda: None,
        "se": lambda: SEGate(channels, hidden, weighed, norm),
        "eca": lambda: ECAGate(channels),
    }
    require_choice("gate", kind, gates)
    return gates[kind]()


class DetailEnhancement(nn.Module):
    """DEM (section 3.2, Fig. 4): a branch that has taken up details of the next higher resolution.

    u = concat(pool(higher), lower)
    y = ReLU(BN(conv3x3(dropout(gate(u) * u))))

    Section 3.2 names no convolution. Its place follows from the printed sizes (notebooks/networks/de_hrnet.ipynb).

    Options:
        gate: "se", "eca" or "none".
        gate_on: "concat" as above; "output" weighs y by gate(y); "concat_to_output" weighs y by gate(u).
        gate_norm: see `SEGate`.
        residual: y is added to `lower`, as the dashed "selective identity mappings" of Fig. 4 may mean.
    Shape: higher (N, C/2, 2H, 2W), lower (N, C, H, W) -> y (N, C, H, W) and the gate's weights (N, 1.5 C or C, 1, 1) in
    (0, 1), or None without a gate.
    """

    def __init__(
        self,
        channels: int,
        gate: Gate = "se",
        gate_on: GatePlace = "concat",
        gate_norm: bool = True,
        residual: bool = False,
        dropout: float = 0.1,
    ):
        super().__init__()
        both = channels + channels // 2
        places = {  # channels that the gate sees, its hidden ones, those that it weighs
            "concat": (both, channels // 4, both),
            "output": (channels, channels // 4, channels),
            "concat_to_output": (both, both // 8, channels),
        }
        require_choice("gate_on", gate_on, places)
        seen, _, weighed = places[gate_on]
        if gate == "eca" and seen != weighed:
            raise ValueError("eca weighs the channels that it sees; choose gate_on='concat' or 'output'")
        self.gate_on, self.residual = gate_on, residual
        self.gate = channel_gate(gate, *places[gate_on], gate_norm)
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv2d(both, channels, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, higher: Tensor, lower: Tensor) -> tuple[Tensor, Tensor | None]:
        y, weights = self.enhance(higher, lower)
        return lower + y if self.residual else y, weights

    def enhance(self, higher: Tensor, lower: Tensor) -> tuple[Tensor, Tensor | None]:
        pooled = F.adaptive_avg_pool2d(higher, lower.shape[-2:])
        u = torch.cat([pooled, lower], dim=1)  # (N, 1.5 C, H, W)
        if self.gate is None:
            return self.convolve(u), None
        if self.gate_on == "concat":
            weights = self.gate(u)
            return self.convolve(weights * u), weights
        y = self.convolve(u)
        weights = self.gate(y if self.gate_on == "output" else u)
        return weights * y, weights

    def convolve(self, u: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(self.dropout(u))))


class DySample(nn.Module):
    """Features `scale` times as large. Each output is sampled bilinearly at a predicted position near its own.

    W. Liu, H. Lu, H. Fu, Z. Cao, "Learning to Upsample by Learning to Sample", ICCV 2023, section 3, in its published
    form "linear + pixel shuffle": offsets are predicted at the low resolution and shuffled to the high one.

    offset = 0.25 conv1x1(x), or with `dynamic_scope` (DySample+) 0.5 sigmoid(conv1x1(x)) conv1x1(x)

    The channels are divided into `groups`, each with positions of its own. Offsets start near zero, so the layer begins
    as plain bilinear upsampling.
    Shape: (N, C, H, W), C a multiple of `groups` -> (N, C, scale H, scale W), and the offsets
    (N, 2, groups, scale H, scale W), (x, y) in input px.
    """

    def __init__(self, channels: int, scale: int, groups: int = 4, dynamic_scope: bool = False):
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
        self.scale, self.groups = scale, groups
        self.offset = nn.Conv2d(channels, 2 * groups * scale**2, kernel_size=1)
        self.scope = nn.Conv2d(channels, 2 * groups * scale**2, kernel_size=1, bias=False) if dynamic_scope else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        reach = 0.25 if self.scope is None else 0.5 * self.scope(x).sigmoid()
        offsets = F.pixel_shuffle(reach * self.offset(x), self.scale).unflatten(1, (2, self.groups))
        N, C, H, W = x.shape
        moves = offsets.float()  # half precision cannot tell positions apart
        columns, rows = (_centres(side * self.scale, x.device) for side in (W, H))
        grid = torch.stack(  # (N, groups, scale H, scale W, 2), the image being [-1, 1]
            [columns + 2 / W * moves[:, 0], rows[:, None] + 2 / H * moves[:, 1]], dim=-1
        )
        groups = x.float().reshape(N * self.groups, C // self.groups, H, W)
        sampled = F.grid_sample(groups, grid.flatten(0, 1), padding_mode="border", align_corners=False)
        return sampled.reshape(N, C, H * self.scale, W * self.scale).to(x.dtype), offsets


class DetailEnhancedModule(HighResolutionModule):
    """HRNet's module with something between residual blocks and fusion: the DEMs, or the plain gates of Table 5.

    `dem(width)` makes a DEM and `dysample(width, scale)` the upsampling to a branch; None leaves them out. For widths,
    blocks, outputs and shapes see `HighResolutionModule`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: int,
        outputs: int,
        dem: Callable[[int], DetailEnhancement] | None,
        branch_gate: Gate,
        gate_norm: bool,
        dysample: Callable[[int, int], nn.Module] | None,
    ):
        super().__init__(widths, blocks, outputs)
        if dysample:
            for target, row in enumerate(self.fuse_layers):
                for source in range(target + 1, len(widths)):  # conv1x1, BN and nearest-neighbour upsampling
                    row[source][2] = dysample(widths[target], 2 ** (source - target))
        self.dem = nn.ModuleList(dem(width) for width in widths[1:]) if dem else None
        gated = [] if branch_gate == "none" else widths
        self.gates = nn.ModuleList(channel_gate(branch_gate, width, width // 4, width, gate_norm) for width in gated)

    def forward(self, x: list[Tensor], looks: Looks | None = None, place: str = "") -> list[Tensor]:
        x = self.extract(x)
        seen = {}
        if self.dem is not None:
            enhanced = [dem(higher, lower) for dem, higher, lower in zip(self.dem, x[:-1], x[1:], strict=True)]
            seen = {f"dem{i}": w for i, (_, w) in enumerate(enhanced, start=1) if w is not None}
            x = [x[0], *(y for y, _ in enhanced)]
        elif len(self.gates):
            seen = {f"gate{i}": gate(x_i) for i, (gate, x_i) in enumerate(zip(self.gates, x, strict=True))}
            x = [w * x_i for w, x_i in zip(seen.values(), x, strict=True)]
        fused = [self.fuse_act(sum(self.bring(target, x, seen))) for target in range(len(self.fuse_layers))]
        if looks is not None:
            looks |= {f"{place}{name}": tensor for name, tensor in seen.items()}
        return fused

    def bring(self, target: int, x: list[Tensor], seen: Looks) -> Iterator[Tensor]:
        """Every branch as the fusion adds it to branch `target`. Notes the offsets of DySample in `seen`."""
        for source, (layer, x_j) in enumerate(zip(self.fuse_layers[target], x, strict=True)):
            samplers = [module for module in layer.modules() if isinstance(module, DySample)]
            x_j = layer[:2](x_j) if samplers else layer(x_j)
            for step, sampler in enumerate(samplers, start=1):
                name = f"dysample{source}to{target}" + (f".{step}" if len(samplers) > 1 else "")
                x_j, seen[name] = sampler(x_j)
            yield x_j


class DEHRNet(HRNet):
    """HRNet with DEM and DySample (section 3, Fig. 3).

    Shape: images (N, 3, H, W), H and W multiples of 32 -> heatmaps (N, K, H/4, W/4); in training `{"heatmaps": ...}`.

    Switched in the paper's ablation (section 4.3). With dem="off" and upsample="nearest" this is HRNet, name for name:
        dem: "off", "conv" (the DEM without a gate), "se" or "eca" (with that gate).
        branch_gate: "none", "se" or "eca", a gate on every branch in place of the DEM (Table 5).
        upsample: HRNet's "nearest", or "dysample".
    Other readings of the lost tables:
        gate_on: what the gate of the DEM weighs, see `DetailEnhancement`.
        dem_residual: the DEM adds to its branch and does not replace it.
        gate_norm: see `SEGate`; False is the published gate, with biases.
        dropout: the share of values that the DEM drops in training.
        dysample_groups, dysample_scope: see `DySample`.
        dysample_chained: upsample by 2 several times, where the default upsamples by 4 or 8 at once.
    Size: width, modules, blocks, bottlenecks and stem_width, see `HRNet`.
    Looks: those of HRNet, and for every module:
        `stage3.0.dem1`: the weights of the DEM at branch 1, (N, C, 1, 1). Or `stage3.0.gate1`, those of a branch gate.
        `stage3.0.dysample2to0`: the offsets of branch 2 on its way to branch 0, (N, 2, groups, h, w), (x, y) in px.
            Chained ones are `stage3.0.dysample2to0.1`, `stage3.0.dysample2to0.2`, ...

    Raises:
        ValueError: an option is none of its choices, or is about a part that is off, or both `dem` and `branch_gate`
            are on.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        width: Count = 32,
        dem: Literal["off", "conv", "se", "eca"] = "se",
        branch_gate: Gate = "none",
        upsample: Literal["nearest", "dysample"] = "dysample",
        gate_on: GatePlace = "concat",
        dem_residual: bool = False,
        gate_norm: bool = True,
        dropout: float = 0.1,
        dysample_groups: Count = 4,
        dysample_scope: bool = False,
        dysample_chained: bool = False,
        modules: Sequence[Count] = (1, 4, 3),
        blocks: Count = 4,
        bottlenecks: Count = 4,
        stem_width: Count = 64,
    ):
        require_choice("dem", dem, DEM_GATES)
        require_choice("branch_gate", branch_gate, ("none", "se", "eca"))
        require_choice("upsample", upsample, ("nearest", "dysample"))
        if dem != "off" and branch_gate != "none":
            raise ValueError(f"branch_gate={branch_gate!r} stands in place of the DEM; give it with dem='off'")
        if dem == "off" and dem_residual:
            raise ValueError("dem_residual is about the DEM, which dem='off' leaves out")
        if upsample == "nearest" and (dysample_scope or dysample_chained):
            raise ValueError(
                "dysample_scope and dysample_chained are about DySample, which upsample='nearest' leaves out"
            )
        gate = {"gate": DEM_GATES[dem], "gate_on": gate_on, "gate_norm": gate_norm}
        enhance = partial(DetailEnhancement, **gate, residual=dem_residual, dropout=dropout)
        sample = partial(_dysample, groups=dysample_groups, dynamic_scope=dysample_scope, chained=dysample_chained)
        module = partial(
            DetailEnhancedModule,
            dem=None if dem == "off" else enhance,
            branch_gate=branch_gate,
            gate_norm=gate_norm,
            dysample=sample if upsample == "dysample" else None,
        )
        super().__init__(num_keypoints, width, modules, blocks, bottlenecks, stem_width, module)
        for layer in self.modules():  # HRNet's start for every convolution has passed over these
            if isinstance(layer, SEGate | DySample):
                layer.reset_parameters()


def _dysample(channels: int, scale: int, groups: int, dynamic_scope: bool, chained: bool) -> nn.Module:
    """One DySample, or with `chained` one for every doubling."""
    if not chained or scale == 2:
        return DySample(channels, scale, groups, dynamic_scope)
    return nn.Sequential(*(DySample(channels, 2, groups, dynamic_scope) for _ in range(scale.bit_length() - 1)))


def _centres(count: int, device: torch.device) -> Tensor:
    """Centres of `count` pixels that share [-1, 1]."""
    return (2 * torch.arange(count, device=device) + 1) / count - 1
