"""The papers' result tables, with what this study measured beside every printed figure."""

from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import NOT_RUN, bootstrap, spread
from hpelib.records import records
from hpelib.study.results import claims
from hpelib.study.results.measurements import RECALL, Measurement, find, full_sizes

RESULTS = Path("data/paper_results.csv")
COLUMNS = (
    "paper",
    "table",  # its number there
    "title",
    "row",
    "kind",  # "network", of this study, or "quoted": never measured here
    "entry",  # what is measured for a row, as in `hpelib.study.results.measurements`
    "dataset",
    "split",  # as printed
    "input",  # "256x192", height first
    "metric",
    "value",  # empty where the paper prints none
    "note",
)
KINDS = ("network", "quoted")
LEADING = ("AP_det", "PCKh@0.5", "PCK@0.2")  # shown with an interval
MEASURED = ["ours", "sd", "seeds", "training", "run", "judged_by", "judged", "low", "high"]
ROW_MARK = "†"  # of rows of ablations
SIZES = {"params (M)": ["params (M)"], "GFLOPs": ["MACs (G)", "legacy GFLOPs"]}  # printed: counted

EXPLANATION = f"""\
Columns named *paper* hold what is printed there, columns named *ours* what was measured here; the two are never \
mixed. Rows in italics are quoted: methods outside this study, never measured. *{NOT_RUN}* is a network of this study \
that was not trained under this profile, or not at this input.

Accuracy, ours: mean ± standard deviation over seeds, in percent, with the 95 % interval over persons in brackets. AP \
is no mean over persons; beside it stands *{RECALL}*, the share of the OKS thresholds 0.50 to 0.95 that a person \
reaches from the annotated box, with its interval. `_det` marks AP and AR from a detector's boxes. All of ours are of \
one test split, predicted at one scale with the flip test. It stands in for val and test splits of the paper alike, as \
the annotations of COCO test-dev and MPII test are not public.

Sizes, ours, are counted on networks of the paper's size, whatever the profile: MACs in 10^9, and legacy GFLOPs as the \
tool of the official HRNet code counts. Which of the two a paper prints, and what its parts cost, stands on \
[the page of sizes](../../sizes/sizes.md)."""


def read_results(path: Path = RESULTS) -> pd.DataFrame:
    """The printed figures, with the columns `COLUMNS`; `value` is text, with the digits that the paper prints.

    Raises:
        ValueError: other columns, an unknown kind, or a network without an entry.
    """
    results = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(results.columns) != COLUMNS:
        raise ValueError(f"{path}: columns {', '.join(results.columns)}; expected are {', '.join(COLUMNS)}")
    for line, row in enumerate(results.itertuples(), start=2):
        if row.kind not in KINDS:
            raise ValueError(f"{path}, line {line}: kind {row.kind!r} is none of {', '.join(KINDS)}")
        if (row.kind == "network") != bool(row.entry):
            raise ValueError(f"{path}, line {line} ({row.row}): a network has an entry, a quoted row has none")
    return results


def measure(params: dict, results: pd.DataFrame) -> pd.DataFrame:
    """The printed figures with ours beside them.

    Added columns: `ours`, mean over seeds in percent, and `sd` over them; `judged_by`, `judged`, `low` and `high`, the
    figure with a 95 % interval over persons that stands for it; `seeds`, how many; `training`, how long and by whose
    recipe; `run`, what the test was. For sizes the counts of `SIZES`. NaN where not measured.
    """
    of_networks = results[results["entry"] != ""]
    sizes = of_networks[of_networks["metric"].isin(SIZES)]
    measurements = {
        key: find(params, *key) for key in dict.fromkeys(zip(of_networks["entry"], of_networks["dataset"], strict=True))
    }
    figures = {
        row.Index: _figure(measurements[row.entry, row.dataset], row.metric)
        for row in of_networks.drop(sizes.index).itertuples()
    }
    measured = results.join(pd.DataFrame.from_dict(figures, orient="index", columns=MEASURED))
    return measured.join(full_sizes(params, sizes))


def _figure(measurement: Measurement | None, metric: str) -> dict:
    values = measurement.values(metric) if measurement else []
    if not values or np.isnan(values).any():
        return {}
    over_seeds = spread(values)
    row = {"ours": over_seeds.mean, "sd": over_seeds.sd, "seeds": over_seeds.count}
    row |= {"training": measurement.training, "run": _describe(measurement)}
    if metric not in LEADING:
        return row
    judged = measurement.judged(metric)
    interval = bootstrap(judged.scores.mean(axis=0))
    return row | {"judged_by": judged.metric, "judged": interval.value, "low": interval.low, "high": interval.high}


