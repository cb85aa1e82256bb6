"""The quantitative claims of the papers, each beside what this study measured of it."""

from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import NOT_RUN, NOT_SUPPORTED, SUPPORTED, UNDECIDED, seed_difference, verdict
from hpelib.study.counts import COUNTS
from hpelib.study.evaluation import Evaluation
from hpelib.study.results import measurements
from hpelib.study.results.measurements import are_rows, brackets, find, full_sizes, judged

CLAIMS = Path("data/claims.csv")
COLUMNS = (
    "id",
    "paper",
    "source",  # table or section
    "claim",
    "better",  # the entry that is said to be better, or cheaper
    "worse",
    "dataset",
    "input",  # of claims about size: "256x192", height first
    "metric",
    "difference",  # better - worse as the paper has it; empty where it only says which is better
    "unit",  # "points"; of sizes "M", "G", or "% or less", where the difference is relative
)
MEASURED = (
    *("ours", "judged_by", "gain", "low", "high", "sd", "noise_floor"),
    *("seeds", "training", "profile", "verdict"),
)
AT_MOST = "% or less"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_RUN)


def read_claims(path: Path = CLAIMS) -> pd.DataFrame:
    """Read the claims: the columns `COLUMNS`, and `claimed`, the difference as a number.

    The difference itself stays text, because its last printed digit counts.

    Raises:
        ValueError: other columns, a repeated id, or a cell that cannot be read; the message names the place.
    """
    claims = measurements.read_table(path, COLUMNS, entries=("better", "worse"))
    if (repeated := claims.loc[claims["id"].duplicated(), "id"]).size:
        raise ValueError(f"{path}: id {', '.join(repeated)} is there twice")
    claims["claimed"] = pd.to_numeric(claims["difference"], errors="coerce")
    if (wrong := claims[claims["claimed"].isna() & (claims["difference"] != "")]).size:
        raise ValueError(f"{path}: {wrong.iloc[0]['id']}: difference {wrong.iloc[0]['difference']!r} is no number")
    return claims


