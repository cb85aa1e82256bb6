"""Losses between predicted and target heatmaps, normalised as in the official HRNet and SimpleBaseline code.

Shapes throughout: heatmaps and targets (N, K, H, W), weights (N, K), 0 for keypoints without a target. Whatever the
precision of the network, losses are computed in float32.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from hpelib.layers.flow import residual_log_density


def joints_mse(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Half the mean of squared, weighted differences, over all keypoints whether labelled or not.

    The official `JointsMSELoss`: weights are multiplied in before squaring, and unlabelled keypoints add zero to the
    sum but count in the mean.
    """
    return _joint_losses(heatmaps, targets, weights).mean()


def ohkm(heatmaps: Tensor, targets: Tensor, weights: Tensor, hardest: int = 8) -> Tensor:
    """`joints_mse` over the `hardest` keypoints of each person only: online hard keypoint mining.

    Chen et al. 2018 (Cascaded Pyramid Network), section 3.2; the official `JointsOHKMMSELoss` of HRNet. Raises
    ValueError if there are fewer keypoints than that.
    """
    losses = _joint_losses(heatmaps, targets, weights)
    if hardest > losses.shape[1]:
        raise ValueError(f"cannot take the {hardest} hardest of {losses.shape[1]} keypoints")
    return losses.topk(hardest, dim=1).values.mean()


LOSSES = {"mse": joints_mse, "ohkm": ohkm}


def heatmap_loss(
    output: Mapping[str, Tensor | list[Tensor]], targets: Tensor, weights: Tensor, kind: Literal["mse", "ohkm"] = "mse"
) -> Tensor:
    """Sum of a network's losses over its final and, where it has some, intermediate heatmaps.

    `output` is what a network returns in training: "heatmaps" and optionally the list "intermediate". Stages weigh
    the same, as in Newell et al. 2016 (Stacked Hourglass) and the official HRNet code.
    """
    if kind not in LOSSES:
        raise ValueError(f"unknown loss {kind!r}, choose from {', '.join(LOSSES)}")
    stages = [*output.get("intermediate", ()), output["heatmaps"]]
    return sum(LOSSES[kind](heatmaps, targets, weights) for heatmaps in stages)


def _joint_losses(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    if heatmaps.shape != targets.shape or weights.shape != targets.shape[:2]:
        raise ValueError(
            f"heatmaps {tuple(heatmaps.shape)}, targets {tuple(targets.shape)} and weights {tuple(weights.shape)} "
            "do not fit: make the codec's heatmap size that of the network"
        )
    differences = (heatmaps.float() - targets.float()) * weights.float()[:, :, None, None]  # (N, K, H, W)
    return 0.5 * differences.square().mean(dim=(2, 3))  # (N, K)


# SADI-Net: what a network with a distribution learning module is trained for


def residual_log_likelihood(
    output: Mapping[str, Tensor],
    keypoints: Tensor,
    weights: Tensor,
    base_density: Literal["gaussian", "laplace"] = "gaussian",
) -> Tensor:
    """Mean over labelled keypoints of -log P(keypoint), in nats: SADI-Net, Eq. 4, after Li et al. 2021 (RLE).

    `keypoints` (N, K, 2) in crop px may be NaN where weights are 0; `output` has SADI-Net's "mu", "sigma" and
    "log_flow". `base_density` is the network's.
    """
    mu = output["mu"].float()
    labelled = weights > 0
    points = torch.where(labelled[..., None], keypoints, mu.detach())
    log_density = residual_log_density(points, mu, output["sigma"].float(), output["log_flow"].float(), base_density)
    return -(log_density * labelled).sum() / labelled.sum().clamp(min=1)


def distribution_loss(
    output: Mapping[str, Tensor | list[Tensor]],
    targets: Tensor,
    weights: Tensor,
    keypoints: Tensor,
    dlm_weight: float = 1.0,
    likelihood_weight: float = 0.1,
    base_density: Literal["gaussian", "laplace"] = "gaussian",
) -> Tensor:
    """Heatmap loss + lambda * loss of the learned heatmaps + eta * residual log-likelihood: SADI-Net, Sec. III-E.

    lambda is `dlm_weight` (its value is lost from the paper), eta `likelihood_weight`. The paper's Eqs. 6-8 stop before
    the likelihood; without it the learned heatmaps shrink to nothing, because a peak that misses its target has no
    gradient.
    """
    learned = joints_mse(output["dlm_heatmaps"], targets, weights)
    likelihood = residual_log_likelihood(output, keypoints, weights, base_density)
    return heatmap_loss(output, targets, weights) + dlm_weight * learned + likelihood_weight * likelihood
