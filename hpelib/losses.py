"""Losses between predicted and target heatmaps.

Shapes everywhere: heatmaps and targets (N, K, H, W); weights (N, K), 0 for keypoints without a target. Losses are
computed in float32, whatever the precision of the network.

`mse`, `ohkm` and SADI-Net's learned heatmaps are scaled as in the official HRNet and SimpleBaseline code: with a factor
of 1/2 and squared weights. SADI-Net's likelihood is a plain mean over labelled keypoints. DITN's loss is a plain mean
with weights to the first power (`transfer_loss`).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hpelib.layers.choices import require_choice
from hpelib.layers.flow import residual_log_density


def joints_mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1/2 mean((w (H - G))^2) over all persons, keypoints and pixels: the official `JointsMSELoss`.

    Unlabelled keypoints add zero to the sum but count in the mean.
    """
    return _joint_losses(heatmaps, targets, weights).mean()


def ohkm(heatmaps: Tensor, targets: Tensor, weights: Tensor, hardest: int = 8) -> Tensor:
    """`joints_mse` over the `hardest` keypoints of each person only: online hard keypoint mining.

    Source: Chen et al. 2018 (Cascaded Pyramid Network), section 3.2; the official `JointsOHKMMSELoss` of HRNet.

    Raises:
        ValueError: there are fewer keypoints than `hardest`.
    """
    losses = _joint_losses(heatmaps, targets, weights)
    if hardest > losses.shape[1]:
        raise ValueError(f"cannot take the {hardest} hardest of {losses.shape[1]} keypoints")
    return losses.topk(hardest, dim=1).values.mean()


LOSSES = {"mse": joints_mse, "ohkm": ohkm}


def heatmap_loss(
    output: Mapping[str, Tensor | list[Tensor]], targets: Tensor, weights: Tensor, kind: Literal["mse", "ohkm"] = "mse"
) -> Tensor:
    """Sum of the loss over the final heatmaps of a network and, where it has some, its intermediate ones.

    `output` is what a network returns in training: "heatmaps" and perhaps the list "intermediate". All stages have the
    same weight, as in Newell et al. 2016 (Stacked Hourglass) and the official HRNet code.

    Raises:
        ValueError: `kind` is unknown, or shapes do not fit.
    """
    require_choice("kind", kind, LOSSES)
    stages = [*output.get("intermediate", ()), output["heatmaps"]]
    return sum(LOSSES[kind](heatmaps, targets, weights) for heatmaps in stages)


