"""Every stage of a profile's recipes for two steps, on a stand-in of the real sets' layout, at full network and input.

    python -m hpelib.study.tools.dry_run paper coco mpii

says before a download of 20 GB and days of training whether they would run, how long and in how much memory.
"""

import argparse
import dataclasses
import os
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from hpelib.data.coco import write_coco
from hpelib.data.files import write_json
from hpelib.data.lsp import write_lsp
from hpelib.data.mpii import write_mpii
from hpelib.skeletons import COCO17, LSP14, MPII16
from hpelib.study.config import Dataset, Run, load_params, make_run, profile_params
from hpelib.study.evaluation import save
from hpelib.study.steps.evaluate import evaluate
from hpelib.study.steps.prepare import prepare
from hpelib.study.steps.train import build_network, train, training_people

STEPS = 2
PERSONS = {
    "coco": (149_813, 6_352 + 104_125),
    "mpii": (22_246, 2_958),
    "lsp": (1_000, 1_000),
}  # trained on, and boxes tested
LSPET_PERSONS = 10_000
IMAGE_SIZE = (640, 480)


def dry_run(run: Run) -> dict:
    """Prepare, train and evaluate `run` on a stand-in of its dataset; a record of times and memory.

    Keys: dataset, network, batch_size, s_per_step, s_per_test_box, memory_gb: the peak on the GPU, or of this process
    since its start. Works in the current directory and leaves its files there.
    """
    dataset = write_stand_in(run.dataset, (STEPS + 1) * run.inputs.batch_size)
    run = dataclasses.replace(run, dataset=dataset, recipe=dataclasses.replace(run.recipe, epochs=1, processes=1))
    dataset.manifest.parent.mkdir(parents=True, exist_ok=True)
    write_json(dataset.manifest, prepare(dataset))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    people = training_people(run)
    network, starts = build_network(run, people), []
    network.register_forward_pre_hook(lambda module, _: starts.append(_now()) if module.training else None)
    train(run, network, people)
    start = _now()
    save(evaluate([run]), run.evaluation)
    return {
        "dataset": dataset.name,
        "network": run.network,
        "batch_size": run.inputs.batch_size,
        "s_per_step": np.diff(starts)[-1],  # the first warms up
        "s_per_test_box": (_now() - start) / (len(people) * (2 if "detections" in dataset.splits["test"] else 1)),
        "memory_gb": _peak_memory_gb(),
    }


