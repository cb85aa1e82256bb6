"""What an evaluation found, as files: written by the step that evaluates, read by everything that shows results.

This module needs no torch, so that a page of results starts fast.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.data.files import write_whole
from hpelib.skeletons import SKELETONS

ARRAYS = ("keypoint_scores", "keypoints", "confidences")  # of an evaluation, kept in one file


@dataclass(frozen=True)
class Evaluation:
    """One network on one dataset's test split, over its seeds."""

    figures: pd.DataFrame  # columns seed, metric, value (percent)
    curves: pd.DataFrame  # columns seed, threshold, correct (percent)
    keypoint_scores: np.ndarray  # (seeds, N, K), 0 to 1, NaN where not scored
    keypoints: np.ndarray  # (seeds, N, K, 2) image px, predicted from annotated boxes
    confidences: np.ndarray  # (seeds, N, K) heatmap maxima of these
    summary: dict

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Keypoints of each reported joint group."""
        return SKELETONS[self.summary["skeleton"]].groups


def save(evaluation: Evaluation, folder: Path) -> None:
    """Write the evaluation as CSV, JSON and NPZ, for `load`."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.figures.to_csv(folder / "figures.csv", index=False, float_format="%.6f")
    evaluation.curves.to_csv(folder / "curves.csv", index=False, float_format="%.4f")
    np.savez_compressed(folder / "keypoints.npz", **{name: getattr(evaluation, name) for name in ARRAYS})
    text = json.dumps(evaluation.summary, indent=2) + "\n"
    write_whole(folder / "summary.json", lambda path: path.write_text(text))


def load(folder: Path) -> Evaluation:
    """An evaluation that `save` wrote.

    Raises:
        FileNotFoundError: there is none, or it was not finished.
    """
    if not (folder / "summary.json").is_file():
        raise FileNotFoundError(f"{folder} holds no finished evaluation; run: dvc repro evaluate")
    with np.load(folder / "keypoints.npz") as file:
        arrays = {name: file[name] for name in ARRAYS}
    return Evaluation(
        figures=pd.read_csv(folder / "figures.csv"),
        curves=pd.read_csv(folder / "curves.csv"),
        summary=json.loads((folder / "summary.json").read_text()),
        **arrays,
    )
