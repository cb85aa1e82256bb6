"""Try a profile's recipes: two steps of training and a test, at full size, on noise in the layout of the real sets.

    python -m hpelib.study.tools.dry_run paper coco mpii

says before a download of 20 GB and days of training whether they would run, how long and in how much memory.
"""

import argparse
import contextlib
import dataclasses
import itertools
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
from hpelib.study.steps.prepare import manifest_path, prepare
from hpelib.study.steps.train import build_network, train, training_people

STEPS = 2
PERSONS = {"coco": (149_813, 6_352 + 104_125), "mpii": (22_246, 2_958), "lsp": (1_000, 1_000)}  # to train, to test
LSPET_PERSONS = 10_000
IMAGE_SIZE = (640, 480)


def dry_run(run: Run) -> dict:
    """Prepare, train and evaluate `run` on a stand-in of its dataset, in the current directory; times and memory of it.

    Keys: dataset, network, batch_size, s_per_step, s_per_test_box and memory_gb, which is the peak on the GPU, or else
    of this process since its start.
    """
    dataset = write_stand_in(run.dataset, (STEPS + 1) * run.inputs.batch_size)
    run = dataclasses.replace(run, dataset=dataset, recipe=dataclasses.replace(run.recipe, epochs=1, processes=1))
    manifest_path(dataset).parent.mkdir(parents=True, exist_ok=True)
    write_json(manifest_path(dataset), prepare(dataset))
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
    trained += sum(PERSONS["mpii"][0] if files else LSPET_PERSONS for files in merged)
    steps = run.recipe.epochs * (trained // found["batch_size"])
    return found | {
        "epochs": run.recipe.epochs,
        "train_hours": steps * found["s_per_step"] / 3600,
        "test_minutes": tested * found["s_per_test_box"] / 60,
    }


def write_stand_in(dataset: Dataset, persons: int) -> Dataset:
    """Write smooth noise where `dataset` has its files, below the current directory, `persons` for each split."""
    root, random = Path("stand_in") / dataset.name, np.random.default_rng(0)
    if dataset.format == "lsp":  # its splits may be numbers of persons in one folder
        numbers = {"train": (1, persons), "val": (persons + 1, 2 * persons), "test": (persons + 1, 2 * persons)}
        splits = {
            split: {"folder": files["folder"]} | ({"numbers": numbers[split]} if "numbers" in files else {})
            for split, files in dataset.splits.items()
        }
        for folder in {files["folder"] for files in splits.values()}:
            _write_images(
                root / folder / "images", [f"im{number:04d}.jpg" for number in range(1, 2 * persons + 1)], random
            )
            keypoints, *_ = _draw_people(2 * persons, LSP14.num_keypoints, random)
            write_lsp(root / folder, keypoints, np.full(keypoints.shape[:2], 2))
        return dataclasses.replace(dataset, root=root, splits=splits)
    write = {"coco": _write_coco, "mpii": _write_mpii}[dataset.format]
    once = {files["annotations"]: dataset.splits[split] for split, files in dataset.splits.items()}
    for i, files in enumerate(once.values()):
        ids = range(i * persons + 1, (i + 1) * persons + 1)
        _write_images(root / files["images"], [f"{number:012d}.jpg" for number in ids], random)
        write(root, files, ids, random)
    return dataclasses.replace(dataset, root=root)


def _write_coco(root: Path, files: dict, ids: range, random: np.random.Generator) -> None:
    keypoints, boxes = _draw_people(len(ids), COCO17.num_keypoints, random)
    labelled = np.concatenate([keypoints, np.full((*keypoints.shape[:2], 1), 2)], 2).reshape(len(ids), -1)
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": IMAGE_SIZE[0], "height": IMAGE_SIZE[1]} for i in ids]
    annotations = [
        {"id": i, "image_id": i, "bbox": box, "area": box[2] * box[3], "keypoints": flat}
        for i, box, flat in zip(ids, boxes, labelled, strict=True)
    ]
    write_coco(root / files["annotations"], images, annotations)
    if "detections" in files:
        found = [{"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 0.9} for a in annotations]
        write_json(root / files["detections"], found)


def _write_mpii(root: Path, files: dict, ids: range, random: np.random.Generator) -> None:
    keypoints, boxes = _draw_people(len(ids), MPII16.num_keypoints, random)
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


def _draw_people(n: int, num_keypoints: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (n, K, 2) at random in the picture, and the boxes (n, 4) around them, in px."""
    keypoints = random.uniform((150, 180), (490, 300), (n, 1, 2))
    keypoints = keypoints + random.uniform(-1, 1, (n, num_keypoints, 2)) * (60, 160)
    return keypoints, np.concatenate([keypoints.min(1), np.ptp(keypoints, axis=1)], 1)


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
    for name, network in itertools.product(given.datasets, given.networks or profile_params(params)["networks"]):
        planned = make_run(params, network, name, 0)
        inputs = dataclasses.replace(
            planned.inputs,
            batch_size=given.batch_size or planned.inputs.batch_size,
            workers=min(planned.inputs.workers, os.cpu_count()),
        )
        device = planned.recipe.device if torch.cuda.is_available() else "cpu"
        recipe = dataclasses.replace(planned.recipe, device=device)
        run = dataclasses.replace(planned, pretrained=False, inputs=inputs, recipe=recipe)
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            rows.append(project(dry_run(run), planned))
        print(pd.DataFrame(rows).to_string(index=False, float_format="%.3g"), flush=True)


if __name__ == "__main__":
    main()