def _joint_losses(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    _require_fitting(heatmaps, targets, weights)
    squares = F.mse_loss(heatmaps.contiguous().float(), targets.float(), reduction="none")  # (N, K, H, W)
    return 0.5 * squares.mean(dim=(2, 3)) * weights.float().square()  # (N, K)


def _require_fitting(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> None:
    if heatmaps.shape != targets.shape or weights.shape != targets.shape[:2]:
        raise ValueError(
            f"heatmaps {tuple(heatmaps.shape)}, targets {tuple(targets.shape)} and weights {tuple(weights.shape)} "
            "do not fit: make the codec's heatmap size that of the network"
        )


def residual_log_likelihood(output: Mapping[str, Tensor | str], keypoints: Tensor, weights: Tensor) -> Tensor:
    """Mean of -log P(keypoint) over the labelled keypoints, in nats: SADI-Net, Eq. 4, after Li et al. 2021 (RLE).

    `output` has "mu", "sigma", "log_flow" and "base_density" of SADI-Net. `keypoints` (N, K, 2) are in crop px and may
    be NaN where weights are 0.
    """
    mu = output["mu"].float()
    labelled = weights > 0
    points = torch.where(labelled[..., None], keypoints, mu.detach())
    sigma, table = output["sigma"].float(), output["log_flow"].float()
    log_density = residual_log_density(*points.unbind(-1), mu, sigma, table, output["base_density"])
    return -(log_density * labelled).sum() / labelled.sum().clamp(min=1)


def distribution_loss(
    output: Mapping[str, Tensor | list[Tensor] | str],
    targets: Tensor,
    weights: Tensor,
    keypoints: Tensor,
    dlm_weight: float = 0.01,
    likelihood_weight: float = 0.0001,
    learned_target_weight: float = 0.0,
    warmup_batches: int = 5000,
) -> Tensor:
    """Heatmap loss + lambda * loss of the learned heatmaps + eta * residual log-likelihood: SADI-Net, Sec. III-E.

    lambda is `dlm_weight` (its value is lost from our text of the paper), eta is `likelihood_weight`. At their
    defaults, the hourglass of the full-size network gets, at the start, as large a gradient from both as from the
    heatmaps. Eqs. 6-8 have no likelihood. Without it the learned heatmaps shrink to nothing: a peak that misses its
    target has no gradient.

    With a `learned_target_weight`, the learned heatmaps are also targets of the final ones, after `warmup_batches` of
    training. This is the paper's "new supervised heatmap" (Sec. I). They get no gradient from it.

    Raises:
        ValueError: the network learns no distribution, or shapes do not fit.
    """
    if "dlm_heatmaps" not in output:
        raise ValueError(
            f"the distribution loss needs learned heatmaps, but the network gives {', '.join(output)} only: train a "
            "SADI-Net with dlm=True, or choose the loss mse"
        )
    learned = joints_mse(output["dlm_heatmaps"], targets, weights)
    likelihood = residual_log_likelihood(output, keypoints, weights)
    loss = heatmap_loss(output, targets, weights) + dlm_weight * learned + likelihood_weight * likelihood
    if learned_target_weight:
        weight = learned_target_weight * (output["updates"] > warmup_batches)  # 0 during the warmup
        loss = loss + weight * joints_mse(output["heatmaps"], output["dlm_heatmaps"].detach(), weights)
    return loss


def transfer_loss(
    output: Mapping[str, Tensor | list[Tensor]],
    targets: Tensor,
    weights: Tensor,
    keypoints: Tensor,
    stride: tuple[float, float] = (4.0, 4.0),
    sigma: float = 2.0,
    bone_weight: float = 0.1,
    joint_loss: str = "focal_l2",
    bone_loss: str = "smooth_l1",
) -> Tensor:
    """Loss of the joints + lambda * loss of the bones: DITN, Eqs. 6-10; lambda is `bone_weight` (Table 7).

    Each part is a mean over all pixels, with weights to the first power. A bone counts where both of its joints have a
    target. A network without "bones" (DITN without `multi_task`) is judged by its joints alone.

    `keypoints` (N, K, 2) in crop px; `stride` in crop px per heatmap px, for x and y; `sigma` of the bones in heatmap
    px. `output` has DITN's "bones" (N, B, H, W) and "bone_joints" (B, 2). `joint_loss` and `bone_loss` are names of
    `PIXEL_LOSSES`; Table 6 compares some. `joint_loss="mse"` is twice `joints_mse` for weights of 0 and 1.

    Raises:
        ValueError: a loss is unknown, shapes do not fit, or there are heatmaps of several stacks.
    """
    require_choice("joint_loss", joint_loss, PIXEL_LOSSES)
    require_choice("bone_loss", bone_loss, PIXEL_LOSSES)
    if output.get("intermediate"):
        raise ValueError(
            "the transfer loss judges one stack of heatmaps, but the network has more (`intermediate`), which would "
            "stay untrained: choose the loss mse or ohkm, or stacks=1"
        )
    _require_fitting(output["heatmaps"], targets, weights)
    loss = _mean_of_weighted(PIXEL_LOSSES[joint_loss](output["heatmaps"].float(), targets.float()), weights)
    if "bones" not in output:
        return loss
    first, second = output["bone_joints"].T
    places = keypoints / keypoints.new_tensor(stride)  # heatmap px
    drawn = bone_heatmaps(places, output["bone_joints"], targets.shape[-2:], sigma)
    pixels = PIXEL_LOSSES[bone_loss](output["bones"].float(), drawn)
    return loss + bone_weight * _mean_of_weighted(pixels, weights[:, first] * weights[:, second])


def focal_l2(
    heatmaps: Tensor, targets: Tensor, gamma: float = 2.0, threshold: float = 0.01, as_printed: bool = False
) -> Tensor:
    """(H - G)^2 |1 - S|^gamma for each pixel: S is H on the foreground (G >= `threshold`) and 1 - H elsewhere.

    This is DITN's Eq. 6 in the form of the work that it follows (Li et al. 2020, "Simple Pose"): a pixel that is
    nearly right counts little. Eq. 7 `as_printed` has the factor G on the foreground and 1 - H elsewhere, with which
    easy background keeps its full weight.
    """
    foreground = targets >= threshold
    if as_printed:
        factor = torch.where(foreground, targets, 1 - heatmaps)
    else:
        factor = torch.where(foreground, 1 - heatmaps, heatmaps)
    return (heatmaps - targets).square() * factor.abs().pow(gamma)


def bone_heatmaps(keypoints: Tensor, bones: Tensor, size: Sequence[int], sigma: float) -> Tensor:
    """exp(-d^2 / (2 sigma^2)) for each pixel, d its distance to the segment between the two joints of a bone.

    A bone with a missing (NaN) joint has an empty map.
    Shape: keypoints (N, K, 2) in heatmap px, bones (B, 2) indices of joints, size (H, W) -> (N, B, H, W) in [0, 1].
    """
    first, second = bones.T
    start, along = keypoints[:, first], keypoints[:, second] - keypoints[:, first]  # (N, B, 2)
    rows, columns = (torch.arange(side, device=keypoints.device) for side in size)
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # (H, W, 2), x first
    offset = pixels - start[:, :, None, None]  # (N, B, H, W, 2)
    along = along[:, :, None, None]
    share = (offset * along).sum(-1) / along.square().sum(-1).clamp(min=1e-6)  # of the way from start to end
    distance = offset - share.clamp(0, 1)[..., None] * along
    return (-distance.square().sum(-1) / (2 * sigma**2)).exp().nan_to_num(0.0)


def _mean_of_weighted(pixels: Tensor, weights: Tensor) -> Tensor:
    return (pixels * weights[:, :, None, None]).mean()


PIXEL_LOSSES = {
    "focal_l2": focal_l2,
    "focal_l2_as_printed": partial(focal_l2, as_printed=True),
    "mse": lambda heatmaps, targets: (heatmaps - targets).square(),
    "smooth_l1": lambda heatmaps, targets: F.smooth_l1_loss(heatmaps, targets, reduction="none"),
}
