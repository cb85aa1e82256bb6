"""What the study measured of an entry, and the words that every page uses for it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import standard_deviation
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import networks_on, profile_params, study_runs
from hpelib.study.entries import Entry
from hpelib.study.evaluation import Evaluation, Summary, join, load

SIZES = ("params (M)", "MACs (G)", "legacy GFLOPs")  # what is counted of an entry
COUNTED = ["entry", "dataset", "input"]  # and for what
OKS_THRESHOLDS = np.arange(0.5, 1, 0.05)
RECALL = "OKS recall"


class Judged(NamedTuple):
    """What an interval over persons is taken of."""

    metric: str
    scores: np.ndarray  # (seeds, N, 1 or more), 0 to 1, NaN where not scored


def find(params: dict, entry: Entry, dataset: str) -> Evaluation | None:
    """The evaluation of an entry over all seeds that are finished; None if the current profile has none of it."""
    if entry.network not in profile_params(params)["networks"]:
        return None
    if entry.row:
        on_dataset = params["ablations"][entry.network]["dataset"] == dataset
        seeds = params["ablation_seeds"] if on_dataset else []
        runs = [ablation_runs(params, entry.network, seed)[entry.row] for seed in seeds]
    else:  # one evaluation holds all seeds
        runs = study_runs(params, entry.network, dataset)[:1] if entry.network in networks_on(params, dataset) else []
    found = [load(run.evaluation) for run in runs if (run.evaluation / "summary.json").is_file()]
    found = [evaluation for evaluation in found if evaluation.summary.profile == params["profile"]]
    return join(found) if found else None


def judged(evaluation: Evaluation, metric: str) -> Judged | None:
    """What stands for `metric` where an interval over persons is needed; None where nothing can.

    PCK, PCKh, OKS and the figures of joint groups are means over keypoints, so they stand for themselves. AP is no
    such mean. `OKS recall` stands for it.
    """
    scores = evaluation.keypoint_scores
    if metric in evaluation.groups:
        return Judged(metric, scores[:, :, evaluation.groups[metric]])
    if metric == evaluation.summary.form.keypoint_metric:
        return Judged(metric, scores)
    return Judged(RECALL, oks_recall(scores)) if metric in ("AP_gt", "AP_det") else None


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


def full_sizes(wanted: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """What entries cost at the papers' size: the columns `SIZES` for each row of `wanted`, by its index.

    Args:
        wanted: columns entry, dataset and input ("256x192", height first).
        counts: what `hpelib.study.results.sizes.read_counts` returns: the same columns and `SIZES`.

    Raises:
        ValueError: an entry was not counted.
    """
    keys = wanted[COUNTED].astype({"entry": str})
    sizes = keys.merge(counts, how="left", on=COUNTED).set_index(wanted.index)[[*SIZES]]
    if (missing := sizes.isna().all(axis=1)).any():
        first = ", ".join(keys[missing].iloc[0])
        raise ValueError(f"the file of sizes lacks {first}; count again: dvc repro sizes")
    return sizes


def read_table(path: Path, columns: tuple[str, ...], entries: tuple[str, ...]) -> pd.DataFrame:
    """Read a table of `data/` as text, with `Entry` or None in the columns `entries`.

    Raises:
        ValueError: other columns, or an entry that cannot be read; the message names the line.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(table.columns) != columns:
        raise ValueError(f"{path}: columns {', '.join(table.columns)}; expected are {', '.join(columns)}")
    for column in entries:
        table[column] = parse_cells(table[column], Entry.parse, path)
    return table


def parse_cells(cells: pd.Series, parse: Callable[[str], object], path: Path) -> pd.Series:
    """The cells of a column as objects, None where a cell is empty.

    Raises:
        ValueError: a cell cannot be read; the message names the line of the file.
    """
    found = []
    for line, text in enumerate(cells, start=2):
        try:
            found.append(parse(text) if text else None)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {cells.name}: {error}") from error
    return pd.Series(found, index=cells.index, dtype=object)


def are_rows(entries: pd.Series) -> pd.Series:
    """Which entries are rows of ablations, as True and False."""
    return entries.map(lambda entry: entry is not None and entry.row != "").astype(bool)


def mean_and_sd(values: Sequence[float]) -> str:
    """A figure over its seeds as a cell: "39.3 ± 0.9", "39.3" for a single seed, "undefined" where one is NaN."""
    return with_sd(np.asarray(values, np.float64).mean(), standard_deviation(values))


def with_sd(mean: float, sd: float) -> str:
    """`mean_and_sd` of a mean and a standard deviation."""
    return "undefined" if np.isnan(mean) else f"{mean:.1f}" if np.isnan(sd) else f"{mean:.1f} ± {sd:.1f}"


def brackets(low: float, high: float, form: str = ".1f") -> str:
    """An interval as part of a cell: "[38.1, 40.6]"."""
    return f"[{low:{form}}, {high:{form}}]"


def has_own_recipe(params: dict, entry: Entry) -> bool:
    """Whether the profile trains this entry by its paper's recipe: rows of ablations, where params.yaml gives one."""
    return entry.row != "" and entry.network in profile_params(params).get("paper_recipes", {})


def training(summary: Summary, own_recipe: bool = False) -> str:
    """How long an entry was trained and by whose recipe, in a few words."""
    epochs = f"{summary.epochs} {'epoch' if summary.epochs == 1 else 'epochs'}"
    return f"{epochs} by the paper's own optimizer and scaled schedule" if own_recipe else epochs


def trainings(measured: pd.DataFrame) -> str:
    """The different trainings in the columns `training` and `seeds`, in words; empty where nothing was measured."""
    pairs = measured[["training", "seeds"]].dropna().drop_duplicates().itertuples(index=False)
    return " or ".join(f"{training}, {seeds:.0f} {'seed' if seeds == 1 else 'seeds'}" for training, seeds in pairs)


def describe(summary: Summary, own_recipe: bool = False) -> str:
    """What was tested on what, in one sentence that stands beside every table."""
    return (
        f"{summary.dataset}: {summary.persons} persons of the test split of {summary.source} "
        f"({summary.format} format), profile {summary.profile}, input {'x'.join(map(str, summary.input_size))} px "
        f"(width x height), {training(summary, own_recipe)} in {summary.precision}, flip test in {summary.test.precision}, "
        f"codec {summary.codec}, seeds {', '.join(map(str, summary.seeds))}."
    )
