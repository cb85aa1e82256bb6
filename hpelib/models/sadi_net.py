"""SADI-Net: an hourglass of dilated residual blocks that, while it trains, also learns the shape of its heatmaps.

S. Gao, J. Zhu, X. Zhuang, Z. Wang, Q. Li, "Spatial Attention-based Distribution Integration Network for Human Pose
Estimation", 2023 (https://arxiv.org/abs/2311.05323), Sec. III and Fig. 2.

Differs from the paper: the loss also has the likelihood of Eq. 4 (`hpelib.losses.distribution_loss`). Without it the
learned heatmaps shrink to nothing.

What the paper leaves open: our text of it has lost its equations, and it prints no size. Widths are the numbers that
are left in Sec. III-C. The hourglass is MMPose's, whose accuracy is the paper's baseline.
notebooks/networks/sadi_net.ipynb lists every choice.

K = 16: 62.5 M parameters and 10.0 G MACs at 256x256 when it predicts, 75.3 M parameters when it trains.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct, SqueezeExcite
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from hpelib.layers.choices import Count, require_choice
from hpelib.layers.flow import BASE_DENSITIES, BaseDensity, RealNVP, flow_density, residual_log_density
from hpelib.layers.sizes import require_multiple
from hpelib.models.hourglass import Hourglass, Looks, Stacks

SE_RATIO = 16
SE_MIN_WIDTH = 4  # that of the paper's narrowest block; SE with fewer hidden channels, of a quick network, dies easily


class ExcitationWeights(SqueezeExcite):
    """The weights (N, C, 1, 1) of timm's squeeze and excitation, not yet multiplied with the features."""

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.fc2(self.act(self.fc1(x.mean(dim=(2, 3), keepdim=True)))))


class DilatedResidualBlock(nn.Module):
    """The block of the receptive fortified module (RFM, Sec. III-B, Fig. 3, Eq. 1).

    p = BN(conv3x3(ReLU(BN(conv3x3(x)))))
    q = BN(dilated conv3x3(x))
    y = ReLU(SE(p + q) + shortcut(x))

    SE is squeeze and excitation with C/16 hidden channels. The shortcut is the identity, or a 1x1 convolution and norm
    where the shape changes. With `fortified=False` there is no q and no SE: ResNet's basic block.
    Shape: (N, in, H, W) -> (N, out, H / stride, W / stride). Appends the weights of SE, (N, out, 1, 1) in (0, 1), to
    `looks`, if given.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, fortified: bool = True, dilation: int = 2):
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, 3, stride)
        self.conv2 = ConvNormAct(out_channels, out_channels, 3, apply_act=False)
        self.fortified = fortified
        if fortified:
            self.dilated = ConvNormAct(in_channels, out_channels, 3, stride, dilation=dilation, apply_act=False)
            self.se = ExcitationWeights(out_channels, rd_channels=max(out_channels // SE_RATIO, SE_MIN_WIDTH))
        unchanged = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity() if unchanged else ConvNormAct(in_channels, out_channels, 1, stride, apply_act=False)
        )

    def forward(self, x: Tensor, looks: Looks = None) -> Tensor:
        y = self.conv2(self.conv1(x))  # p
        if self.fortified:
            y = y + self.dilated(x)  # p + q
            weights = self.se(y)
            y = y * weights
            if looks is not None:
                looks.append(weights)
        return (y + self.shortcut(x)).relu()


class GlobalAttention(nn.Module):
    """Global attention of SFM (Sec. III-C, Eqs. 2 and 3): the scales compete at every position.

    u_i = bilinear(ReLU(BN(conv1x1(f_i)))), all at the finest scale
    A = softmax over i of conv1x1(u_i)
    z = sum_i A_i u_i, then brought to every scale by convolutions of stride 2
    Shape: features [(N, in_widths[i], h/2^i, w/2^i), ...] -> [(N, width, h/2^i, w/2^i), ...] and A (N, scales, h, w).
    """

    def __init__(self, in_widths: Sequence[int], width: int):
        super().__init__()
        self.project = nn.ModuleList(ConvNormAct(channels, width, 1) for channels in in_widths)
        self.score = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in in_widths)
        self.keep = ConvNormAct(width, width, 3)
        self.reduce = nn.ModuleList(ConvNormAct(width, width, 3, stride=2) for _ in in_widths[1:])

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        size = features[0].shape[-2:]
        unified = [
            F.interpolate(project(x), size, mode="bilinear") for project, x in zip(self.project, features, strict=True)
        ]  # scales x (N, width, h, w)
        scores = [score(u) for score, u in zip(self.score, unified, strict=True)]
        weights = torch.cat(scores, dim=1).softmax(dim=1)  # (N, scales, h, w)
        fused = sum(u * weights[:, i : i + 1] for i, u in enumerate(unified))  # (N, width, h, w)
        resized = [self.keep(fused)]
        for reduce in self.reduce:
            fused = reduce(fused)
            resized.append(fused)
        return resized, weights


class LocalAttention(nn.Module):
    """Local attention of SFM (Sec. III-C): y = ReLU(BN(h w x)), w the softmax of x down each column of each channel.

    h is the height of the map, so that the mean of h w is 1.
    Shape: (N, C, h, w) -> y and w of that shape.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = x.softmax(dim=2)
        return self.norm(x.shape[2] * weights * x).relu(), weights


