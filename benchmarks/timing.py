"""Times with their spread: every case once per round, so that what slows the machine down slows all of them."""

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

Case = Callable[[], object]
UNITS = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"))


@dataclass(frozen=True)
class Comparison:
    """Seconds per item of the library and of an alternative, one entry per round (R,); or why there are none."""

    what: str
    alternative: str
    ours_s: np.ndarray
    theirs_s: np.ndarray
    not_run: str = ""

    def row(self) -> dict[str, str]:
        """Ratio first: how many times as fast as the alternative the library is, round by round."""
        if self.not_run:
            ratio, theirs = f"not run: {self.not_run}", ""
        else:
            ratio, theirs = spread(self.theirs_s / self.ours_s), spread_of_seconds(self.theirs_s)
        return {
            "what": self.what,
            "against": self.alternative,
            "times as fast": ratio,
            "hpelib": spread_of_seconds(self.ours_s),
            "the other": theirs,
        }


def interleave(cases: Mapping[str, Case], rounds: int) -> dict[str, np.ndarray]:
    """Seconds (rounds,) of each case. A first round, in which caches fill and algorithms are chosen, does not count."""
    seconds = {name: np.empty(rounds) for name in cases}
    for i in range(-1, rounds):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            if i >= 0:
                seconds[name][i] = time.perf_counter() - start
    return seconds


def compare(what: str, ours: Case, others: Mapping[str, Case | str], items: int, rounds: int) -> list[Comparison]:
    """`ours`, which does `items` items, against each of `others`; one that is a text says why it is not run."""
    cases = {name: case for name, case in others.items() if callable(case)}
    seconds = {name: times / items for name, times in interleave({"": ours} | cases, rounds).items()}
    return [
        Comparison(what, name, seconds[""], seconds.get(name, np.array([])), "" if name in cases else str(case))
        for name, case in others.items()
    ]


def table(comparisons: list[Comparison]) -> str:
    """The comparisons as Markdown."""
    return pd.DataFrame([comparison.row() for comparison in comparisons]).to_markdown(index=False)


def wide_table(comparisons: list[Comparison]) -> str:
    """One row for all comparisons of the same thing, a column of ratios for each alternative."""
    rows = {}
    for comparison in comparisons:
        cells, own = comparison.row(), rows.setdefault(comparison.what, {})
        own[f"times as fast as {comparison.alternative}"] = cells["times as fast"]
        own["hpelib"] = cells["hpelib"]
    wide = pd.DataFrame.from_dict(rows, orient="index")
    wide.insert(len(wide.columns) - 1, "hpelib", wide.pop("hpelib"))
    return wide.to_markdown()


def spread(values: np.ndarray, unit: str = "") -> str:
    """Median and, in brackets, quartiles."""
    low, median, high = np.percentile(values, (25, 50, 75))
    return f"{median:.3g}{unit} ({low:.3g} to {high:.3g})"


def spread_of_seconds(seconds: np.ndarray) -> str:
    """As `spread`, in the unit that suits the median."""
    scale, unit = next((u for u in UNITS if np.median(seconds) >= u[0]), UNITS[-1])
    return spread(seconds / scale, f" {unit}")


def apart(function: Callable, *arguments):
    """What `function(*arguments)` returns in a process of its own, whose peak memory is then that of the call alone."""
    with ProcessPoolExecutor(1, get_context("spawn"), cv2.setNumThreads, (0,)) as pool:
        return pool.submit(function, *arguments).result()


def cost(function: Callable, *arguments) -> tuple[float, float]:
    """Seconds of `function(*arguments)`, and the MB by which it raised this process's peak memory: call it `apart`."""
    before, start = peak_memory_mb(), time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start, peak_memory_mb() - before


def peak_memory_mb() -> float:
    """Of this process since it started, Python and PyTorch included."""
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says on Linux includes the parent's peak
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes on macOS, kilobytes elsewhere


def machine() -> str:
    """What is measured on, in one sentence."""
    names = ("numpy", "opencv-python-headless", "timm", "pycocotools")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    gpu = f"; {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else ""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) a process{gpu}; "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, {versions}"
    )


def _processor() -> str:
    """The processor's name as Linux gives it, elsewhere what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
