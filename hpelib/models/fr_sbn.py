"""FR-SBN: SimpleBaseline with heatmaps as large as the image, global context, and gated features of several scales.

J. Ou, M. Chen, H. Wu, "Full-Resolution Encoder-Decoder Networks with Multi-Scale Feature Fusion for Human Pose
Estimation", ACM Multimedia Asia 2020 (https://doi.org/10.1145/3444685.3446282), Sec. 3 and Fig. 1.

What the paper leaves open: the width of the fused map (384 here), a 1x1 convolution before Decoder 4, and the ratio
inside the GCBs (4 here, GCNet's best). The first two were chosen as they meet the printed GFLOPs at both inputs. No
bottleneck meets the printed parameters with them. notebooks/networks/fr_sbn.ipynb lists every choice. Heatmap
layer and initial weights are SimpleBaseline's.

ResNet-34, K = 17: 31.2 M parameters, 21.3 G MACs at 256x192 (paper: 33 M, 21.3 G).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct, GlobalContext
from torch import Tensor, nn

from hpelib.layers.choices import Count, require_choice
from hpelib.models.simple_baseline import SimpleBaseline

Gate = Literal["relu", "sigmoid"]
GATES = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
Distribution = Literal["reduced", "plain", "convolved"]
DISTRIBUTIONS = {
    "plain": (0, 0, 0),
    "reduced": (0, 0, 1),
    "convolved": (3, 3, 3),
}  # kernels to Decoders 2 to 4


class GlobalContextBlock(GlobalContext):
    """GCB (Sec. 3.2, Fig. 1(b)): adds the image's global context, and hands out its spatial attention heatmap (SAH).

    m = conv1x1(x), the SAH
    a = softmax(m) over the positions
    y = x + t(sum_j a_j x_j), t = conv1x1(C -> C/ratio), layer norm, ReLU, conv1x1(C/ratio -> C)

    The block comes from GCNet (Y. Cao, J. Xu, S. Lin, F. Wei, H. Hu, ICCV Workshops 2019). Its layers are timm's. The
    forward pass is ours, because SA-MFCD needs m, which timm does not return. The last convolution starts at zero,
    weight and bias, so that the block starts as the identity and leaves a pretrained encoder unchanged.
    Shape: (N, C, H, W) -> y (N, C, H, W), m (N, 1, H, W).
    """

    def __init__(self, channels: int, ratio: int = 4):
        super().__init__(channels, fuse_add=True, fuse_scale=False, rd_channels=max(channels // ratio, 1))
        nn.init.zeros_(self.mlp_add.fc2.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heatmap = self.conv_attn(x)  # (N, 1, H, W)
        attention = heatmap.flatten(2).softmax(dim=-1)  # (N, 1, HW)
        context = x.flatten(2) @ attention.transpose(1, 2)  # (N, C, 1)
        return x + self.mlp_add(context.unsqueeze(-1)), heatmap


class SAMFCD(nn.Module):
    """Spatial-attention-based multi-scale feature collection and distribution (SA-MFCD, Sec. 3.3, Fig. 1(c)).

    Collects the features of Res-stages 1 to 3 at the resolution of the first, multiplies them with a gate that is made
    of their spatial attention heatmaps, and hands the product to Decoders 2 to 4 at half, equal and double resolution.

    `distribution` says what stands on the ways to the decoders. "plain": only the change of size. "reduced": also a 1x1
    convolution to the width of Decoder 4, on the way to it. "convolved": a 3x3 convolution to the decoder's width on
    each way.
    Shape: features (N, widths[i], h/2^i, w/2^i) and SAHs (N, 1, h/2^i, w/2^i), i = 0, 1, 2 -> a list of
    (N, out_widths[0], h/2, w/2), (N, out_widths[1], h, w) and (N, out_widths[2], 2h, 2w), and the gate (N, 1, h, w).
    With two `decoder_widths` the list ends after two.
    """

    def __init__(
        self,
        widths: Sequence[int],
        fused_width: int,
        decoder_widths: Sequence[int],
        distribution: Distribution,
        gate: Gate,
    ):
        super().__init__()
        require_choice("gate", gate, GATES)
        require_choice("distribution", distribution, DISTRIBUTIONS)
        self.collect = ConvNormAct(sum(widths), fused_width, 3)
        self.gate = ConvNormAct(len(widths), 1, 3, act_layer=GATES[gate])
        nn.init.ones_(self.gate.bn.bias)  # starts open: a ReLU gate around zero would close half of the positions
        ways = list(zip(decoder_widths, DISTRIBUTIONS[distribution], strict=False))
        self.out_widths = [width if kernel else fused_width for width, kernel in ways]
        self.ways = nn.ModuleList(
            ConvNormAct(fused_width, width, kernel) if kernel else nn.Identity() for width, kernel in ways
        )

    def forward(self, features: Sequence[Tensor], heatmaps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        gate = self.gate(_collect(heatmaps))
        refined = self.collect(_collect(features)) * gate
        distributed = [self.ways[0](F.avg_pool2d(refined, 2)), self.ways[1](refined)]  # bilinear halving is a mean of 4
        if len(self.ways) > 2:
            distributed.append(_upsample(self.ways[2](refined), 2))
        return distributed, gate


class FRSBN(SimpleBaseline):
    """SimpleBaseline with Decoders 4 and 5, GCBs and SA-MFCD (Sec. 3, Fig. 1).

    Shape: images (N, 3, H, W), H and W multiples of 32 -> heatmaps (N, K, H, W); in training `{"heatmaps": ...}`.

    Switched in Table 1. All four off, this is SimpleBaseline, name for name:
        full_resolution: Decoders 4 and 5 (Sec. 3.1). Without them heatmaps are (N, K, H/4, W/4).
        gcb: global context blocks after Res-stages 1 to 4 and Decoders 1 to 3 (Sec. 3.2).
        skip: plain connections from Res-stages 3, 2, 1 to Decoders 1, 2, 3.
        sa_mfcd: SA-MFCD in place of `skip` (Sec. 3.3).
    Open in the paper:
        fused_width: channels of the map that SA-MFCD collects.
        gcb_ratio: how many times narrower a GCB is inside.
        distribution, gate: see `SAMFCD`.
    Size: encoder, width and depths, see `SimpleBaseline`.
        decoder_widths: channels of the five decoders. Without `full_resolution` the first three are used.
    Looks: `stage1` to `stage4` (N, C, h, w), the Res-stages after their GCB; `stage1_sah` ... and `decoder1_sah` ...
    (N, 1, h, w), the spatial attention heatmaps; `stage1_attention` ..., their softmax over positions;
    `sa_mfcd_gate` (N, 1, H/4, W/4).

    Raises:
        ValueError: an option is none of its choices, `decoder_widths` are too few, or switches exclude each other.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        encoder: str = "resnet34",
        width: Count = 64,
        depths: Sequence[Count] | None = None,
        decoder_widths: Sequence[Count] = (256, 256, 256, 128, 32),
        full_resolution: bool = True,
        gcb: bool = True,
        skip: bool = False,
        sa_mfcd: bool = True,
        fused_width: Count = 384,
        gcb_ratio: Count = 4,
        distribution: Distribution = "reduced",
        gate: Gate = "relu",
    ):
        if sa_mfcd and (skip or not gcb):
            raise ValueError("SA-MFCD replaces `skip` and reads the GCBs: set gcb=True, skip=False or sa_mfcd=False")
        if len(decoder_widths) != 5 and (full_resolution or len(decoder_widths) != 3):
            needed = "five" if full_resolution else "three or five"
            raise ValueError(f"decoder_widths {decoder_widths} must be {needed} with full_resolution={full_resolution}")
        decoder_widths = decoder_widths if full_resolution else decoder_widths[:3]
        super().__init__(num_keypoints, encoder, width, depths, decoder_widths)
        stage_widths = self.stage_widths
        self.stage_gcbs = nn.ModuleList(GlobalContextBlock(c, gcb_ratio) for c in stage_widths if gcb)
        self.decoder_gcbs = nn.ModuleList(GlobalContextBlock(c, gcb_ratio) for c in decoder_widths[:3] if gcb)
        self.skip, self.sa_mfcd = skip, None
        side_widths = {}  # channels that decoders receive from the side, by number
        if skip:
            side_widths = dict(enumerate(stage_widths[2::-1], start=1))
        if sa_mfcd:
            self.sa_mfcd = SAMFCD(stage_widths[:3], fused_width, decoder_widths[1:4], distribution, gate)
            side_widths = dict(enumerate(self.sa_mfcd.out_widths, start=2))
        own = dict(enumerate(decoder_widths, start=1))
        self.fusions = nn.ModuleDict(
            {f"decoder{i}": ConvNormAct(own[i] + side, own[i], 3) for i, side in side_widths.items()}
        )

    def features(self, images: Tensor, looks: dict[str, Tensor] | None = None) -> Tensor:
        """The input of the heatmap layer, the output of the last decoder, (N, C, H, W). Fills `looks`, if given."""
        stages, sahs = self.encode_with_context(images)
        seen = {f"stage{i}": stage for i, stage in enumerate(stages, start=1)}
        side = {}  # what decoders receive from the side, by number
        if self.sa_mfcd:
            distributed, seen["sa_mfcd_gate"] = self.sa_mfcd(stages[:3], list(sahs.values())[:3])
            side = dict(enumerate(distributed, start=2))
        elif self.skip:
            side = dict(enumerate(stages[2::-1], start=1))
        x = stages[-1]
        for i, decoder in enumerate(self.decoders(), start=1):
            x = decoder(x)
            if i in side:
                x = self.fusions[f"decoder{i}"](torch.cat([x, side[i]], dim=1))
            if i <= len(self.decoder_gcbs):
                x, sahs[f"decoder{i}"] = self.decoder_gcbs[i - 1](x)
        if looks is not None:
            looks |= seen
            for place, sah in sahs.items():
                looks[f"{place}_sah"] = sah
                looks[f"{place}_attention"] = sah.flatten(1).softmax(dim=1).view_as(sah)
        return x

    def encode_with_context(self, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The Res-stages at strides 4 to 32, each after its GCB, which the next stage reads; and the SAHs by name."""
        x = self.stem(images)
        stages, sahs = [], {}
        for i, stage in enumerate(self.stages()):
            x = stage(x)
            if self.stage_gcbs:
                x, sahs[f"stage{i + 1}"] = self.stage_gcbs[i](x)
            stages.append(x)
        return stages, sahs


def _upsample(x: Tensor, factor: int) -> Tensor:
    return x if factor == 1 else F.interpolate(x, scale_factor=float(factor), mode="bilinear")


def _collect(maps: Sequence[Tensor]) -> Tensor:
    """Concatenates maps, of which each has half the resolution of the one before it, at the resolution of the first."""
    return torch.cat([_upsample(x, 2**i) for i, x in enumerate(maps)], dim=1)
