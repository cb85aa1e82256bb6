"""SADI-Net: an hourglass of dilated residual blocks that, while it trains, also learns the shape of its heatmaps.

S. Gao, J. Zhu, X. Zhuang, Z. Wang, Q. Li, "Spatial Attention-based Distribution Integration Network for Human Pose
Estimation", 2023 (https://arxiv.org/abs/2311.05323), Sec. III and Fig. 2.

Differs from the paper in: its loss, `hpelib.losses.distribution_loss`, adds the likelihood of Eq. 4, without which the
learned heatmaps collapse. Much else cannot be compared: the text has lost its equations and prints no size. Widths are
the numbers left in Sec. III-C, the hourglass is MMPose's, whose accuracy is the paper's baseline; the rest stands in
docs/ledger_sadi_net.md.

In (N, 3, H, W), H and W multiples of 4 * 2^(levels - 1), 32 by default; out (N, K, H/4, W/4).
K = 16: 62.5 M parameters, 10.0 G MACs at 256x256 as it predicts; 75.3 M parameters as it trains. The paper prints none.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from timm.layers import ConvNormAct
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from hpelib.layers.choices import require_choice
from hpelib.layers.dilated_residual import DilatedResidualBlock
from hpelib.layers.flow import BASE_DENSITIES, BaseDensity, RealNVP, residual_log_density
from hpelib.layers.sizes import require_multiple
from hpelib.models.hourglass import Hourglass
from hpelib.models.simple_baseline import heatmap_head


class GlobalAttention(nn.Module):
    """One map per scale, each gathered from all scales by weights that compete at every position (Sec. III-C, Eqs. 2,
    3).

    Shape: features (N, in_widths[i], h/2^i, w/2^i) -> [(N, width, h/2^i, w/2^i), ...] and the weights (N, scales, h,
    w).
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
    """ReLU(BN(h w x)), w the softmax of x down each column of each channel; h, the height, keeps the mean weight at
    one.

    Shape: (N, C, h, w) -> (N, C, h, w), w (N, C, h, w).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = x.softmax(dim=2)
        return self.norm(x.shape[2] * weights * x).relu(), weights


class SpatialFusionModule(nn.Module):
    """SFM (Sec. III-C, Fig. 5): multi-scale features to one vector, by global attention and HRNet's classification
    head.

    The head widens every scale, then carries the finest down to the coarsest, joining the scales on its way by addition
    and local attention.

    Shape: features (N, in_widths[i], h/2^i, w/2^i) -> (N, vector_width), and the weights of both attentions by name.
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
        finest, *coarser = (widen(x) for widen, x in zip(self.widen, scales, strict=True))
        y = finest
        for i, (down, attend, x) in enumerate(zip(self.down, self.local_attention, coarser, strict=True), start=1):
            y, looks[f"sfm_local{i}"] = attend(down(y) + x)
        return self.last(y).mean(dim=(2, 3)), looks


class DistributionLearningModule(nn.Module):
    """DLM (Sec. III-D, Eqs. 4, 5): from a vector each joint's mean and deviation and, with a flow, its learned heatmap.

    H(x) = exp(log P(x) - max log P) over the heatmap's cells, log P as in `residual_log_density`. Cell i of n lies at
    i * crop / n px, as in the codecs `msra` and `dark`; `udp` has other places, (crop - 1) / (n - 1) px apart. The flow
    is shared by all joints and evaluated on a table. Computed in float32, whatever the precision around it.

    Returns a dict: "dlm_heatmaps" (N, K, h, w) with maximum 1; "mu" and "sigma" (N, K, 2) in crop px; "log_flow", the
    flow's table (rows, columns); "base_density", the name of Q, which the likelihood needs.
    """

    def __init__(self, in_width: int, num_keypoints: int, base_density: BaseDensity, flow_width: int = 64):
        super().__init__()
        require_choice("base_density", base_density, BASE_DENSITIES)
        self.mean = nn.Linear(in_width, 2 * num_keypoints)
        self.deviation = nn.Linear(in_width, 2 * num_keypoints)
        self.flow = RealNVP(hidden=flow_width)
        self.base_density = base_density

    def forward(self, vector: Tensor, crop_size: tuple[int, int], heatmap_size: tuple[int, int]) -> dict[str, Tensor]:
        with torch.autocast(vector.device.type, enabled=False):
            vector = vector.float()
            crop_px = vector.new_tensor(crop_size)  # (width, height)
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
        learned = {"dlm_heatmaps": heatmaps, "mu": mu, "sigma": sigma, "log_flow": table}
        return learned | {"base_density": self.base_density}


