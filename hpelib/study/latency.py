"""What the study's networks cost on this machine, measured: apart from reports/, whose bytes must repeat elsewhere."""

import platform
import resource
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from hpelib.models import create_model
from hpelib.skeletons import COCO17
from hpelib.study.config import load_params, make_run

PAGE = Path("work/latency.md")
BATCH_SIZES = (1, 32)
REPEATS = 10


def measure_cost(networks: dict[str, tuple[str, dict]], input_size: tuple[int, int], device: str) -> pd.DataFrame:
    """One row per network and batch size: columns network, batch, latency_ms and memory_mb.

    `networks` maps a name to model and options for `create_model`; `input_size` is (width, height) px. Latency is the
    median of `REPEATS` forward passes of the whole batch in eval mode, without flip test. Memory is the peak of
    what PyTorch allocates on a GPU, or on a CPU of the whole process, Python and PyTorch included: each case has a
    process of its own, as a peak never falls.
    """
    rows = []
    for network, (model, options) in networks.items():
        for batch in BATCH_SIZES:
            with get_context("spawn").Pool(1) as pool:
                latency_ms, memory_mb = pool.apply(_measure, (model, options, batch, input_size, device))
            rows.append({"network": network, "batch": batch, "latency_ms": latency_ms, "memory_mb": memory_mb})
    return pd.DataFrame(rows)


def page(costs: pd.DataFrame, input_size: tuple[int, int], device: str) -> str:
    """`measure_cost` as Markdown, with the machine and the versions that it holds for."""
    table = costs.pivot(index="network", columns="batch", values=["latency_ms", "memory_mb"]).loc[
        costs["network"].unique()
    ]
    names = {"latency_ms": "latency (ms)", "memory_mb": "peak memory (MB)"}
    table.columns = [f"{names[figure]}, batch {batch}" for figure, batch in table.columns]
    return (
        f"# Measured cost\n\nRandom weights, input {input_size[0]}x{input_size[1]} px (width x height), no flip test, "
        f"median of {REPEATS} passes of the whole batch. {machine(device)}\n\n{table.round(1).to_markdown()}\n"
    )


def machine(device: str) -> str:
    """What was measured on, in one sentence."""
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    if torch.device(device).type == "cuda":
        return f"Measured on {torch.cuda.get_device_name(device)}; {versions}, CUDA {torch.version.cuda}."
    return f"Measured on {_processor()}, {torch.get_num_threads()} thread(s); {versions}."


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
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, kilobytes on Linux


def _processor() -> str:
    """The processor's name as Linux gives it, elsewhere what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    params = load_params()
    runs = [make_run(params, network, params["datasets"][0], params["seeds"][0]) for network in params["networks"]]
    size, where = runs[0].inputs.input_size, runs[0].recipe.device
    measured = measure_cost({run.network: (run.model, run.options) for run in runs}, size, where)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(measured, size, where))
    print(PAGE.read_text())
