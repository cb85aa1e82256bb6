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
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from hpelib.layers.choices import require_choice
from hpelib.layers.partial_conv import PartialConv2d
from hpelib.layers.scconv import ChannelRebuildUnit, SpatialRebuildUnit
from hpelib.layers.spatial_group_enhance import SpatialGroupEnhance
from hpelib.layers.strip_pooling import STRIP_FORMS, StripForm, StripPooling
from hpelib.models.simple_baseline import SimpleBaseline, heatmap_head

Partial = Literal["stride1", "all", "added"]
LEVEL_BLOCKS = {"none": None, "basic": BasicBlock, "bottleneck": Bottleneck}


class ImprovedBottleneck(nn.Module):
    """IBN (Sec. 3.1.1): ResNet's `bottleneck` with a partial convolution in its middle, and a strip gate if asked for.

    Where the block halves the resolution, the full 3x3 convolution stays and the shortcut is average-pooled before it
    is widened. With `partial="all"` a mean over 2x2 and a partial convolution stand there as well; with "added" full
    convolutions stay everywhere and those of stride 1 are followed by a partial one. All other layers are the
    bottleneck's own, names included; `bottleneck` is used up.

    Shape: (N, in, H, W) -> (N, out, H / stride, W / stride), gate (N, out / 4, H / stride, W / stride) or None.
    """

    def __init__(self, bottleneck: Bottleneck, partial_ratio: int, partial: Partial, strip_form: StripForm | None):
        super().__init__()
        width = bottleneck.conv2.out_channels
        halves = bottleneck.stride > 1
        self.conv1, self.bn1 = bottleneck.conv1, bottleneck.bn1
        self.conv2, self.bn2 = bottleneck.conv2, bottleneck.bn2
        self.shrink = self.partial = nn.Identity()
        if partial == "added":
            self.partial = nn.Identity() if halves else _partial_conv(width, partial_ratio)
        elif partial == "all" or not halves:
            self.shrink = nn.AvgPool2d(2) if halves else nn.Identity()
            self.conv2 = _partial_conv(width, partial_ratio)
        self.strip = StripPooling(width, strip_form) if strip_form else None
        self.conv3, self.bn3 = bottleneck.conv3, bottleneck.bn3
        self.pool = nn.AvgPool2d(2) if halves else nn.Identity()
        self.downsample = bottleneck.downsample or nn.Identity()
        if halves:
            self.downsample[0].stride = (1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.partial(self.conv2(self.shrink(y)))).relu()
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

    Open in the paper: `partial_ratio`, the inverse share of convolved channels; `partial` (`ImprovedBottleneck`);
    `strip_form` (`StripPooling`); `strip_placement`, SPNet's (last block of stages 1-3, every block of stage 4) or in
    all blocks; `skip`, encoder features concatenated before a 3x3 or 1x1 convolution, or none; `level_block`, a
    residual block after each of these; `tail_blocks`, residual bottlenecks before the heatmaps; `head_kernel`, the size
    of the last convolution; `sge_groups`; `decoder_widths`, multiples of 16, of which five end in (N, K, H, W). These,
    `width` and `depths` (as in `SimpleBaseline`) also make quick variants. Raises ValueError for a choice that does not
    exist and for other than three to five `decoder_widths`.

    Looks: `stage1` to `stage4` (N, C, h, w), the outputs of the encoder's stages; `stage1_block3_strip` and so on,
    strip gates (N, C, h, w); `up1_sru` to `up3_sru` (N, C, h, w), the weights that part informative (> 0.5) from
    redundant features, and `up1_sru_informative`, `up1_sru_redundant` ..., these parts; `up1_cru` ... (N, 2, C, 1, 1),
    betas; `up1_sge` ... (N, groups, h, w).
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
        partial: Partial = "stride1",
        strip_form: StripForm = "spnet",
        strip_placement: Literal["spnet", "all"] = "spnet",
        skip: Literal["concat", "concat1x1", "none"] = "concat",
        level_block: Literal["none", "basic", "bottleneck"] = "none",
        tail_blocks: int = 3,
        head_kernel: int = 1,
        sge_groups: int = 8,
    ):
        require_choice("strip_placement", strip_placement, ("spnet", "all"))
        require_choice("partial", partial, ("stride1", "all", "added"))
        require_choice("strip_form", strip_form, STRIP_FORMS)
        require_choice("skip", skip, ("concat", "concat1x1", "none"))
        require_choice("level_block", level_block, LEVEL_BLOCKS)
        if not 3 <= len(decoder_widths) <= 5:
            raise ValueError(f"decoder_widths {decoder_widths} names {len(decoder_widths)} levels instead of 3 to 5")
        super().__init__(num_keypoints, "resnet50", width, depths, decoder_widths)
        self.ibn = ibn
        if ibn:
            for stage in self.stages():
                for i, bottleneck in enumerate(stage):
                    gated = strip_placement == "all" or stage is self.layer4 or i == len(stage) - 1
                    stage[i] = ImprovedBottleneck(bottleneck, partial_ratio, partial, strip_form if gated else None)
        stage_widths = [info["num_chs"] for info in self.feature_info[1:]]
        joined = zip(decoder_widths[:3], stage_widths[2::-1], strict=True)  # U1 joins stage 3, U2 stage 2, U3 stage 1
        kernel = 1 if skip == "concat1x1" else 3
        self.fusions = nn.ModuleList(ConvNormAct(own + side, own, kernel) for own, side in joined if skip != "none")
        block = LEVEL_BLOCKS[level_block]
        self.level_blocks = nn.ModuleList(_residual(block, own) for own in decoder_widths if block)
        self.srus = nn.ModuleList(SpatialRebuildUnit(own) for own in decoder_widths if scru)
        self.crus = nn.ModuleList(ChannelRebuildUnit(own) for own in decoder_widths if scru)
        self.sges = nn.ModuleList(SpatialGroupEnhance(own, sge_groups) for own in decoder_widths if sge)
        self.tail = nn.Sequential(*(_residual(Bottleneck, decoder_widths[-1]) for _ in range(tail_blocks)))
        if head_kernel > 1:
            self.final_layer = heatmap_head(decoder_widths[-1], num_keypoints, head_kernel)

    def features(self, images: Tensor, looks: dict[str, Tensor] | None = None) -> Tensor:
        """What the head sees, the output of the tail, (N, C, H/4, W/4); fills `looks`."""
        encoded, gates = self.encode_with_gates(images)
        seen = {f"stage{i}": stage for i, stage in enumerate(encoded, start=1)} | gates
        x = encoded[-1]
        for i, decoder in enumerate(self.decoders()):
            x = decoder(x)
            if i < len(self.fusions):
                x = self.fusions[i](torch.cat([x, encoded[2 - i]], dim=1))
            if self.level_blocks:
                x = self.level_blocks[i](x)
            if self.srus:
                x, seen[f"up{i + 1}_sru"], *parts = self.srus[i](x)
                if looks is not None:  # else they would wait in memory for nothing
                    seen |= zip((f"up{i + 1}_sru_informative", f"up{i + 1}_sru_redundant"), parts, strict=True)
                x, seen[f"up{i + 1}_cru"] = self.crus[i](x)
            if self.sges:
                x, seen[f"up{i + 1}_sge"] = self.sges[i](x)
        if looks is not None:
            looks |= seen
        return self.tail(x)

    def encode_with_gates(self, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The encoder stages' outputs at strides 4 to 32, and the strip gates by name."""
        x = self.stem(images)
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


def _partial_conv(width: int, ratio: int) -> PartialConv2d:
    conv = PartialConv2d(width, ratio)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as timm starts the others
    return conv


def _residual(block: type[BasicBlock | Bottleneck], width: int) -> nn.Module:
    return block(width, width // block.expansion)
