"""What a recipe means on this machine: the optimizer, the precision, and the machine's name."""

import platform
from pathlib import Path

import torch
from torch import nn, optim

from hpelib.training.recipe import Recipe


def make_optimizer(recipe: Recipe, model: nn.Module) -> optim.Optimizer:
    """The recipe's optimizer for all weights of `model`."""
    kind = {"adam": optim.Adam, "adamw": optim.AdamW}[recipe.optimizer]
    return kind(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)


def precision_here(precision: str, device: str) -> str:
    """The precision of convolutions and products on this machine's `device`: "fp32" or "bf16".

    `precision` is one of `PRECISIONS`. Example: "auto" is "bf16" on a CPU that has instructions for it (AMX, or
    AVX512_BF16 as in AMD's Zen 4), and "fp32" on others.
    """
    if precision != "auto":
        return precision
    if device == "cpu":
        able = torch.cpu.get_capabilities()
        has_units = able.get("amx_bf16", False) or able.get("avx512_bf16", False)  # without, bf16 is slower than fp32
    else:
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if has_units else "fp32"


def autocast(precision: str, device: str) -> torch.autocast:
    """The context in which a network computes in `precision`, one of `PRECISIONS`."""
    enabled = precision_here(precision, device) == "bf16"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=enabled)


def machine_here(device: str) -> str:
    """The model of the GPU or CPU that computes on `device`, such as "Intel(R) Xeon(R) Processor @ 2.60GHz".

    Results are equal to the last bit on machines of one model only.
    """
    if device != "cpu":
        return torch.cuda.get_device_name()
    described = Path("/proc/cpuinfo")  # of Linux
    lines = described.read_text().splitlines() if described.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
