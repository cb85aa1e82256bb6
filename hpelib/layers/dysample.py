"""DySample: upsampling that learns where to sample.

W. Liu, H. Lu, H. Fu, Z. Cao, "Learning to Upsample by Learning to Sample", ICCV 2023, section 3: the style that
predicts offsets at low resolution and shuffles them to the high one ("linear + pixel shuffle"), in its published
defaults.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DySample(nn.Module):
    """Features `scale` times as large, each bilinearly sampled at a predicted position near its own.

    The channels are divided into `groups` with positions of their own. Offsets are a quarter of a 1x1 convolution; with
    `dynamic_scope` (DySample+) half of it, times a second convolution's sigmoid. Starting near zero, the layer begins
    as plain bilinear upsampling.

    Shape: (N, C, H, W) -> (N, C, scale H, scale W). C must be divisible by `groups`.
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

    def offsets(self, x: Tensor) -> Tensor:
        """How far from its own place each output looks, (x, y) in input px, (N, 2, groups, scale H, scale W)."""
        reach = 0.25 if self.scope is None else 0.5 * self.scope(x).sigmoid()
        return F.pixel_shuffle(reach * self.offset(x), self.scale).unflatten(1, (2, self.groups))

    def forward(self, x: Tensor) -> Tensor:
        return self.sample(x, self.offsets(x))

    def sample(self, x: Tensor, offsets: Tensor) -> Tensor:
        """The upsampled features, from where `offsets` point to."""
        N, C, H, W = x.shape
        offsets = offsets.float()  # half precision cannot tell positions apart
        columns, rows = (_centres(side * self.scale, x.device) for side in (W, H))
        grid = torch.stack(  # (N, groups, scale H, scale W, 2), the image being [-1, 1]
            [columns + 2 / W * offsets[:, 0], rows[:, None] + 2 / H * offsets[:, 1]], dim=-1
        )
        groups = x.float().reshape(N * self.groups, C // self.groups, H, W)
        sampled = F.grid_sample(groups, grid.flatten(0, 1), padding_mode="border", align_corners=False)
        return sampled.reshape(N, C, H * self.scale, W * self.scale).to(x.dtype)


def _centres(count: int, device: torch.device) -> Tensor:
    """Centres of `count` pixels that share [-1, 1]."""
    return (2 * torch.arange(count, device=device) + 1) / count - 1
