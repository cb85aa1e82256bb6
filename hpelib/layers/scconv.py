"""Spatial and channel rebuild units: J. Li, Y. Wen, L. He: SCConv, CVPR 2023; DAUNet, Sec. 3.1.2, Eqs. 8-16.

DAUNet's SCRU is SRU followed by CRU.
"""

import torch
from torch import Tensor, nn

GATE_THRESHOLD = 0.5  # of the released SCConv code


class SpatialRebuildUnit(nn.Module):
    """Features rebuilt from their informative and redundant parts, the weights that tell them apart, and these parts
    (Eqs. 8-10).

    r = sigmoid(w * GN(x)), w = phi / sum(phi) from the group norm's scales phi. Informative part: x where r > 0.5, else
    r x; redundant part: 0 where r > 0.5, else r x, as in the released code. The halves of the two are then added
    crosswise.

    Shape: (N, C, H, W) -> four times (N, C, H, W), of which r is in (0, 1). C must be even and divisible by `groups`.
    """

    def __init__(self, channels: int, groups: int = 16):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scales = self.norm.weight
        importance = (scales / scales.sum()).view(1, -1, 1, 1)  # Eq. 9
        reweights = (importance * self.norm(x)).sigmoid()
        whole = x * (reweights > GATE_THRESHOLD)
        redundant = reweights * (x - whole)
        informative = whole + redundant  # the rest with its weight
        rebuilt = informative + redundant.roll(x.shape[1] // 2, dims=1)  # halves: [a + d, b + c]
        return rebuilt, reweights, informative, redundant


class ChannelRebuildUnit(nn.Module):
    """Features rebuilt from a rich and a cheap transform of two channel halves, and the weights of both (Eqs. 12-16).

    Upper half: squeezed, then group-wise 3x3 plus point-wise convolution. Lower half: squeezed, then point-wise
    convolution beside the squeezed features themselves. Weights: softmax over the two branches per channel (Eq. 15);
    the released code takes one softmax over all 2C channel means, which scales features down by about C.

    Shape: (N, C, H, W) -> (N, C, H, W), betas (N, 2, C, 1, 1) with sum 1 over axis 1. C must be divisible by 8.
    """

    def __init__(self, channels: int):
        super().__init__()
        half, squeezed = channels // 2, channels // 4
        self.squeeze_up = nn.Conv2d(half, squeezed, 1, bias=False)
        self.squeeze_low = nn.Conv2d(half, squeezed, 1, bias=False)
        self.groupwise = nn.Conv2d(squeezed, channels, 3, padding=1, groups=2)
        self.pointwise_up = nn.Conv2d(squeezed, channels, 1, bias=False)
        self.pointwise_low = nn.Conv2d(squeezed, channels - squeezed, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        up, low = x.chunk(2, dim=1)  # (N, C/2, H, W)
        up, low = self.squeeze_up(up), self.squeeze_low(low)  # (N, C/4, H, W)
        rich = self.groupwise(up) + self.pointwise_up(up)  # Y1, Eq. 12
        cheap = torch.cat([self.pointwise_low(low), low], dim=1)  # Y2, Eq. 13
        means = [y.mean(dim=(2, 3), keepdim=True) for y in (rich, cheap)]
        betas = torch.stack(means, dim=1).softmax(dim=1)  # Eqs. 14, 15
        return betas[:, 0] * rich + betas[:, 1] * cheap, betas  # Eq. 16