def _describe(measurement: Measurement) -> str:
    """What was tested on what, in one sentence."""
    summary = measurement.summary
    return (
        f"{summary['dataset']}: {summary['persons']} persons of the test split of {summary['source']}, profile "
        f"{summary['profile']}, input {'x'.join(map(str, summary['input_size']))} px (width x height), "
        f"{measurement.training} in {summary['precision']}, flip test in {summary['test']['precision']}, "
        f"codec {summary['codec']}, seeds {', '.join(map(str, measurement.seeds))}."
    )


def table(measured: pd.DataFrame) -> pd.DataFrame:
    """One table of one paper, given its part of what `measure` returns, as cells for a reader.

    Rows of ablations that were measured carry `ROW_MARK`, which `row_note` explains.
    """
    metrics = measured["metric"].unique()
    rows = []
    for (name, entry), part in measured.groupby(["row", "entry"], sort=False):
        quoted = not entry
        marked = name + f" {ROW_MARK}" * bool(_is_measured_row(part).any())
        cells = {"row": f"*{name} (quoted)*" if quoted else marked}
        for metric in metrics:
            found = part[part["metric"] == metric]
            figure = found.iloc[0] if len(found) else None
            printed = "" if figure is None else figure["value"]
            cells[f"{metric}, paper"] = f"*{printed}*" if quoted and printed else printed
            cells |= _ours(metric, figure, quoted)
        rows.append(cells | {"note": "; ".join(note for note in part["note"].unique() if note)})
    return pd.DataFrame(rows)


def _ours(metric: str, figure: pd.Series | None, quoted: bool) -> dict[str, str]:
    """Our cells beside one printed figure: empty in a quoted row and where the paper has no such row."""
    empty = quoted or figure is None
    if metric in SIZES:
        return {f"{count}, ours": "" if empty else f"{figure[count]:#.4g}" for count in SIZES[metric]}
    missing = not empty and np.isnan(figure["ours"])
    cell = "" if empty else NOT_RUN if missing else f"{figure['ours']:.1f}{_deviation(figure['sd'])}"
    if metric not in LEADING:
        return {f"{metric}, ours": cell}
    interval = "" if empty or missing else f"[{figure['low']:.1f}, {figure['high']:.1f}]"
    if metric != "AP_det":
        return {f"{metric}, ours": f"{cell} {interval}".strip()}
    recall = f"{figure['judged']:.1f} {interval}" if interval else cell
    return {f"{metric}, ours": cell, f"{RECALL}, ours": recall}


def _deviation(sd: float) -> str:
    return "" if np.isnan(sd) else f" ± {sd:.1f}"


def row_note(measured: pd.DataFrame) -> str:
    """What `ROW_MARK` says on a page: how rows of ablations were trained, and if others compare with them."""
    is_row = _is_measured_row(measured)
    rows, networks = (claims.trainings(measured[which]) for which in (is_row, ~is_row))
    alone = " (no ±)" if (measured.loc[is_row, "seeds"] == 1).all() else ""
    apart = f"; not comparable with the other rows: {networks}" if networks not in ("", rows) else ""
    return f"{ROW_MARK} A row of the ablations: {rows}{alone}{apart}."


def _is_measured_row(measured: pd.DataFrame) -> pd.Series:
    return measured["entry"].str.contains(":") & measured["training"].notna()


def page(paper: str, measured: pd.DataFrame, ledger: pd.DataFrame) -> str:
    """A paper's page as Markdown: its tables, then whether the gains hold that it claims.

    `measured` and `ledger` are what `measure` and `claims.ledger` say about this paper.
    """
    runs = measured["run"].dropna().unique()
    profiles = claims.profile_note(ledger["profile"].dropna())
    parts = [f"# {records()[paper].title}: printed and measured", profiles, EXPLANATION]
    parts.append("\n".join(["Measured:", "", *(f"- {run}" for run in runs)]) if len(runs) else f"Measured: {NOT_RUN}.")
    for (number, title), part in measured.groupby(["table", "title"], sort=False):
        parts.append(f"## Table {number}: {title}\n\n{table(part).to_markdown(index=False, disable_numparse=True)}")
        if _is_measured_row(part).any():
            parts.append(row_note(measured))
    parts += ["## Do the claimed gains hold on equal footing?", claims.answer(ledger), claims.training_note(ledger)]
    parts.append(claims.markdown(ledger))
    parts.append("By which rule these verdicts are made stands at the top of [the ledger](../../claims/claims.md).")
    parts.append(f"[What the paper leaves open](../../../docs/ledger_{paper}.md), and how that was decided here.")
    return "\n\n".join(part for part in parts if part) + "\n"


def save(paper: str, measured: pd.DataFrame, ledger: pd.DataFrame, folder: Path) -> None:
    """Write tables.md, the paper's `page`, and tables.csv, what `measure` returned, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    measured.to_csv(folder / "tables.csv", index=False, float_format="%.6g")
    (folder / "tables.md").write_text(page(paper, measured, ledger), encoding="utf-8")
