"""Stacked hourglass: each hourglass goes down to a few pixels and up again, and refines the heatmaps of the one before.

A. Newell, K. Yang, J. Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016, section 3. Layers are
those of W. Yang's PyTorch version of the authors' code (pytorch-pose).

Differs from that code: the heatmap layers start at N(0, 0.001), see `hpelib.layers.heatmap_head`.

Parameters with eight stacks and 17 keypoints: 25,598,472 (papers print 25.1 M).
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from hpelib.layers.choices import Count
from hpelib.layers.heatmap_head import heatmap_head
from hpelib.layers.sizes import require_multiple

Block = Callable[..., nn.Module]  # called as block(in_channels, out_channels, stride=1), the module as (x, looks)
Looks = list[Tensor] | None  # blocks append to it what is worth looking at


class PreactivationBottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each after batch norm and ReLU, with half the width inside (section 3.2)."""

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
        return self.residual(x) + self.shortcut(x)


class ResidualBlocks(nn.Sequential):
    """`count` blocks. The last one changes the width."""

    def __init__(self, block: Block, count: int, in_channels: int, out_channels: int):
        widths = [in_channels] * count + [out_channels]
        super().__init__(*(block(*pair) for pair in pairwise(widths)))

    def forward(self, x: Tensor, looks: Looks = None) -> Tensor:
        for block in self:
            x = block(x, looks)
        return x


class Hourglass(nn.Module):
    """One hourglass (section 3.1, Fig. 3): down over all levels, and up again with a shortcut at each level.

    `widths` and `blocks` give the channels and residual blocks of every level, the finest first, the bottom last.
    With `pool` a level is entered by max-pooling, as in the paper; without it by a block of stride 2.
    Shape: (N, widths[0], H, W) -> the features on the way up, [(N, widths[i], H/2^i, W/2^i), ...], finest first.

    Raises:
        ValueError: `widths` and `blocks` differ in length, or name fewer than two levels.
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


class Stacks(nn.Module):
    """Hourglasses one behind the other, each with heatmaps of its own (section 3.3, Fig. 4).

    `hourglass()` and `features()` make the parts of a stack; `width` is the number of channels between them.
    """

    def __init__(
        self,
        num_keypoints: int,
        stem: nn.Module,
        stacks: int,
        width: int,
        hourglass: Callable[[], Hourglass],
        features: Callable[[], nn.Module],
    ):
        super().__init__()
        self.stem = stem
        self.hourglasses = nn.ModuleList(hourglass() for _ in range(stacks))
        self.features = nn.ModuleList(features() for _ in range(stacks))
        self.heads = nn.ModuleList(heatmap_head(width, num_keypoints) for _ in range(stacks))
        self.remap_features = nn.ModuleList(nn.Conv2d(width, width, kernel_size=1) for _ in range(stacks - 1))
        self.remap_heatmaps = nn.ModuleList(nn.Conv2d(num_keypoints, width, kernel_size=1) for _ in range(stacks - 1))

    def join(self, i: int, x: Tensor, looks: Looks) -> Tensor:
        """What the stack behind stack `i` reads of the sum `x`. SADI-Net has a block here."""
        return x

    def run(self, x: Tensor, looks: Looks = None) -> tuple[list[Tensor], list[Tensor]]:
        """The heatmaps (N, K, h, w) of every stack, and the last hourglass's features, finest first."""
        stacks = []
        for i, (hourglass, features, head) in enumerate(zip(self.hourglasses, self.features, self.heads, strict=True)):
            scales = hourglass(x, looks)
            y = features(scales[0])
            stacks.append(head(y))
            if i < len(self.remap_features):
                x = self.join(i, x + self.remap_features[i](y) + self.remap_heatmaps[i](stacks[i]), looks)
        return stacks, scales


class StackedHourglass(Stacks):
    """Stem and stacked hourglasses; every stack is supervised (section 3.3).

    Shape: images (N, 3, H, W), H and W multiples of 64 -> heatmaps of the last stack (N, K, H/4, W/4); in training
    `{"heatmaps": ..., "intermediate": [...]}`, where `intermediate` are the heatmaps of the earlier stacks.

    Options:
        stacks: how many hourglasses.
        widths, blocks: channels and residual blocks of each level of an hourglass, the finest first. With n levels, H
            and W are multiples of 4 * 2^(n - 1).
    Looks: `stack1`, `stack2`, ... (N, K, h, w), the heatmaps of each stack.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        stacks: Count = 8,
        widths: Sequence[Count] = (256, 256, 256, 256, 256),
        blocks: Sequence[Count] = (1, 1, 1, 1, 1),
    ):
        width, block = widths[0], PreactivationBottleneck
        stem = nn.Sequential(
            nn.Conv2d(3, width // 4, kernel_size=7, stride=2, padding=3),
            nn.BatchNorm2d(width // 4),
            nn.ReLU(inplace=True),
            block(width // 4, width // 2),
            nn.MaxPool2d(2),
            block(width // 2, width),
            block(width, width),
        )

        def features() -> nn.Module:
            return nn.Sequential(
                ResidualBlocks(block, blocks[0], width, width),
                nn.Conv2d(width, width, kernel_size=1),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )

        super().__init__(num_keypoints, stem, stacks, width, lambda: Hourglass(widths, blocks, block), features)
        self.multiple = 4 * 2 ** (len(widths) - 1)

    def forward(self, images: Tensor, look: bool = False):
        require_multiple(images, self.multiple)
        stacks, _ = self.run(self.stem(images))
        output = {"heatmaps": stacks[-1], "intermediate": stacks[:-1]} if self.training else stacks[-1]
        return (output, {f"stack{i}": heatmaps for i, heatmaps in enumerate(stacks, start=1)}) if look else output
