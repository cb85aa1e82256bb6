"""The quantitative claims of the papers, each against what this study measured of it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import (
    NOT_RUN,
    NOT_SUPPORTED,
    SUPPORTED,
    UNDECIDED,
    seed_difference,
    verdict,
)
from hpelib.study.results.measurements import COUNTS, RECALL, find, full_sizes

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
SIZES = tuple(COUNTS.values())
VERDICTS = (SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_RUN)

RULE = f"""\
**Accuracy.** Both sides are trained here from the same seeds, on the same data, for as long and at the same learning \
rate, each with its own loss, and judged on the same persons. The gain is averaged over seeds and has a 95 % interval \
over persons (paired bootstrap). The *noise floor* is what a new seed changes anyway: the standard deviation over \
seeds of the side said to be worse or of the gain itself, whichever is larger. A claim is

- **{SUPPORTED}** if the whole interval lies above zero and the gain exceeds the noise floor;
- **{NOT_SUPPORTED}** otherwise, if even the interval's upper end plus the noise floor stays below the claimed gain \
(below zero, where the paper gives no size);
- **{UNDECIDED}** in all other cases: a difference within the noise is no gain;
- **{NOT_RUN}** if one side was not trained here under this profile.

*{SUPPORTED.capitalize()}* is about the direction of a gain alone, however small it is. *{NOT_SUPPORTED.capitalize()}* \
is about its size as well: a gain that is smaller than the claimed one by more than the noise, even where some gain \
is left. AP is no mean over persons. Claims about it are judged by *{RECALL}*, the share of the thresholds 0.50 to \
0.95 that a person's OKS reaches from the annotated box, and are undecided if AP itself does not rise; claimed points \
of AP are compared with points of {RECALL}. For AP of one size of persons there is no interval, so claims about it are \
undecided.

**Size.** Claims about parameters and compute are answered exactly, by counting both networks at the papers' size: \
supported if the count is the claimed one within one unit of the last printed digit ("% or less": at most the claimed \
share; without a figure: if the side said to be cheaper is)."""


PROFILE_NOTES = {
    "quick": "**Profile `quick`**: narrow networks on small pictures of rendered people, trained for about a minute on "
    "one core. What is said here is about networks of that size on that data. It is not comparable to the papers' "
    "figures and neither confirms nor refutes them.",
    "standard": "**Profile `standard`**: networks of the papers' size, but on rendered people and in a short training. "
    "It is not comparable to the papers' figures and neither confirms nor refutes them.",
}


def read_claims(path: Path = CLAIMS) -> pd.DataFrame:
    """The claims, with the columns `COLUMNS`; `difference` stays text, as its last digit counts.

    Raises:
        ValueError: other columns, a repeated id, or a difference that is no number.
    """
    claims = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(claims.columns) != COLUMNS:
        raise ValueError(f"{path}: columns {', '.join(claims.columns)}; expected are {', '.join(COLUMNS)}")
    if (repeated := claims.loc[claims["id"].duplicated(), "id"]).size:
        raise ValueError(f"{path}: id {', '.join(repeated)} is there twice")
    for claim in claims.itertuples():
        try:
            _number(claim.difference)
        except ValueError as error:
            raise ValueError(f"{path}: {claim.id}: difference {claim.difference!r} is no number") from error
    return claims


def ledger(params: dict, claims: pd.DataFrame) -> pd.DataFrame:
    """The claims with what was measured of each, in columns beside those of `claims`.

    `claimed` is the difference as a number, `ours` the same difference here, averaged over seeds. `judged_by` names the
    figure of `gain`, `low` and `high` (interval over persons), `sd` (of the gain over seeds) and `noise_floor`. Then
    `seeds`, how many; `training`, how long and by whose recipe; `profile`, "full size" for counted claims; `verdict`.
    What was not measured is NaN.
    """
    counts = _counts(params, claims[claims["metric"].isin(SIZES)])
    rows = [
        _size_claim(claim, counts) if claim.metric in SIZES else _accuracy_claim(params, claim)
        for claim in claims.itertuples()
    ]
    found = pd.DataFrame(rows, index=claims.index).reindex(columns=MEASURED)
    return claims.assign(claimed=claims["difference"].map(_number)).join(found)


