"""The papers' result tables, with what this study measured beside every printed figure."""

from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.layers.choices import require_choice
from hpelib.metrics.statistics import NOT_RUN, standard_deviation
from hpelib.study.config import networks_on, profile_params
from hpelib.study.entries import COUNTS, counted_size, read_table
from hpelib.study.results import measurements
from hpelib.study.results.comparisons import Study
from hpelib.study.results.measurements import brackets, entry_at

RESULTS = Path("data/paper_results.csv")
COLUMNS = (
    *("paper", "table", "title", "row"),  # table: its number there
    "kind",  # "network", of this study, or "quoted": never measured here
    "entry",  # what is measured for a row; empty in quoted rows
    *("dataset", "split", "input"),  # split as printed; input such as "256x192", height first
    *("metric", "value", "note"),  # value: empty where the paper prints none
)
KINDS = ("network", "quoted")
LEADING = ("AP_det", "PCKh@0.5", "PCK@0.2")  # shown with an interval
MEASURED = ("ours", "sd", "low", "high", "seeds", "training", "run")
PRINTED_SIZES = ("params (M)", "GFLOPs")
TIME = "time (ms)"  # on hardware of the paper, so that no figure of ours stands beside it
BESIDE = {"GFLOPs": COUNTS[1:], TIME: ()}  # not one figure of ours beside a printed one


def read_results(path: Path = RESULTS) -> pd.DataFrame:
    """Read the printed figures: the columns `COLUMNS`, `value` as text with the digits that the paper prints.

    Raises:
        ValueError: other columns, an unknown kind, or a network without an entry; the message names the line.
    """
    results = read_table(path, COLUMNS)
    for line, row in enumerate(results.itertuples(), start=2):
        require_choice(f"{path}, line {line}: kind", row.kind, KINDS)
        if (row.kind == "network") != (row.entry != ""):
            raise ValueError(f"{path}, line {line} ({row.row}): a network has an entry, a quoted row has none")
    return results


def measure(study: Study, results: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """The printed figures with ours beside them, in the columns `MEASURED` and `COUNTS`; NaN where not measured.

    - `ours` and `sd`: mean and standard deviation over seeds, in percent. `seeds`: how many.
    - `low`, `high`: of leading figures, the 95 % interval of `ours` over pictures.
    - `training`: how long and by whose recipe. `run`: what was tested on what.

    Args:
        results: what `read_results` returns, or some of its rows.
        counts: sizes of networks, as `hpelib.study.entries.read_counts` returns them.
    """
    ours = {}
    for (entry, dataset, size), rows in results[results["entry"] != ""].groupby(["entry", "dataset", "input"]):
        for row in rows.itertuples():
            if row.metric in PRINTED_SIZES:
                ours[row.Index] = counted_size(counts, entry, dataset, size)
            else:
                ours[row.Index] = _figure(study, entry_at(study.params, entry, size), dataset, row.metric)
    return results.join(pd.DataFrame([*ours.values()], index=[*ours], columns=[*MEASURED, *COUNTS]))


def left_out(params: dict, results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the papers' tables that the current profile does not fill, each once.

    Columns: paper, table, row, entry, dataset, input; and `remedy`: the network to add to `networks` in params.yaml, or
    that the profile has no such network or dataset.
    """
    networks, rows = profile_params(params)["networks"], []
    trained = {dataset: networks_on(params, dataset) for dataset in params["all_datasets"]}
    cells = ["paper", "table", "row", "entry", "dataset", "input"]
    for row in results.loc[results["kind"] == "network", cells].drop_duplicates().itertuples(index=False):
        name, _, part = entry_at(params, row.entry, row.input).partition(":")
        if part and name in networks and row.dataset in params["ablations"][name]["datasets"]:
            continue
        if not part and name in trained.get(row.dataset, ()):
            continue
        known = name in networks and row.dataset in trained and not part
        remedy = f"add {name} to `networks`" if known else f"no {row.entry} on {row.dataset} in this profile"
        rows.append(row._asdict() | {"remedy": remedy})
    return pd.DataFrame(rows, columns=[*cells, "remedy"])


def _figure(study: Study, entry: str, dataset: str, metric: str) -> dict:
    evaluation = study.find(entry, dataset)
    values = evaluation.values(metric) if evaluation else []
    if not values or np.isnan(values).any():
        return {}
    how = evaluation.summary, measurements.has_own_recipe(study.params, entry)
    row = {"ours": np.mean(values), "sd": standard_deviation(values), "seeds": len(values)}
    row |= {"training": measurements.training(*how), "run": measurements.describe(*how)}
    interval = study.interval(entry, dataset, metric) if metric in LEADING else None
    return row | ({"low": interval.low, "high": interval.high} if interval else {})


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """One table of one paper, its part of what `measure` returns, as cells for a reader.

    Quoted rows are in italics. Rows of ablations that were trained carry †.
    """
    ours = {metric: BESIDE.get(metric, (metric,)) for metric in measured["metric"].unique()}
    rows = []
    for (name, entry), part in measured.groupby(["row", "entry"], sort=False):
        quoted = entry == ""
        marked = f"{name} †" if part["training"].notna().any() and ":" in entry else name
        cells = {"row": f"*{name} (quoted)*" if quoted else marked}
        for figure in part.to_dict("records"):
            metric, printed = figure["metric"], figure["value"]
            cells[f"{metric}, paper"] = f"*{printed}*" if quoted and printed else printed
            cells |= {} if quoted else {f"{name}, ours": _ours(name, figure) for name in ours[metric]}
        rows.append(cells | {"note": "; ".join(note for note in part["note"].unique() if note)})
    figures = [[f"{metric}, paper", *(f"{name}, ours" for name in names)] for metric, names in ours.items()]
    return pd.DataFrame(rows, columns=["row", *chain(*figures), "note"]).fillna("")


def _ours(name: str, figure: dict) -> str:
    """The cell of our figure `name` beside a printed figure."""
    if name in COUNTS:
        return f"{figure[name]:#.4g}"
    if np.isnan(figure["ours"]):
        return NOT_RUN
    cell = measurements.with_sd(figure["ours"], figure["sd"])
    return cell if np.isnan(figure["low"]) else f"{cell} {brackets(figure['low'], figure['high'])}"


def acting(study: Study, paper: str) -> pd.DataFrame:
    """Whether each mechanism of a paper's network acts, as cells for a reader: one row for each training and mechanism.

    Trainings are those of the network on every dataset and of the rows of its ablation. Shares are means over seeds;
    where seeds differ, every state is named. Empty where nothing was tested.
    """
    ablation = study.params["ablations"][paper]
    entries = [(paper, dataset) for dataset in study.params["all_datasets"]]
    entries += [(f"{paper}:{row}", dataset) for dataset in ablation["datasets"] for row in ablation["rows"]]
    rows = []
    for entry, dataset in entries:
        evaluation = study.find(entry, dataset)
        found = [] if evaluation is None else evaluation.liveness.groupby("mechanism", sort=False)
        for mechanism, of_seeds in found:
            shares = of_seeds[["alive_share", "person_share"]].mean()
            rows.append(
                {
                    "training": f"{entry} on {dataset}",
                    "mechanism": mechanism.replace("_", " "),
                    "state": " or ".join(of_seeds["state"].unique()),
                    "units": str(of_seeds["units"].iloc[0]),
                    "units alive": f"{shares.alive_share:.0%}",
                    "variance over persons": f"{shares.person_share:.1%}",
                    "seeds": str(len(of_seeds)),
                }
            )
    return pd.DataFrame(rows)
