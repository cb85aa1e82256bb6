"""DITN: learns bones beside the joints, and turns the features of each bone into kernels that refine its two joints.

Li, Shi, Song, Yang, "Human Pose Estimation via Dynamic Information Transfer", Electronics 12, 695, 2023, section 3.

What the paper leaves open: where text and Table 8 contradict each other, we build what has the parameters and FLOPs
that Table 8 prints. notebooks/networks/ditn.ipynb lists every such choice.

Differs from the paper: layers whose output is heatmaps start near zero; otherwise short trainings do not learn. These
are the last layers of the decoders (N(0, 0.001)) and the first norm of SAB (scale 0.1). Without SAB they are the
transfer's convolution (N(0, 0.001)) and the first norm of CAB (scale 0.1).

Parameters with HRNet-W32: 16 keypoints 28,584,575, 17 keypoints 28,585,833 (paper 28.6 M).
GFLOPs as the HRNet tool counts, at 256x192: 7.26 (paper 7.26).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpelib.layers.choices import require_choice, require_options
from hpelib.layers.heatmap_head import heatmap_head
from hpelib.models.hrnet import HRNet, Looks
from hpelib.models.simple_baseline import SimpleBaseline
from hpelib.skeletons import COCO17, LSP14, MPII16

BACKBONES = {"hrnet": HRNet, "resnet50": SimpleBaseline}
Bones = Sequence[tuple[int, int]]


class Decoder(nn.Module):
    """Features of joints or bones (section 3.2, Fig. 3, Table 8 rows 2 and 3).

    y = ReLU(BN(conv3x3(ReLU(BN(conv1x1(f))))))
    F = conv1x1(f + y)
    Shape: (N, channels, H, W) -> (N, out_channels, H, W).
    """

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


class ParameterAdapter(nn.Sequential):
    """Makes a kernel for each channel of a group, from the group's two channels (section 3.3, Fig. 6a, Table 8 row 4).

    Three 3x3 convolutions within each group, the first of stride 2, with max-pooling between them; no bias, norm or
    activation. The same chain stands in the public code of "Mutual Learning to Adapt" (Nie et al., ECCV 2018). What
    remains of the map is the kernel. If one of its sides is even, the last row or column is cut off.

    Kernels are 1x1 for maps of up to 24x24 (inputs of up to 96 px): they scale a channel and move nothing. They are 3x3
    for maps of 32x32 (inputs of 128 px), and 7x7 for 64x64.
    Shape: (N, 2 groups, H, W) -> (N, 2 groups, h, w). 64x48 gives 7x5.

    Raises:
        ValueError: the maps are smaller than 9x9.
    """

    def __init__(self, groups: int):
        conv = partial(nn.Conv2d, 2 * groups, 2 * groups, kernel_size=3, groups=groups, bias=False)
        super().__init__(conv(stride=2), nn.MaxPool2d(2), conv(padding=1), nn.MaxPool2d(2), conv(padding=1))

    def forward(self, features: Tensor) -> Tensor:
        H, W = features.shape[-2:]
        if min(H, W) < 9:
            raise ValueError(f"the parameter adapter got {W}x{H} maps; it needs 9x9 at least, of 64x64 px images")
        kernels = super().forward(features)
        h, w = (side - (side + 1) % 2 for side in kernels.shape[-2:])
        return kernels[..., :h, :w]


def adaptive_convolution(features: Tensor, kernels: Tensor) -> Tensor:
    """Correlates every channel of every sample with its own kernel (Eq. 2). Beyond the border there are zeros.

    Shape: features (N, C, H, W), kernels (N, C, h, w) with h and w odd -> (N, C, H, W).
    """
    N, C, H, W = features.shape
    h, w = kernels.shape[-2:]
    if h == w == 1:
        return features * kernels  # equal to the convolution and many times faster
    channels, kernels = features.reshape(1, N * C, H, W), kernels.reshape(N * C, 1, h, w)
    return F.conv2d(channels, kernels, padding=(h // 2, w // 2), groups=N * C).reshape(N, C, H, W)


class AttentionBlock(nn.Module):
    """What CAB and SAB have in common: g = refine(x), a = weigh(g); returns (1 + a) g, and a to look at."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g = self.refine(x)
        a = self.weigh(g)
        return (1 + a) * g, a


class ChannelAttention(AttentionBlock):
    """CAB (section 3.4, Eq. 4, Fig. 6b): weighs each channel, in groups of two channels that do not see each other.

    g = ReLU(BN(conv3x3(x)))
    a = sigmoid(ReLU(BN(conv1x1(mean(g)))))
    y = (1 + a) g

    The ReLU before the sigmoid stands in Table 8 but not in Eqs. 4 and 5. It keeps a at 1/2 or above. In training the
    second norm sees one value per sample, so a batch needs two samples. The first norm starts at scale `start_scale`.
    Shape: (N, 2 groups, H, W) -> y of that shape, a (N, 2 groups, 1, 1) in [1/2, 1).
    """

    def __init__(self, groups: int, start_scale: float = 1.0):
        super().__init__()
        channels = 2 * groups
        self.refine = _conv_bn_relu(channels, kernel_size=3, groups=groups)
        nn.init.constant_(self.refine[1].weight, start_scale)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), _conv_bn_relu(channels, kernel_size=1, groups=groups), nn.Sigmoid()
        )


