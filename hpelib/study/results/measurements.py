"""The words and cells that pages of results have in common."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import standard_deviation
from hpelib.study.config import profile_params
from hpelib.study.evaluation import Summary


def entry_at(params: dict, entry: str, size: str) -> str:
    """The name that an entry has in the current profile at this input: `hrnet_384` for `hrnet` at "384x288".

    It is the entry itself where the profile has no network of such a name.
    """
    sized = f"{entry}_{size.partition('x')[0]}"
    return sized if sized in profile_params(params)["networks"] else entry


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


def p_cell(p: float) -> str:
    """A p value as a cell. So many digits that 0.05 never stands for less: "0.040", "0.0498", "<0.001"."""
    if p < 0.0005:
        return "<0.001"
    return f"{p:.4f}" if abs(p - 0.05) < 0.0005 else f"{p:.3f}"


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
    epochs = count(summary.epochs, "epoch")
    return f"{epochs} by the paper's own optimizer and scaled schedule" if own_recipe else epochs


def describe(summary: Summary, own_recipe: bool = False, others: Sequence[Summary] = ()) -> str:
    """What was tested on what, in one sentence that stands beside every table.

    Args:
        others: of a table over several networks the summaries of the rest. Where they differ, all values are named.
    """
    every = (summary, *others)
    inputs = _each(f"{width}x{height}" for width, height in (each.input_size for each in every))
    return (
        f"{summary.dataset}: {summary.persons} persons of the test split of {summary.source} ({summary.format} "
        f"format), profile {summary.profile}, input {inputs} px (width x height), "
        f"{_each(training(each, own_recipe) for each in every)} in {_each(each.precision for each in every)} on "
        f"{_each(each.machine for each in every)}, flip test in {_each(each.test.precision for each in every)}, "
        f"codec {_each(each.codec for each in every)}, {_each(seed_numbers(each.seeds) for each in every)}."
    )


def _each(values: Iterable[str]) -> str:
    """Different values, each once: "140 epochs or 210 epochs"."""
    return " or ".join(dict.fromkeys(values))


def seed_numbers(seeds: Sequence[int]) -> str:
    """Which seeds: "seed number 1" or "seeds number 0, 1, 2"."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} number {', '.join(map(str, seeds))}"


def count(number: int, singular: str, plural: str = "") -> str:
    """How many of something: "1 seed", "3 seeds"."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def training_note(measured: pd.DataFrame, of_rows: pd.Series) -> str:
    """How rows of ablations were trained, and whole networks; empty without rows, or where both are alike.

    Args:
        measured: columns training, seeds and dataset; training and seeds are NaN where nothing was measured.
        of_rows: which lines of it are about rows of ablations.
    """
    trainings = measured[["training", "seeds", "dataset"]].dropna()
    rows, networks = (_trainings(trainings[which[trainings.index]]) for which in (of_rows, ~of_rows))
    if not rows or rows == networks:
        return ""
    beside = f" Whole networks: {networks}." if networks else ""
    return f"Rows of ablations (`network:row`) are trainings of their own: {rows}.{beside} Compare rows with rows only."


def _trainings(trainings: pd.DataFrame) -> str:
    """Such as "1 epoch, 2 seeds"; where they differ, "4 epochs, 3 seeds on coco; 2 epochs, 3 seeds on mpii and lsp".

    Empty where nothing was trained.
    """
    if trainings.empty:
        return ""
    words = trainings["training"] + ", " + trainings["seeds"].map(lambda number: count(int(number), "seed"))
    if words.nunique() < 2:
        return "".join(words.unique())
    of_each = trainings["dataset"].groupby(words, sort=False).unique()
    return "; ".join(f"{each} on {' and '.join(datasets)}" for each, datasets in of_each.items())
