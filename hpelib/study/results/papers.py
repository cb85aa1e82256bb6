"""The papers' result tables, with what this study measured beside every printed figure."""

from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.layers.choices import require_choice
from hpelib.metrics.statistics import NOT_RUN, bootstrap, standard_deviation
from hpelib.study.entries import Entry
from hpelib.study.evaluation import Evaluation
from hpelib.study.results import measurements
from hpelib.study.results.measurements import RECALL, brackets, find, judged

RESULTS = Path("data/paper_results.csv")
COLUMNS = (
    "paper",
    "table",  # its number there
    "title",
    "row",
    "kind",  # "network", of this study, or "quoted": never measured here
    "entry",  # what is measured for a row; empty in quoted rows
    "dataset",
    "split",  # as printed
    "input",  # "256x192", height first
    "metric",
    "value",  # empty where the paper prints none
    "note",
)
KINDS = ("network", "quoted")
LEADING = ("AP_det", "PCKh@0.5", "PCK@0.2")  # shown with an interval
MEASURED = ("ours", "sd", "seeds", "training", "run", "judged_by", "judged", "low", "high")
PRINTED_SIZES = {"params (M)": ["params (M)"], "GFLOPs": ["MACs (G)", "legacy GFLOPs"]}  # printed: counted


def read_results(path: Path = RESULTS) -> pd.DataFrame:
    """Read the printed figures: the columns `COLUMNS`, `value` as text with the digits that the paper prints.

    Raises:
        ValueError: other columns, an unknown kind, or a network without an entry; the message names the line.
    """
    results = measurements.read_table(path, COLUMNS, entries=("entry",))
    for line, row in enumerate(results.itertuples(), start=2):
        require_choice(f"{path}, line {line}: kind", row.kind, KINDS)
        if (row.kind == "network") != (row.entry is not None):
            raise ValueError(f"{path}, line {line} ({row.row}): a network has an entry, a quoted row has none")
    return results


def measure(params: dict, results: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """The printed figures with ours beside them, in the columns `MEASURED` and `COUNTS`; NaN where not measured.

    - `ours` and `sd`: mean and standard deviation over seeds, in percent. `seeds`: how many.
    - `training`: how long and by whose recipe. `run`: what was tested on what.
    - `judged`, `low`, `high`: the figure `judged_by`, which stands for `ours`, with its interval over persons.

    Args:
        results: what `read_results` returns, or some of its rows.
        counts: sizes of networks, for `full_sizes`.
    """
    of_networks = results[results["entry"].notna()]
    are_sizes = of_networks["metric"].isin(PRINTED_SIZES)
    evaluated = {
        (entry, dataset): find(params, entry, dataset)
        for entry, dataset in of_networks[["entry", "dataset"]].drop_duplicates().itertuples(index=False)
    }
    figures = [
        _figure(params, row.entry, evaluated[row.entry, row.dataset], row.metric)
        for row in of_networks[~are_sizes].itertuples()
    ]
    ours = pd.DataFrame(figures, index=of_networks.index[~are_sizes], columns=MEASURED)
    return results.join(ours).join(measurements.full_sizes(of_networks[are_sizes], counts))


def _figure(params: dict, entry: Entry, evaluation: Evaluation | None, metric: str) -> dict:
    values = evaluation.values(metric) if evaluation else []
    if not values or np.isnan(values).any():
        return {}
    how = evaluation.summary, measurements.has_own_recipe(params, entry)
    row = {"ours": np.mean(values), "sd": standard_deviation(values), "seeds": len(values)}
    row |= {"training": measurements.training(*how), "run": measurements.describe(*how)}
    if metric not in LEADING:
        return row
    by, scores = judged(evaluation, metric)
    interval = bootstrap(scores.mean(axis=0))
    return row | {"judged_by": by, "judged": interval.value, "low": interval.low, "high": interval.high}


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """One table of one paper, its part of what `measure` returns, as cells for a reader.

    Quoted rows are in italics. Rows of ablations that were trained carry †.
    """
    rows = []
    for (name, entry), part in measured.groupby(["row", "entry"], sort=False, dropna=False):
        figures = {figure["metric"]: figure for figure in part.to_dict("records")}
        quoted = pd.isna(entry)
        marked = f"{name} †" if part["training"].notna().any() and entry.row else name
        cells = {"row": f"*{name} (quoted)*" if quoted else marked}
        for metric in measured["metric"].unique():
            printed = figures[metric]["value"] if metric in figures else ""
            cells[f"{metric}, paper"] = f"*{printed}*" if quoted and printed else printed
            cells |= _ours(metric, None if quoted else figures.get(metric))
        rows.append(cells | {"note": "; ".join(note for note in part["note"].unique() if note)})
    return pd.DataFrame(rows)


def _ours(metric: str, figure: dict | None) -> dict[str, str]:
    """Our cells beside one printed figure. They are empty in a quoted row and where the paper has no such row."""
    if metric in PRINTED_SIZES:
        return {f"{size}, ours": f"{figure[size]:#.4g}" if figure else "" for size in PRINTED_SIZES[metric]}
    names = [f"{metric}, ours", *([f"{RECALL}, ours"] if metric == "AP_det" else [])]
    if not figure or np.isnan(figure["ours"]):
        return dict.fromkeys(names, NOT_RUN if figure else "")
    cell = measurements.with_sd(figure["ours"], figure["sd"])
    if metric not in LEADING:
        return {names[0]: cell}
    interval = brackets(figure["low"], figure["high"])
    if metric == "AP_det":
        return {names[0]: cell, names[1]: f"{figure['judged']:.1f} {interval}"}
    return {names[0]: f"{cell} {interval}"}