def project(found: dict, run: Run) -> dict:
    """`found` with the projected hours of `run`'s training and minutes of its test on the real set."""
    trained, tested = PERSONS[run.dataset.format]
    merged = run.dataset.splits["train"].get("merged", {}).values()
    trained += sum(PERSONS["mpii"][0] if "annotations" in files else LSPET_PERSONS for files in merged)
    steps = run.recipe.epochs * (trained // found["batch_size"])
    return found | {
        "epochs": run.recipe.epochs,
        "train_hours": steps * found["s_per_step"] / 3600,
        "test_minutes": tested * found["s_per_test_box"] / 60,
    }


def write_stand_in(dataset: Dataset, persons: int) -> Dataset:
    """Files of smooth noise where `dataset` has its own, below the current directory, `persons` to a split."""
    root, random = Path("stand_in") / dataset.name, np.random.default_rng(0)
    splits = dataset.splits
    if dataset.format == "lsp":
        numbers = {"train": (1, persons), "val": (persons + 1, 2 * persons), "test": (persons + 1, 2 * persons)}
        splits = {
            split: {"folder": files["folder"]} | ({"numbers": numbers[split]} if "numbers" in files else {})
            for split, files in splits.items()
        }
        for folder in {files["folder"] for files in splits.values()}:
            _write_lsp(root / folder, 2 * persons, random)
        return dataclasses.replace(dataset, root=root, splits=splits)
    first = 1
    for files in {files["annotations"]: splits[split] for split, files in splits.items()}.values():
        ids = range(first, first + persons)
        first += persons
        _write_images(root / files["images"], [f"{number:012d}.jpg" for number in ids], random)
        (_write_coco if dataset.format == "coco" else _write_mpii)(root, files, ids, random)
    return dataclasses.replace(dataset, root=root)


def _write_coco(root: Path, files: dict, ids: range, random: np.random.Generator) -> None:
    keypoints = _draw_keypoints(len(ids), COCO17.num_keypoints, random)
    boxes = _boxes(keypoints)
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": IMAGE_SIZE[0], "height": IMAGE_SIZE[1]} for i in ids]
    labelled = np.concatenate([keypoints, np.full((*keypoints.shape[:2], 1), 2)], 2).reshape(len(ids), -1)
    annotations = [
        {"id": i, "image_id": i, "bbox": box, "area": box[2] * box[3], "keypoints": flat}
        for i, box, flat in zip(ids, boxes, labelled, strict=True)
    ]
    write_coco(root / files["annotations"], images, annotations)
    if "detections" in files:
        found = [
            {"image_id": i, "category_id": 1, "bbox": box, "score": 0.9} for i, box in zip(ids, boxes, strict=True)
        ]
        write_json(root / files["detections"], found)


def _write_mpii(root: Path, files: dict, ids: range, random: np.random.Generator) -> None:
    keypoints = _draw_keypoints(len(ids), MPII16.num_keypoints, random)
    boxes = _boxes(keypoints)
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    write_mpii(
        root / files["annotations"],
        [f"{number:012d}.jpg" for number in ids],
        keypoints,
        np.full(keypoints.shape[:2], 2),
        centers,
        boxes[:, 2:].max(1),
        np.concatenate([centers - 20, centers + 20], 1),
        root / files.get("ground_truth", Path(files["annotations"]).with_suffix(".mat")),
    )


def _write_lsp(folder: Path, persons: int, random: np.random.Generator) -> None:
    _write_images(folder / "images", [f"im{number:04d}.jpg" for number in range(1, persons + 1)], random)
    keypoints = _draw_keypoints(persons, LSP14.num_keypoints, random)
    write_lsp(folder, keypoints, np.full(keypoints.shape[:2], 2))


def _draw_keypoints(n: int, num_keypoints: int, random: np.random.Generator) -> np.ndarray:
    middles = random.uniform((150, 180), (490, 300), (n, 1, 2))
    return middles + random.uniform(-1, 1, (n, num_keypoints, 2)) * (60, 160)


def _boxes(keypoints: np.ndarray) -> np.ndarray:
    return np.concatenate([keypoints.min(1), np.ptp(keypoints, axis=1)], 1)  # (N, 4)


def _write_images(folder: Path, names: list[str], random: np.random.Generator) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), cv2.resize(random.integers(0, 255, (12, 16, 3), np.uint8), IMAGE_SIZE))


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_memory_gb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser("python -m hpelib.study.tools.dry_run", description=__doc__.splitlines()[0])
    parser.add_argument("profile", help="of params.yaml, for instance paper")
    parser.add_argument("datasets", nargs="+", help="of the profile: coco, mpii or lsp")
    parser.add_argument("--networks", nargs="+", help="of the profile; all where left out")
    parser.add_argument("--batch-size", type=int, help="in place of the recipe's, for a smaller machine")
    given = parser.parse_args()
    params = load_params() | {"profile": given.profile}
    rows = []
    for name in given.datasets:
        for network in given.networks or profile_params(params)["networks"]:
            planned = make_run(params, network, name, 0)
            batch_size = given.batch_size or planned.inputs.batch_size
            workers = planned.inputs.workers
            device = planned.recipe.device if torch.cuda.is_available() else "cpu"
            run = dataclasses.replace(
                planned,
                pretrained=False,
                inputs=dataclasses.replace(planned.inputs, batch_size=batch_size, workers=min(workers, os.cpu_count())),
                recipe=dataclasses.replace(planned.recipe, device=device),
            )
            home = Path.cwd()
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                try:
                    rows.append(project(dry_run(run), planned))
                finally:
                    os.chdir(home)
            print(pd.DataFrame(rows).to_string(index=False, float_format="%.3g"), flush=True)


if __name__ == "__main__":
    main()
