"""A tiny data set in every format, and parameters to study it by."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import savemat

from hpelib.data.coco import write_coco
from hpelib.data.files import write_json
from hpelib.data.lsp import write_lsp
from hpelib.data.mpii import write_mpii
from hpelib.data.people import People
from hpelib.liveness import COLUMNS as LIVENESS
from hpelib.mannequins.stress import pictures
from hpelib.metrics.coco import Matches
from hpelib.skeletons import COCO17, LSP14, MPII16
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import Dataset, Protocol, Run, make_dataset, make_run, study_runs
from hpelib.study.evaluation import Evaluation, Summary, save
from hpelib.study.results import comparisons
from hpelib.study.steps.prepare import prepare, read_split
from hpelib.study.steps.train import build_network
from hpelib.study.steps.weights import write_weights

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 64, 48
IMAGES = {"train": [0, 0, 1, 2, 3], "val": [0, 0], "test": [0, 1, 1]}  # of each person, by split
SUMMARY = Summary(
    network="hourglass",
    model="hourglass",
    options={},
    dataset="mpii",
    format="mpii",
    source="noise",
    own_skeleton={},
    skeleton="mpii16",
    profile="tiny",
    labels="true",
    codec="dark",
    precision="bf16",
    machine="some CPU",
    test=Protocol(),
    input_size=(32, 48),
    seeds=(0, 1),
    epochs=1,
    persons=20,
    params=1_234_567,
    macs=89_100_000,
    legacy_gflops=0.0831,
)
HALF_BODY = (6, 18)  # (width, height) px: joints lie this far around somebody's middle at most


@pytest.fixture
def summary() -> Summary:
    """The summary of an evaluation on MPII; tests replace what they are about."""
    return SUMMARY


@pytest.fixture
def params(tmp_path) -> dict:
    """Parameters whose only profile trains a narrow network on the tiny sets below tmp_path."""
    splits = {
        "coco": {
            split: {"annotations": f"{split}.json", "images": split}
            | ({"detections": "detections.json"} if split == "test" else {})
            for split in IMAGES
        },
        "mpii": {
            split: {"annotations": f"{split}.json", "ground_truth": f"{split}.mat", "images": split} for split in IMAGES
        },
        "lsp": {split: {"folder": split} for split in IMAGES},
        "lspet": {
            split: {"fraction": fraction, "near_duplicates": str(tmp_path / "lspet" / "near_duplicates.csv")}
            for split, fraction in {"train": 0.5, "val": 0.25, "test": 0.25}.items()
        },
    }
    return {
        "profile": "tiny",
        "datasets": list(splits),
        "networks": ["hourglass"],
        "extra": {"datasets": [], "networks": []},
        "all_datasets": list(splits),
        "error_datasets": ["coco"],
        "ablations": {},
        "seeds": [0, 1],
        "ablation_seeds": [0],
        "control": "hourglass",
        "sets": {
            name: {"source": "noise", "format": name, "root": str(tmp_path / name), "splits": files}
            for name, files in splits.items()
        },
        "profiles": {
            "tiny": {
                "threads": 1,
                "mannequins": {"plain": {"scale": 1.0, "seed": 0, "persons": {"train": 8, "val": 4, "test": 4}}},
                "stress": {"seed": 0, "persons": 2},
                "inputs": {
                    "codec": "dark",
                    "input_size": [32, 32],
                    "heatmap_size": [8, 8],
                    "sigma": 1.0,
                    "batch_size": 2,
                },
                "augmentation": {"rotation_deg": 30},
                "recipe": {"epochs": 1, "learning_rate": 0.001},
                "datasets": {name: {"set": name} for name in splits},
                "networks": {
                    "hourglass": {
                        "model": "hourglass",
                        "options": {"stacks": 1, "widths": [8, 8], "blocks": [1, 1]},
                    }
                },
            }
        },
    }


@pytest.fixture
def study(params, tmp_path, monkeypatch) -> Callable[[str, str, list[float]], None]:
    """`study(entry, dataset, values)` leaves evaluations of an entry, one value per seed, as if they had been run.

    An entry is the only network or a row, `flat` or `full`, of its ablation on MPII. A value in percent is every figure
    of its seed, and the share of keypoints of the 20 persons that are right. Nobody's first keypoint is labelled.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparisons, "mean_pose", lambda params, dataset: {"PCKh@0.5": 5.0, "AP_det": 1.0, "Head": 9.0})
    rows = {"flat": {"options": {"widths": [8, 4]}}, "full": {}}
    params |= {"ablation_seeds": [0, 1], "ablations": {"hourglass": {"datasets": ["mpii"], "rows": rows}}}
    params["profiles"]["tiny"]["networks"]["hrnet"] = {"model": "hrnet_w32"}
    params["networks"] = ["hourglass", "hrnet"]

    def leave(entry: str, dataset: str, values: list[float], labels: str = "true") -> None:
        network, _, row = entry.partition(":")
        if row:
            for seed, value in enumerate(values):
                _leave(ablation_runs(params, network, seed)[row], [value])
        else:
            _leave(study_runs(params, network, dataset, labels)[0], values)

    return leave


