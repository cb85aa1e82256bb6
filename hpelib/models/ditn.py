"""DITN: bones learned beside the joints, and their features turned into kernels that refine the joints.

Li, Shi, Song, Yang, "Human Pose Estimation via Dynamic Information Transfer", Electronics 12, 695, 2023, section 3.

Differs in: of two readings of the text the one that Table 8's sizes bear out (docs/ledger_ditn.md); what gives
heatmaps starts near zero: the last layers of the decoders at N(0, 0.001) or, behind them, SAB's first norm at 0.1, and
without SAB the transfer's convolution at N(0, 0.001) and CAB's first norm at 0.1.

In (N, 3, H, W), H and W multiples of 32 and at least 64; out (N, K, H/4, W/4).
Parameters with HRNet-W32: 16 keypoints 28,584,575, 17 keypoints 28,585,833 (paper 28.6 M). GFLOPs as the HRNet tool
counts, at 256x192: 7.26 (paper 7.26).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hpelib.layers.adaptive_conv import ParameterAdapter, adaptive_convolution
from hpelib.layers.attention import ChannelAttention, SpatialAttention
from hpelib.layers.choices import require_choice
from hpelib.models.hrnet import HRNet, Looks
from hpelib.models.simple_baseline import SimpleBaseline, heatmap_head
from hpelib.skeletons import COCO17, LSP14, MPII16

BACKBONES = {"hrnet": HRNet, "resnet50": SimpleBaseline}
Bones = Sequence[tuple[int, int]]


class DITN(nn.Module):
    """Heatmaps (N, K, H/4, W/4) in eval mode; in training `{"heatmaps": ..., "bones": ..., "bone_joints": ...}`, bones
    (N, B, H/4, W/4) and the indices (B, 2) of their joints.

    `bones` are pairs of joints, by default those of the skeleton with that many keypoints: MPII (15, as in the paper),
    COCO (19) or LSP. `backbone` is "hrnet" or, for Tables 6 and 7, "resnet50" with SimpleBaseline's deconvolutions;
    `backbone_options` are those of its class, by default HRNet-W32.

    Ablations (Table 5): `multi_task`, the two decoders in place of the backbone's own head, without which this is the
    backbone; `ditm`, the transfer; `cab` and `sab`, its attention blocks. Open in the paper: `merge` of a joint's
    groups by their "mean" or "sum", and `heatmap_relu`, whether SAB rectifies the final heatmaps (nothing does without
    it).

    Looks: the backbone's, `bones`, and from the transfer `kernels` (N, 2B, h, w), `cab` (N, 2B, 1, 1) and `sab`
    (N, K, H/4, W/4). Channels 2b and 2b + 1 belong to the first and second joint of bone b.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        bones: Bones | None = None,
        backbone: Literal["hrnet", "resnet50"] = "hrnet",
        backbone_options: Mapping | None = None,
        multi_task: bool = True,
        ditm: bool = True,
        cab: bool = True,
        sab: bool = True,
        merge: Literal["mean", "sum"] = "mean",
        heatmap_relu: bool = True,
    ):
        super().__init__()
        require_choice("backbone", backbone, BACKBONES)
        self.backbone = BACKBONES[backbone](num_keypoints, **(backbone_options or {}))
        self.multi_task = multi_task
        self.ditm = None
        if not multi_task:
            return
        bones = _bones(num_keypoints) if bones is None else bones
        width = self.backbone.final_layer.in_channels
        self.backbone.final_layer = None  # section 3.1: its head is discarded
        self.joint_decoder = Decoder(width, num_keypoints, gives_heatmaps=not ditm)
        self.bone_decoder = Decoder(width, len(bones), gives_heatmaps=True)
        self.register_buffer("bone_joints", torch.tensor(bones), persistent=False)
        if ditm:
            self.ditm = DynamicInformationTransfer(num_keypoints, bones, cab, sab, merge, heatmap_relu)

    def forward(self, images: Tensor, look: bool = False):
        if not self.multi_task:
            return self.backbone(images, look)
        looks = {} if look else None
        f = self.backbone.features(images, looks)  # (N, C, H/4, W/4)
        heatmaps, bones = self.joint_decoder(f), self.bone_decoder(f)
        if self.ditm is not None:
            heatmaps = self.ditm(heatmaps, bones, looks)
        if look:
            looks["bones"] = bones
        output = {"heatmaps": heatmaps, "bones": bones, "bone_joints": self.bone_joints} if self.training else heatmaps
        return (output, looks) if look else output


