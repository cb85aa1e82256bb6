"""Losses between predicted and target heatmaps, normalised as in the official HRNet and SimpleBaseline code.

Shapes throughout: heatmaps and targets (N, K, H, W), weights (N, K), 0 for keypoints without a target. Whatever the
precision of the network, losses are computed in float32.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor


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