def complete(**parts) -> Evaluation:
    """An evaluation of nobody's detections and no mechanisms, with these parts."""
    scores = parts["keypoint_scores"]
    nobody = {"detected_keypoints": parts["keypoints"][:, :0], "detected_confidences": parts["confidences"][:, :0]}
    alive = pd.DataFrame(columns=["seed", *LIVENESS])
    return Evaluation(
        **{"liveness": alive, "image_ids": np.arange(scores.shape[1]) // 2, "matches": {}} | nobody | parts
    )


@pytest.fixture
def complete_evaluation() -> Callable[..., Evaluation]:
    return complete


def _leave(run: Run, values: list[float]) -> None:
    skeleton = {"coco": COCO17, "mpii": MPII16}[run.dataset.name]
    metrics = ("AP_det", "APM_det") if run.dataset.name == "coco" else ("PCKh@0.5",)
    seeds = range(run.seed, run.seed + len(values))
    keypoint_scores = np.empty((len(values), 20, skeleton.num_keypoints), np.float32)
    for scores, value in zip(keypoint_scores, values, strict=True):
        right = np.arange(scores.size) < scores.size * value / 100
        scores[:] = np.random.default_rng(0).permuted(right).reshape(scores.shape)
    keypoint_scores[:, :, 0] = np.nan
    figures = [
        {"seed": seed, "metric": metric, "value": value}
        for seed, value in zip(seeds, values, strict=True)
        for metric in (*metrics, *skeleton.groups)
    ]
    evaluation = complete(
        figures=pd.DataFrame(figures),
        curves=pd.DataFrame({"seed": seeds, "threshold": 0.5, "correct": values}),
        keypoint_scores=keypoint_scores,
        keypoints=np.zeros((*keypoint_scores.shape, 2)),
        confidences=np.zeros_like(keypoint_scores),
        matches={"det": [_matches(value) for value in values]} if run.dataset.name == "coco" else {},
        summary=replace(
            SUMMARY,
            network=run.network,
            skeleton=skeleton.name,
            dataset=run.dataset.name,
            format=run.dataset.name,
            seeds=tuple(seeds),
        ),
    )
    save(evaluation, run.evaluation)


def _matches(value: float) -> Matches:
    """Of 20 persons in 10 pictures: that percentage is found."""
    right = np.random.default_rng(0).permuted(np.arange(20) < 20 * value / 100).astype(np.int8)
    return Matches(np.arange(20) // 2, np.tile(right[:, None, None], (1, 3, 10)), np.full((10, 3), 2))


@pytest.fixture
def trained(params, write_set, tmp_path, monkeypatch) -> dict:
    """Parameters of a prepared COCO set on which the network has random weights for its second seed."""
    monkeypatch.chdir(tmp_path)
    params["datasets"] = params["all_datasets"] = ["coco"]
    dataset = write_set("coco")
    dataset.manifest.parent.mkdir(parents=True)
    dataset.manifest.write_text(json.dumps(prepare(dataset)))
    run = make_run(params, "hourglass", "coco", 1)
    network = build_network(run, read_split(dataset, "test"))
    torch.nn.init.normal_(network.heads[0].weight)
    write_weights(run, network)
    return params


@pytest.fixture
def write_set(params) -> Callable[[str], Dataset]:
    """`write_set(format)` writes the tiny set of that format and returns its description."""
    writers = {"coco": _write_coco, "mpii": _write_mpii, "lsp": _write_lsp, "lspet": _write_lspet}

    def write(name: str) -> Dataset:
        dataset = make_dataset(params, name)
        writers[name](dataset.root, np.random.default_rng(0))
        return dataset

    return write


def _write_coco(root: Path, random: np.random.Generator) -> None:
    number = 0
    for split, of_images in IMAGES.items():
        _write_images(root / split, {f"{image}.png" for image in of_images}, random)
        keypoints = _draw_joints(len(of_images), COCO17.num_keypoints, random)
        annotations = []
        for joints, image in zip(keypoints, of_images, strict=True):
            number += 1
            (left, top), (right, bottom) = joints.min(0), joints.max(0)
            flat = np.concatenate([joints, np.full((len(joints), 1), 2)], 1)
            flat[0] = 0  # nobody's nose is labelled
            box = [left, top, right - left, bottom - top]
            annotations.append(
                {"id": number, "image_id": image + 1, "bbox": box, "area": box[2] * box[3], "keypoints": flat.ravel()}
            )
        images = [
            {"id": image + 1, "file_name": f"{image}.png", "width": WIDTH, "height": HEIGHT}
            for image in sorted(set(of_images))
        ]
        write_coco(root / f"{split}.json", images, annotations)
    detections = [
        {"image_id": annotation["image_id"], "category_id": 1, "bbox": annotation["bbox"], "score": 0.9}
        for annotation in annotations  # of the last split, test
    ]
    write_json(root / "detections.json", detections)


def _write_mpii(root: Path, random: np.random.Generator) -> None:
    for split, of_images in IMAGES.items():
        _write_images(root / split, {f"{image}.png" for image in of_images}, random)
        keypoints = _draw_joints(len(of_images), MPII16.num_keypoints, random)
        centers = (keypoints.min(1) + keypoints.max(1)) / 2
        visibility = np.full(keypoints.shape[:2], 2)
        visibility[0, 0] = 0  # the first person's right ankle is not labelled
        write_mpii(
            root / f"{split}.json",
            [f"{image}.png" for image in of_images],
            keypoints,
            visibility,
            centers,
            np.full(len(of_images), 40.0),
            np.concatenate([centers - 5, centers + 5], 1),
            root / f"{split}.mat",
        )


def _write_lsp(root: Path, random: np.random.Generator) -> None:
    for split, of_images in IMAGES.items():
        n = len(of_images)
        _write_images(root / split / "images", {f"im{number:04d}.jpg" for number in range(1, n + 1)}, random)
        keypoints = _draw_joints(n, LSP14.num_keypoints, random)
        write_lsp(root / split, keypoints, np.full((n, LSP14.num_keypoints), 2))


def _write_lspet(root: Path, random: np.random.Generator, n: int = 12) -> None:
    _write_images(root / "images", {f"im{number:05d}.jpg" for number in range(1, n + 1)}, random)
    keypoints = _draw_joints(n, LSP14.num_keypoints, random)
    joints = np.concatenate([keypoints, np.ones((n, LSP14.num_keypoints, 1))], 2)
    savemat(root / "joints.mat", {"joints": joints.transpose(1, 2, 0)})
    (root / "near_duplicates.csv").write_text("group,image_number\n0,1\n0,7\n0,12\n1,3\n1,4\n")


def _draw_joints(n: int, num_keypoints: int, random: np.random.Generator) -> np.ndarray:
    middles = random.uniform((20, 22), (WIDTH - 20, HEIGHT - 22), (n, 2))
    return middles[:, None] + random.uniform(-1, 1, (n, num_keypoints, 2)) * HALF_BODY


def _write_images(folder: Path, names: set[str], random: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for name in sorted(names):
        cv2.imwrite(str(folder / name), random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))


@pytest.fixture
def stress_people(tmp_path) -> People:
    """Two persons of a stress test, with stand-ins for its pictures: picture i of person p has the grey 100 p + i."""
    rows = [(person, *picture) for person in range(2) for picture in pictures()]
    factors = pd.DataFrame(rows, columns=["person", "factor", "level"])
    n = len(rows)
    paths = [str(tmp_path / f"{row:03d}.png") for row in range(n)]
    for row, path in enumerate(paths):
        grey = 100 * factors["person"][row] + row % len(pictures())
        cv2.imwrite(path, np.full((40, 40, 3), grey, np.uint8))
    return People(
        MPII16,
        image_paths=np.array(paths, object),
        image_ids=np.arange(n),
        ids=np.arange(n),
        keypoints=np.random.default_rng(0).uniform(5, 35, (n, 16, 2)),
        visibility=np.full((n, 16), 2),
        boxes=np.tile((5, 5, 30, 30), (n, 1)),
        head_sizes_px=np.full(n, 20.0),
        factors=factors,
    )
