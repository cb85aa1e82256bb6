"""The quantitative claims of the papers, each beside what this study measured of it."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import NOT_RUN, NOT_SUPPORTED, SUPPORTED, UNDECIDED, seed_difference, verdict
from hpelib.study.entries import COUNTS, counted_size, read_table
from hpelib.study.results.measurements import find, has_own_recipe, interval_cells, judged, training

CLAIMS = Path("data/claims.csv")
COLUMNS = (
    *("id", "paper", "source", "claim"),  # source: table or section
    "kind",  # "claim" of the paper, or "control" of ours that a claim is read beside
    *("better", "worse", "dataset"),  # the entry that is said to be better, or cheaper, and the other one
    *("input", "metric"),  # input: of claims about size, "256x192", height first
    "difference",  # better - worse as the paper has it; empty where it only says which is better
    "unit",  # "points"; of sizes "M", "G", or "% or less", where the difference is relative
    "needs",  # mechanisms of the better side's record that must act, or the claim is not tested; parted by spaces
)
FIGURES = ("ours", "judged_by", "gain", "low", "high", "sd", "noise_floor")
MEASURED = (*FIGURES, "seeds", "training", "profile", "verdict")
AT_MOST = "% or less"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_RUN)


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


def ledger(params: dict, claims: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """The claims with what was measured of each, in the columns `MEASURED`; NaN where nothing was.

    - `ours`: the claimed difference as measured here, averaged over seeds.
    - `gain`, `low`, `high`: the figure `judged_by` with its interval over persons.
    - `sd`: of the gain over seeds. `noise_floor`: see `Difference`. `seeds`: how many.
    - `training`: how long and by whose recipe. `profile`: "full size" for claims about sizes.

    Args:
        claims: what `read_claims` returns, or some of its rows.
        counts: sizes of networks, as `hpelib.study.entries.read_counts` returns them.
    """
    rows = [
        _judge_size(claim, counts) if claim.metric in COUNTS else _judge_accuracy(params, claim)
        for claim in claims.itertuples()
    ]
    return claims.join(pd.DataFrame(rows, index=claims.index).reindex(columns=MEASURED))


def _judge_accuracy(params: dict, claim) -> dict:
    """The rule by which claims about accuracy are judged, over the seeds that both sides have."""
    better, worse = (find(params, entry, claim.dataset) for entry in (claim.better, claim.worse))
    seeds = [seed for seed in better.summary.seeds if seed in worse.summary.seeds] if better and worse else []
    if not seeds:
        return {"verdict": NOT_RUN}
    better, worse = better.of_seeds(seeds), worse.of_seeds(seeds)
    ours = np.mean(better.values(claim.metric)) - np.mean(worse.values(claim.metric))
    trained = training(better.summary, has_own_recipe(params, claim.better))
    row = {"ours": ours, "seeds": len(seeds), "training": trained, "profile": better.summary.profile}
    if np.isnan(ours):
        return row | {"verdict": NOT_RUN}
    sides = [judged(side, claim.metric) for side in (better, worse)]
    if None in sides:
        return row | {"verdict": UNDECIDED}
    (name, scores), (_, baseline) = sides
    difference = seed_difference(scores, baseline)
    found = verdict(difference, claim.claimed)
    row |= {"judged_by": name, "verdict": UNDECIDED if found == SUPPORTED and ours <= 0 else found}
    return row | asdict(difference)


def _judge_size(claim, counts: pd.DataFrame) -> dict:
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
        of_rows = single["better"].str.contains(":") | single["worse"].str.contains(":")
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
    cells = {
        "id": found["id"],
        "claim": found["claim"],
        "source": found["source"],
        "compared": found["better"] + " with " + found["worse"],
        "paper": (claimed + " " + unit).where(found["difference"] != "", "no figure (" + unit + ")"),
        "ours": (found["ours"].map("{:+.2f} ".format) + unit).where(found["ours"].notna(), NOT_RUN),
        "95 % over persons": interval_cells(found, "gain", "+.2f") + " " + found["judged_by"],
        "sd over seeds": found["sd"].map("{:.2f}".format, na_action="ignore"),
        "noise floor": found["noise_floor"].map("{:.2f}".format, na_action="ignore"),
        "seeds": found["seeds"].map("{:.0f}".format, na_action="ignore"),
        "profile": found["profile"].where(found["verdict"] != NOT_RUN),
        "verdict": "**" + found["verdict"] + "**",
    }
    return pd.DataFrame(cells, dtype=object).fillna("")
