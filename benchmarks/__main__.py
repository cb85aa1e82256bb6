"""All benchmarks of the CPU to `reports/benchmarks.md`, and those of a GPU where there is one: `make bench`."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import cv2
import pandas as pd
import torch

from benchmarks import codec, evaluation, gpu, input_pipeline, latency, networks, scaling, study
from benchmarks.mmpose_client import MMPose, environment
from benchmarks.photographs import Photographs, in_folder, mannequins
from benchmarks.timing import machine, table, wide_table
from hpelib.study.config import Run, load_params, make_run
from hpelib.training.recipe import Recipe

PAGE = Path("reports/benchmarks.md")
INTRODUCTION = """# Benchmarks

{machine}. Made by `make bench` in {minutes:.0f} minutes.

Each entry is the median of several rounds and, in brackets, the quartiles. What is compared takes turns, so that a
machine that is busy with something else slows both. *Times as fast* is the ratio within a round: above 1, hpelib is
the faster one.
"""
Section = tuple[str, str, str]  # title, what is measured, table


def against_others(runs: list[Run], sets: list[Photographs], mmpose: MMPose | str) -> Iterator[Section]:
    yield (
        "Input pipeline",
        "Time per person on one thread, from the picture's file to a crop of 256x192 and MSRA targets, under the "
        "augmentation of HRNet. Both end with bytes, but for the rows that say so. hpelib decodes an image once, in "
        "the first epoch.",
        table([comparison for pictures in sets for comparison in input_pipeline.measure(pictures, mmpose)]),
    )
    yield "Targets and decoding", "Time per person on one thread, 48x64 heatmaps.", table(codec.measure(mmpose))
    best = networks.way_of(Recipe(epochs=1, learning_rate=1e-3, precision="auto"))
    yield (
        "Trunks",
        f"Time per image of {networks.INPUT_SIZE[0]}x{networks.INPUT_SIZE[1]} px on one thread, {best}, batch "
        f"{networks.BATCH_SIZE}, up to the features that a head would see.",
        table(networks.trunks(best)),
    )
    yield (
        "Training step of the study's networks",
        f"Time per person on one thread, profile {runs[0].profile}, as the recipe has it against other ways.",
        wide_table(networks.study_networks(runs)),
    )
    yield (
        "Evaluation",
        "Time from predicted persons to COCO's figures: rescoring, OKS-NMS, writing and reading results, AP.",
        table(evaluation.measure()),
    )


def of_the_study() -> Iterator[Section]:
    yield "The study", *study.last_run()
    yield (
        "The beginning of a stage",
        "Until a notebook has run that does nothing but import what training needs.",
        table(study.beginnings()),
    )


def against_size(runs: list[Run], pictures: Photographs) -> Iterator[Section]:
    run = runs[0]
    input_size = run.inputs.input_size
    models = {run.network: (run.model, run.options) for run in runs}
    yield (
        "Inference of the study's networks",
        f"The whole batch, {input_size[0]}x{input_size[1]} px, without flip test, fp32. "
        "On a CPU, memory is that of the process.",
        latency.table(latency.measure(models, input_size, run.recipe.device)),
    )
    yield (
        "Size of the data",
        "Annotations in COCO's format: read and checked, and one epoch drawn.",
        _plain(scaling.over_persons()),
    )
    yield (
        "Size of the input",
        "On one thread, fp32, HRNet-W32 in batches of four.",
        _plain(scaling.over_input_sizes(pictures)),
    )
    yield (
        "Size of the batch",
        f"{run.network} of profile {run.profile}, on one thread, fp32.",
        _plain(scaling.over_batch_sizes(run.model, run.options, input_size)),
    )
    yield "Workers", "Input pipeline as above, later epochs, normalised.", _plain(scaling.over_workers(pictures))
    yield (
        "Processes",
        f"Later epochs of training {run.network} of profile {run.profile}, batch {run.inputs.batch_size} and one "
        "thread in each process, gradients averaged at every step, a checkpoint after every epoch.",
        _plain(scaling.over_processes(pictures, run)),
    )


def on_gpu() -> Iterator[Section]:
    if torch.cuda.is_available():
        yield "GPU", f"Training steps, batches of {gpu.BATCH_SIZE}, bf16.", _plain(gpu.measure())


def _plain(costs: pd.DataFrame) -> str:
    return costs.map(_cell).to_markdown(index=False)


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _start_mmpose(stack: ExitStack) -> MMPose | str:
    """MMPose, or why it cannot be had here."""
    try:
        return stack.enter_context(MMPose(environment()))
    except RuntimeError as error:
        return str(error)


def main() -> None:
    cv2.setNumThreads(0)
    params, start = load_params(), time.perf_counter()
    runs = [make_run(params, network, params["datasets"][0], params["seeds"][0]) for network in params["networks"]]
    sets = [mannequins()]
    if folder := os.environ.get("PHOTOGRAPHS"):
        sets.append(in_folder(Path(folder), Path(folder).name))
    parts = []
    with ExitStack() as stack:
        mmpose = _start_mmpose(stack)
        for title, text, costs in chain(
            against_others(runs, sets, mmpose), of_the_study(), against_size(runs, sets[0]), on_gpu()
        ):
            parts.append(f"## {title}\n\n{text}\n\n{costs}\n")
            print(parts[-1], flush=True)
    minutes = (time.perf_counter() - start) / 60
    PAGE.write_text("\n".join([INTRODUCTION.format(machine=machine(), minutes=minutes), *parts]))


if __name__ == "__main__":
    main()
