"""Costs against size: persons, input size, batch, workers and processes; each case in a process of its own."""

import tempfile
import time
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.input_pipeline import normalised_epoch
from benchmarks.networks import Way, training_step
from benchmarks.photographs import Photographs
from benchmarks.timing import apart, cost, peak_memory_mb
from hpelib.data.augment import Augmentation, draw
from hpelib.data.coco import read_coco, write_coco
from hpelib.data.loader import InputSettings, PeopleLoader, make_loader
from hpelib.models import create_model
from hpelib.skeletons import COCO17
from hpelib.study.config import Run
from hpelib.training.fit import fit
from hpelib.training.objectives import make_objective
from hpelib.training.processes import launch, make_accelerator

PERSONS = (1_000, 10_000, 150_000)  # COCO train has 149,813
PERSONS_PER_IMAGE = 3
INPUT_SIZES = ((64, 64), (96, 128), (192, 256), (288, 384))  # (width, height) px
BATCH_SIZES = (1, 8, 32, 64)
WORKERS = (0, 1, 2)
PROCESSES = (1, 2)
REPEATS = 5


def over_persons() -> pd.DataFrame:
    """Reading an annotation file, and drawing the augmentation of one epoch."""
    rows = []
    for count in PERSONS:
        with tempfile.TemporaryDirectory() as folder:
            apart(_write_index, Path(folder), count)
            read_s, read_mb = apart(cost, _read_index, Path(folder))
            rows.append({"persons": count, "file (MB)": (Path(folder) / "persons.json").stat().st_size / 2**20})
            rows[-1] |= {"reading (s)": read_s, "peak memory (MB)": read_mb}
            rows[-1] |= {"an epoch's augmentation (s)": apart(_draw_seconds, Path(folder))}
    return pd.DataFrame(rows)


def over_input_sizes(photographs: Photographs) -> pd.DataFrame:
    """An augmented crop with targets from a decoded image, and a training step of HRNet-W32 with four of them."""
    rows = []
    for size in INPUT_SIZES:
        crop_s = apart(_crop_seconds, photographs, InputSettings(input_size=size, heatmap_size=_quarter(size)))
        step_s, step_mb = apart(_step_cost, "hrnet_w32", {}, 4, size)
        rows.append({"input (px)": f"{size[0]}x{size[1]}", "crop and targets (ms)": 1000 * crop_s})
        rows[-1] |= {"training step, per image (ms)": 1000 * step_s / 4, "peak memory (MB)": step_mb}
    return pd.DataFrame(rows)


def over_batch_sizes(model: str, options: dict, input_size: tuple[int, int]) -> pd.DataFrame:
    """A training step of one network."""
    rows = []
    for batch in BATCH_SIZES:
        step_s, step_mb = apart(_step_cost, model, options, batch, input_size)
        rows.append({"batch": batch, "training step, per image (ms)": 1000 * step_s / batch})
        rows[-1] |= {"peak memory (MB)": step_mb}
    return pd.DataFrame(rows)


def over_workers(photographs: Photographs) -> pd.DataFrame:
    """Later epochs of the input pipeline, and the memory that its workers take together beside this process."""
    return pd.DataFrame(
        {"workers": workers} | apart(_workers_cost, photographs, InputSettings(workers=workers)) for workers in WORKERS
    )


def over_processes(photographs: Photographs, run: Run) -> pd.DataFrame:
    """Later epochs of a training that processes share, each of them with batches of the run's size."""
    return pd.DataFrame(
        {"processes": processes} | apart(_training_cost, photographs, run, processes) for processes in PROCESSES
    )


