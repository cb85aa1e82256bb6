"""Convolution with kernels made from other features, as DITN uses it (Li et al. 2023, sections 3.2 and 3.3, Fig. 6a).

After "Mutual Learning to Adapt" (Nie et al., ECCV 2018), whose public code has the same chain of layers.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


class ParameterAdapter(nn.Sequential):
    """Kernels for `adaptive_convolution`, one per channel, from two feature channels per group (Table 8, row 4).

    3x3 convolutions within each group, the first of stride 2, with max-pooling between; no bias, norm or activation.
    The kernels are as large as what remains of the map, less a row or column if that is even.

    Along a side below 25 px a single number is left: kernels of 16x16 maps are 1x1, a gain per channel that moves
    nothing in space.

    Shape: (N, 2 groups, H, W) -> (N, 2 groups, h, w); 64x64 gives 7x7, 64x48 gives 7x5. Raises ValueError below 9x9.
    """

    def __init__(self, groups: int):
        conv = partial(nn.Conv2d, 2 * groups, 2 * groups, kernel_size=3, groups=groups, bias=False)
        super().__init__(conv(stride=2), nn.MaxPool2d(2), conv(padding=1), nn.MaxPool2d(2), conv(padding=1))

    def forward(self, features: Tensor) -> Tensor:
        H, W = features.shape[-2:]
        if min(H, W) < 9:
            raise ValueError(f"the parameter adapter got {W}x{H} maps; it needs 9x9 at least, of 64x64 px images")
        kernels = super().forward(features)
        h, w = (side - (side + 1) % 2 for side in kernels.shape[-2:])
        return kernels[..., :h, :w]


def adaptive_convolution(features: Tensor, kernels: Tensor) -> Tensor:
    """Every channel of every sample correlated with its own kernel, at the same size (zeros beyond the border).

    Shape: features (N, C, H, W), kernels (N, C, h, w) with h and w odd -> (N, C, H, W).
    """
    N, C, H, W = features.shape
    h, w = kernels.shape[-2:]
    if h == w == 1:
        return features * kernels  # what the convolution would do, many times faster
    channels, kernels = features.reshape(1, N * C, H, W), kernels.reshape(N * C, 1, h, w)
    return F.conv2d(channels, kernels, padding=(h // 2, w // 2), groups=N * C).reshape(N, C, H, W)
