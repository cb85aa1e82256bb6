"""HRNet for pose: parallel branches from high to low resolution that keep exchanging what they see.

K. Sun, B. Xiao, D. Liu, J. Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019,
section 3. Layer for layer and name for name the official `pose_hrnet`, so its checkpoints (RGB pixels) load unchanged.

In (N, 3, H, W), H and W multiples of 32; out (N, K, H/4, W/4).
Parameters with 17 keypoints: W32 28,536,113, W48 63,595,745.
"""

from collections.abc import Callable, Sequence

from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from hpelib.layers.sizes import require_multiple

Looks = dict[str, Tensor]


def nearest(channels: int, scale: int) -> nn.Upsample:
    """HRNet's upsampling, the same for any number of channels."""
    return nn.Upsample(scale_factor=scale)


class HighResolutionModule(nn.Module):
    """Residual blocks on each branch, then an exchange between all of them (Fig. 3).

    Branch i has `widths[i]` channels and half the resolution of branch i - 1. Takes one tensor per branch and returns
    the first `outputs` of them. `upsample(channels, scale)` makes the layer that brings a lower branch up to a higher
    one.
    """

    def __init__(
        self,
        widths: Sequence[int],
        blocks: int,
        outputs: int,
        upsample: Callable[[int, int], nn.Module] = nearest,
    ):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_layer(widths, source, target, upsample) for source in range(len(widths)))
            for target in range(outputs)
        )
        self.relu = nn.ReLU(inplace=False)  # the last branch of a stage also goes to a transition

    def extract(self, x: list[Tensor]) -> list[Tensor]:
        return [branch(x_i) for branch, x_i in zip(self.branches, x, strict=True)]

    def fuse(self, x: list[Tensor]) -> list[Tensor]:
        return [self.relu(sum(layer(x_j) for layer, x_j in zip(row, x, strict=True))) for row in self.fuse_layers]

    def forward(self, x: list[Tensor], looks: Looks | None = None) -> list[Tensor]:
        """A subclass may note in `looks`, if given, what is worth looking at."""
        return self.fuse(self.extract(x))


class HRNet(nn.Module):
    """Heatmaps (N, K, H/4, W/4) in eval mode, `{"heatmaps": ...}` in training.

    `width` is that of the first branch. `modules` counts the high-resolution modules of stages 2 to 4, `blocks` the
    residual blocks per branch and module, `bottlenecks` those of stage 1, `stem_width` the stem's channels: smaller
    ones are for quick runs. `module` builds the high-resolution modules, for networks that change them. Raises
    ValueError for a stage without modules, or for none.

    Looks: `stage2.branch0`, ... (N, C, h, w), the branches at the end of each stage.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        width: int = 32,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        bottlenecks: int = 4,
        stem_width: int = 64,
        module: Callable[[Sequence[int], int, int], HighResolutionModule] = HighResolutionModule,
    ):
        super().__init__()
        if min(modules, default=0) < 1:
            raise ValueError(f"modules={modules} must name one stage at least, and one module at least of each")
        self.conv1 = nn.Conv2d(3, stem_width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.conv2 = nn.Conv2d(stem_width, stem_width, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _bottlenecks(stem_width, bottlenecks)

        before = [stem_width * Bottleneck.expansion]
        for stage, count in enumerate(modules, start=2):
            widths = [width * 2**branch for branch in range(stage)]
            # the last module of the network only has to give the branch that the heatmaps are read from
            outputs = [stage] * (count - 1) + [1 if stage == len(modules) + 1 else stage]
            setattr(self, f"transition{stage - 1}", _transition(before, widths))
            setattr(self, f"stage{stage}", nn.ModuleList(module(widths, blocks, n) for n in outputs))
            before = widths
        self.final_layer = nn.Conv2d(width, num_keypoints, kernel_size=1)
        self.stages = range(2, len(modules) + 2)
        self.apply(_initialise)

    def features(self, images: Tensor, looks: Looks | None = None) -> Tensor:
        """What the head sees: the highest resolution branch at the end, (N, width, H/4, W/4)."""
        require_multiple(images, 32)
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        for stage in self.stages:
            branches = _enter(getattr(self, f"transition{stage - 1}"), branches)
            for i, module in enumerate(getattr(self, f"stage{stage}")):
                seen = None if looks is None else {}
                branches = module(branches, seen)
                if looks is not None:
                    looks |= {f"stage{stage}.{i}.{name}": tensor for name, tensor in seen.items()}
            if looks is not None:
                looks |= {f"stage{stage}.branch{i}": branch for i, branch in enumerate(branches)}
        return branches[0]

    def forward(self, images: Tensor, look: bool = False):
        looks = {} if look else None
        heatmaps = self.final_layer(self.features(images, looks))
        output = {"heatmaps": heatmaps} if self.training else heatmaps
        return (output, looks) if look else output


def _bottlenecks(width: int, count: int) -> nn.Sequential:
    """Stage 1: residual blocks of `width` channels inside and four times as many outside."""
    outer = width * Bottleneck.expansion
    widen = nn.Sequential(nn.Conv2d(width, outer, kernel_size=1, bias=False), nn.BatchNorm2d(outer))
    first = Bottleneck(width, width, downsample=widen)
    return nn.Sequential(first, *(Bottleneck(outer, width) for _ in range(count - 1)))


def _transition(before: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    """One entry per branch of the next stage; branches that go on as they are have an identity."""
    layers = []
    for i, width in enumerate(widths):
        if i >= len(before):
            layers.append(nn.Sequential(_conv3x3(before[-1], width, stride=2)))  # doubly nested in the official code
        else:
            layers.append(nn.Identity() if before[i] == width else _conv3x3(before[i], width, stride=1))
    return nn.ModuleList(layers)


def _enter(transition: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
    """Branches of the next stage: the present ones, and a new one made from the lowest."""
    return [layer(branches[min(i, len(branches) - 1)]) for i, layer in enumerate(transition)]


def _fuse_layer(widths: Sequence[int], source: int, target: int, upsample: Callable[[int, int], nn.Module]):
    """Brings branch `source` to the width and resolution of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        width = widths[target]
        return nn.Sequential(
            nn.Conv2d(widths[source], width, kernel_size=1, bias=False),
            nn.BatchNorm2d(width),
            upsample(width, 2 ** (source - target)),
        )
    keep = [_conv3x3(widths[source], widths[source], stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*keep, _conv3x3(widths[source], widths[target], stride=2)[:2])  # no ReLU before the sum


def _conv3x3(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _initialise(module: nn.Module) -> None:
    """The official start: N(0, 0.001) for every convolution."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
