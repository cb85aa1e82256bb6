"""DAUNet: a U-shaped network whose encoder, decoder and skips each lose less detail.

X. Li, Y. Li, Z. Xiao, Z. Huang, L. Zou, "DAUNet: Detail-Aware U-Shaped Network for 2D Human Pose Estimation",
Computers, Materials & Continua 81(2), 2024 (https://doi.org/10.32604/cmc.2024.056464), Sec. 3.1 and Fig. 2.

Differs from the paper in: it states modules but few widths and places; skip connections with their fusion and the three
tail blocks are what brings the network to the printed size (docs/ledger_daunet.md). Heatmaps have stride 4, as Eqs. 1-2
need, not the input's size. The softmax of Eq. 15 is taken as printed, not as in the SCConv code.

In (N, 3, H, W), H and W multiples of 32; out (N, K, H/4, W/4).
K = 17: 38.9 M parameters, 10.8 G MACs at 256x192 (paper: 38.6 M, 10.8 G).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from timm.layers import ConvNormAct
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from hpelib.layers.choices import require_choice
from hpelib.layers.partial_conv import PartialConv2d
from hpelib.layers.scconv import ChannelRebuildUnit, SpatialRebuildUnit
from hpelib.layers.sizes import require_multiple
from hpelib.layers.spatial_group_enhance import SpatialGroupEnhance
from hpelib.layers.strip_pooling import StripForm, StripPooling
from hpelib.models.simple_baseline import SimpleBaseline


class ImprovedBottleneck(nn.Module):
    """IBN (Sec. 3.1.1): ResNet's `bottleneck` with a partial convolution in its middle, and a strip gate if asked for.

    Where the block halves the resolution, the full 3x3 convolution stays and the shortcut is average-pooled before it
    is widened. All other layers are the bottleneck's own, names included; `bottleneck` is used up.

    Shape: (N, in, H, W) -> (N, out, H / stride, W / stride), gate (N, out / 4, H / stride, W / stride) or None.
    """

    def __init__(self, bottleneck: Bottleneck, partial_ratio: int, strip_form: StripForm | None):
        super().__init__()
        width = bottleneck.conv2.out_channels
        halves = bottleneck.stride > 1
        self.conv1, self.bn1 = bottleneck.conv1, bottleneck.bn1
        self.conv2, self.bn2 = bottleneck.conv2, bottleneck.bn2
        if not halves:
            self.conv2 = PartialConv2d(width, partial_ratio)
            nn.init.kaiming_normal_(self.conv2.weight, mode="fan_out", nonlinearity="relu")  # as timm starts the others
        self.strip = StripPooling(width, strip_form) if strip_form else None
        self.conv3, self.bn3 = bottleneck.conv3, bottleneck.bn3
        self.pool = nn.AvgPool2d(2) if halves else nn.Identity()
        self.downsample = bottleneck.downsample or nn.Identity()
        if halves:
            self.downsample[0].stride = (1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        gate = None
        if self.strip:
            y, gate = self.strip(y)
        y = self.bn3(self.conv3(y))
        return (y + self.downsample(self.pool(x))).relu(), gate


class DAUNet(SimpleBaseline):
    """Heatmaps (N, K, H/4, W/4) in eval mode, `{"heatmaps": ...}` in training.

    Switched in Table 4: `ibn`, improved bottlenecks (Sec. 3.1.1); `scru`, the space/channel rebuild units SRU and CRU
    (Sec. 3.1.2), and `sge`, spatial group-wise enhancement (Sec. 3.1.3), after each upsampling module. All off, this is
    a ResNet-50 with a deconvolution decoder, skip connections and tail; with `skip="none"` and `tail_blocks=0` it is
    SimpleBaseline.

    Open in the paper: `partial_ratio`, the inverse share of convolved channels; `strip_form` (`StripPooling`);
    `strip_placement`, SPNet's (last block of stages 1-3, every block of stage 4) or in all blocks; `skip`, encoder
    features concatenated before a 3x3 convolution, or none; `tail_blocks`, residual bottlenecks before the heatmaps;
    `sge_groups`. `width`, `depths` (as in `SimpleBaseline`) and `decoder_widths` (multiples of 16) make quick variants.

    Looks: `stage1_block3_strip` and so on, strip gates (N, C, h, w); `up1_sru` to `up3_sru` (N, C, h, w), the weights
    that part informative (> 0.5) from redundant features; `up1_cru` ... (N, 2, C, 1, 1), betas; `up1_sge` ...
    (N, groups, h, w).
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        width: int = 64,
        depths: Sequence[int] | None = None,
        decoder_widths: Sequence[int] = (256, 256, 256),
        ibn: bool = True,
        scru: bool = True,
        sge: bool = True,
        partial_ratio: int = 4,
        strip_form: StripForm = "spnet",
        strip_placement: Literal["spnet", "all"] = "spnet",
        skip: Literal["concat", "none"] = "concat",
        tail_blocks: int = 3,
        sge_groups: int = 8,
    ):
        require_choice("strip_placement", strip_placement, ("spnet", "all"))
        require_choice("skip", skip, ("concat", "none"))
        super().__init__(num_keypoints, "resnet50", width, depths, decoder_widths)
        self.ibn = ibn
        if ibn:
            for stage in self.stages():
                for i, bottleneck in enumerate(stage):
                    gated = strip_placement == "all" or stage is self.layer4 or i == len(stage) - 1
                    stage[i] = ImprovedBottleneck(bottleneck, partial_ratio, strip_form if gated else None)
        stage_widths = [info["num_chs"] for info in self.feature_info[1:]]
        levels = list(zip(decoder_widths, stage_widths[2::-1], strict=True))  # U1 joins stage 3, U2 stage 2, U3 stage 1
        self.fusions = nn.ModuleList(ConvNormAct(own + side, own, 3) for own, side in levels if skip == "concat")
        self.srus = nn.ModuleList(SpatialRebuildUnit(own) for own, _ in levels if scru)
        self.crus = nn.ModuleList(ChannelRebuildUnit(own) for own, _ in levels if scru)
        self.sges = nn.ModuleList(SpatialGroupEnhance(own, sge_groups) for own, _ in levels if sge)
        self.tail = nn.Sequential(
            *(Bottleneck(decoder_widths[-1], decoder_widths[-1] // Bottleneck.expansion) for _ in range(tail_blocks))
        )

    def stages(self) -> tuple[nn.Sequential, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward(self, images: Tensor, look: bool = False):
        encoded, looks = self.encode_with_gates(images)
        x = encoded[-1]
        for i in range(3):
            x = self.deconv_layers[3 * i : 3 * i + 3](x)  # deconvolution, batch norm, ReLU
            if self.fusions:
                x = self.fusions[i](torch.cat([x, encoded[2 - i]], dim=1))
            if self.srus:
                x, looks[f"up{i + 1}_sru"] = self.srus[i](x)
                x, looks[f"up{i + 1}_cru"] = self.crus[i](x)
            if self.sges:
                x, looks[f"up{i + 1}_sge"] = self.sges[i](x)
        heatmaps = self.final_layer(self.tail(x))
        output = {"heatmaps": heatmaps} if self.training else heatmaps
        return (output, looks) if look else output

    def encode_with_gates(self, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The encoder stages' outputs at strides 4 to 32, and the strip gates by name."""
        require_multiple(images, 32)
        x = self.maxpool(self.act1(self.bn1(self.conv1(images))))
        encoded, gates = [], {}
        for i, stage in enumerate(self.stages(), start=1):
            for j, block in enumerate(stage, start=1):
                x, gate = block(x) if self.ibn else (block(x), None)
                if gate is not None:
                    gates[f"stage{i}_block{j}_strip"] = gate
            encoded.append(x)
        return encoded, gates

    def adapt_pretrained(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state_dict` of a ResNet-50 with its 3x3 weights cut to the channels that partial convolutions work on."""
        cut = dict(state_dict)
        for name, module in self.named_modules():
            weight = f"{name}.weight"
            if isinstance(module, PartialConv2d) and weight in cut:
                cut[weight] = cut[weight][: module.in_channels, : module.in_channels]
        return cut
