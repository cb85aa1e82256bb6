"""Channel and spatial attention blocks of DITN (Li et al. 2023, section 3.4, Fig. 6b and c, Table 8).

Both refine their input by a 3x3 convolution and scale the result g up to 1 + a times, a being a sigmoid. Following
Table 8 a ReLU stands in front of it (not in Eqs. 4 and 5), so that a is at least 1/2.
"""

from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """(1 + a) g with one a per channel (Eq. 4), for groups of two channels that do not see each other; and a.

    In training it normalises pooled values over the batch, and so needs two samples. The first batch norm starts with
    `start_scale`.

    Shape: (N, 2 groups, H, W) -> the same, a (N, 2 groups, 1, 1) in [1/2, 1).
    """

    def __init__(self, groups: int, start_scale: float = 1.0):
        super().__init__()
        channels = 2 * groups
        self.refine = _conv_bn_relu(channels, kernel_size=3, groups=groups)
        nn.init.constant_(self.refine[1].weight, start_scale)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), _conv_bn_relu(channels, kernel_size=1, groups=groups), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = self.refine(x)
        a = self.weigh(g)
        return (1 + a) * g, a


class SpatialAttention(nn.Module):
    """(1 + a) g with one a per channel and position (Eq. 5); and a.

    With `relu=False` g is not rectified. The first batch norm starts with `start_scale`: its outputs are DITN's
    heatmaps, which start an order of magnitude too large with the usual 1.

    Shape: (N, C, H, W) -> the same, a (N, C, H, W) in [1/2, 1).
    """

    def __init__(self, channels: int, relu: bool = True, start_scale: float = 0.1):
        super().__init__()
        self.refine = _conv_bn_relu(channels, kernel_size=3)[: 3 if relu else 2]
        nn.init.constant_(self.refine[1].weight, start_scale)
        self.weigh = nn.Sequential(
            _conv_bn_relu(channels, kernel_size=1),
            _conv_bn_relu(channels, kernel_size=9, groups=channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = self.refine(x)
        a = self.weigh(g)
        return (1 + a) * g, a


def _conv_bn_relu(channels: int, kernel_size: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=groups),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
