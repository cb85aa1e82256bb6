"""What the study measured of an entry, and the words that pages use for it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import standard_deviation
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import networks_on, profile_params, study_runs
from hpelib.study.evaluation import Evaluation, Summary, join, load

OKS_THRESHOLDS = np.arange(0.5, 1, 0.05)
RECALL = "OKS recall"


def find(params: dict, entry: str, dataset: str) -> Evaluation | None:
    """The evaluation of an entry over all seeds that are finished; None if the current profile has none of it."""
    network, _, row = entry.partition(":")
    if network not in profile_params(params)["networks"]:
        return None
    if not row:  # one evaluation holds all seeds
        runs = study_runs(params, network, dataset)[:1] if network in networks_on(params, dataset) else []
    elif dataset in params["ablations"][network]["datasets"]:
        runs = [ablation_runs(params, network, seed, dataset)[row] for seed in params["ablation_seeds"]]
    else:
        runs = []
    found = [load(run.evaluation) for run in runs if (run.evaluation / "summary.json").is_file()]
    return join(found) if found else None


def judged(evaluation: Evaluation, metric: str) -> tuple[str, np.ndarray] | None:
    """The scores of which an interval over persons is taken, for `metric`, and the name of what they measure.

    PCK, PCKh, OKS and the figures of joint groups are means over keypoints, so their own scores are taken. AP is no
    such mean, so scores of `OKS recall` are taken instead.

    Returns:
        Name and scores (seeds, N, 1 or more), 0 to 1, NaN where not scored; None for metrics without such scores.
    """
    scores = evaluation.keypoint_scores
    if metric in evaluation.groups:
        return metric, scores[:, :, evaluation.groups[metric]]
    if metric == evaluation.summary.form.keypoint_metric:
        return metric, scores
    return (RECALL, oks_recall(scores)) if metric in ("AP_gt", "AP_det") else None


def oks_recall(similarity: np.ndarray) -> np.ndarray:
    """Share of the ten OKS thresholds 0.50, 0.55, ..., 0.95 that each person's OKS reaches.

    Example: an OKS of 0.72 reaches five of the ten, which gives 0.5.

    Args:
        similarity: (..., N, K), 0 to 1, NaN where not labelled.

    Returns:
        (..., N, 1), NaN for persons without a labelled keypoint.
    """
    labelled = ~np.isnan(similarity)
    counts = labelled.sum(axis=-1, keepdims=True)  # (..., N, 1)
    oks = np.where(labelled, similarity, 0).sum(axis=-1, keepdims=True) / np.maximum(counts, 1)
    reached = (oks >= OKS_THRESHOLDS).mean(axis=-1, keepdims=True)
    return np.where(counts > 0, reached, np.nan)


def over_seeds(figures: pd.DataFrame, rows: Sequence[str], columns: str, value: str = "value") -> pd.DataFrame:
    """Figures of each seed as cells for a reader: mean and standard deviation over seeds.

    Args:
        figures: one row for each figure and seed. Rows and columns of the result keep the order of their appearance.
        rows: the columns of `figures` that name a row of the result.
        columns: the column of `figures` whose values become columns.
        value: the column of `figures` that is shown.
    """
    cells = figures.pivot_table(index=[*rows], columns=columns, values=value, aggfunc=mean_and_sd, sort=False)
    return cells.rename_axis(columns=None)


def mean_and_sd(values: Sequence[float]) -> str:
    """A figure over its seeds as a cell: "39.3 ± 0.9", "39.3" for a single seed, "undefined" where one is NaN."""
    return with_sd(np.asarray(values, np.float64).mean(), standard_deviation(values))


def with_sd(mean: float, sd: float) -> str:
    """`mean_and_sd` of a mean and a standard deviation."""
    return "undefined" if np.isnan(mean) else f"{mean:.1f}" if np.isnan(sd) else f"{mean:.1f} ± {sd:.1f}"


def brackets(low: float, high: float, form: str = ".1f") -> str:
    """An interval as part of a cell: "[38.1, 40.6]"."""
    return f"[{low:{form}}, {high:{form}}]"


def interval_cells(table: pd.DataFrame, value: str = "value", form: str = ".1f") -> pd.Series:
    """The column `value` with the columns low and high as cells: "39.3 [38.1, 40.6]", by the index of `table`."""
    rows = table[[value, "low", "high"]].itertuples(index=False)
    return pd.Series([f"{mean:{form}} {brackets(low, high, form)}" for mean, low, high in rows], table.index, object)


def has_own_recipe(params: dict, entry: str) -> bool:
    """Whether the profile trains this entry by its paper's recipe: rows of ablations, where params.yaml gives one."""
    network, _, row = entry.partition(":")
    return row != "" and network in profile_params(params).get("paper_recipes", {})


def training(summary: Summary, own_recipe: bool = False) -> str:
    """How long an entry was trained and by whose recipe, in a few words."""
    epochs = f"{summary.epochs} {'epoch' if summary.epochs == 1 else 'epochs'}"
    return f"{epochs} by the paper's own optimizer and scaled schedule" if own_recipe else epochs


def describe(summary: Summary, own_recipe: bool = False) -> str:
    """What was tested on what, in one sentence that stands beside every table."""
    width, height = summary.input_size
    return (
        f"{summary.dataset}: {summary.persons} persons of the test split of {summary.source} ({summary.format} "
        f"format), profile {summary.profile}, input {width}x{height} px (width x height), "
        f"{training(summary, own_recipe)} in {summary.precision} on {summary.machine}, "
        f"flip test in {summary.test.precision}, codec {summary.codec}, seeds {', '.join(map(str, summary.seeds))}."
    )


def training_note(measured: pd.DataFrame, of_rows: pd.Series) -> str:
    """How rows of ablations were trained, and whole networks; empty without rows, or where both are alike.

    Args:
        measured: columns training and seeds, NaN where nothing was measured.
        of_rows: which lines of it are about rows of ablations.
    """
    trainings = measured[["training", "seeds"]].dropna()
    words = trainings["training"] + trainings["seeds"].map(lambda n: f", {n:.0f} {'seed' if n == 1 else 'seeds'}")
    rows, networks = (" or ".join(words[which[words.index]].unique()) for which in (of_rows, ~of_rows))
    if not rows or rows == networks:
        return ""
    beside = f"; whole networks: {networks}" if networks else ""
    return f"Rows of ablations (`network:row`) are trainings of their own: {rows}{beside}. Compare rows with rows only."
