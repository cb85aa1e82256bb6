"""The quantitative claims of the papers, each beside what this study measured of it."""

from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import (
    NOT_RUN,
    NOT_TESTABLE,
    NOTHING,
    SEEN,
    SMALLER,
    VERDICTS,
    holm,
    how_often,
    persons_needed,
    seeds_needed,
    standard_deviation,
    verdict,
)
from hpelib.study.config import make_dataset, networks_on
from hpelib.study.entries import COUNTS, counted_size, read_table
from hpelib.study.results.comparisons import OF_DIFFERENCE, ONE_SEED, Study, detectable_among
from hpelib.study.results.measurements import brackets, count, entry_at, p_cell

CLAIMS = Path("data/claims.csv")
COLUMNS = (
    *("id", "paper", "source", "claim"),  # source: table or section
    "kind",  # "claim" of the paper, or "control" of ours that a claim is read beside
    *("better", "worse", "dataset"),  # the entry that is said to be better, or cheaper, and the other one
    *("input", "metric"),  # input: "256x192", height first; of claims about size, or where it is not the usual one
    "difference",  # better - worse as the paper has it; empty where it only says which is better
    "unit",  # "points"; of sizes "M", "G", or "% or less", where the difference is relative
    "needs",  # mechanisms of the better side's record that must act, or the claim is not tested; parted by spaces
)
SIDES = ["better_at", "worse_at"]  # entries of the current profile that stand for better and worse at the claim's input
MEASUREMENT = [*SIDES, "dataset", "metric"]  # claims that share these are one measurement
MEASURED = (
    *SIDES,
    *("ours", *OF_DIFFERENCE, "seeds", "pictures", "persons"),
    *("p_below", "p_holm", "p_below_holm", "training", "profile", "verdict", "reason"),
)
AT_MOST = "% or less"
TIME = "time (ms)"  # of one picture; a matter of machines, which this study does not compare
VAL_PERSONS = {"coco": 6352, "mpii": 2958, "lsp": 1000}  # annotated, in val2017, MPII's usual val split, LSP's test
MEANINGS = {
    SMALLER: "A true gain as large as claimed would probably have shown otherwise. There may even be a loss: see the "
    "sign of *ours*. Papers report about 75 AP or 90 PCKh. If ours are far below, a point does not mean the same."
}
COUNT_VERDICTS = COUNTED, COUNTED_OTHERWISE = "as counted here", "not as counted here"


def read_claims(path: Path = CLAIMS) -> pd.DataFrame:
    """Read the claims: the columns `COLUMNS`, and `claimed`, the difference as a number.

    The difference itself stays text, because its last printed digit counts.

    Raises:
        ValueError: other columns, a repeated id, or a cell that cannot be read; the message names the place.
    """
    claims = read_table(path, COLUMNS)
    if (repeated := claims.loc[claims["id"].duplicated(), "id"]).size:
        raise ValueError(f"{path}: id {', '.join(repeated)} is there twice")
    claims["claimed"] = pd.to_numeric(claims["difference"], errors="coerce")
    if (wrong := claims[claims["claimed"].isna() & (claims["difference"] != "")]).size:
        raise ValueError(f"{path}: {wrong.iloc[0]['id']}: difference {wrong.iloc[0]['difference']!r} is no number")
    return claims