class SpatialFusionModule(nn.Module):
    """SFM (Sec. III-C, Fig. 5): global attention, then HRNet's classification head, from several scales to one vector.

    The head widens every scale. It carries the finest one down to the coarsest: at each scale it adds that scale and
    applies local attention.
    Shape: features [(N, in_widths[i], h/2^i, w/2^i), ...] -> (N, vector_width), and the weights of both attentions by
    name.
    """

    def __init__(self, in_widths: Sequence[int], width: int, head_widths: Sequence[int], vector_width: int):
        super().__init__()
        self.global_attention = GlobalAttention(in_widths, width)
        self.widen = nn.ModuleList(
            Bottleneck(
                width,
                channels // Bottleneck.expansion,
                downsample=None if channels == width else ConvNormAct(width, channels, 1, apply_act=False),
            )
            for channels in head_widths
        )
        self.down = nn.ModuleList(ConvNormAct(*pair, 3, stride=2) for pair in pairwise(head_widths))
        self.local_attention = nn.ModuleList(LocalAttention(channels) for channels in head_widths[1:])
        self.last = ConvNormAct(head_widths[-1], vector_width, 1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        scales, weights = self.global_attention(features)
        looks = {"sfm_global": weights}
        y, *coarser = (widen(x) for widen, x in zip(self.widen, scales, strict=True))
        for i, (down, attend, x) in enumerate(zip(self.down, self.local_attention, coarser, strict=True), start=1):
            y, looks[f"sfm_local{i}"] = attend(down(y) + x)
        return self.last(y).mean(dim=(2, 3)), looks


class DistributionLearningModule(nn.Module):
    """DLM (Sec. III-D, Eqs. 4 and 5): a vector to the mean and deviation of each joint, and to its learned heatmap.

    H(x) = exp(log P(x) - max log P) over the cells x of the heatmap, log P as in `residual_log_density`

    Cell i of n lies at i * crop / n px, as in the codecs `msra` and `dark`. The codec `udp` has its cells elsewhere, so
    it does not go with this module. All joints share one flow, which is evaluated on a table. Everything is computed in
    float32, also under autocast.
    Shape: (N, in_width) -> a dict: "dlm_heatmaps" (N, K, h, w) with maximum 1; "mu" and "sigma" (N, K, 2) in crop px;
    "log_flow", the table of the flow (rows, columns); "base_density", its name, which the likelihood needs; "updates",
    how many batches it has trained on, a number.

    Both linear layers start like a heatmap layer, at N(0, 0.001) with biases of 0. From PyTorch's larger start, the
    gradient of the likelihood is many times that of the heatmaps in the network before.
    """

    def __init__(self, in_width: int, num_keypoints: int, base_density: BaseDensity, flow_width: int = 64):
        super().__init__()
        require_choice("base_density", base_density, BASE_DENSITIES)
        self.mean = nn.Linear(in_width, 2 * num_keypoints)
        self.deviation = nn.Linear(in_width, 2 * num_keypoints)
        for linear in (self.mean, self.deviation):
            nn.init.normal_(linear.weight, std=0.001)
            nn.init.zeros_(linear.bias)
        self.flow = RealNVP(hidden=flow_width)
        self.base_density = base_density
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))  # as batch norms count

    def forward(self, vector: Tensor, crop_size: tuple[int, int], heatmap_size: tuple[int, int]) -> dict[str, Tensor]:
        """Sizes are (width, height) in px."""
        with torch.autocast("cuda" if vector.is_cuda else "cpu", enabled=False):
            vector = vector.float()
            crop_px = vector.new_tensor(crop_size)
            mu = (self.mean(vector).unflatten(1, (-1, 2)) + 0.5) * crop_px  # (N, K, 2)
            sigma = self.deviation(vector).unflatten(1, (-1, 2)).sigmoid() * crop_px  # (N, K, 2)
            table = self.flow.tabulate()
            x, y = (
                torch.arange(cells, device=vector.device) * (crop / cells)
                for cells, crop in zip(heatmap_size, crop_size, strict=True)
            )
            log_density = residual_log_density(
                x, y[:, None], mu[:, :, None, None], sigma[:, :, None, None], table, self.base_density
            )  # (N, K, h, w)
            heatmaps = (log_density - log_density.amax(dim=(2, 3), keepdim=True)).exp()
        if self.training:
            self.num_batches_tracked += 1
        learned = {"dlm_heatmaps": heatmaps, "mu": mu, "sigma": sigma, "log_flow": table}
        return learned | {"base_density": self.base_density, "updates": self.num_batches_tracked}


