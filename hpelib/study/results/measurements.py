"""What the study measured of an *entry*: a network by its name, or the row of an ablation as `paper:row`."""

import dataclasses
import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from hpelib.formats import FORMATS
from hpelib.records import records
from hpelib.skeletons import SKELETONS
from hpelib.study.ablations import ablation_runs, row_entry
from hpelib.study.config import Run, networks_on, profile_params, study_runs
from hpelib.study.evaluation import load
from hpelib.study.results.sizes import WHOLE, measure

COUNTS = {"params_M": "params (M)", "macs_G": "MACs (G)", "legacy_gflops": "legacy GFLOPs"}
OKS_THRESHOLDS = np.arange(0.5, 1, 0.05)
RECALL = "OKS recall"
OWN_RECIPE = "the paper's own optimizer and scaled schedule"  # of ablations, see `ablation_runs`


class Judged(NamedTuple):
    """What an interval over persons is taken of."""

    metric: str
    scores: np.ndarray  # (seeds, N, 1 or more), 0 to 1, NaN where not scored


@dataclass(frozen=True)
class Measurement:
    """One entry on one dataset's test split, over its seeds."""

    figures: pd.DataFrame  # columns seed, metric, value (percent)
    keypoint_scores: np.ndarray  # (seeds, N, K), 0 to 1, NaN where not scored
    summary: dict  # of the first seed
    recipe: str = ""  # whose, where it is not that of the study's networks

    @property
    def training(self) -> str:
        """How long it was trained, and by whose recipe, in a few words."""
        epochs = self.summary["epochs"]
        whose = f" by {self.recipe}" if self.recipe else ""
        return f"{epochs} {'epoch' if epochs == 1 else 'epochs'}{whose}"

    @property
    def seeds(self) -> list[int]:
        return self.figures["seed"].unique().tolist()

    def of_seeds(self, seeds: list[int]) -> "Measurement":
        """The same of some of the seeds, in their order."""
        figures = pd.concat([self.figures[self.figures["seed"] == seed] for seed in seeds])
        scores = self.keypoint_scores[[self.seeds.index(seed) for seed in seeds]]
        return dataclasses.replace(self, figures=figures, keypoint_scores=scores)

    def values(self, metric: str) -> list[float]:
        """One value per seed, in percent; none if the metric was not measured."""
        return self.figures.loc[self.figures["metric"] == metric, "value"].tolist()

    def judged(self, metric: str) -> Judged | None:
        """What an interval over persons can be taken of, for `metric`; None where there is nothing.

        PCK, PCKh and joint groups are means of hits. AP is no mean, so `OKS recall` stands in: the share of the OKS
        thresholds 0.50 to 0.95 that a person reaches from the annotated box, which is on AP's scale.
        """
        groups = SKELETONS[self.summary["skeleton"]].groups
        if metric in groups:
            return Judged(metric, self.keypoint_scores[:, :, groups[metric]])
        if metric in ("PCKh@0.5", "PCK@0.2"):
            return Judged(metric, self.keypoint_scores)
        if metric in ("AP_gt", "AP_det"):
            return Judged(RECALL, oks_recall(self.keypoint_scores))
        return None


def oks_recall(similarity: np.ndarray) -> np.ndarray:
    """Share of the OKS thresholds that each person reaches, (..., N, 1), NaN without labelled keypoints.

    Shapes: similarity (..., N, K), NaN where not labelled.
    """
    labelled = ~np.isnan(similarity)
    counts = labelled.sum(axis=-1, keepdims=True)  # (..., N, 1)
    oks = np.where(labelled, similarity, 0).sum(axis=-1, keepdims=True) / np.maximum(counts, 1)
    reached = (oks >= OKS_THRESHOLDS).mean(axis=-1, keepdims=True)
    return np.where(counts > 0, reached, np.nan)


def find(params: dict, entry: str, dataset: str) -> Measurement | None:
    """The measurement of an entry over the seeds that are finished, or None where there is none in this study.

    What another profile left behind, or a network that the study no longer names, is not of this study.
    """
    folders = [run.evaluation for run in _runs(params, entry, dataset)]
    found = [load(folder) for folder in folders if (folder / "summary.json").is_file()]
    evaluations = [evaluation for evaluation in found if evaluation.summary["profile"] == params["profile"]]
    if not evaluations:
        return None
    return Measurement(
        figures=pd.concat([evaluation.figures for evaluation in evaluations], ignore_index=True),
        keypoint_scores=np.concatenate([evaluation.keypoint_scores for evaluation in evaluations]),
        summary=evaluations[0].summary,
        recipe=_recipe(params, entry),
    )


def full_sizes(params: dict, wanted: pd.DataFrame) -> pd.DataFrame:
    """What entries cost at the papers' size, by the index of `wanted`.

    `wanted` has the columns entry, dataset and input ("256x192", height first). Columns of the result: params (M);
    MACs (G), in 10^9; legacy GFLOPs, as the tool of the official HRNet code counts.
    """
    if wanted.empty:
        return pd.DataFrame(columns=list(COUNTS.values()), dtype=float)
    models = [full_size(params, entry) for entry in wanted["entry"]]
    heights, widths = zip(*(map(int, size.split("x")) for size in wanted["input"]), strict=True)
    rows = pd.DataFrame(
        {
            "model": [model for model, _ in models],
            "options": [json.dumps(options) for _, options in models],
            "module": WHOLE,
            "keypoints": [FORMATS[name].skeleton.num_keypoints for name in wanted["dataset"]],
            "input_width": widths,
            "input_height": heights,
            "printed_params_M": np.nan,
            "printed_gflops": np.nan,
            "printed_unit": "",
        },
        index=wanted.index,
    )
    return measure(rows)[list(COUNTS)].rename(columns=COUNTS)


def full_size(params: dict, entry: str) -> tuple[str, dict]:
    """Name and options of an entry's model at the papers' size, for `create_model`."""
    network, _, row = entry.partition(":")
    changes = params["ablations"][network]["rows"][row] if row else {}
    sizes = {record.name: record.full_size for record in records().values()}
    full = {name: {"model": model} for name, model in sizes.items()}
    chosen = row_entry(full | {network: {"model": sizes.get(network, network)}}, network, changes)
    return chosen["model"], chosen.get("options", {})


def _recipe(params: dict, entry: str) -> str:
    network, is_row, _ = entry.partition(":")
    return OWN_RECIPE if is_row and network in profile_params(params).get("paper_recipes", {}) else ""


def _runs(params: dict, entry: str, dataset: str) -> list[Run]:
    """One run for each folder that the entry's evaluations lie in."""
    network, _, row = entry.partition(":")
    if network not in profile_params(params)["networks"]:
        return []
    if not row:
        return study_runs(params, network, dataset)[:1] if network in networks_on(params, dataset) else []
    if params["ablations"][network]["dataset"] != dataset:
        return []
    return [ablation_runs(params, network, seed)[row] for seed in params["ablation_seeds"]]