class Decoder(nn.Module):
    """Features of joints or bones, (N, C, H, W) -> (N, out_channels, H, W): section 3.2, Fig. 3, Table 8 rows 2, 3."""

    def __init__(self, channels: int, out_channels: int, gives_heatmaps: bool):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, kernel_size=1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.last = heatmap_head(channels, out_channels) if gives_heatmaps else nn.Conv2d(channels, out_channels, 1)

    def forward(self, f: Tensor) -> Tensor:
        return self.last(f + self.residual(f))


class DynamicInformationTransfer(nn.Module):
    """DITM, from joint features F_J (N, K, H, W) and bone features F_B (N, B, H, W) to heatmaps (N, K, H, W).

    A group is a bone with its two joints (Eq. 1). The bone's features become kernels that are applied to the features
    of the two joints (Eq. 2), the result is weighed and added to them (Eq. 3).

    Differs in: without SAB what Eq. 3 adds are the heatmaps; K_1 then starts at N(0, 0.001) and CAB's first norm at
    0.1, or they would start near a deviation of one and stay there.
    """

    def __init__(self, num_keypoints: int, bones: Bones, cab: bool, sab: bool, merge: str, heatmap_relu: bool):
        super().__init__()
        require_choice("merge", merge, ("mean", "sum"))
        if any(not 0 <= joint < num_keypoints for bone in bones for joint in bone):
            raise ValueError(f"bones {bones} name joints beyond the {num_keypoints} keypoints")
        members = [joint for bone in bones for joint in bone]  # of each of the 2B channels
        shares = [max(1, members.count(joint)) if merge == "mean" else 1 for joint in range(num_keypoints)]
        self.register_buffer("members", torch.tensor(members), persistent=False)
        self.register_buffer("shares", torch.tensor(shares)[:, None, None], persistent=False)
        self.k1 = nn.Conv2d(num_keypoints, num_keypoints, kernel_size=1, bias=False)
        self.parameter_adapter = ParameterAdapter(len(bones))
        self.cab = ChannelAttention(len(bones), start_scale=1.0 if sab else 0.1) if cab else None
        self.sab = SpatialAttention(num_keypoints, heatmap_relu) if sab else None
        if not sab:
            nn.init.normal_(self.k1.weight, std=0.001)

    def forward(self, joint_features: Tensor, bone_features: Tensor, looks: Looks | None = None) -> Tensor:
        Q = self.k1(joint_features)
        kernels = self.parameter_adapter(bone_features.repeat_interleave(2, dim=1))  # theta, (N, 2B, h, w)
        groups = adaptive_convolution(Q.index_select(1, self.members), kernels)  # Eq. 2, (N, 2B, H, W)
        seen = {"kernels": kernels}
        if self.cab is not None:
            groups, seen["cab"] = self.cab(groups)
        refined = (
            Q + torch.zeros_like(Q).index_add(1, self.members, groups.to(Q.dtype)) / self.shares
        )  # Eq. 3, per joint
        heatmaps = refined
        if self.sab is not None:
            heatmaps, seen["sab"] = self.sab(refined)
        if looks is not None:
            looks |= seen
        return heatmaps


def _bones(num_keypoints: int) -> Bones:
    for skeleton in (COCO17, MPII16, LSP14):
        if skeleton.num_keypoints == num_keypoints:
            return skeleton.bones
    raise ValueError(f"no skeleton has {num_keypoints} keypoints; give its `bones` as pairs of joints")
