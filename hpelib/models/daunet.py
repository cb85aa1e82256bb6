"""DAUNet: a U-shaped network whose encoder, decoder and skip connections each lose fewer details.

X. Li, Y. Li, Z. Xiao, Z. Huang, L. Zou, "DAUNet: Detail-Aware U-Shaped Network for 2D Human Pose Estimation",
Computers, Materials & Continua 81(2), 2024 (https://doi.org/10.32604/cmc.2024.056464), Sec. 3.1 and Fig. 2.

What the paper leaves open: it names its modules but few of their widths and places. The skip connections with their
fusion and the three blocks of the tail are our choice; they bring the whole network to the printed size, but not the
network without its parts. notebooks/networks/daunet.ipynb lists every choice and the option that gives
the alternative.

Differs from the paper: heatmaps have stride 4, as Eqs. 1 and 2 need, although Sec. 3.1 ends with the input's size.

K = 17: 38.7 M parameters, 10.8 G MACs at 256x192 (paper: 38.6 M, 10.8 G).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from hpelib.layers.choices import Count, Whole, require_choice
from hpelib.layers.heatmap_head import heatmap_head
from hpelib.models.simple_baseline import SimpleBaseline

Partial = Literal["all", "stride1", "added"]
StripForm = Literal["spnet", "pointwise", "conv3x3"]
STRIP_FORMS = ("spnet", "pointwise", "conv3x3")
LEVEL_BLOCKS = {"none": None, "basic": BasicBlock, "bottleneck": Bottleneck}


class PartialConv2d(nn.Conv2d):
    """Partial convolution (Eq. 3; J. Chen et al., FasterNet, CVPR 2023): 3x3, of the first C / ratio channels only.

    The other channels stay as they are; with a stride, every stride-th of their positions does. The weight
    (C/ratio, C/ratio, 3, 3) has the name that it has in an ordinary convolution, so the leading slice of a pretrained
    3x3 weight fits.
    Shape: (N, C, H, W) -> (N, C, H / stride, W / stride), C a multiple of `ratio`.
    """

    def __init__(self, channels: int, ratio: int = 4, stride: int = 1):
        if channels % ratio:
            raise ValueError(f"{channels} channels cannot be divided by partial ratio {ratio}")
        super().__init__(channels // ratio, channels // ratio, kernel_size=3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")  # as timm starts the others

    def forward(self, x: Tensor) -> Tensor:
        convolved, untouched = x.tensor_split([self.in_channels], dim=1)
        step = self.stride[0]
        return torch.cat([super().forward(convolved), untouched[..., ::step, ::step]], dim=1)


class StripPooling(nn.Module):
    """Strip gate (Eqs. 4-7; Q. Hou, L. Zhang, M.-M. Cheng, J. Feng: Strip Pooling, CVPR 2020).

    h = mean of each row, v = mean of each column
    y = x * sigmoid(f(h + v))

    Forms: "spnet" is the module of that work: a 3-tap convolution and norm on each strip before the sum, then ReLU and
    a 1x1 convolution. "pointwise" is Eqs. 4-7 word by word: f is a 1x1 convolution and norm. "conv3x3" has a 3x3
    convolution in place of that.
    Shape: (N, C, H, W) -> y and the gate, both (N, C, H, W), the gate in (0, 1).
    """

    def __init__(self, channels: int, form: StripForm = "spnet"):
        super().__init__()
        require_choice("strip_form", form, STRIP_FORMS)

        def conv_bn(kernel: tuple[int, int]) -> nn.Sequential:
            padding = tuple(side // 2 for side in kernel)
            return nn.Sequential(
                nn.Conv2d(channels, channels, kernel, padding=padding, bias=False), nn.BatchNorm2d(channels)
            )

        if form == "spnet":
            self.rows, self.columns = conv_bn((3, 1)), conv_bn((1, 3))
            self.fuse = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1))
        else:
            self.rows = self.columns = nn.Identity()
            self.fuse = conv_bn((1, 1) if form == "pointwise" else (3, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.rows(x.mean(dim=3, keepdim=True))  # (N, C, H, 1), Eq. 4
        columns = self.columns(x.mean(dim=2, keepdim=True))  # (N, C, 1, W), Eq. 5
        gate = self.fuse(rows + columns).sigmoid()  # (N, C, H, W), Eqs. 6, 7
        return x * gate, gate


class ImprovedBottleneck(nn.Module):
    """IBN (Sec. 3.1.1): ResNet's bottleneck with a partial convolution in its middle, and perhaps with a strip gate.

    In a block that halves the resolution, the partial convolution does it. The other values of `partial` are readings
    of the notebook. "stride1": such a block keeps its full 3x3 convolution. "added": all full convolutions stay, and a
    partial one follows those of stride 1.

    The layers of `bottleneck` are taken over with their names, so ImageNet weights fit.
    Shape: (N, in, H, W) -> (N, out, H / stride, W / stride), and the gate (N, out / 4, H / stride, W / stride) or None.
    """

    def __init__(self, bottleneck: Bottleneck, partial_ratio: int, partial: Partial, strip_form: StripForm | None):
        super().__init__()
        width, stride = bottleneck.conv2.out_channels, bottleneck.stride
        self.conv1, self.bn1 = bottleneck.conv1, bottleneck.bn1
        self.conv2, self.bn2 = bottleneck.conv2, bottleneck.bn2
        self.partial = nn.Identity()
        if partial == "added" and stride == 1:
            self.partial = PartialConv2d(width, partial_ratio)
        elif partial == "all" or (partial == "stride1" and stride == 1):
            self.conv2 = PartialConv2d(width, partial_ratio, stride)
        self.strip = StripPooling(width, strip_form) if strip_form else None
        self.conv3, self.bn3 = bottleneck.conv3, bottleneck.bn3
        self.downsample = bottleneck.downsample or nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.partial(self.conv2(y))).relu()
        gate = None
        if self.strip:
            y, gate = self.strip(y)
        y = self.bn3(self.conv3(y))
        return (y + self.downsample(x)).relu(), gate


class PooledShortcut(nn.Sequential):
    """The shortcut of a block that halves the resolution: average pooling, then a 1x1 convolution (Sec. 3.1.1).

    The layers of `shortcut` keep their names, so ImageNet weights fit.
    Shape: (N, in, H, W) -> (N, out, H / 2, W / 2).
    """

    def __init__(self, shortcut: nn.Sequential):
        super().__init__(*shortcut)
        self[0].stride = (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(x, 2))


class SpatialRebuildUnit(nn.Module):
    """SRU (Sec. 3.1.2, Eqs. 8-10; J. Li, Y. Wen, L. He: SCConv, CVPR 2023): rebuilds features from two parts of them.

    r = sigmoid(w GN(x)), w = phi / sum(phi), phi the scales of the group norm
    informative = x where r > 0.5, else r x;  redundant = 0 where r > 0.5, else r x
    y = the two parts added crosswise, the first half of one to the second half of the other

    This is the soft split of an unofficial implementation of SCConv, whose authors have released none. With `hard`,
    informative = 0 where r <= 0.5, so that no position of a channel is in both parts, as SCConv's paper has it.
    Shape: (N, C, H, W) -> y, r, informative and redundant, each (N, C, H, W), r in (0, 1). C is a multiple of 16.
    """

    def __init__(self, channels: int, groups: int = 16, hard: bool = False):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.hard = hard

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scales = self.norm.weight
        importance = (scales / scales.sum()).view(1, -1, 1, 1)  # w, Eq. 9
        reweights = (importance * self.norm(x)).sigmoid()  # r
        whole = x * (reweights > 0.5)
        redundant = reweights * (x - whole)
        informative = whole if self.hard else whole + redundant
        rebuilt = informative + redundant.roll(x.shape[1] // 2, dims=1)  # halves [a, b] and [c, d] to [a + d, b + c]
        return rebuilt, reweights, informative, redundant


class ChannelRebuildUnit(nn.Module):
    """CRU (Sec. 3.1.2, Eqs. 12-16; SCConv): a rich transform of one half of the channels, a cheap one of the other.

    Y1 = groupwise conv3x3(up) + conv1x1(up), Y2 = [conv1x1(low), low], up and low being the squeezed halves
    beta = softmax of mean(Y1) and mean(Y2), per channel
    y = beta1 Y1 + beta2 Y2

    The softmax is that of Eq. 15, over the two transforms. The unofficial SCConv code takes one over all 2C means
    instead, which makes features smaller by about C.
    Shape: (N, C, H, W) -> y (N, C, H, W), beta (N, 2, C, 1, 1) with sum 1 over axis 1. C is a multiple of 8.
    """

    def __init__(self, channels: int):
        super().__init__()
        half, squeezed = channels // 2, channels // 4
        self.squeeze_up = nn.Conv2d(half, squeezed, 1, bias=False)
        self.squeeze_low = nn.Conv2d(half, squeezed, 1, bias=False)
        self.groupwise = nn.Conv2d(squeezed, channels, 3, padding=1, groups=2)
        self.pointwise_up = nn.Conv2d(squeezed, channels, 1, bias=False)
        self.pointwise_low = nn.Conv2d(squeezed, channels - squeezed, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        up, low = x.chunk(2, dim=1)  # (N, C/2, H, W)
        up, low = self.squeeze_up(up), self.squeeze_low(low)  # (N, C/4, H, W)
        rich = self.groupwise(up) + self.pointwise_up(up)  # Y1, Eq. 12
        cheap = torch.cat([self.pointwise_low(low), low], dim=1)  # Y2, Eq. 13
        means = [y.mean(dim=(2, 3), keepdim=True) for y in (rich, cheap)]
        betas = torch.stack(means, dim=1).softmax(dim=1)  # Eqs. 14, 15
        return betas[:, 0] * rich + betas[:, 1] * cheap, betas  # Eq. 16


class SpatialGroupEnhance(nn.Module):
    """SGE (Sec. 3.1.3, Eqs. 17-21; X. Li, X. Hu, J. Yang, arXiv 1905.09646): weighs positions in groups of channels.

    g = mean of x over the positions
    c_i = <g, x_i> at position i, then normalised over the positions
    y_i = x_i sigmoid(gamma c_i + beta), one gamma (starts at 0) and beta (starts at 1) for each group
    Shape: (N, C, H, W) -> y (N, C, H, W), the attention (N, groups, H, W) in (0, 1). C is a multiple of `groups`.
    """

    def __init__(self, channels: int, groups: int = 8):
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be divided into {groups} groups")
        self.groups = groups
        self.gamma = nn.Parameter(torch.zeros(1, groups, 1, 1))
        self.beta = nn.Parameter(torch.ones(1, groups, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        grouped = x.unflatten(1, (self.groups, -1))  # (N, G, C/G, H, W)
        mean = grouped.mean(dim=(3, 4), keepdim=True)  # g, Eq. 17
        similarity = (grouped * mean).sum(dim=2)  # c, (N, G, H, W), Eq. 18
        deviation, centre = torch.std_mean(similarity, dim=(2, 3), correction=0, keepdim=True)
        similarity = (similarity - centre) / (deviation + 1e-5)  # Eq. 19
        attention = (self.gamma * similarity + self.beta).sigmoid()  # Eqs. 20, 21
        return (grouped * attention.unsqueeze(2)).flatten(1, 2), attention


class DAUNet(SimpleBaseline):
    """ResNet-50 of improved bottlenecks, a decoder with skip connections, SRU, CRU and SGE at each level, and a tail.

    Shape: images (N, 3, H, W), H and W multiples of 32 -> heatmaps (N, K, H/4, W/4); in training `{"heatmaps": ...}`.

    Switched in Table 4. All off, this is a ResNet-50 with deconvolutions, skip connections and tail; with skip="none",
    tail_blocks=0 and head_kernel=1 as well it is SimpleBaseline:
        ibn: improved bottlenecks (Sec. 3.1.1).
        scru: SRU and CRU after each upsampling module (Sec. 3.1.2).
        sge: spatial group-wise enhancement after these (Sec. 3.1.3).
    Open in the paper:
        partial_ratio: one of how many channels a partial convolution convolves.
        partial: "all", "stride1" or "added", see `ImprovedBottleneck`.
        strip_form: "spnet", "pointwise" or "conv3x3", see `StripPooling`.
        strip_placement: "all" has a gate in every block; "spnet" in the last block of stages 1 to 3 and in every block
            of stage 4, as the work on strip pooling.
        pooled_shortcut: see `PooledShortcut`, whether or not bottlenecks are improved; else ResNet's strided one.
        hard_split: see `SpatialRebuildUnit`.
        skip: "concat" joins encoder features by a 3x3 convolution, "concat1x1" by a 1x1 one; or "none".
        level_block: a "basic" or "bottleneck" residual block after each of these; or "none".
        tail_blocks: residual bottlenecks before the heatmap layer.
        head_kernel: side of the heatmap layer's kernel.
        sge_groups: groups of channels in SGE.
        decoder_widths: channels of three to five levels, multiples of 16. Five levels end in (N, K, H, W).
    Size: width and depths, see `SimpleBaseline`.
    Looks: `stage1` to `stage4` (N, C, h, w), the stages of the encoder; `stage1_block3_strip` ... (N, C, h, w), strip
    gates; `up1_sru` ... (N, C, h, w), the weights of SRU, and `up1_sru_informative`, `up1_sru_redundant`, its parts;
    `up1_cru` ... (N, 2, C, 1, 1), the weights of CRU; `up1_sge` ... (N, groups, h, w).

    Raises:
        ValueError: an option is none of its choices, or there are not three to five `decoder_widths`.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        width: Count = 64,
        depths: Sequence[Count] | None = None,
        decoder_widths: Sequence[Count] = (256, 256, 256),
        ibn: bool = True,
        scru: bool = True,
        sge: bool = True,
        partial_ratio: Count = 4,
        partial: Partial = "all",
        strip_form: StripForm = "spnet",
        strip_placement: Literal["all", "spnet"] = "all",
        pooled_shortcut: bool = False,
        skip: Literal["concat", "concat1x1", "none"] = "concat",
        level_block: Literal["none", "basic", "bottleneck"] = "none",
        tail_blocks: Whole = 3,
        head_kernel: Count = 3,
        hard_split: bool = False,
        sge_groups: Count = 8,
    ):
        require_choice("strip_placement", strip_placement, ("all", "spnet"))
        require_choice("partial", partial, ("all", "stride1", "added"))
        require_choice("strip_form", strip_form, STRIP_FORMS)
        require_choice("skip", skip, ("concat", "concat1x1", "none"))
        require_choice("level_block", level_block, LEVEL_BLOCKS)
        if not 3 <= len(decoder_widths) <= 5:
            raise ValueError(f"decoder_widths {decoder_widths} names {len(decoder_widths)} levels instead of 3 to 5")
        super().__init__(num_keypoints, "resnet50", width, depths, decoder_widths)
        self.ibn = ibn
        for stage in self.stages():
            if pooled_shortcut and stage is not self.layer1:
                stage[0].downsample = PooledShortcut(stage[0].downsample)
            if ibn:
                for i, bottleneck in enumerate(stage):
                    gated = strip_placement == "all" or stage is self.layer4 or i == len(stage) - 1
                    stage[i] = ImprovedBottleneck(bottleneck, partial_ratio, partial, strip_form if gated else None)
        # U1 joins stage 3, U2 stage 2, U3 stage 1
        joined = zip(decoder_widths[:3], self.stage_widths[2::-1], strict=True)
        kernel = 1 if skip == "concat1x1" else 3
        self.fusions = nn.ModuleList(ConvNormAct(own + side, own, kernel) for own, side in joined if skip != "none")
        block = LEVEL_BLOCKS[level_block]
        self.level_blocks = nn.ModuleList(_residual(block, own) for own in decoder_widths if block)
        self.srus = nn.ModuleList(SpatialRebuildUnit(own, hard=hard_split) for own in decoder_widths if scru)
        self.crus = nn.ModuleList(ChannelRebuildUnit(own) for own in decoder_widths if scru)
        self.sges = nn.ModuleList(SpatialGroupEnhance(own, sge_groups) for own in decoder_widths if sge)
        self.tail = nn.Sequential(*(_residual(Bottleneck, decoder_widths[-1]) for _ in range(tail_blocks)))
        if head_kernel > 1:
            self.final_layer = heatmap_head(decoder_widths[-1], num_keypoints, head_kernel)

    def features(self, images: Tensor, looks: dict[str, Tensor] | None = None) -> Tensor:
        """The input of the heatmap layer, the output of the tail, (N, C, H/4, W/4). Fills `looks`, if given."""
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
                if looks is not None:  # else they would fill memory until the end of the pass
                    seen |= zip((f"up{i + 1}_sru_informative", f"up{i + 1}_sru_redundant"), parts, strict=True)
                x, seen[f"up{i + 1}_cru"] = self.crus[i](x)
            if self.sges:
                x, seen[f"up{i + 1}_sge"] = self.sges[i](x)
        if looks is not None:
            looks |= seen
        return self.tail(x)

    def encode_with_gates(self, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The stages of the encoder at strides 4 to 32, and the strip gates by name."""
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
        """`state_dict` of a ResNet-50, its 3x3 weights cut to the channels that partial convolutions convolve."""
        cut = dict(state_dict)
        for name, module in self.named_modules():
            weight = f"{name}.weight"
            if isinstance(module, PartialConv2d) and weight in cut:
                cut[weight] = cut[weight][: module.in_channels, : module.in_channels]
        return cut


def _residual(block: type[BasicBlock | Bottleneck], width: int) -> nn.Module:
    return block(width, width // block.expansion)
