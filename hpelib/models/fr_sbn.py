"""FR-SBN: SimpleBaseline at full output resolution, with global context and gated multi-scale features.

J. Ou, M. Chen, H. Wu, "Full-Resolution Encoder-Decoder Networks with Multi-Scale Feature Fusion for Human Pose
Estimation", ACM Multimedia Asia 2020 (https://doi.org/10.1145/3444685.3446282), Sec. 3 and Fig. 1.

Differs from the paper in: what it leaves open is fitted to its size (docs/ledger_fr_sbn.md): the width 384 of the fused
map, the 1x1 convolution before Decoder 4, GCB ratio 1; heatmap layer and starts are SimpleBaseline's.

In (N, 3, H, W), H and W multiples of 32; out (N, K, H, W), stride 1 (4 without `full_resolution`).
ResNet-34, K = 17: 32.0 M parameters, 21.3 G MACs at 256x192 (paper: 33 M, 21.3 G).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from torch import Tensor, nn

from hpelib.layers.choices import require_choice
from hpelib.layers.global_context import GlobalContextBlock
from hpelib.models.simple_baseline import SimpleBaseline

Gate = Literal["relu", "sigmoid"]
GATES = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}
Distribution = Literal["reduced", "plain", "convolved"]
SKIP_TO = ("decoder1", "decoder2", "decoder3")
SA_MFCD_TO = ("decoder2", "decoder3", "decoder4")


class SAMFCD(nn.Module):
    """Spatial-attention-based multi-scale feature collection and distribution (Sec. 3.3, Fig. 1(c)).

    Collects the features of Res-stages 1-3 at the finest of their resolutions, gates them with the fused spatial
    attention heatmaps, and hands them to Decoders 2-4 at half, equal and double resolution.

    `distribution`: "plain" only resizes; "reduced" brings what Decoder 4 takes to its width before upsampling, by a 1x1
    convolution; "convolved" has a 3x3 convolution to the decoder's width on each way, where the resolution is lower.

    Shape: features (N, widths[i], h/2^i, w/2^i) and SAHs (N, 1, h/2^i, w/2^i), i = 0, 1, 2 ->
    (N, out_widths[0], h/2, w/2), (N, out_widths[1], h, w), (N, out_widths[2], 2h, 2w), and the gate (N, 1, h, w);
    one for each of `decoder_widths`, two or three.
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
        require_choice("distribution", distribution, ("reduced", "plain", "convolved"))
        self.collect = ConvNormAct(sum(widths), fused_width, 3)
        self.gate = ConvNormAct(len(widths), 1, 3, act_layer=GATES[gate])
        nn.init.ones_(self.gate.bn.bias)  # starts open: a ReLU gate around zero would pass half of the positions
        kernels = {"plain": (0, 0, 0), "reduced": (0, 0, 1), "convolved": (3, 3, 3)}[distribution]
        ways = list(zip(decoder_widths, kernels[: len(decoder_widths)], strict=True))
        self.out_widths = [width if kernel else fused_width for width, kernel in ways]
        self.ways = nn.ModuleList(
            ConvNormAct(fused_width, width, kernel) if kernel else nn.Identity() for width, kernel in ways
        )

    def forward(self, features: Sequence[Tensor], heatmaps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        gate = self.gate(_collect(heatmaps))
        refined = self.collect(_collect(features)) * gate
        distributed = [self.ways[0](_resize(refined, 0.5)), self.ways[1](refined)]
        if len(self.ways) > 2:
            distributed.append(_resize(self.ways[2](refined), 2.0))
        return distributed, gate


class FRSBN(SimpleBaseline):
    """Heatmaps (N, K, H, W) in eval mode, `{"heatmaps": ...}` in training.

    Switched in Table 1: `full_resolution`, Decoders 4 and 5 (Sec. 3.1); `gcb`, global context blocks after Res-stages
    1-4 and Decoders 1-3 (Sec. 3.2); `skip`, plain connections from Res-stages 3, 2, 1 to Decoders 1, 2, 3; `sa_mfcd`,
    SA-MFCD in their place (Sec. 3.3). All four off, this is SimpleBaseline, name for name.

    Open in the paper: `fused_width`, `gcb_ratio`, and SA-MFCD's `distribution` and `gate`. `width`, `depths` (as in
    `SimpleBaseline`) and `decoder_widths` make quick variants; without `full_resolution` the first three of these are
    used. Raises ValueError for other than five `decoder_widths` (three will do without `full_resolution`), and for
    switches that exclude each other.

    Looks: `stage1` to `stage4` (N, C, h, w), the outputs of the Res-stages, each after its GCB; `stage1_sah` to
    `stage4_sah` and `decoder1_sah` to `decoder3_sah` (N, 1, h, w), the GCBs' spatial attention
    heatmaps; `..._attention`, their softmax over positions; `sa_mfcd_gate` (N, 1, H/4, W/4).
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        encoder: str = "resnet34",
        width: int = 64,
        depths: Sequence[int] | None = None,
        decoder_widths: Sequence[int] = (256, 256, 256, 128, 32),
        full_resolution: bool = True,
        gcb: bool = True,
        skip: bool = False,
        sa_mfcd: bool = True,
        fused_width: int = 384,
        gcb_ratio: int = 1,
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
        stage_widths = [info["num_chs"] for info in self.feature_info[1:]]
        self.stage_gcbs = nn.ModuleList(GlobalContextBlock(c, gcb_ratio) for c in stage_widths if gcb)
        self.decoder_gcbs = nn.ModuleList(GlobalContextBlock(c, gcb_ratio) for c in decoder_widths[:3] if gcb)
        self.skip, self.sa_mfcd = skip, None
        side_widths = dict(zip(SKIP_TO, stage_widths[2::-1], strict=True)) if skip else {}
        if sa_mfcd:
            self.sa_mfcd = SAMFCD(stage_widths[:3], fused_width, decoder_widths[1:4], distribution, gate)
            side_widths = _by_decoder(self.sa_mfcd.out_widths)
        self.fusions = nn.ModuleDict(
            {
                f"decoder{i}": ConvNormAct(own + side_widths[f"decoder{i}"], own, 3)
                for i, own in enumerate(decoder_widths, start=1)
                if f"decoder{i}" in side_widths
            }
        )

    def features(self, images: Tensor, looks: dict[str, Tensor] | None = None) -> Tensor:
        """What the head sees, the output of the last decoder, (N, C, H, W); fills `looks`."""
        stages, sahs = self.encode_with_context(images)
        seen = {f"stage{i}": stage for i, stage in enumerate(stages, start=1)}
        side = {}  # side inputs by decoder
        if self.sa_mfcd:
            distributed, gate = self.sa_mfcd(stages[:3], list(sahs.values())[:3])
            seen["sa_mfcd_gate"] = gate
            side = _by_decoder(distributed)
        elif self.skip:
            side = dict(zip(SKIP_TO, stages[2::-1], strict=True))
        x = stages[-1]
        for i, decoder in enumerate(self.decoders()):
            place = f"decoder{i + 1}"
            x = decoder(x)
            if place in self.fusions:
                x = self.fusions[place](torch.cat([x, side[place]], dim=1))
            if i < len(self.decoder_gcbs):
                x, sahs[place] = self.decoder_gcbs[i](x)
        if looks is not None:
            looks |= seen
            for place, sah in sahs.items():
                looks[f"{place}_sah"] = sah
                looks[f"{place}_attention"] = sah.flatten(1).softmax(dim=1).view_as(sah)
        return x

    def encode_with_context(self, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The Res-stages' outputs at strides 4 to 32, each after its GCB, which the next stage reads; and the SAHs."""
        x = self.stem(images)
        stages, sahs = [], {}
        for i, stage in enumerate(self.stages()):
            x = stage(x)
            if self.stage_gcbs:
                x, sahs[f"stage{i + 1}"] = self.stage_gcbs[i](x)
            stages.append(x)
        return stages, sahs


def _by_decoder(sides: Sequence) -> dict:
    """What SA-MFCD has for its decoders, of which there are two without full resolution."""
    return dict(zip(SA_MFCD_TO[: len(sides)], sides, strict=True))


def _resize(x: Tensor, scale: float) -> Tensor:
    """Bilinear; the exact half of it is a mean of four."""
    if scale == 0.5:
        return F.avg_pool2d(x, 2)
    return x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear")


def _collect(maps: Sequence[Tensor]) -> Tensor:
    """Maps of halving resolution brought to that of the first, along the channel axis."""
    return torch.cat([_resize(x, 2.0**i) for i, x in enumerate(maps)], dim=1)