class SADINet(Stacks):
    """Hourglass of RFM blocks with SFM and DLM (Sec. III, Fig. 2). SFM and DLM only run in training and for looks.

    Shape: images (N, 3, H, W), H and W multiples of 32 (with n levels, of 4 * 2^(n - 1)) -> heatmaps of the last stack
    (N, K, H/4, W/4); in training `{"heatmaps": ..., "intermediate": [...]}`, the heatmaps of earlier stacks, and what
    the DLM returns.

    Switched in Tables III and IV. All off, this is an hourglass of basic blocks:
        rfm: fortified blocks in place of ResNet's basic blocks (Sec. III-B).
        sfm, dlm: spatial fusion (Sec. III-C) and distribution learning (Sec. III-D), which the paper switches together.
            With `sfm=False` alone, a variant of ours, the DLM reads the mean of the deepest features. With `dlm=False`
            there is no SFM either.
        detached: SFM and DLM learn, but send no gradient into the hourglass, a control of ours: its
            predictions are those of the network without them.
    Open in the paper:
        stacks: how many hourglasses.
        widths, blocks: channels and blocks of each level of an hourglass, the finest first.
        stem_width, dilation: channels of the stem, dilation of the RFM blocks.
        sfm_width, head_widths, vector_width: channels of SFM's global attention, of the scales in its head, and of the
            vector that it returns. SFM reads as many of the finest levels as there are `head_widths`.
        flow_width, base_density: width of the flow's hidden layers; "gaussian" or "laplace" (`residual_log_density`).
    Looks: `stack1` ... (N, K, h, w), the heatmaps of each stack; `rfm1_se` ... (N, C, 1, 1), the SE weights of the
    blocks in the order in which they run, that of the stem first; `sfm_global` (N, scales, h, w); `sfm_local1` ...
    (N, C, h, w); `dlm_mu` and `dlm_sigma` (N, K, 2) in crop px; `dlm_heatmaps` (N, K, h, w); `dlm_density`
    (N, 1, 65, 65), the flow's density G over 6 deviations to each side, the same for all persons and joints.

    Raises:
        ValueError: an option is none of its choices, or SFM has more `head_widths` than there are `widths`.
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        rfm: bool = True,
        sfm: bool = True,
        dlm: bool = True,
        detached: bool = False,
        stacks: Count = 1,
        widths: Sequence[Count] = (64, 128, 256, 512),
        blocks: Sequence[Count] = (2, 2, 2, 4),
        stem_width: Count = 128,
        sfm_width: Count = 256,
        head_widths: Sequence[Count] = (128, 256, 512, 1024),
        vector_width: Count = 2048,
        flow_width: Count = 64,
        base_density: BaseDensity = "gaussian",
        dilation: Count = 2,
    ):
        scales, width = len(head_widths), widths[0]
        if dlm and sfm and scales > len(widths):
            raise ValueError(f"head_widths {head_widths} names {scales} levels, but there are {len(widths)} widths")
        block = partial(DilatedResidualBlock, fortified=rfm, dilation=dilation)
        stem = nn.Sequential(ConvNormAct(3, stem_width, 7, stride=2), block(stem_width, width, stride=2))
        hourglass = partial(Hourglass, widths, blocks, block, pool=False)
        super().__init__(num_keypoints, stem, stacks, width, hourglass, partial(ConvNormAct, width, width, 3))
        self.detached = detached
        self.multiple = 4 * 2 ** (len(widths) - 1)
        self.joins = nn.ModuleList(block(width, width) for _ in range(stacks - 1))
        self.sfm = SpatialFusionModule(widths[:scales], sfm_width, head_widths, vector_width) if dlm and sfm else None
        dlm_width = vector_width if sfm else widths[-1]
        self.dlm = DistributionLearningModule(dlm_width, num_keypoints, base_density, flow_width) if dlm else None

    def join(self, i: int, x: Tensor, looks: Looks) -> Tensor:
        return self.joins[i](x, looks)

    def forward(self, images: Tensor, look: bool = False):
        require_multiple(images, self.multiple)
        gates = [] if look else None
        convolution, block = self.stem
        stacks, scales = self.run(block(convolution(images), gates), gates)
        output = {"heatmaps": stacks[-1], "intermediate": stacks[:-1]} if self.training else stacks[-1]
        looks = {f"stack{i}": heatmaps for i, heatmaps in enumerate(stacks, start=1)}
        looks |= {f"rfm{i}_se": weights for i, weights in enumerate(gates or [], start=1)}
        if self.dlm and (self.training or look):
            if self.detached:
                scales = [x.detach() for x in scales]
            vector, weights = scales[-1].mean(dim=(2, 3)), {}
            if self.sfm:
                vector, weights = self.sfm(scales[: len(self.sfm.widen)])
            learned = self.dlm(vector, images.shape[:1:-1], stacks[-1].shape[:1:-1])
            looks |= weights | {f"dlm_{name}": learned[name] for name in ("mu", "sigma")}
            looks["dlm_heatmaps"] = learned["dlm_heatmaps"]
            looks["dlm_density"] = flow_density(learned["log_flow"]).expand(len(images), 1, -1, -1)
            if self.training:
                output |= learned
        return (output, looks) if look else output