class SpatialAttention(AttentionBlock):
    """SAB (section 3.4, Eq. 5, Fig. 6c): weighs each position of each channel.

    g = ReLU(BN(conv3x3(x)))
    a = sigmoid(ReLU(BN(dwconv9x9(ReLU(BN(conv1x1(g)))))))
    y = (1 + a) g

    With `relu=False` g is not rectified. y are DITN's heatmaps, so the first norm starts at scale 0.1: with the usual 1
    they would start ten times too large.
    Shape: (N, C, H, W) -> y and a of that shape, a in [1/2, 1).
    """

    def __init__(self, channels: int, relu: bool = True):
        super().__init__()
        self.refine = _conv_bn_relu(channels, kernel_size=3)[: 3 if relu else 2]
        nn.init.constant_(self.refine[1].weight, 0.1)
        self.weigh = nn.Sequential(
            _conv_bn_relu(channels, kernel_size=1),
            _conv_bn_relu(channels, kernel_size=9, groups=channels),
            nn.Sigmoid(),
        )


class DynamicInformationTransfer(nn.Module):
    """DITM (section 3.3): joint features F_J (N, K, H, W) and bone features F_B (N, B, H, W) to heatmaps (N, K, H, W).

    A group is a bone with its two joints (Eq. 1). The bone's features become kernels, which are applied to the features
    of the two joints (Eq. 2). The result is weighed by CAB and added to the joints (Eq. 3), which SAB then refines.

    Without SAB the sum of Eq. 3 is the output. K_1 then starts at N(0, 0.001) and the first norm of CAB at scale 0.1,
    because heatmaps would otherwise start with a deviation of about one.
    """

    def __init__(self, num_keypoints: int, bones: Bones, cab: bool, sab: bool, merge: str, heatmap_relu: bool):
        super().__init__()
        require_choice("merge", merge, ("mean", "sum"))
        if any(not 0 <= joint < num_keypoints for bone in bones for joint in bone):
            raise ValueError(f"bones {bones} name joints beyond the {num_keypoints} keypoints")
        members = [joint for bone in bones for joint in bone]  # the joint of each of the 2B channels
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
        received = torch.zeros_like(Q).index_add(1, self.members, groups.to(Q.dtype))  # per joint
        heatmaps = Q + received / self.shares  # Eq. 3
        if self.sab is not None:
            heatmaps, seen["sab"] = self.sab(heatmaps)
        if looks is not None:
            looks |= seen
        return heatmaps


class DITN(nn.Module):
    """Backbone, a decoder for joints, one for bones, and the transfer from bones to joints (Fig. 2).

    Shape: images (N, 3, H, W), H and W multiples of 32, 64 at least -> heatmaps (N, K, H/4, W/4); in training
    `{"heatmaps": ..., "bones": ..., "bone_joints": ...}`, bones (N, B, H/4, W/4) and the indices (B, 2) of their
    joints.

    Options:
        bones: pairs of joints. By default those of the skeleton with that many keypoints: MPII (15, as in the paper),
            COCO (19) or LSP.
        backbone: "hrnet", or "resnet50" with SimpleBaseline's deconvolutions (Tables 6 and 7).
        backbone_options: options of the backbone's class; by default those of HRNet-W32.
    Switched in Table 5:
        multi_task: the two decoders, which replace the backbone's own heatmap layer. Without it this is the backbone.
        ditm: the transfer.
        cab, sab: the channel and the spatial attention block in the transfer.
    Open in the paper:
        merge: a joint receives the "mean" or the "sum" over its bones.
        heatmap_relu: SAB rectifies the final heatmaps. Without SAB nothing does.
    Looks: those of the backbone, `bones`, and from the transfer `kernels` (N, 2B, h, w), `cab` (N, 2B, 1, 1) and `sab`
    (N, K, H/4, W/4). Channels 2b and 2b + 1 belong to the first and second joint of bone b.

    Raises:
        ValueError: an option is none of its choices; a bone names a joint that does not exist; or no skeleton has that
            many keypoints and `bones` are not given.
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
        options = backbone_options or {}
        require_options(f"backbone_options of {backbone}", BACKBONES[backbone], options)
        self.backbone = BACKBONES[backbone](num_keypoints, **options)
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


def _conv_bn_relu(channels: int, kernel_size: int, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=groups),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def _bones(num_keypoints: int) -> Bones:
    for skeleton in (COCO17, MPII16, LSP14):
        if skeleton.num_keypoints == num_keypoints:
            return skeleton.bones
    raise ValueError(f"no skeleton has {num_keypoints} keypoints; give its `bones` as pairs of joints")