def _quarter(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // 4, size[1] // 4


def _write_index(folder: Path, count: int) -> None:
    """An annotation file of persons at random, and empty files where it has images."""
    random = np.random.default_rng(0)
    images = -(-count // PERSONS_PER_IMAGE)
    for i in range(images):
        (folder / f"{i}.jpg").touch()
    keypoints = random.integers(10, 470, (count, COCO17.num_keypoints, 3))
    keypoints[..., 2] = 2
    write_coco(
        folder / "persons.json",
        [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(images)],
        [
            {"id": n + 1, "image_id": n // PERSONS_PER_IMAGE, "bbox": [10, 10, 460, 460], "area": 200000.0}
            | {"keypoints": keypoints[n].ravel(), "segmentation": [keypoints[n, :, :2].ravel()]}
            for n in range(count)
        ],
    )


def _read_index(folder: Path) -> None:
    read_coco(folder / "persons.json", folder)


def _draw_seconds(folder: Path) -> float:
    people = read_coco(folder / "persons.json", folder)
    return _median_seconds(lambda: draw(people, Augmentation(), (192, 256), seed=0, epoch=0))


def _crop_seconds(photographs: Photographs, settings: InputSettings) -> float:
    loader = _loader(photographs, settings)
    return _median_seconds(lambda: normalised_epoch(loader, 0)) / (len(loader) * settings.batch_size)


def _step_cost(model: str, options: dict, batch: int, input_size: tuple[int, int]) -> tuple[float, float]:
    """Seconds, and peak memory of the process in MB."""
    network = create_model(model, COCO17.num_keypoints, **options)
    images = torch.randn(batch, 3, *reversed(input_size))
    step = training_step(
        network, lambda model, x: model(x)["heatmaps"].square().mean(), images, Way("fp32", "channels last")
    )
    return _median_seconds(step), peak_memory_mb()


def _workers_cost(photographs: Photographs, settings: InputSettings) -> dict[str, float]:
    loader = _loader(photographs, settings)
    epoch_s, memory_mb = [], []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        normalised_epoch(loader, 0)
        epoch_s.append(time.perf_counter() - start)
        memory_mb.append(sum(_own_memory_mb(child.pid) for child in active_children()))
    return {
        "persons per second": len(loader) * loader.settings.batch_size / np.median(epoch_s[1:]),
        "memory of the workers after the first epoch (MB)": memory_mb[0],
        "after the last (MB)": memory_mb[-1],
    }


def _training_cost(photographs: Photographs, run: Run, processes: int) -> dict[str, float]:
    recipe = replace(run.recipe, epochs=REPEATS + 1, milestones=(), warmup_steps=0, processes=processes)
    with tempfile.TemporaryDirectory() as folder:
        of_rank = launch(recipe, _train, photographs, replace(run, recipe=recipe), Path(folder))
    return {
        "persons per second": of_rank[0][0],
        "peak memory of a process (MB)": max(memory_mb for _, memory_mb in of_rank),
    }


def _train(photographs: Photographs, run: Run, folder: Path) -> tuple[float, float]:
    """Persons per second of all processes together, and peak memory of this one in MB."""
    torch.set_num_threads(run.threads)
    accelerator = make_accelerator(run.recipe)
    people = photographs.people()
    loader = make_loader(people, run, train=True, rank=accelerator.process_index, world_size=accelerator.num_processes)
    fitted = fit(
        create_model(run.model, people.skeleton.num_keypoints, **run.options),
        loader,
        make_objective(run.recipe.loss, loader.codec, run.recipe.loss_options),
        run.recipe,
        folder / "checkpoint.pt",
        folder / "log.json",
        validate=lambda network: {"end_s": time.perf_counter()},
    )
    epoch_s = np.median(np.diff([epoch["end_s"] for epoch in fitted]))
    return len(loader) * loader.batches.step_size / epoch_s, peak_memory_mb()


def _loader(photographs: Photographs, settings: InputSettings) -> PeopleLoader:
    people = photographs.people()
    settings = replace(settings, batch_size=min(settings.batch_size, len(people)), image_cache_mb=4000)
    return make_loader(people, settings, train=True)


def _median_seconds(case) -> float:
    """Of `REPEATS` calls after a first."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        case()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def _own_memory_mb(pid: int) -> float:
    """A process's memory, what it shares with others in equal parts; NaN where the system does not say."""
    file = Path(f"/proc/{pid}/smaps_rollup")
    if not file.is_file():
        return np.nan
    (line,) = (line for line in file.read_text().splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) / 2**10
