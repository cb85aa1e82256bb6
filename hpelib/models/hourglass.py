"""Stacked hourglass: down to a few pixels and up again, several times over, each stack refining the last.

A. Newell, K. Yang, J. Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016, section 3; layers as
in the PyTorch rendering of the authors' code by W. Yang (pytorch-pose).

Differs in: the heatmap layers start at N(0, 0.001), see `simple_baseline.heatmap_head`.

In (N, 3, H, W), H and W multiples of 64; out (N, K, H/4, W/4). Parameters with eight stacks
and 17 keypoints: 25,598,472 (papers print 25.1 M).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from hpelib.layers.sizes import require_multiple
from hpelib.models.simple_baseline import heatmap_head

Block = Callable[..., nn.Module]  # called as block(in_channels, out_channels, stride=1), the module as (x, looks)
Looks = list[Tensor] | None


class PreactivationBottleneck(nn.Module):
    """Section 3.2: 1x1, 3x3 and 1x1 convolutions, each after batch norm and ReLU, half as wide inside."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        inner = out_channels // 2
        self.residual = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=False),  # the shortcut still needs the input
            nn.Conv2d(in_channels, inner, kernel_size=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, kernel_size=3, stride=stride, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, out_channels, kernel_size=1),
        )
        same_shape = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same_shape else nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor, looks: Looks = None) -> Tensor:
        """Another block may note in `looks`, if given, what is worth looking at."""
        return self.residual(x) + self.shortcut(x)


class Hourglass(nn.Module):
    """One hourglass; returns the features of its way up, `[(N, widths[i], H/2^i, W/2^i), ...]`, finest first.

    `widths` and `blocks` give the channels and residual blocks of every level, the input's resolution first and the
    bottom last. `pool` chooses how a level is entered: max-pooling (Newell) or a first block of stride 2. What blocks
    note in `looks` comes level by level, those on the way down first.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], block: Block, pool: bool = True):
        super().__init__()
        if len(widths) != len(blocks) or len(widths) < 2:
            raise ValueError(f"widths {widths} and blocks {blocks} must both name the same two or more levels")
        (width, below), n = widths[:2], blocks[0]
        self.up1 = ResidualBlocks(block, n, width, width)
        entry = block(width, below) if pool else block(width, below, stride=2)
        self.low1 = nn.Sequential(
            nn.MaxPool2d(2) if pool else nn.Identity(), entry, ResidualBlocks(block, n - 1, below, below)
        )
        if len(widths) > 2:
            self.low2 = Hourglass(widths[1:], blocks[1:], block, pool)
        else:
            self.low2 = ResidualBlocks(block, blocks[1], below, below)
        self.low3 = ResidualBlocks(block, n, below, width)

    def forward(self, x: Tensor, looks: Looks = None) -> list[Tensor]:
        pool, entry, rest = self.low1
        inner = self.low2(rest(entry(pool(x), looks), looks), looks)
        lower = inner if isinstance(inner, list) else [inner]
        return [self.up1(x, looks) + F.interpolate(self.low3(lower[0], looks), scale_factor=2.0), *lower]


class ResidualBlocks(nn.Sequential):
    """`count` blocks, of which the last one changes the width."""

    def __init__(self, block: Block, count: int, in_channels: int, out_channels: int):
        widths = [in_channels] * count + [out_channels]
        super().__init__(*(block(*pair) for pair in pairwise(widths)))

    def forward(self, x: Tensor, looks: Looks = None) -> Tensor:
        for block in self:
            x = block(x, looks)
        return x


class StackedHourglass(nn.Module):
    """Heatmaps of the last stack (N, K, H/4, W/4) in eval mode; in training `{"heatmaps": ..., "intermediate": [...]}`,
    where `intermediate` holds those of the earlier stacks, which are supervised in the same way (section 3.3).

    `widths` and `blocks` are those of `Hourglass`; fewer levels accept smaller images.
    Looks: `stack1`, `stack2`, ... (N, K, h, w), the heatmaps of each stack.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        stacks: int = 8,
        widths: Sequence[int] = (256, 256, 256, 256, 256),
        blocks: Sequence[int] = (1, 1, 1, 1, 1),
    ):
        super().__init__()
        width, block = widths[0], PreactivationBottleneck
        self.multiple = 4 * 2 ** (len(widths) - 1)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 4, kernel_size=7, stride=2, padding=3),
            nn.BatchNorm2d(width // 4),
            nn.ReLU(inplace=True),
            block(width // 4, width // 2),
            nn.MaxPool2d(2),
            block(width // 2, width),
            block(width, width),
        )
        self.hourglasses = nn.ModuleList(Hourglass(widths, blocks, block) for _ in range(stacks))
        self.features = nn.ModuleList(
            nn.Sequential(
                ResidualBlocks(block, blocks[0], width, width),
                nn.Conv2d(width, width, kernel_size=1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for _ in range(stacks)
        )
        self.heads = nn.ModuleList(heatmap_head(width, num_keypoints) for _ in range(stacks))
        self.remap_features = nn.ModuleList(nn.Conv2d(width, width, kernel_size=1) for _ in range(stacks - 1))
        self.remap_heatmaps = nn.ModuleList(nn.Conv2d(num_keypoints, width, kernel_size=1) for _ in range(stacks - 1))

    def forward(self, images: Tensor, look: bool = False):
        require_multiple(images, self.multiple)
        x = self.stem(images)
        stacks = []
        for i, (hourglass, features, head) in enumerate(zip(self.hourglasses, self.features, self.heads, strict=True)):
            y = features(hourglass(x)[0])
            stacks.append(head(y))
            if i < len(self.remap_features):
                x = x + self.remap_features[i](y) + self.remap_heatmaps[i](stacks[i])
        output = {"heatmaps": stacks[-1], "intermediate": stacks[:-1]} if self.training else stacks[-1]
        return (output, {f"stack{i}": heatmaps for i, heatmaps in enumerate(stacks, start=1)}) if look else output
