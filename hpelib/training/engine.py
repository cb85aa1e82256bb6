"""What a recipe means in torch: the optimizer, and the precision that a network computes in on this machine."""

import torch
from torch import nn, optim

from hpelib.training.recipe import Recipe


def make_optimizer(recipe: Recipe, model: nn.Module) -> optim.Optimizer:
    """The recipe's optimizer for all weights of `model`."""
    kind = {"adam": optim.Adam, "adamw": optim.AdamW}[recipe.optimizer]
    return kind(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)


def precision_here(precision: str, device: str) -> str:
    """What one of `PRECISIONS` means for convolutions and products on this machine's `device`: "fp32" or "bf16"."""
    if precision != "auto":
        return precision
    if device == "cpu":
        has_units = torch.cpu.get_capabilities().get("amx_bf16", False)  # elsewhere bf16 is slower than fp32
    else:
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_units else "fp32"


def autocast(precision: str, device: str) -> torch.autocast:
    """The context in which a network computes in one of `PRECISIONS`."""
    enabled = precision_here(precision, device) == "bf16"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)
