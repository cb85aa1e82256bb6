"""What a network shows of itself: its attention, gates and features by the names of its paper."""

import torch
from torch import Tensor, nn

from hpelib.layers.modes import eval_mode


@torch.no_grad()
def capture(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Everything that `model` shows of itself on `images` (N, 3, H, W), and its `heatmaps` (N, K, h, w).

    The docstring of each network lists its names and shapes; `hpelib.records.quantity` says what a name means. The
    model runs in eval mode, as at test time. Its outputs are those of a run without looking.
    """
    with eval_mode(model):
        heatmaps, looks = model(images, look=True)
    return {"heatmaps": heatmaps, **looks}