def ledger(study: Study, claims: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """The claims with what was measured of each, in the columns `MEASURED`; NaN where nothing was.

    - `ours`, `low`, `high`: the claimed difference as measured here, averaged over seeds, with its 95 % interval over
      pictures and seeds. `p` is two-sided; `p_holm` is corrected for the measurements of the paper that can be tested.
    - `p_below_holm`: of a gain as large as claimed, corrected for the claims of the paper that can be tested.
    - `detectable`: after the same correction.
    - `picture_sd`, `seed_sd`, `freedom`, `seeds`, `pictures`: as in `Difference`.
    - `training`: how long and by whose recipe. `profile`: "full size" for claims about sizes.
    - `reason`: why nothing can be tested, or was not run.
    - `measurement`: the id of the claim that the measurement is counted for; rows with another id repeat it.

    Args:
        claims: what `read_claims` returns, or some of its rows: all claims of a paper, or p values are too small.
        counts: sizes of networks, as `hpelib.study.entries.read_counts` returns them.
    """
    rows = [
        _judge_size(claim, counts) if claim.metric in COUNTS else _judge_accuracy(claim, study)
        for claim in claims.itertuples()
    ]
    found = claims.join(
        pd.DataFrame(rows, index=claims.index).reindex(columns=MEASURED).astype({"verdict": object, "reason": object})
    )
    for _, family in found[found["verdict"].isna()].groupby(["paper", "kind"]):
        first = family.drop_duplicates(MEASUREMENT)
        of_measurement = first[MEASUREMENT].assign(p_holm=holm(first["p"]))
        found.loc[family.index, "p_holm"] = family[MEASUREMENT].merge(of_measurement, how="left")["p_holm"].to_numpy()
        found.loc[family.index, "p_below_holm"] = holm(family["p_below"])
        found.loc[family.index, "detectable"] = detectable_among(family, len(first))
        judged = found.loc[family.index, ["ours", "p_holm", "p_below_holm"]].itertuples(index=False)
        found.loc[family.index, "verdict"] = [verdict(*each) for each in judged]
    return found.assign(measurement=_counted_for(found))


def _counted_for(found: pd.DataFrame) -> pd.Series:
    """For each claim the id of the one that its measurement is counted for: the first of those that were tested."""
    untested = found["verdict"].isin([NOT_TESTABLE, NOT_RUN])
    ordered = found.loc[untested.sort_values(kind="stable").index]
    accuracy = ordered[~ordered["metric"].isin(COUNTS)]
    first = accuracy.groupby(["paper", "kind", *MEASUREMENT])["id"].transform("first")
    return first.reindex(found.index).fillna(found["id"])


def _judge_accuracy(claim, study: Study) -> dict:
    sides = [entry_at(study.params, entry, claim.input) for entry in (claim.better, claim.worse)]
    row = study.compare(*sides, claim.dataset, claim.metric, claim.needs.split(), claim.claimed)
    return row | dict(zip(SIDES, sides, strict=True))


def _judge_size(claim, counts: pd.DataFrame) -> dict:
    """Sizes are counted, so nothing is left to chance."""
    sides = (counted_size(counts, entry, claim.dataset, claim.input) for entry in (claim.better, claim.worse))
    better, worse = (size[claim.metric] for size in sides)
    ours = 100 * (better / worse - 1) if claim.unit == AT_MOST else better - worse
    if claim.unit == AT_MOST:
        holds = ours <= claim.claimed
    elif claim.difference:
        last_digit = 10.0 ** -len(claim.difference.partition(".")[2])  # 0.01 for "0.16"
        holds = abs(ours - claim.claimed) <= last_digit * (1 + 1e-9)
    else:
        holds = ours < 0
    return {"ours": ours, "profile": "full size", "verdict": COUNTED if holds else COUNTED_OTHERWISE}


def measurements(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of a ledger that are claims of papers about accuracy, each measurement once."""
    accuracy = _of_accuracy(found)
    return accuracy[accuracy["id"] == accuracy["measurement"]]


def _of_accuracy(found: pd.DataFrame) -> pd.DataFrame:
    return found[~found["metric"].isin([*COUNTS, TIME]) & (found["kind"] == "claim")]


def tally(found: pd.DataFrame) -> pd.DataFrame:
    """How many measurements of each paper's claims about accuracy have which verdict."""
    rows = measurements(found)
    counts = pd.crosstab(rows["paper"], rows["verdict"]).reindex(columns=VERDICTS, fill_value=0)
    return counts.reindex(rows["paper"].unique()).rename_axis(columns="verdict")


def answer(found: pd.DataFrame) -> str:
    """What was seen of the claimed gains, in a sentence or two."""
    rows = measurements(found)
    counted = rows["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
    total, tested = len(rows), len(_tested(found))
    several = ", ".join(f"{counted[each]} {each}" for each in VERDICTS[:4] if counted[each] or each == SEEN)
    result = f"{tested} could be tested at this size: {several}" if tested else "none could be tested at this size"
    untested = [f"{counted[NOT_TESTABLE]} cannot be judged{_reasons(rows)}"] if counted[NOT_TESTABLE] else []
    if missing := counted[NOT_RUN]:
        untested.append(f"{missing} {'compares' if missing == 1 else 'compare'} networks that were not run")
    sentences = [f"{_who(found)} {_how_many(total, len(_of_accuracy(found)))}; {result}", "; ".join(untested)]
    return ". ".join(filter(None, sentences)) + "."


def _how_many(measured: int, claimed: int) -> str:
    """Such as "6 differences in accuracy (5 measurements; 1 claim repeats one of them)"."""
    printed, repeats = count(claimed, "difference") + " in accuracy", claimed - measured
    if not repeats:
        return printed
    return (
        f"{printed} ({count(measured, 'measurement')}; {count(repeats, 'claim repeats', 'claims repeat')} one of them)"
    )


def _reasons(rows: pd.DataFrame) -> str:
    """Why rows cannot be tested: " (4 for one seed, 1 because APL_det is undefined)"; empty if all can be tested."""
    reasons = rows.loc[rows["verdict"] == NOT_TESTABLE, "reason"].map(_because)
    several = ", ".join(f"{number} {why}" for why, number in reasons.value_counts().items())
    return f" ({several})" if several else ""


def _because(reason: str) -> str:
    """A reason of `Study.compare` without its figures, as the end of a sentence."""
    if " under " in reason:  # of a mechanism: "gate: constant under 2 of 2 seeds"
        return "because " + reason.partition(" under ")[0].replace(": ", " is ")
    if reason == ONE_SEED:
        return "for one seed"
    kind = reason.partition(":")[0]
    return "because " + {"at the floor": "they are at the floor", "unequal footing": "the sides differ in more"}.get(
        kind, f"there is {kind}" if kind.startswith("no ") else kind
    )


def _who(found: pd.DataFrame) -> str:
    return "The paper prints" if found["paper"].nunique() == 1 else "The papers print"


def detectable(found: pd.DataFrame) -> str:
    """The smallest gains that the tested comparisons show, beside those that are claimed, in a sentence or two."""
    rows = _tested(found)
    if rows.empty:
        return ""
    claimed, smallest = rows["claimed"].dropna(), rows["detectable"]
    return (
        f"In half of the tested comparisons a true gain must be at least {smallest.median():.1f} points to be detected "
        f"{how_often(rows['seeds'])}; in the most exact one {smallest.min():.1f}. {_who(found)} "
        f"{claimed.median():.1f} points in the median, and {(claimed < smallest[claimed.index]).sum()} of "
        f"{len(claimed)} printed gains are too small to be detected here. What can be detected depends on how many "
        "comparisons are corrected together. Here these are the tested ones of a paper; in the tables of a dataset "
        "they are those of its networks."
    )


def detectable_table(found: pd.DataFrame) -> pd.DataFrame:
    """For each figure: how many gains were tested, what is claimed, and what could be detected; medians, in points."""
    rows = _tested(found)
    grouped = rows.assign(figure=rows["metric"] + ", " + rows["dataset"]).groupby("figure", sort=False)
    table = grouped.agg(
        tested=("id", "size"),
        claimed=("claimed", "median"),
        detectable=("detectable", "median"),
        **{"best detectable": ("detectable", "min")},
        seeds=("seeds", "max"),
        persons=("persons", "max"),
    )
    return table.round({"claimed": 2, "detectable": 1, "best detectable": 1}).astype({"seeds": int, "persons": int})


def _tested(found: pd.DataFrame) -> pd.DataFrame:
    rows = measurements(found)
    return rows[~rows["verdict"].isin([NOT_RUN, NOT_TESTABLE])]


def size_answer(found: pd.DataFrame) -> str:
    """How many claims about size are what is counted here, in one sentence."""
    sizes = found.loc[found["metric"].isin(COUNTS), "verdict"]
    right = (sizes == COUNTED).sum()
    are = "is" if right == 1 else "are"
    return f"Of {count(len(sizes), 'claim')} about parameters and compute, {right} {are} as counted here."


def table(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of a ledger as cells for a reader: eight columns, of which the last is p where all rows were tested."""
    unit = found["metric"].where(found["unit"] != AT_MOST, "% in " + found["metric"])
    claimed = found["difference"].where(found["claimed"] < 0, "+" + found["difference"])
    bounds = found[["low", "high"]].itertuples(index=False)
    intervals = pd.Series([f" {brackets(*each, '+.2f')}" for each in bounds], found.index, object)
    repeats = found["id"] != found["measurement"]
    cells = {
        "id": found["id"].where(~repeats, found["id"] + " (= " + found["measurement"] + ")"),
        "claim": found["claim"] + " (" + found["source"] + ")",
        "compared": found["better"] + " with " + found["worse"],
        "figure": unit + ", " + found["dataset"],
        "paper": claimed.where(found["difference"] != "", "no figure"),
        "ours": found["ours"].map("{:+.2f}".format, na_action="ignore") + intervals.where(found["low"].notna(), ""),
        "detectable": found["detectable"].map("{:.1f}".format, na_action="ignore"),
    }
    if found["p_holm"].notna().all():
        cells["p (Holm)"] = found["p_holm"].map(p_cell)
    elif found["verdict"].nunique() > 1:
        cells["verdict"] = found["verdict"] + (": " + found["reason"]).fillna("")
    else:
        cells["reason"] = found["reason"]
    return pd.DataFrame(cells, dtype=object).fillna("")


def page(found: pd.DataFrame) -> str:
    """The ledger as Markdown: claims by verdict, then claims about size, then controls."""
    controls, sizes, times = found["kind"] == "control", found["metric"].isin(COUNTS), found["metric"] == TIME
    claims = found[~controls & ~sizes & ~times]
    groups = {each.capitalize(): claims[claims["verdict"] == each] for each in VERDICTS}
    groups |= {f"Parameters and compute: {each}": found[sizes & (found["verdict"] == each)] for each in COUNT_VERDICTS}
    groups |= {"Speed: not measured by this study": found[times]}
    groups |= {f"Controls of ours: {each}": found[controls & (found["verdict"] == each)] for each in VERDICTS}
    parts = []
    for title, rows in groups.items():
        if len(rows):
            cells = table(rows).replace("", np.nan).dropna(axis=1, how="all").fillna("")
            meaning = MEANINGS.get(rows["verdict"].iloc[0], "")
            parts += [f"### {title}", meaning, cells.to_markdown(index=False, disable_numparse=True)]
    return "\n\n".join(filter(None, parts))


def seed_spread(study: Study) -> pd.DataFrame:
    """What a new seed changes: the standard deviation over seeds of each network's main figure, in percentage points.

    A row for each network, a column for each dataset with its figure; NaN where there are not two seeds.
    """
    columns = {}
    for dataset in study.params["all_datasets"]:
        metric = make_dataset(study.params, dataset).form.main_metric
        found = {name: study.find(name, dataset) for name in networks_on(study.params, dataset)}
        columns[f"{metric}, {dataset}"] = {
            name: standard_deviation(evaluation.values(metric)) for name, evaluation in found.items() if evaluation
        }
    return pd.DataFrame(columns)


def power_table(found: pd.DataFrame) -> pd.DataFrame:
    """What it would take to see each claimed gain four times in five.

    One row for each dataset, metric and claimed size. Its variances are means over the tested comparisons of that row:
    the answer is for a typical pair of networks, and no verdict rests on it. A cell is infinite where no number is
    enough, because the other source of chance alone is too large.
    """
    tested = ~found["verdict"].isin([NOT_RUN, NOT_TESTABLE])
    rows = found[tested & found["seed_sd"].notna() & (found["claimed"] > 0) & (found["kind"] == "claim")]
    lines = []
    for (dataset, metric, claimed), part in rows.groupby(["dataset", "metric", "claimed"]):
        part = part.drop_duplicates("measurement")
        picture_sd, seed_sd = (float(np.sqrt((part[name] ** 2).mean())) for name in ("picture_sd", "seed_sd"))
        person_sd = picture_sd * part["persons"].iloc[0] ** 0.5
        line = {"figure": f"{metric}, {dataset}", "claimed": claimed}
        for seeds in (3, 5, 10, 20):
            line[f"persons, {seeds} seeds"] = persons_needed(claimed, person_sd, seed_sd, seeds)
        lines.append(line | {"seeds, persons as here": seeds_needed(claimed, picture_sd, seed_sd)})
    return pd.DataFrame(lines)


def to_decide(found: pd.DataFrame) -> pd.DataFrame:
    """What would show the claimed gains that were tested and left open, on the persons of the real val splits.

    One row for each paper and dataset. Half of its gains need no more than `seeds a side` to be seen four times in
    five, if they are true and if pictures and seeds vary as they do here, after the correction for the tested claims
    of the paper. A training costs each side one seed.
    """
    rows = _tested(found)
    tests = rows["paper"].value_counts()
    rows = rows[(rows["claimed"] > 0) & (rows["verdict"] == NOTHING)]
    lines = []
    for (paper, dataset), part in rows.groupby(["paper", "dataset"], sort=False):
        persons = VAL_PERSONS[dataset]
        seeds = [
            seeds_needed(row.claimed, row.picture_sd * (row.persons / persons) ** 0.5, row.seed_sd, tests[paper])
            for row in part.itertuples()
        ]
        half = np.quantile(seeds, 0.5, method="lower")
        line = {"paper": paper, "gains left open": len(part), "claimed (median)": f"{part['claimed'].median():.2f}"}
        line |= {"test persons": f"{persons} ({dataset} val)"}
        told = [f"{half:.0f}", f"{2 * half:.0f}"] if half < np.inf else ["more persons are needed", ""]
        lines.append(line | dict(zip(("seeds a side", "trainings"), told, strict=True)))
    return pd.DataFrame(lines)
