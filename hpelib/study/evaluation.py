"""What an evaluation found, as files. The step that evaluates writes them, and every page of results reads them.

The hits of the stress tests are read here, too. This module needs no torch, so that a page of results starts fast.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.data.files import write_arrays, write_csv, write_whole
from hpelib.formats import Format, form_of
from hpelib.metrics.coco import Matches
from hpelib.study.config import Protocol

TABLES = {
    "figures": "%.6f",
    "curves": "%.4f",
    "liveness": "%.4f",
}  # of an evaluation, each a CSV file whose numbers are written so
STRESS_DATASET = "mpii"  # the stress tests are for networks that were trained on this dataset of the study
ARRAYS = (  # of an evaluation, a row for each seed
    *("keypoint_scores", "keypoints", "confidences"),
    *("detected_keypoints", "detected_confidences"),
)
MATCH_ARRAYS = tuple(field.name for field in fields(Matches))


@dataclass(frozen=True)
class Summary:
    """What was evaluated and how: all that a page must say about the figures beside them."""

    network: str  # in params.yaml
    model: str  # for `create_model`, with `options`
    options: dict
    dataset: str
    format: str  # of the annotations, a key of `FORMATS`
    source: str  # of the pictures, such as "mannequins"
    skeleton: str  # the name of its keypoints
    own_skeleton: dict  # as in `Dataset.skeleton`
    profile: str
    labels: str  # that the network was trained on, "true" or "shuffled"
    codec: str
    precision: str  # that the network was trained in, such as "fp32"
    machine: str  # the kind of CPU or GPU that trained it; several kinds stand behind each other
    test: Protocol
    input_size: tuple[int, int]  # (width, height) px
    seeds: tuple[int, ...]
    epochs: int
    persons: int
    params: int
    macs: int
    legacy_gflops: float

    @property
    def form(self) -> Format:
        """The format of the annotations, with the metrics that go with it."""
        return form_of(self.format, self.own_skeleton)

    @staticmethod
    def read(path: Path) -> "Summary":
        """Read a summary.json.

        Raises:
            ValueError: fields are missing or unknown, because another version of the study wrote the file.
        """
        values = json.loads(path.read_text())
        if wrong := values.keys() ^ {field.name for field in fields(Summary)}:
            raise ValueError(f"{path}: unknown or missing {', '.join(sorted(wrong))}; run: dvc repro --force evaluate")
        values |= {name: tuple(values[name]) for name in ("input_size", "seeds")}
        return Summary(**values | {"test": Protocol(**values["test"])})


@dataclass(frozen=True)
class Evaluation:
    """One network on one dataset's test split, over its seeds."""

    figures: pd.DataFrame  # columns seed, metric, value (percent; px where the metric ends in _px)
    curves: pd.DataFrame  # columns seed, threshold, correct (percent)
    liveness: pd.DataFrame  # columns seed, mechanism, units, alive_share, person_share, state: `hpelib.liveness`
    keypoint_scores: np.ndarray  # (seeds, N, K), 0 to 1, NaN where not scored
    keypoints: np.ndarray  # (seeds, N, K, 2) image px, predicted from annotated boxes
    confidences: np.ndarray  # (seeds, N, K) heatmap maxima of these
    detected_keypoints: np.ndarray  # (seeds, M, K, 2) image px, predicted from a detector's boxes; M = 0 without one
    detected_confidences: np.ndarray  # (seeds, M, K)
    image_ids: np.ndarray  # (N,) of the persons: those of one picture are not independent
    matches: dict[str, list[Matches]]  # of boxes "gt" and "det", for each seed; none for formats without AP
    summary: Summary

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Keypoints of each reported joint group."""
        return self.summary.form.skeleton.groups

    def values(self, metric: str) -> list[float]:
        """The figures called `metric`, in percent, one for each seed; empty if the metric was not measured."""
        return self.figures.loc[self.figures["metric"] == metric, "value"].tolist()

    def of_seeds(self, seeds: Sequence[int]) -> "Evaluation":
        """The part of the evaluation that is about these seeds."""
        places = [self.summary.seeds.index(seed) for seed in seeds]
        tables = {name: table[table["seed"].isin(seeds)] for name, table in vars(self).items() if name in TABLES}
        arrays = {name: getattr(self, name)[places] for name in ARRAYS}
        matches = {boxes: [found[place] for place in places] for boxes, found in self.matches.items()}
        return replace(self, **tables, **arrays, matches=matches, summary=replace(self.summary, seeds=tuple(seeds)))


def join(parts: Sequence[Evaluation]) -> Evaluation:
    """One evaluation of several that differ only in their seeds, such as those of one row of an ablation."""
    tables = {name: pd.concat([getattr(part, name) for part in parts], ignore_index=True) for name in TABLES}
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    seeds = tuple(seed for part in parts for seed in part.summary.seeds)
    matches = {boxes: [found for part in parts for found in part.matches[boxes]] for boxes in parts[0].matches}
    return replace(parts[0], **tables, **arrays, matches=matches, summary=replace(parts[0].summary, seeds=seeds))


def save(evaluation: Evaluation, folder: Path) -> None:
    """Write the evaluation as CSV, JSON and NPZ, for `load`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, form in TABLES.items():
        write_csv(getattr(evaluation, name), folder / f"{name}.csv", form)
    arrays = {name: getattr(evaluation, name) for name in (*ARRAYS, "image_ids")}
    write_arrays(folder / "keypoints.npz", arrays)
    for boxes, found in evaluation.matches.items():
        parts = {f"{name} {i}": value for i, of_seed in enumerate(found) for name, value in vars(of_seed).items()}
        write_arrays(folder / f"matches_{boxes}.npz", parts)
    text = json.dumps(asdict(evaluation.summary), indent=2) + "\n"
    write_whole(folder / "summary.json", lambda path: path.write_text(text))


def load(folder: Path) -> Evaluation:
    """Read an evaluation that `save` wrote.

    Raises:
        FileNotFoundError: the folder holds no evaluation, or one that was not finished.
        ValueError: another version of the study wrote it.
    """
    if not (folder / "summary.json").is_file():
        raise FileNotFoundError(f"{folder} holds no finished evaluation; run: dvc repro evaluate")
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    with np.load(folder / "keypoints.npz") as file:
        arrays = {name: file[name] for name in (*ARRAYS, "image_ids")}
    summary, matches = Summary.read(folder / "summary.json"), {}
    for path in sorted(folder.glob("matches_*.npz")):
        with np.load(path) as file:
            of_seeds = [{name: file[f"{name} {i}"] for name in MATCH_ARRAYS} for i in range(len(summary.seeds))]
        matches[path.stem.removeprefix("matches_")] = [Matches(**found) for found in of_seeds]
    return Evaluation(**tables, **arrays, matches=matches, summary=summary)


# What networks found on the stress tests, by network: (seeds, persons, pictures, 16), 1 for a keypoint within PCKh@0.5
# and 0 for any other. NaN where a keypoint is cut off or never scored. Pictures are in the order of
# `hpelib.mannequins.stress.pictures`.
Hits = dict[str, np.ndarray]


def load_hits(folder: Path) -> Hits:
    """Read the hits of every network that was trained with all its seeds, in the order of the study.

    Raises:
        FileNotFoundError: the networks were not tested yet.
    """
    path = folder / "hits.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; run: dvc repro stress_hits")
    with np.load(path) as file:
        return dict(file)
