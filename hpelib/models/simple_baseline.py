"""SimpleBaseline: a ResNet with three transposed convolutions on top.

B. Xiao, H. Wu, Y. Wei, "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018, section 2.
Layer for layer and name for name the official `pose_resnet`, so its checkpoints load unchanged. They were trained on
BGR pixels (with the RGB mean and deviation), so feed them `pixel_order="bgr"`; trained here, either order will do.

Differs in: an encoder without ImageNet weights starts from timm's Kaiming initialisation, not from N(0, 0.001).

In (N, 3, H, W), H and W multiples of 32; out (N, K, H/4, W/4).
Parameters with 17 keypoints: ResNet-50 33,999,697, ResNet-101 52,991,825, ResNet-152 68,635,473.
"""

from collections.abc import Sequence
from itertools import pairwise

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from hpelib.layers.sizes import require_multiple

ENCODERS = {
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


class SimpleBaseline(ResNet):
    """Heatmaps (N, K, H/4, W/4) in eval mode, `{"heatmaps": ...}` in training.

    `width` is the width of the first ResNet stage (the others double it) and `depths` the blocks per stage; narrower
    and shallower ones are for quick runs. Raises ValueError for an unknown `encoder` or other than four `depths`.

    Looks: `stage1` to `stage4` (N, C, h, w), the outputs of the ResNet stages.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        encoder: str = "resnet50",
        width: int = 64,
        depths: Sequence[int] | None = None,
        deconv_widths: Sequence[int] = (256, 256, 256),
    ):
        if encoder not in ENCODERS:
            raise ValueError(f"unknown encoder {encoder!r}; choose from {', '.join(ENCODERS)}")
        block, paper_depths = ENCODERS[encoder]
        depths = tuple(depths or paper_depths)
        if len(depths) != 4:
            raise ValueError(f"depths {depths} names {len(depths)} stages, but the encoder has 4")
        channels = tuple(width * 2**stage for stage in range(4))
        super().__init__(block, depths, num_classes=0, channels=channels, zero_init_last=False)
        widths = [self.num_features, *deconv_widths]
        steps = [deconvolution(*pair) for pair in pairwise(widths)]
        self.deconv_layers = nn.Sequential(*(layer for step in steps for layer in step))
        self.final_layer = heatmap_head(widths[-1], num_keypoints)

    def stem(self, images: Tensor) -> Tensor:
        """What the first stage sees, at stride 4. Raises ValueError for sides that are no multiples of 32 px."""
        require_multiple(images, 32)
        return self.maxpool(self.act1(self.bn1(self.conv1(images))))

    def stages(self) -> tuple[nn.Sequential, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def decoders(self) -> list[nn.Sequential]:
        """The steps of `deconv_layers` that double the resolution."""
        return [self.deconv_layers[i : i + 3] for i in range(0, len(self.deconv_layers), 3)]

    def encode(self, images: Tensor) -> list[Tensor]:
        """The outputs of the four ResNet stages, at strides 4, 8, 16 and 32."""
        x = self.stem(images)
        encoded = []
        for stage in self.stages():
            x = stage(x)
            encoded.append(x)
        return encoded

    def features(self, images: Tensor, looks: dict[str, Tensor] | None = None) -> Tensor:
        """What the head sees, here the output of the last transposed convolution, (N, C, H/4, W/4); fills `looks`."""
        encoded = self.encode(images)
        if looks is not None:
            looks |= {f"stage{i}": x for i, x in enumerate(encoded, start=1)}
        return self.deconv_layers(encoded[-1])

    def forward(self, images: Tensor, look: bool = False):
        looks = {} if look else None
        heatmaps = self.final_layer(self.features(images, looks))
        output = {"heatmaps": heatmaps} if self.training else heatmaps
        return (output, looks) if look else output


def deconvolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    """The layers that double the resolution: transposed convolution 4x4 with stride 2, batch norm, ReLU."""
    deconv = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=False)
    nn.init.normal_(deconv.weight, std=0.001)
    return [deconv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def heatmap_head(in_channels: int, num_keypoints: int, kernel_size: int = 1) -> nn.Conv2d:
    """Convolution to one heatmap per keypoint, started at N(0, 0.001) as in the official code.

    With the library's larger default start, short trainings never leave the plateau of all-zero heatmaps.
    """
    head = nn.Conv2d(in_channels, num_keypoints, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(head.weight, std=0.001)
    nn.init.zeros_(head.bias)
    return head