def _accuracy_claim(params: dict, claim) -> dict:
    better, worse = (find(params, entry, claim.dataset) for entry in (claim.better, claim.worse))
    seeds = [seed for seed in better.seeds if seed in worse.seeds] if better and worse else []
    if not seeds:
        return {"verdict": NOT_RUN}
    better, worse = better.of_seeds(seeds), worse.of_seeds(seeds)
    ours = np.mean(better.values(claim.metric)) - np.mean(worse.values(claim.metric))
    row = {"ours": ours, "seeds": len(seeds), "profile": better.summary["profile"]}
    row["training"] = better.training
    if np.isnan(ours):
        return row | {"verdict": NOT_RUN}
    judged, baseline = better.judged(claim.metric), worse.judged(claim.metric)
    if judged is None:
        return row | {"verdict": UNDECIDED}
    difference = seed_difference(judged.scores, baseline.scores)
    found = verdict(difference, _number(claim.difference))
    return row | {
        "judged_by": judged.metric,
        "gain": difference.interval.value,
        "low": difference.interval.low,
        "high": difference.interval.high,
        "sd": difference.sd,
        "noise_floor": difference.noise_floor,
        "verdict": UNDECIDED if found == SUPPORTED and ours <= 0 else found,
    }


def _size_claim(claim, counts: pd.Series) -> dict:
    better, worse = (counts[entry, claim.dataset, claim.input, claim.metric] for entry in (claim.better, claim.worse))
    ours = 100 * (better / worse - 1) if claim.unit == AT_MOST else better - worse
    if claim.unit == AT_MOST:
        holds = ours <= _number(claim.difference)
    elif claim.difference:
        holds = abs(ours - _number(claim.difference)) <= _last_digit(claim.difference)
    else:
        holds = ours < 0
    return {"ours": ours, "profile": "full size", "verdict": SUPPORTED if holds else NOT_SUPPORTED}


def _counts(params: dict, claims: pd.DataFrame) -> pd.Series:
    """Sizes by entry, dataset, input and metric."""
    keys = ["entry", "dataset", "input"]
    sides = [claims.rename(columns={side: "entry"})[keys] for side in ("better", "worse")]
    wanted = pd.concat(sides).drop_duplicates().reset_index(drop=True)
    return wanted.join(full_sizes(params, wanted)).set_index(keys).stack()


def _number(text: str) -> float:
    return float(text) if text else np.nan


def _last_digit(text: str) -> float:
    """One unit of the last printed digit: 0.01 for "0.16"."""
    return 10.0 ** -len(text.partition(".")[2]) * (1 + 1e-9)


