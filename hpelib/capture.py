"""What a network attends to, by the names of its paper."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def capture(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Everything that `model` shows of itself on `images` (N, 3, H, W), and its `heatmaps` (N, K, h, w).

    The docstring of each network lists its names and shapes. The model runs in eval mode, as at test time; its mode is
    restored, and its outputs are those of a run without looking.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        heatmaps, looks = model(images, look=True)
    finally:
        for module, training in modes.items():
            module.training = training
    return {"heatmaps": heatmaps, **looks}
