"""SimpleBaseline: a ResNet, and three transposed convolutions that bring its features to heatmaps.

B. Xiao, H. Wu, Y. Wei, "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018, section 2.
Layers and their names are those of the official `pose_resnet`, so its checkpoints load unchanged. They were trained on
BGR pixels (with the RGB mean and deviation): use `pixel_order: bgr` with them.

Differs from the official code: without ImageNet weights the encoder starts from timm's Kaiming initialisation. The
official code starts it at N(0, 0.001).

Parameters with 17 keypoints: ResNet-50 33,999,697, ResNet-101 52,991,825, ResNet-152 68,635,473.
"""

from collections.abc import Sequence
from itertools import pairwise

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from hpelib.layers.choices import Count, require_choice
from hpelib.layers.heatmap_head import heatmap_head
from hpelib.layers.sizes import require_multiple

ENCODERS = {
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


class SimpleBaseline(ResNet):
    """ResNet encoder, transposed convolutions and a heatmap layer (section 2, Fig. 1).

    Shape: images (N, 3, H, W), H and W multiples of 32 -> heatmaps (N, K, H/4, W/4); in training `{"heatmaps": ...}`.

    Options:
        encoder: "resnet34", "resnet50", "resnet101" or "resnet152".
        width: channels of the first ResNet stage. Each further stage has twice as many as the one before it.
        depths: residual blocks of the four stages; by default those of the encoder.
        deconv_widths: channels of the transposed convolutions. Each of them doubles the resolution.
    Looks: `stage1` to `stage4` (N, C, h, w), the outputs of the ResNet stages.

    Raises:
        ValueError: the encoder is unknown, or `depths` does not give four stages.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        encoder: str = "resnet50",
        width: Count = 64,
        depths: Sequence[Count] | None = None,
        deconv_widths: Sequence[Count] = (256, 256, 256),
    ):
        require_choice("encoder", encoder, ENCODERS)
        block, paper_depths = ENCODERS[encoder]
        depths = tuple(depths or paper_depths)
        if len(depths) != 4:
            raise ValueError(f"depths {depths} names {len(depths)} stages, but the encoder has 4")
        channels = tuple(width * 2**stage for stage in range(4))
        super().__init__(block, depths, num_classes=0, channels=channels, zero_init_last=False)
        self.stage_widths = [info["num_chs"] for info in self.feature_info[1:]]
        widths = [self.num_features, *deconv_widths]
        self.deconv_layers = nn.Sequential(*(layer for pair in pairwise(widths) for layer in _deconvolution(*pair)))
        self.final_layer = heatmap_head(widths[-1], num_keypoints)

    def stem(self, images: Tensor) -> Tensor:
        """The input of the first stage, (N, width, H/4, W/4)."""
        require_multiple(images, 32)
        return self.maxpool(self.act1(self.bn1(self.conv1(images))))

    def stages(self) -> tuple[nn.Sequential, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def decoders(self) -> list[nn.Sequential]:
        """The parts of `deconv_layers`, each of which doubles the resolution."""
        return [self.deconv_layers[i : i + 3] for i in range(0, len(self.deconv_layers), 3)]

    def encode(self, images: Tensor) -> list[Tensor]:
        """The outputs of the four stages, at strides 4, 8, 16 and 32."""
        x = self.stem(images)
        return [x := stage(x) for stage in self.stages()]

    def features(self, images: Tensor, looks: dict[str, Tensor] | None = None) -> Tensor:
        """The input of the heatmap layer, (N, C, H/4, W/4). Fills `looks`, if given."""
        encoded = self.encode(images)
        if looks is not None:
            looks |= {f"stage{i}": x for i, x in enumerate(encoded, start=1)}
        return self.deconv_layers(encoded[-1])

    def forward(self, images: Tensor, look: bool = False):
        looks = {} if look else None
        heatmaps = self.final_layer(self.features(images, looks))
        output = {"heatmaps": heatmaps} if self.training else heatmaps
        return (output, looks) if look else output


def _deconvolution(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    """Transposed convolution 4x4 with stride 2, batch norm, ReLU."""
    deconv = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=False)
    nn.init.normal_(deconv.weight, std=0.001)
    return deconv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