def counts(found: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each paper have which verdict, those about accuracy and those about size apart."""
    rows = found[["paper", "verdict"]].assign(about=np.where(found["metric"].isin(SIZES), "size", "accuracy"))
    order = pd.MultiIndex.from_frame(rows[["about", "paper"]].drop_duplicates()).sortlevel(0, sort_remaining=False)[0]
    table = pd.crosstab([rows["about"], rows["paper"]], rows["verdict"]).reindex(columns=VERDICTS, fill_value=0)
    return table.reindex(order)


def answer(found: pd.DataFrame) -> str:
    """Do the claimed gains hold on equal footing, in a few sentences that say no more than the verdicts."""
    sizes = found["metric"].isin(SIZES)
    parts = []
    for name, part in (("gains in accuracy", found[~sizes]), ("claims about size", found[sizes])):
        if len(part):
            tally = ", ".join(f"{(part['verdict'] == each).sum()} {each}" for each in VERDICTS)
            parts.append(f"Of {len(part)} {name}: {tally}.")
    return " ".join([*parts, *_why_undecided(found)])


def _why_undecided(found: pd.DataFrame) -> list[str]:
    """One sentence about the undecided claims that more seeds could decide, if there are any."""
    undecided = found[found["verdict"] == UNDECIDED]
    single = undecided[(undecided["seeds"] == 1) & undecided["gain"].notna()]
    if single.empty:
        return []
    of_rows = single["better"].str.contains(":") | single["worse"].str.contains(":")
    wanted = [f"`{name}: [0, 1, 2]`" for name, of in (("ablation_seeds", of_rows), ("seeds", ~of_rows)) if of.any()]
    return [
        f"Of {len(undecided)} undecided, {len(single)} have a single seed, whose noise is unknown; "
        f"{' and '.join(wanted)} in `params.yaml` would give them more."
    ]


def training_note(found: pd.DataFrame) -> str:
    """How the rows of ablations were trained beside the networks, if any was; nothing where both are alike."""
    of_rows = found["better"].str.contains(":") & found["worse"].str.contains(":")
    rows, networks = (trainings(found[which]) for which in (of_rows, ~of_rows))
    if not rows or rows == networks:
        return ""
    beside = f"; whole networks: {networks}" if networks else ""
    return (
        "Claims about parts compare rows of ablations (`network:row`), which are trainings of their own: "
        f"{rows}{beside}. Compare rows with rows only."
    )


def trainings(found: pd.DataFrame) -> str:
    """The different trainings in the columns `training` and `seeds`, in words; nothing where none was measured."""
    measured = found.dropna(subset=["training"])
    pairs = dict.fromkeys(zip(measured["training"], measured["seeds"].astype(int), strict=True))
    return " or ".join(f"{training}, {seeds} {'seed' if seeds == 1 else 'seeds'}" for training, seeds in pairs)


def markdown(found: pd.DataFrame) -> str:
    """The ledger as Markdown."""
    return pd.DataFrame([_for_readers(row) for row in found.itertuples()]).to_markdown(
        index=False, disable_numparse=True
    )


def profile_note(profiles: Iterable[str]) -> str:
    """What figures of these profiles are about, and what not."""
    return " ".join(PROFILE_NOTES[profile] for profile in sorted(set(profiles)) if profile in PROFILE_NOTES)


def _for_readers(row) -> dict[str, str]:
    unit = f"% in {row.metric}" if row.unit == AT_MOST else row.metric
    judged = f"{row.gain:+.2f} [{row.low:+.2f}, {row.high:+.2f}] {row.judged_by}" if row.gain == row.gain else ""
    return {
        "id": row.id,
        "claim": row.claim,
        "source": row.source,
        "compared": f"{row.better} with {row.worse}",
        "paper": f"{row.difference if row.claimed < 0 else '+' + row.difference} {unit}"
        if row.difference
        else f"no figure ({unit})",
        "ours": f"{row.ours:+.2f} {unit}" if row.ours == row.ours else NOT_RUN,
        "95 % over persons": judged,
        "sd over seeds": _cell(row.sd),
        "noise floor": _cell(row.noise_floor),
        "seeds": _cell(row.seeds, "{:.0f}"),
        "profile": row.profile if row.verdict != NOT_RUN else "",
        "verdict": f"**{row.verdict}**",
    }


def _cell(value: float, form: str = "{:.2f}") -> str:
    return "" if np.isnan(value) else form.format(value)


def save(found: pd.DataFrame, folder: Path) -> None:
    """Write claims.csv, what `ledger` returned, and claims.md, the same for a reader, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    found.to_csv(folder / "claims.csv", index=False, float_format="%.4f", na_rep="")
    parts = [
        "# The papers' claims",
        profile_note(found["profile"].dropna()),
        RULE,
        answer(found),
        counts(found).reset_index().to_markdown(index=False),
        training_note(found),
        markdown(found),
    ]
    (folder / "claims.md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
