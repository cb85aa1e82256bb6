"""Partial convolution: J. Chen et al., FasterNet, CVPR 2023; DAUNet, Eq. 3."""

import torch
from torch import Tensor, nn


class PartialConv2d(nn.Conv2d):
    """3x3 convolution (stride 1, no bias) of the first C / ratio channels; the others pass untouched.

    The weight has the name and place of an ordinary convolution's, (C/ratio, C/ratio, 3, 3), so that the leading slice
    of a pretrained 3x3 weight fits.

    Shape: (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, channels: int, ratio: int = 4):
        if channels % ratio:
            raise ValueError(f"{channels} channels cannot be divided by partial ratio {ratio}")
        super().__init__(channels // ratio, channels // ratio, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        convolved, untouched = x.tensor_split([self.in_channels], dim=1)
        return torch.cat([super().forward(convolved), untouched], dim=1)
