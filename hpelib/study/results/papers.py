"""What the study has of a paper: tables with printed figures and ours, claims, ablation, mechanisms."""

from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.layers.choices import require_choice
from hpelib.metrics.statistics import NOT_RUN, standard_deviation
from hpelib.study.config import make_dataset, work_folder
from hpelib.study.entries import COUNTS, counted_size, read_counts, read_table
from hpelib.study.results import ablations, claims, headlines, measurements
from hpelib.study.results.comparisons import Study
from hpelib.study.results.headlines import LEADING
from hpelib.study.results.measurements import brackets, entry_at, training_note

RESULTS = Path("data/paper_results.csv")
COLUMNS = (
    *("paper", "table", "title", "row"),  # table: its number there
    "kind",  # "network", of this study, or "quoted": never measured here
    "entry",  # what is measured for a row; empty in quoted rows
    *("dataset", "split", "input"),  # split as printed; input such as "256x192", height first
    *("metric", "value", "note"),  # value: empty where the paper prints none
)
KINDS = ("network", "quoted")
MEASURED = ("ours", "sd", "low", "high", "seeds", "training", "run", "input_here", "state")
UNDEFINED, NOT_MEASURED, ABOVE = "undefined", "not measured", "as above"  # states, beside `NOT_RUN`, of cells of ours
ACTING = (
    "*acts* says that the output varies with the person; this does not say that it is used or helps. The other states: "
    "*constant* (hardly varies), *off at this input* (kernels of one pixel move nothing)."
)
PRINTED_SIZES = ("params (M)", "GFLOPs")
TIME = "time (ms)"  # on hardware of the paper, so that no figure of ours stands beside it
BESIDE = {"GFLOPs": COUNTS[1:], TIME: ()}  # not one figure of ours beside a printed one
NO_STUDY = "*No study was run here: `make study` measures what belongs here. Recorded results are in `reports/`.*"


def _of_a_study(part: Callable[..., str]) -> Callable[..., str]:
    @wraps(part)
    def or_what_makes_it(paper: "Paper", *arguments) -> str:
        return NO_STUDY if paper.counts is None else part(paper, *arguments)

    return or_what_makes_it


