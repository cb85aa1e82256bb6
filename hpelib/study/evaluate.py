"""From trained runs to figures on disk: what the evaluate notebook calls."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from hpelib.data.loader import make_loader
from hpelib.data.people import People
from hpelib.inference import Predictions, predict
from hpelib.metrics.complexity import complexity
from hpelib.models import create_model
from hpelib.models.weights import load_weights
from hpelib.skeletons import SKELETONS
from hpelib.study.config import Run
from hpelib.study.datasets import read_split, read_split_detections, require_prepared
from hpelib.study.scores import curve, detection_figures, figures, keypoint_scores, scorable
from hpelib.training.checkpoints import write_whole


@dataclass(frozen=True)
class Evaluation:
    """One network on one dataset's test split, over its seeds."""

    figures: pd.DataFrame  # columns seed, metric, value (percent)
    curves: pd.DataFrame  # columns seed, threshold, correct (percent)
    keypoint_scores: np.ndarray  # (seeds, N, K), 0 to 1, NaN where not scored
    summary: dict

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Keypoints of each reported joint group."""
        return SKELETONS[self.summary["skeleton"]].groups


def load_network(run: Run, people: People) -> nn.Module:
    """The run's trained network in eval mode.

    Raises:
        FileNotFoundError: the run was not trained.
    """
    path = run.folder / "weights.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run: dvc repro train")
    network = create_model(run.model, num_keypoints=people.skeleton.num_keypoints, **run.options)
    load_weights(network, path)
    return network.eval().to(run.recipe.device)


def test_people(run: Run) -> People:
    """The persons that tables are about."""
    require_prepared(run.dataset)
    return scorable(run.dataset, read_split(run.dataset, "test"))


def predict_people(run: Run, network: nn.Module, people: People) -> Predictions:
    """Predictions with the flip test, from the boxes that `people` come with."""
    loader = make_loader(people, run, train=False, device=run.recipe.device)
    return predict(network, loader, loader.codec)


def evaluate(runs: list[Run]) -> Evaluation:
    """All figures of runs that differ in their seed only."""
    torch.set_num_threads(runs[0].threads)
    people = test_people(runs[0])
    detections = read_split_detections(runs[0].dataset, "test")
    rows, curves, scores = [], [], []
    for run in runs:
        network = load_network(run, people)
        predictions = predict_people(run, network, people)
        found = figures(run.dataset, people, predictions.keypoints, predictions.scores)
        if detections is not None:
            detected = predict_people(run, network, detections)
            found |= detection_figures(run.dataset, detections, detected.keypoints, detected.scores)
        rows += [{"seed": run.seed, "metric": metric, "value": value} for metric, value in found.items()]
        curves.append(curve(run.dataset, people, predictions.keypoints).assign(seed=run.seed))
        scores.append(keypoint_scores(run.dataset, people, predictions.keypoints))
    return Evaluation(
        figures=pd.DataFrame(rows),
        curves=pd.concat(curves, ignore_index=True),
        keypoint_scores=np.stack(scores).astype(np.float32),
        summary=_summary(runs, network, people),
    )


def _summary(runs: list[Run], network: nn.Module, people: People) -> dict:
    run = runs[0]
    size = complexity(network, run.inputs.input_size)
    return {
        "network": run.network,
        "model": run.model,
        "options": run.options,
        "dataset": run.dataset.name,
        "format": run.dataset.format,
        "source": run.dataset.source,
        "skeleton": people.skeleton.name,
        "profile": run.profile,
        "labels": run.labels,
        "codec": run.inputs.codec,
        "input_size": list(run.inputs.input_size),
        "seeds": [other.seed for other in runs],
        "epochs": run.recipe.epochs,
        "persons": len(people),
        "params": size.params,
        "macs": size.macs,
        "legacy_gflops": size.legacy_gflops,
    }


def save(evaluation: Evaluation, folder: Path) -> None:
    """Write the evaluation as CSV, JSON and one array, for `load`."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.figures.to_csv(folder / "figures.csv", index=False, float_format="%.6f")
    evaluation.curves.to_csv(folder / "curves.csv", index=False, float_format="%.4f")
    np.save(folder / "keypoint_scores.npy", evaluation.keypoint_scores)
    text = json.dumps(evaluation.summary, indent=2) + "\n"
    write_whole(folder / "summary.json", lambda path: path.write_text(text))


def load(folder: Path) -> Evaluation:
    """An evaluation that `save` wrote.

    Raises:
        FileNotFoundError: there is none, or it was not finished.
    """
    if not (folder / "summary.json").is_file():
        raise FileNotFoundError(f"{folder} holds no finished evaluation; run: dvc repro evaluate")
    return Evaluation(
        figures=pd.read_csv(folder / "figures.csv"),
        curves=pd.read_csv(folder / "curves.csv"),
        keypoint_scores=np.load(folder / "keypoint_scores.npy"),
        summary=json.loads((folder / "summary.json").read_text()),
    )
