"""HRNet: branches of high and low resolution that run side by side and exchange their features again and again.

K. Sun, B. Xiao, D. Liu, J. Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019,
section 3. Layers and their names are those of the official `pose_hrnet`, so its checkpoints (RGB pixels) load
unchanged.

Parameters with 17 keypoints: W32 28,536,113, W48 63,595,745.
"""

from collections.abc import Callable, Sequence

from timm.models import hrnet
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from hpelib.layers.choices import Count
from hpelib.layers.sizes import require_multiple

Looks = dict[str, Tensor]


class HighResolutionModule(hrnet.HighResolutionModule):
    """Residual blocks on each branch, then an exchange between all branches (Fig. 3). The layers are timm's.

    Branch i has `widths[i]` channels and half the resolution of branch i - 1. `blocks` counts the residual blocks of a
    branch. `outputs` counts the branches that come out: all of them, or 1 at the end of the network.
    Shape: [(N, widths[i], h/2^i, w/2^i), ...] -> the first `outputs` of them.
    """

    def __init__(self, widths: Sequence[int], blocks: int, outputs: int):
        n, widths = len(widths), list(widths)
        super().__init__(n, BasicBlock, [blocks] * n, widths, widths, "SUM", multi_scale_output=outputs > 1)

    def extract(self, x: list[Tensor]) -> list[Tensor]:
        return [branch(x_i) for branch, x_i in zip(self.branches, x, strict=True)]

    def forward(self, x: list[Tensor], looks: Looks | None = None, place: str = "") -> list[Tensor]:
        """A subclass may note intermediates in `looks`, if given, under names that begin with `place`."""
        x = self.extract(x)
        return [self.fuse_act(sum(layer(x_j) for layer, x_j in zip(row, x, strict=True))) for row in self.fuse_layers]


class HRNet(nn.Module):
    """Stem, stage 1 of bottlenecks, stages 2 to 4 of high-resolution modules, heatmap layer (section 3, Fig. 1).

    Shape: images (N, 3, H, W), H and W multiples of 32 -> heatmaps (N, K, H/4, W/4); in training `{"heatmaps": ...}`.

    Options:
        width: channels C of the first branch. Branch i has 2^i C.
        modules: high-resolution modules of stages 2, 3 and 4. Fewer numbers mean fewer stages.
        blocks: residual blocks of a branch in each module.
        bottlenecks: residual blocks of stage 1.
        stem_width: channels of the stem.
        module: makes a high-resolution module from (widths, blocks, outputs), for networks that change it.
    Looks: `stage2.branch0`, ... (N, C, h, w), the branches at the end of each stage.

    Raises:
        ValueError: there is no stage, or a stage without a module.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        width: Count = 32,
        modules: Sequence[Count] = (1, 4, 3),
        blocks: Count = 4,
        bottlenecks: Count = 4,
        stem_width: Count = 64,
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
            # the heatmaps read branch 0, so the last module of the network gives no other
            outputs = [stage] * (count - 1) + [1 if stage == len(modules) + 1 else stage]
            setattr(self, f"transition{stage - 1}", _transition(before, widths))
            setattr(self, f"stage{stage}", nn.ModuleList(module(widths, blocks, n) for n in outputs))
            before = widths
        self.final_layer = nn.Conv2d(width, num_keypoints, kernel_size=1)
        self.stages = range(2, len(modules) + 2)
        self.apply(_initialise)

    def features(self, images: Tensor, looks: Looks | None = None) -> Tensor:
        """The input of the heatmap layer: branch 0 at the end, (N, width, H/4, W/4). Fills `looks`, if given."""
        require_multiple(images, 32)
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        for stage in self.stages:
            # the present branches go on, and the lowest of them also makes a new one
            transition = getattr(self, f"transition{stage - 1}")
            branches = [layer(branches[min(i, len(branches) - 1)]) for i, layer in enumerate(transition)]
            for i, module in enumerate(getattr(self, f"stage{stage}")):
                branches = module(branches, looks, f"stage{stage}.{i}.")
            if looks is not None:
                looks |= {f"stage{stage}.branch{i}": branch for i, branch in enumerate(branches)}
        return branches[0]

    def forward(self, images: Tensor, look: bool = False):
        looks = {} if look else None
        heatmaps = self.final_layer(self.features(images, looks))
        output = {"heatmaps": heatmaps} if self.training else heatmaps
        return (output, looks) if look else output


def _bottlenecks(width: int, count: int) -> nn.Sequential:
    """Stage 1: `width` channels inside each bottleneck, four times as many outside."""
    outer = width * Bottleneck.expansion
    widen = nn.Sequential(nn.Conv2d(width, outer, kernel_size=1, bias=False), nn.BatchNorm2d(outer))
    first = Bottleneck(width, width, downsample=widen)
    return nn.Sequential(first, *(Bottleneck(outer, width) for _ in range(count - 1)))


def _transition(before: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    """One layer for each branch of the next stage; an identity where a branch keeps its width."""
    layers = []
    for i, width in enumerate(widths):
        if i >= len(before):
            layers.append(nn.Sequential(_conv3x3(before[-1], width, stride=2)))  # doubly nested in the official code
        else:
            layers.append(nn.Identity() if before[i] == width else _conv3x3(before[i], width, stride=1))
    return nn.ModuleList(layers)


def _conv3x3(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _initialise(module: nn.Module) -> None:
    """The official start: N(0, 0.001) for every convolution, biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.001)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
