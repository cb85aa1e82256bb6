"""Try a profile's recipes: two steps of training and a test, at full size, on mannequins in the formats of its sets.

    python -m hpelib.study.tools.dry_run paper coco mpii

says before a download of 20 GB and days of training whether they would run, how long and in how much memory.
"""

import argparse
import contextlib
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpelib.data.files import write_json
from hpelib.mannequins.scenes import SPLITS, read_recipe
from hpelib.mannequins.writing import write_mannequins
from hpelib.study.config import Run, load_params, make_run, profile_params
from hpelib.study.evaluation import save
from hpelib.study.steps.evaluate import evaluate, test_people
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import build_network, train, training_people

STEPS = 2


def dry_run(run: Run) -> dict:
    """Prepare, train and test `run` for real, in the current directory; times and memory of it.

    Keys: dataset, network, batch_size, s_per_step, s_per_test_box and memory_gb, which is the peak on the GPU, or else
    of this process since its start.
    """
    dataset = run.dataset
    dataset.manifest.parent.mkdir(parents=True, exist_ok=True)
    write_json(dataset.manifest, prepare(dataset))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    people = training_people(run)
    people = people.take(slice((STEPS + 1) * run.inputs.batch_size))
    network, starts = build_network(run, people), []
    network.register_forward_pre_hook(lambda module, _: starts.append(_now()) if module.training else None)
    train(run, network, people)
    start = _now()
    save(evaluate([run]), run.evaluation)
    test_s, memory_gb = _now() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if torch.cuda.is_available():
        memory_gb = torch.cuda.max_memory_allocated() / 2**30
    detections = dataset.form.read_detections(dataset, "test")
    return {
        "dataset": dataset.name,
        "network": run.network,
        "batch_size": run.inputs.batch_size,
        "s_per_step": np.diff(starts)[-1],  # the first warms up
        "s_per_test_box": test_s / (len(test_people(run)) + (0 if detections is None else len(detections))),
        "memory_gb": memory_gb,
    }


def project(found: dict, run: Run) -> dict:
    """`found` with the projected hours of `run`'s training and minutes of its test on the real set."""
    form = run.dataset.form
    trained, tested = form.public_persons_to_train(run.dataset.splits["train"]), form.public_persons[1]
    steps = run.recipe.epochs * (trained // found["batch_size"])
    return found | {
        "epochs": run.recipe.epochs,
        "train_hours": steps * found["s_per_step"] / 3600,
        "test_minutes": tested * found["s_per_test_box"] / 60,
    }


def write_stand_in(folder: Path, persons: int) -> None:
    """Render at least `persons` mannequins for each split and format, in pictures as large as those of real sets."""
    recipe = read_recipe(Path("data/mannequins.yaml")) | {"image": {"width": [640, 640], "height": [480, 480]}}
    counts = dict.fromkeys(SPLITS, 2 * persons)  # those in LSP's format have no joint outside the picture: about half
    write_mannequins(folder / "mannequins/plain", recipe, counts, seed=0, processes=os.cpu_count() or 1)


def smaller(params: dict, run: Run, batch_size: int) -> Run:
    """`run` as this machine can try it: without downloads, and on the CPU where there is no GPU.

    Its pictures are the mannequins in the format of its dataset, below the current directory.

    Raises:
        ValueError: mannequins are not drawn in that format.
    """
    asked = ("mannequins", run.dataset.format)
    drawn = [files for files in params["sets"].values() if (files["source"], files["format"]) == asked]
    if not drawn:
        raise ValueError(f"no mannequins are drawn in the format {run.dataset.format} of {run.dataset.name}")
    files = drawn[0]
    workers = min(run.inputs.workers, os.cpu_count() or 1)
    device = run.recipe.device if torch.cuda.is_available() else "cpu"
    return replace(
        run,
        pretrained=False,
        dataset=replace(run.dataset, root=Path(files["root"].format(work=".")), splits=files["splits"]),
        inputs=replace(run.inputs, batch_size=batch_size, workers=workers),
        recipe=replace(run.recipe, device=device, epochs=1, milestones=(), warmup_steps=0, processes=1),
    )


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m hpelib.study.tools.dry_run", description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="of params.yaml, for instance paper")
    parser.add_argument("datasets", nargs="+", help="of the profile, such as coco")
    parser.add_argument("--networks", nargs="+", help="of the profile; all where left out")
    parser.add_argument("--batch-size", type=int, help="in place of the recipe's, for a smaller machine")
    given = parser.parse_args()
    if given.batch_size is not None and given.batch_size < 1:
        parser.error(f"--batch-size must be at least 1, got {given.batch_size}")
    params = load_params() | {"profile": given.profile}
    networks = given.networks or profile_params(params)["networks"]
    planned = [make_run(params, network, name, 0) for name in given.datasets for network in networks]
    sizes = [given.batch_size or run.inputs.batch_size for run in planned]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_stand_in(Path(folder), (STEPS + 1) * max(sizes))
        with contextlib.chdir(folder):
            for run, batch_size in zip(planned, sizes, strict=True):
                rows.append(project(dry_run(smaller(params, run, batch_size)), run))
                print(pd.DataFrame(rows).to_string(index=False, float_format="%.3g"), flush=True)
