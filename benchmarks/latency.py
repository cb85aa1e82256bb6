"""What a profile's networks cost on this machine at test: latency and memory of a forward pass."""

import time

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.timing import apart, peak_memory_mb
from hpelib.models import create_model
from hpelib.skeletons import COCO17

BATCH_SIZES = (1, 32)
REPEATS = 10


def measure(networks: dict[str, tuple[str, dict]], input_size: tuple[int, int], device: str) -> pd.DataFrame:
    """One row per network and batch size: columns network, batch, latency_ms and memory_mb.

    `networks` maps a name to model and options for `create_model`; `input_size` is (width, height) px. Latency is the
    median of `REPEATS` forward passes of the whole batch in eval mode, without flip test. Memory is the peak of
    what PyTorch allocates on a GPU, or on a CPU of the whole process, Python and PyTorch included: each case has a
    process of its own, as a peak never falls.
    """
    rows = []
    for network, (model, options) in networks.items():
        for batch in BATCH_SIZES:
            latency_ms, memory_mb = apart(_measure, model, options, batch, input_size, device)
            rows.append({"network": network, "batch": batch, "latency_ms": latency_ms, "memory_mb": memory_mb})
    return pd.DataFrame(rows)


def table(costs: pd.DataFrame) -> str:
    """`measure` as Markdown, a row per network, in their order."""
    wide = costs.pivot(index="network", columns="batch", values=["latency_ms", "memory_mb"])
    wide = wide.loc[costs["network"].unique()]
    names = {"latency_ms": "latency (ms)", "memory_mb": "peak memory (MB)"}
    wide.columns = [f"{names[figure]}, batch {batch}" for figure, batch in wide.columns]
    return wide.round(1).to_markdown()


def _measure(model: str, options: dict, batch: int, input_size: tuple[int, int], device: str) -> tuple[float, float]:
    network = create_model(model, COCO17.num_keypoints, **options).eval().to(device)
    images = torch.randn(batch, 3, *reversed(input_size), device=device)
    _timed(network, images)  # the first pass chooses algorithms
    latency_ms = 1000 * float(np.median([_timed(network, images) for _ in range(REPEATS)]))
    return latency_ms, _peak_memory_mb(images.device)


@torch.inference_mode()
def _timed(network: nn.Module, images: torch.Tensor) -> float:
    """Seconds of one forward pass."""
    start = time.perf_counter()
    network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - start


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_memory_mb()
