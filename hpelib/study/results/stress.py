"""How each network falls as one thing about the picture gets harder, and whether a paper's network falls less.

All figures are PCKh@0.5 in percent on the rendered people of `hpelib.mannequins.stress`. The networks were trained on
the MPII set of the study. `hpelib.study.evaluation` says what hits are. S below is the number of seeds, P that of
persons and F that of pictures of each person.
"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import product

import numpy as np
import pandas as pd

from hpelib.data.crops import crop_person
from hpelib.data.loader import InputSettings
from hpelib.data.people import People
from hpelib.mannequins.stress import EASY, LEVELS, LIMBS, pictures
from hpelib.metrics.statistics import NOT_RUN, bootstrap, standard_deviation
from hpelib.records import baselines
from hpelib.skeletons import MPII16
from hpelib.study.evaluation import Hits
from hpelib.study.results.measurements import interval_cells

METRIC = "PCKh@0.5"
SMALL = [*MPII16.groups["Wrist"], *MPII16.groups["Ankle"]]
LARGE = [*MPII16.groups["Shoulder"], *MPII16.groups["Hip"]]
GROUPS = {"Mean": slice(None), **MPII16.groups}

Pair = tuple[np.ndarray, np.ndarray]  # hits on what is hard and on what is easy, both (S, P, k)


def position(factor: str, level: float) -> int:
    """Where the picture of a factor at a level stands in `pictures()`. The first level of a factor is the easy picture.

    Example: `position("blur", 0)` is 0.
    """
    return 0 if level == LEVELS[factor][0] else pictures().index((factor, level))


def level_crops(people: People, person: int, side_px: int) -> dict[str, dict[float, np.ndarray]]:
    """What a network is shown of one person at each level of each factor: squares (side_px, side_px, 3) uint8 RGB."""
    settings = InputSettings(input_size=(side_px, side_px), heatmap_size=(side_px, side_px))
    of_person = np.flatnonzero(people.factors["person"] == person)
    crops = [crop_person(people, row, settings).pixels for row in of_person]
    return {factor: {level: crops[position(factor, level)] for level in levels} for factor, levels in LEVELS.items()}


def level_table(hits: Hits) -> pd.DataFrame:
    """How right each network is at each level, one row for each network, factor, level and group of joints.

    Columns: network, factor, level, joints, persons, seeds, value, sd, low, high. Joints are a joint group, or "Mean"
    for all keypoints. `value` is the mean over keypoints and seeds, `sd` its standard deviation over seeds (NaN for a
    single seed), and `low` to `high` its 95 % interval over persons.

    All levels of a factor are scored on the same keypoints: those that its last level leaves in the picture. A group
    of which nothing is left has no row.
    """
    rows = []
    for (network, found), (factor, levels) in product(hits.items(), LEVELS.items()):
        cut_off = np.isnan(found[:, :, position(factor, levels[-1])])
        for level, (joints, members) in product(levels, GROUPS.items()):
            kept = np.where(cut_off, np.nan, found[:, :, position(factor, level)])[..., members]  # (S, P, k)
            scored = ~np.isnan(kept[0])
            if scored.any():
                row = {"network": network, "factor": factor, "level": level, "joints": joints}
                row |= {"persons": int(scored.any(axis=1).sum()), "seeds": len(kept)}
                row |= {"sd": standard_deviation(100 * kept[:, scored].mean(axis=1))}
                rows.append(row | asdict(bootstrap(kept.mean(axis=0))))
    columns = ["network", "factor", "level", "joints", "persons", "seeds", "value", "sd", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def summary_table(levels: pd.DataFrame, networks: Sequence[str]) -> pd.DataFrame:
    """The easy picture and the hardest level of each factor, from a `level_table`: one row for each network."""
    columns = {EASY: ("occlusion", LEVELS["occlusion"][0])}
    columns |= {f"{factor} {steps[-1]:g}": (factor, steps[-1]) for factor, steps in LEVELS.items()}
    means = levels[levels["joints"] == "Mean"].set_index(["network", "factor", "level"])
    cells = interval_cells(means)
    table = {title: [cells.get((name, *key), NOT_RUN) for name in networks] for title, key in columns.items()}
    return pd.DataFrame(table, index=pd.Index(networks, name="network"))


def comparisons(hits: np.ndarray, hidden: np.ndarray) -> dict[str, Pair]:
    """For each story, hits on what is hard and on what is easy, paired keypoint by keypoint.

    Unless the story says something else, hard is the last level of a factor, and easy are the same keypoints in the
    easy picture. Keypoints that a story is not about are NaN.

    Shapes: hits (S, P, F, 16); hidden (P, F, 16) bool, whether a keypoint is hidden.
    """
    hardest = {factor: hits[:, :, position(factor, levels[-1])] for factor, levels in LEVELS.items()}
    easy, smallest = hits[:, :, 0], hardest["height"]
    limbs = np.isin(MPII16.keypoints, LIMBS)
    hidden_last = hidden[:, position("occlusion", LEVELS["occlusion"][-1])]
    behind, in_view = hidden_last & ~hidden[:, 0], ~hidden_last & limbs
    return {
        "wrists and ankles against shoulders and hips": (easy[..., SMALL], easy[..., LARGE]),
        f"the same at {LEVELS['height'][-1]:g} px": (smallest[..., SMALL], smallest[..., LARGE]),
        "joints that the panel hides": (np.where(behind, hardest["occlusion"], np.nan), easy),
        "joints that it leaves in view": (np.where(in_view, hardest["occlusion"], np.nan), easy),
        **{f"{factor} {LEVELS[factor][-1]:g}, all joints": (found, easy) for factor, found in hardest.items()},
    }


def story_table(hits: Hits, hidden: np.ndarray) -> pd.DataFrame:
    """Whether a paper's network gains more over its baseline where it is hard than where it is easy.

    One row for each network that has hits, and whose baseline has them, and each story of `comparisons`. Columns:
    network, baseline, story and the figures of `difference_in_differences`.

    Shapes: hidden (N, 16) bool, one row for each picture of each person: whether a keypoint is hidden.
    """
    hidden = hidden.reshape(-1, len(pictures()), hidden.shape[-1])
    rows = [
        {"network": network, "baseline": baseline, "story": story}
        | difference_in_differences(ours, comparisons(hits[baseline], hidden)[story])
        for network, baseline in baselines().items()
        if network in hits and baseline in hits
        for story, ours in comparisons(hits[network], hidden).items()
    ]
    figures = ["persons", "gain_easy", "gain_hard", "difference", "low", "high", "agree"]
    return pd.DataFrame(rows, columns=["network", "baseline", "story", *figures])


def difference_in_differences(ours: Pair, theirs: Pair) -> dict[str, float]:
    """The gain over a baseline on hard hits, minus the gain on easy hits, paired keypoint by keypoint.

    A keypoint counts if all four hits of it are known.

    Returns:
        `persons`, how many have a keypoint that counts; in percentage points over all seeds, `gain_easy`, `gain_hard`,
        their `difference` and its 95 % interval from `low` to `high`, which draws persons again, each with all pictures
        of that person; and `agree`, the share of seeds in which the difference has that sign.

    Raises:
        ValueError: no keypoint counts.
    """
    gain_hard, gain_easy = ours[0] - theirs[0], ours[1] - theirs[1]
    change = gain_hard - gain_easy
    counted = ~np.isnan(change[0])
    found = bootstrap(change.mean(axis=0))
    of_seeds = change[:, counted].mean(axis=1)
    return {
        "persons": int(counted.any(axis=1).sum()),
        "gain_easy": 100 * float(gain_easy[:, counted].mean()),
        "gain_hard": 100 * float(gain_hard[:, counted].mean()),
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "agree": float((np.sign(of_seeds) == np.sign(found.value)).mean()),
    }


def story_page(stories: pd.DataFrame) -> str:
    """A `story_table` as Markdown, stories against networks, after the names of the networks that were not run.

    A cell is bold if its interval leaves out zero and all seeds agree on the sign.
    """
    run = stories["network"].unique()
    missing = [f"{network} (against {baseline})" for network, baseline in baselines().items() if network not in run]
    parts = [f"{NOT_RUN.capitalize()}: {', '.join(missing)}."] if missing else []
    if len(run):
        cells = interval_cells(stories, "difference", "+.1f")
        sure = ((stories["low"] > 0) | (stories["high"] < 0)) & (stories["agree"] == 1)
        pairs = stories["network"] + " against " + stories["baseline"]
        table = stories.assign(pair=pairs, cell=cells.mask(sure, "**" + cells + "**"))
        table = table.pivot_table(index="story", columns="pair", values="cell", aggfunc="first", sort=False)
        parts.append(table.to_markdown())
    return "\n\n".join(parts)