class Paper:
    """What the current profile found of one paper, as Markdown part by part; `NO_STUDY` where no study was run."""

    def __init__(self, params: dict, name: str):
        self.name, self.study = name, Study(params)
        counted = work_folder(params) / "sizes/counts.csv"
        self.counts = read_counts(counted) if counted.is_file() else None

    @cached_property
    def ledger(self) -> pd.DataFrame:
        """The paper's claims, as `claims.ledger` judges them."""
        claimed = claims.read_claims()
        return claims.ledger(self.study, claimed[claimed["paper"] == self.name], self.counts)

    @_of_a_study
    def answer(self) -> str:
        """What was measured beside the baseline, and how many claims have which verdict, under which profile."""
        sizes = f" {claims.size_answer(self.ledger)}" if self.ledger["metric"].isin(COUNTS).any() else ""
        title = f"**Answer, profile `{self.study.params['profile']}`.**"
        parts = [f"{title} {headlines.measured(self.study, self.name)}", f"{claims.answer(self.ledger)}{sizes}"]
        if self.name in self.study.params["ablations"]:
            parts.append(ablations.whole(self.study.params, ablations.measure(self.study, [self.name])))
        return "\n\n".join(filter(None, [*parts, claims.detectable(self.ledger)]))

    @_of_a_study
    def claims(self) -> str:
        """Every claim with its verdict."""
        return claims.page(self.ledger)

    @_of_a_study
    def acting(self) -> str:
        """Whether each mechanism acts, in every training."""
        found = acting(self.study, self.name)
        return _markdown(found) if found.empty else f"{ACTING}\n\n{_markdown(found)}"

    @_of_a_study
    def ablation(self) -> str:
        """The rows of the ablation over seeds, and what each of them gains over the first."""
        measured = ablations.measure(self.study, [self.name])
        if measured["value"].isna().all():
            return ablations.not_run(self.study.params, self.name)
        cells = ablations.table(measured).drop(columns="paper")
        cells.insert(
            1, "switched in the full network", cells["row"].map(ablations.switches(self.study.params, self.name))
        )
        return _markdown(cells)

    @_of_a_study
    def tables(self, out: Path) -> str:
        """The paper's tables with ours beside every printed figure; all figures also go into tables.csv below `out`."""
        printed = read_results()
        measured = measure(self.study, printed[printed["paper"] == self.name], self.counts)
        out.mkdir(parents=True, exist_ok=True)
        measured.to_csv(out / "tables.csv", index=False, float_format="%.6g")
        parts = [f"- {run}" for run in measured["run"].dropna().unique()]
        parts += ["", training_note(measured, measured["entry"].str.contains(":"))]
        for (number, title), part in measured.groupby(["table", "title"], sort=False):
            parts += [f"\n### Table {number}: {title}\n", *_other_inputs(part), _markdown(table(part))]
        return "\n".join(parts)


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
    - `training`: how long and by whose recipe. `run`: what was tested on what. `input_here`: of ours, height first.
    - `state`: why `ours` is empty: `NOT_RUN`, `UNDEFINED`, `NOT_MEASURED`, or `ABOVE` where a row of the same table has
      the same figure for another input.

    Args:
        results: what `read_results` returns, or some of its rows.
        counts: sizes of networks, as `hpelib.study.entries.read_counts` returns them.
    """
    ours, inputs = {}, {}
    for row in results[results["entry"] != ""].itertuples():
        if row.metric in PRINTED_SIZES:
            ours[row.Index] = counted_size(counts, row.entry, row.dataset, row.input)
            continue
        entry = entry_at(study.params, row.entry, row.input)
        figure = _figure(study, entry, row.dataset, row.metric)
        first = inputs.setdefault((row.paper, row.table, row.split, entry, row.dataset, row.metric), row.input)
        if "ours" in figure and first != row.input:
            figure = {"state": ABOVE, "input_here": figure["input_here"]}
        ours[row.Index] = figure
    return results.join(pd.DataFrame([*ours.values()], index=[*ours], columns=[*MEASURED, *COUNTS]))


def _figure(study: Study, entry: str, dataset: str, metric: str) -> dict:
    evaluation = study.find(entry, dataset)
    if evaluation is None:
        return {"state": NOT_RUN}
    values = evaluation.values(metric)
    if not values or np.isnan(values).any():
        return {"state": UNDEFINED if values else NOT_MEASURED}
    how = evaluation.summary, measurements.has_own_recipe(study.params, entry)
    row = {"ours": np.mean(values), "sd": standard_deviation(values), "seeds": len(values)}
    row |= {"training": measurements.training(*how), "run": measurements.describe(*how)}
    width, height = evaluation.summary.input_size
    row |= {"input_here": f"{height}x{width}"}
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
        notes = [note for note in part["note"].unique() if note]
        repeated = part.loc[part["state"] == ABOVE, "input_here"].unique()
        notes += [f"ours: {size} for both inputs, see above" for size in repeated]
        rows.append(cells | {"note": "; ".join(notes)})
    figures = [[f"{metric}, paper", *(f"{name}, ours" for name in names)] for metric, names in ours.items()]
    return pd.DataFrame(rows, columns=["row", *chain(*figures), "note"]).fillna("")


def _other_inputs(part: pd.DataFrame) -> list[str]:
    """A sentence for a table with figures of ours at another input than its rows name; none without such figures."""
    accuracy = part[part["input_here"].notna() & (part["input_here"] != part["input"])]
    here = " and ".join(accuracy["input_here"].unique())
    return [f"Ours are at {here} px (height x width), whatever input a row names.\n"] if here else []


def _ours(name: str, figure: dict) -> str:
    """The cell of our figure `name` beside a printed figure."""
    if name in COUNTS:
        return f"{figure[name]:#.4g}"
    if np.isnan(figure["ours"]):
        return "" if figure["state"] == ABOVE else figure["state"]
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


def leading(study: Study, entries: Sequence[str], dataset: str) -> pd.Series:
    """The leading figure of entries on a dataset over their seeds, with its interval, as cells for a reader."""
    form = make_dataset(study.params, dataset).form
    metric = next((name for name in LEADING if name in form.columns), form.main_metric)
    figures = [_figure(study, entry, dataset, metric) for entry in entries]
    rows = pd.DataFrame(figures, columns=MEASURED).to_dict("records")
    return pd.Series([_ours(metric, row) for row in rows], [*entries], name=f"{metric}, {dataset}")


def _markdown(table: pd.DataFrame) -> str:
    return "*nothing was tested*" if table.empty else table.to_markdown(index=False, disable_numparse=True)
