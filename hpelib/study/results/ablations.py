"""All rows of all papers' ablations, each beside the first row of its paper with the same backbone."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import NOT_RUN, NOT_TESTABLE, NOTHING, OPPOSITE, SEEN, how_often, standard_deviation
from hpelib.study.config import make_dataset
from hpelib.study.results.comparisons import Study, judge
from hpelib.study.results.measurements import brackets, count, interval_cells, p_cell, with_sd

NAMES = ("paper", "dataset", "row", "reference")


def measure(study: Study, papers: Iterable[str] = ()) -> pd.DataFrame:
    """One line for each row and dataset of `papers`, by default of all, in the order of params.yaml.

    Columns: `NAMES`, metric; `value` and `sd`, mean and standard deviation over seeds in percent, NaN where it was not
    run; and for all but the first row of each of the `families`, which is the reference, its gain over that one: what
    `Study.compare` and `judge` return, corrected for the rows of the family on the dataset.
    """
    parts = []
    for paper in papers or study.params["ablations"]:
        for dataset in study.params["ablations"][paper]["datasets"]:
            metric = make_dataset(study.params, dataset).form.main_metric
            for first, *others in families(study.params, paper):
                lines = [_line(study, (paper, dataset, row, first), metric) for row in (first, *others)]
                gains = [study.compare(f"{paper}:{row}", f"{paper}:{first}", dataset, metric) for row in others]
                judged = judge(pd.DataFrame(gains, index=range(1, len(lines))))
                parts.append(pd.DataFrame(lines).join(judged.drop(columns="seeds", errors="ignore")))
    return pd.concat(parts, ignore_index=True)


def families(params: dict, paper: str) -> list[list[str]]:
    """The rows of a paper's ablation that are compared with one another: those with the same backbone.

    The first row of a family is its reference. Example: DITN's rows with ResNet-50 are compared with the first of them
    and not with HRNet, which is another network.
    """
    found: dict[str, list[str]] = {}
    for row, changes in params["ablations"][paper]["rows"].items():
        found.setdefault(changes.get("options", {}).get("backbone", ""), []).append(row)
    return [*found.values()]


def _line(study: Study, names: tuple[str, ...], metric: str) -> dict:
    values = of_seeds(study, *names[:3], metric)
    mean, sd = (float(np.mean(values)), standard_deviation(values)) if values else (np.nan, np.nan)
    return dict(zip(NAMES, names, strict=True)) | {"metric": metric, "value": mean, "sd": sd, "seeds": len(values)}


def of_seeds(study: Study, paper: str, dataset: str, row: str, metric: str) -> list[float]:
    """The figure of a row from each of its seeds, in percent; none if it was not run."""
    found = study.find(f"{paper}:{row}", dataset)
    return found.values(metric) if found else []


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """What `measure` returns, as cells for a reader."""
    ours, tested = measured["ours"].map("{:+.1f}".format, na_action="ignore"), measured["low"].notna()
    values = [NOT_RUN if np.isnan(row.value) else with_sd(row.value, row.sd) for row in measured.itertuples()]
    cells = {
        **{name: measured[name] for name in NAMES},
        "figure": pd.Series(values, measured.index) + " " + measured["metric"],
        "gain over the reference": interval_cells(measured, "ours", "+.1f").where(tested, ours),
        "detectable": measured["detectable"].map("{:.1f}".format, na_action="ignore"),
        "p (Holm)": measured["p_holm"].map(p_cell, na_action="ignore"),
        "verdict": measured["verdict"] + (": " + measured["reason"]).fillna(""),
    }
    return pd.DataFrame(cells, dtype=object).fillna("")


def answer(measured: pd.DataFrame) -> str:
    """What the rows say, in a few sentences."""
    rows = measured[measured["verdict"].notna()]
    counts = rows["verdict"].value_counts()
    tested = rows[rows["verdict"].isin([SEEN, OPPOSITE, NOTHING])]
    better = ", ".join(f"{row.paper}:{row.row} on {row.dataset} ({row.ours:+.1f})" for row in _of(rows, SEEN))
    worse = ", ".join(f"{row.paper}:{row.row} on {row.dataset} ({row.ours:+.1f})" for row in _of(rows, OPPOSITE))
    untested = f"{counts.get(NOT_TESTABLE, 0)} cannot be tested and {counts.get(NOT_RUN, 0)} were not run."
    if tested.empty:
        return f"Of {len(rows)} rows with parts switched on or off, none can be tested here: {untested}"
    smallest = tested["detectable"].median()
    return (
        f"Of {len(rows)} rows with parts switched on or off, {len(tested)} can be compared with the first row of their "
        f"backbone. Better beyond chance: {better or 'none'}. Worse: {worse or 'none'}. {untested} In half of "
        f"the comparisons a true gain must be at least {smallest:.1f} points to be detected "
        f"{how_often(tested['seeds'])}."
    )


def whole(params: dict, measured: pd.DataFrame) -> str:
    """What all parts of a paper together give against none of them, in one sentence; empty where that was not run.

    Example: "All parts together against none of them, in the ablation: -1.8 [-2.8, -0.8] PCKh@0.5 on mpii."
    """
    rows = measured[(measured["row"] == "full") & measured["ours"].notna()]
    intervals = [f" {brackets(row.low, row.high, '+.1f')}" if row.low == row.low else "" for row in rows.itertuples()]
    cells = [
        f"{row.ours:+.1f}{interval} {row.metric} on {row.dataset} ({count(int(row.seeds), 'seed')})"
        for row, interval in zip(rows.itertuples(), intervals, strict=True)
    ]
    if not cells:
        return ""
    beside = _beside(params, rows["paper"].iloc[0])
    return f"All parts together against none of them, in the ablation: {'; '.join(cells)}.{beside}"


def _beside(params: dict, paper: str) -> str:
    """What else is changed in the first row of a paper: " The row with none of them also has: `loss` is `mse`."."""
    first = next(iter(params["ablations"][paper]["rows"].values()))
    changes = {name: value for section in ("recipe", "inputs") for name, value in first.get(section, {}).items()}
    return f" The row with none of them also has: {', '.join(_switches(changes))}." if changes else ""


def switches(params: dict, paper: str) -> dict[str, str]:
    """For each row, what is switched in the full network, in words such as "without `sfm`, `loss` is `mse`"."""
    rows = params["ablations"][paper]["rows"]
    return {row: ", ".join(_switches(changes)) or "the full network" for row, changes in rows.items()}


def _switches(changes: dict) -> Iterator[str]:
    for name, value in changes.items():
        if isinstance(value, dict):
            yield from _switches(value)
        elif value is None:
            yield f"`{name}` by default"
        elif value is True or value is False or value == "off":
            yield f"{'with' if value is True else 'without'} `{name}`"
        else:
            yield f"`{name}` is `{value}`"


def not_run(params: dict, paper: str) -> str:
    """What stands in place of a table without figures: the rows, and the profiles whose recorded pages have them.

    Links are relative to the page of a network, reports/PROFILE/networks/PAPER.
    """
    parts = [f"- `{row}`: {words}" for row, words in switches(params, paper).items()]
    links = [f"[{name}](../../../{name}/ablations/ablations.ipynb)" for name in _recorded(params, paper)]
    elsewhere = f" Recorded rows: {', '.join(links)}." if links else ""
    return "\n".join([f"Not run under this profile.{elsewhere} The rows, and what each switches:", "", *parts])


def _recorded(params: dict, paper: str) -> Iterator[str]:
    """The other profiles in whose reports this paper's ablation has figures."""
    for name in params["profiles"]:
        path = Path("reports") / name / "ablations/ablations.csv"
        if name != params["profile"] and path.is_file():
            rows = pd.read_csv(path)
            if rows.loc[rows["paper"] == paper, "value"].notna().any():
                yield name


def _of(rows: pd.DataFrame, verdict: str):
    return rows[rows["verdict"] == verdict].itertuples()


def points(study: Study, measured: pd.DataFrame) -> pd.DataFrame:
    """Each row's figure from each seed, for charts: columns dataset, row, value."""
    lines = [
        {"dataset": row.dataset, "row": row.row, "value": value}
        for row in measured.itertuples()
        for value in of_seeds(study, row.paper, row.dataset, row.row, row.metric)
    ]
    return pd.DataFrame(lines, columns=["dataset", "row", "value"])
