"""Detail enhancement module (DEM) of DE-HRNet (Liu et al. 2025, section 3.2, Fig. 4) and its channel gates."""

from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import EcaModule
from torch import Tensor, nn

from hpelib.layers.choices import require_choice

Gate = Literal["none", "se", "eca"]
GatePlace = Literal["concat", "output", "concat_to_output"]


class DetailEnhancement(nn.Module):
    """A branch that has taken up details of the next higher resolution, and the channel weights it used.

    u = concat(pool(higher), lower); y = ReLU(BN(conv3x3(dropout(w * u)))) with weights w = gate(u) per channel. The
    prose of section 3.2 names no convolution; its place follows from the printed sizes (docs/ledger_de_hrnet.md).

    `gate_on` weighs the concatenation, or the convolution's output by itself or by the concatenation. Weights are None
    with `gate="none"`.

    Shape: higher (N, C/2, 2H, 2W), lower (N, C, H, W) -> y (N, C, H, W), w (N, 1.5 C or C, 1, 1) in (0, 1).
    """

    def __init__(self, channels: int, gate: Gate = "se", gate_on: GatePlace = "concat", dropout: float = 0.1):
        super().__init__()
        both = channels + channels // 2
        places = {  # channels that the gate sees, its hidden ones, those that it weighs
            "concat": (both, channels // 4, both),
            "output": (channels, channels // 4, channels),
            "concat_to_output": (both, both // 8, channels),
        }
        require_choice("gate_on", gate_on, places)
        seen, hidden, weighed = places[gate_on]
        self.gate_on = gate_on
        if gate == "eca" and seen != weighed:
            raise ValueError("eca weighs the channels that it sees; choose gate_on='concat' or 'output'")
        self.gate = channel_gate(gate, seen, hidden, weighed)
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv2d(both, channels, kernel_size=3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, higher: Tensor, lower: Tensor) -> tuple[Tensor, Tensor | None]:
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


def channel_gate(kind: Gate, channels: int, hidden: int, weighed: int | None = None) -> nn.Module | None:
    """Layers from features (N, C, H, W) to weights (N, weighed, 1, 1) in (0, 1); `weighed` is C by default."""
    require_choice("gate", kind, ("none", "se", "eca"))
    if kind == "none":
        return None
    return SEGate(channels, hidden, weighed or channels) if kind == "se" else ECAGate(channels)


class SEGate(nn.Sequential):
    """Squeeze and excitation (Hu et al. 2018): timm's `SEModule` without biases, its weights not yet applied."""

    def __init__(self, channels: int, hidden: int, weighed: int):
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, kernel_size=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, weighed, kernel_size=1, bias=False),
            nn.Sigmoid(),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for fc in (self[1], self[3]):
            nn.init.normal_(fc.weight, std=0.01)


class ECAGate(EcaModule):
    """Efficient channel attention (Wang et al. 2020): timm's `EcaModule`, its weights not yet applied."""

    def __init__(self, channels: int):
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3))[:, None]  # (N, 1, C)
        return self.gate(self.conv(means))[:, 0, :, None, None]