class SADINet(nn.Module):
    """Heatmaps (N, K, H/4, W/4) of the last stack in eval mode.

    In training a dict of these ("heatmaps"), those of earlier stacks ("intermediate") and what
    `DistributionLearningModule` returns. SFM, flow and DLM run only in training, or to be looked at.

    Switched in Table III: `rfm`, receptive fortified blocks (Sec. III-B), else basic blocks. Switched in Table IV, both
    together: `sfm`, the DLM reads the spatial fusion module (Sec. III-C), and `dlm`, the distribution learning module
    (Sec. III-D), without which there is no SFM either, as nothing else reads it. Ours, in no table, is `sfm=False`
    alone: the DLM reads the mean of the deepest features. All off, this is an hourglass of basic blocks.

    Open in the paper: `stacks`, `widths` and `blocks` per level (as in `Hourglass`), `stem_width`, the RFM's
    `dilation`, `base_density`. The SFM reads the finest `len(head_widths)` levels at width `sfm_width` and returns
    `vector_width` numbers. `flow_width` is that of the flow's hidden layers. Raises ValueError where the SFM has more
    `head_widths` than there are `widths`.

    Looks: `stack1` ... (N, K, h, w), each stack's heatmaps; `rfm1_se` ... (N, C, 1, 1), the SE weights of the blocks in
    the order in which they run, the stem's first; `sfm_global` (N, scales, h, w), the weights of the scales;
    `sfm_local1` ... (N, C, h, w); `dlm_mu`, `dlm_sigma` (N, K, 2) in crop px and `dlm_heatmaps` (N, K, h, w).
    """

    def __init__(
        self,
        num_keypoints: int = 17,
        rfm: bool = True,
        sfm: bool = True,
        dlm: bool = True,
        stacks: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (2, 2, 2, 4),
        stem_width: int = 128,
        sfm_width: int = 256,
        head_widths: Sequence[int] = (128, 256, 512, 1024),
        vector_width: int = 2048,
        flow_width: int = 64,
        base_density: BaseDensity = "gaussian",
        dilation: int = 2,
    ):
        super().__init__()
        scales = len(head_widths)
        if dlm and sfm and scales > len(widths):
            raise ValueError(f"head_widths {head_widths} names {scales} levels, but there are {len(widths)} widths")
        block = partial(DilatedResidualBlock, fortified=rfm, dilation=dilation)
        width = widths[0]
        self.multiple = 4 * 2 ** (len(widths) - 1)
        self.stem = nn.Sequential(ConvNormAct(3, stem_width, 7, stride=2), block(stem_width, width, stride=2))
        self.hourglasses = nn.ModuleList(Hourglass(widths, blocks, block, pool=False) for _ in range(stacks))
        self.features = nn.ModuleList(ConvNormAct(width, width, 3) for _ in range(stacks))
        self.heads = nn.ModuleList(heatmap_head(width, num_keypoints) for _ in range(stacks))
        self.remap_features = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stacks - 1))
        self.remap_heatmaps = nn.ModuleList(nn.Conv2d(num_keypoints, width, 1) for _ in range(stacks - 1))
        self.joins = nn.ModuleList(block(width, width) for _ in range(stacks - 1))
        self.sfm = SpatialFusionModule(widths[:scales], sfm_width, head_widths, vector_width) if dlm and sfm else None
        dlm_width = vector_width if sfm else widths[-1]
        self.dlm = DistributionLearningModule(dlm_width, num_keypoints, base_density, flow_width) if dlm else None

    def forward(self, images: Tensor, look: bool = False):
        require_multiple(images, self.multiple)
        gates = [] if look else None
        convolution, block = self.stem
        x = block(convolution(images), gates)
        stacks = []
        for i, (hourglass, features, head) in enumerate(zip(self.hourglasses, self.features, self.heads, strict=True)):
            scales = hourglass(x, gates)  # finest first
            y = features(scales[0])
            stacks.append(head(y))
            if i < len(self.joins):
                x = self.joins[i](x + self.remap_features[i](y) + self.remap_heatmaps[i](stacks[i]), gates)
        output = {"heatmaps": stacks[-1], "intermediate": stacks[:-1]} if self.training else stacks[-1]
        looks = {f"stack{i}": heatmaps for i, heatmaps in enumerate(stacks, start=1)}
        looks |= {f"rfm{i}_se": weights for i, weights in enumerate(gates or [], start=1)}
        if self.dlm and (self.training or look):
            vector, weights = self.fuse(scales)
            learned = self.dlm(vector, images.shape[:1:-1], stacks[-1].shape[:1:-1])
            looks |= weights | {f"dlm_{name}": learned[name] for name in ("mu", "sigma")}
            looks["dlm_heatmaps"] = learned["dlm_heatmaps"]
            if self.training:
                output |= learned
        return (output, looks) if look else output

    def fuse(self, scales: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """What the DLM reads of an hourglass's scales, (N, C), and the SFM's attention weights by name."""
        if self.sfm is None:
            return scales[-1].mean(dim=(2, 3)), {}
        return self.sfm(scales[: len(self.sfm.widen)])