def ledger(params: dict, claims: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """The claims with what was measured of each, in the columns `MEASURED`; NaN where nothing was.

    - `ours`: the claimed difference as measured here, averaged over seeds.
    - `gain`, `low`, `high`: the figure `judged_by` with its interval over persons.
    - `sd`: of the gain over seeds. `noise_floor`: see `Difference`. `seeds`: how many.
    - `training`: how long and by whose recipe. `profile`: "full size" for claims about sizes.

    Args:
        claims: what `read_claims` returns, or some of its rows.
        counts: sizes of networks, for `full_sizes`.
    """
    about_size = claims["metric"].isin(COUNTS)
    sized = claims[about_size]
    better, worse = (full_sizes(sized.assign(entry=sized[side]), counts) for side in ("better", "worse"))
    rows = [
        _judge_size(claim, better.loc[claim.Index, claim.metric], worse.loc[claim.Index, claim.metric])
        if about_size[claim.Index]
        else _judge_accuracy(params, claim)
        for claim in claims.itertuples()
    ]
    return claims.join(pd.DataFrame(rows, index=claims.index).reindex(columns=MEASURED))


def _judge_accuracy(params: dict, claim) -> dict:
    better, worse = (find(params, entry, claim.dataset) for entry in (claim.better, claim.worse))
    seeds = [seed for seed in better.summary.seeds if seed in worse.summary.seeds] if better and worse else []
    if not seeds:
        return {"verdict": NOT_RUN}
    training = measurements.training(better.summary, measurements.has_own_recipe(params, claim.better))
    row = {"seeds": len(seeds), "training": training, "profile": better.summary.profile}
    return row | judge(better.of_seeds(seeds), worse.of_seeds(seeds), claim.metric, claim.claimed)


def judge(better: Evaluation, worse: Evaluation, metric: str, claimed: float) -> dict:
    """The rule by which claims about accuracy are judged: figures for the ledger, with the verdict.

    Args:
        better, worse: evaluations of the two sides over the same seeds.
        claimed: the gain in points; NaN where the paper gives no size.
    """
    ours = np.mean(better.values(metric)) - np.mean(worse.values(metric))
    if np.isnan(ours):
        return {"ours": ours, "verdict": NOT_RUN}
    sides = [judged(side, metric) for side in (better, worse)]
    if None in sides:
        return {"ours": ours, "verdict": UNDECIDED}
    (name, scores), (_, baseline) = sides
    difference = seed_difference(scores, baseline)
    found = verdict(difference, claimed)
    return {
        "ours": ours,
        "judged_by": name,
        "gain": difference.interval.value,
        "low": difference.interval.low,
        "high": difference.interval.high,
        "sd": difference.sd,
        "noise_floor": difference.noise_floor,
        "verdict": UNDECIDED if found == SUPPORTED and ours <= 0 else found,
    }


def _judge_size(claim, better: float, worse: float) -> dict:
    ours = 100 * (better / worse - 1) if claim.unit == AT_MOST else better - worse
    if claim.unit == AT_MOST:
        holds = ours <= claim.claimed
    elif claim.difference:
        last_digit = 10.0 ** -len(claim.difference.partition(".")[2])  # 0.01 for "0.16"
        holds = abs(ours - claim.claimed) <= last_digit * (1 + 1e-9)
    else:
        holds = ours < 0
    return {"ours": ours, "profile": "full size", "verdict": SUPPORTED if holds else NOT_SUPPORTED}


def tally(found: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each paper have which verdict, those about accuracy and those about size apart."""
    about = np.where(found["metric"].isin(COUNTS), "size", "accuracy")
    rows = found[["paper"]].assign(about=about).join(pd.get_dummies(found["verdict"], dtype=int))
    counts = rows.groupby(["about", "paper"], sort=False).sum().reindex(columns=VERDICTS, fill_value=0)
    return counts.sort_index(level="about", sort_remaining=False, kind="stable").rename_axis(columns="verdict")


def answer(found: pd.DataFrame) -> str:
    """Whether the claimed gains hold on equal footing, in a few sentences."""
    sizes = found["metric"].isin(COUNTS)
    parts = []
    for name, part in (("gains in accuracy", found[~sizes]), ("claims about size", found[sizes])):
        if len(part):
            counted = ", ".join(f"{(part['verdict'] == each).sum()} {each}" for each in VERDICTS)
            parts.append(f"Of {len(part)} {name}: {counted}.")
    undecided = found[found["verdict"] == UNDECIDED]
    single = undecided[(undecided["seeds"] == 1) & undecided["gain"].notna()]
    if len(single):
        of_rows = are_rows(single["better"]) | are_rows(single["worse"])
        more = [f"`{name}: [0, 1, 2]`" for name, of in (("ablation_seeds", of_rows), ("seeds", ~of_rows)) if of.any()]
        parts.append(
            f"Of {len(undecided)} undecided, {len(single)} have a single seed, whose noise is unknown; "
            f"{' and '.join(more)} in `params.yaml` would give them more."
        )
    return " ".join(parts)


def table(found: pd.DataFrame) -> pd.DataFrame:
    """The ledger as cells for a reader."""
    unit = found["metric"].where(found["unit"] != AT_MOST, "% in " + found["metric"])
    claimed = found["difference"].where(found["claimed"] < 0, "+" + found["difference"])
    intervals = [
        f"{row.gain:+.2f} {brackets(row.low, row.high, '+.2f')} {row.judged_by}" if row.gain == row.gain else ""
        for row in found.itertuples()
    ]
    cells = {
        "id": found["id"],
        "claim": found["claim"],
        "source": found["source"],
        "compared": found["better"].map(str) + " with " + found["worse"].map(str),
        "paper": (claimed + " " + unit).where(found["difference"] != "", "no figure (" + unit + ")"),
        "ours": (found["ours"].map("{:+.2f} ".format) + unit).where(found["ours"].notna(), NOT_RUN),
        "95 % over persons": intervals,
        "sd over seeds": found["sd"].map("{:.2f}".format, na_action="ignore"),
        "noise floor": found["noise_floor"].map("{:.2f}".format, na_action="ignore"),
        "seeds": found["seeds"].map("{:.0f}".format, na_action="ignore"),
        "profile": found["profile"].where(found["verdict"] != NOT_RUN),
        "verdict": "**" + found["verdict"] + "**",
    }
    return pd.DataFrame(cells, dtype=object).fillna("")
