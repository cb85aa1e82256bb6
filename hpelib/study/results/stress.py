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
from hpelib.metrics.statistics import (
    LEVEL,
    NOT_RUN,
    bootstrap,
    detectable,
    difference,
    holm,
    redrawn_means,
    standard_deviation,
)
from hpelib.records import baselines
from hpelib.skeletons import MPII16
from hpelib.study.config import Dataset
from hpelib.study.evaluation import Hits
from hpelib.study.results.comparisons import put_mean_pose
from hpelib.study.results.measurements import brackets, interval_cells

METRIC = "PCKh@0.5"
SMALL = [*MPII16.groups["Wrist"], *MPII16.groups["Ankle"]]
LARGE = [*MPII16.groups["Shoulder"], *MPII16.groups["Hip"]]
GROUPS = {"Mean": slice(None), **MPII16.groups}

MEAN_POSE = "mean pose"  # stands in tables and charts beside the networks
FLOOR = "floor"

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
    crops = [crop_person(people, row, settings).picture for row in of_person]
    return {factor: {level: crops[position(factor, level)] for level in levels} for factor, levels in LEVELS.items()}


def mean_pose_hits(dataset: Dataset, people: People) -> np.ndarray:
    """The hits (1, P, F, 16) of the mean pose of the training persons of `dataset`, put into every region shown."""
    scores = dataset.form.keypoint_scores(people, put_mean_pose(dataset, people))
    return scores.reshape(1, -1, len(pictures()), scores.shape[-1])


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


def story_table(hits: Hits, hidden: np.ndarray, floor: np.ndarray) -> pd.DataFrame:
    """Whether a paper's network gains more over its baseline where it is hard than where it is easy.

    One row for each story of `comparisons` and each network that has hits, and whose baseline has them, from two seeds
    or more. Columns: network, baseline, story, the figures of `gains`; `floor`, whether no network is far enough above
    the mean pose where it is hard; and `p_holm` and `p_hard_holm`, corrected for the stories of a network that can be
    tested.

    Shapes: hidden (N, 16) bool, one row for each picture of each person: whether a keypoint is hidden; floor
    (1, P, F, 16), the hits of the mean pose.
    """
    hidden = hidden.reshape(-1, len(pictures()), hidden.shape[-1])
    stories = {network: comparisons(found, hidden) for network, found in (hits | {MEAN_POSE: floor}).items()}
    rows = [
        {"network": network, "baseline": baseline, "story": story}
        | gains(*(stories[name][story] for name in (network, baseline, MEAN_POSE)), tests=len(stories[network]))
        for network, baseline in baselines(hits).items()
        if all(name in hits and len(hits[name]) > 1 for name in (network, baseline))
        for story in stories[network]
    ]
    columns = ["network", "baseline", "story", "persons", *(f"{name}{end}" for name in SIDES for end in ENDS), FLOOR]
    table = pd.DataFrame(rows, columns=columns)
    for p, corrected in (("change_p", "p_holm"), ("hard_p", "p_hard_holm")):
        tested = table[p].where(~table[FLOOR].astype(bool))
        table[corrected] = tested.groupby(table["network"]).transform(holm)
    return table


SIDES = ("easy", "hard", "change")
ENDS = ("", "_low", "_high", "_p", "_detectable")


def gains(ours: Pair, theirs: Pair, floor: Pair, tests: int = 1) -> dict[str, float]:
    """The gain over a baseline on easy hits, on hard hits, and the change between them, paired keypoint by keypoint.

    A keypoint counts if all four hits of it are known.

    Returns:
        `persons`, how many have a keypoint that counts; for each of `SIDES` the gain in percentage points, its 95 %
        interval over persons (with all pictures of a person) and seeds, its p value and what is detectable among so
        many tests; and `floor`: whether the better side is no farther above the mean pose, where it is hard, than the
        smallest gain that so many persons show.

    Raises:
        ValueError: no keypoint counts, or there is a single seed.
    """
    counted = ~np.isnan((ours[0] - theirs[0]) - (ours[1] - theirs[1]))
    persons = np.flatnonzero(counted[0].any(axis=1))
    if not len(persons):
        raise ValueError("no keypoint counts on both sides of a comparison")
    row = {"persons": len(persons)}
    sides = [dict(zip(SIDES, (easy, hard, hard - easy), strict=True)) for hard, easy in (ours, theirs)]
    for name in SIDES:
        kept = [np.where(counted, side[name], np.nan)[:, persons] for side in sides]
        redrawn = redrawn_means((kept[0] - kept[1]).mean(axis=0), np.arange(len(persons)))
        found = difference(*(100 * np.nanmean(each, axis=(1, 2)) for each in kept), redrawn, len(persons))
        row |= {name: found.gain, f"{name}_low": found.low, f"{name}_high": found.high, f"{name}_p": found.p}
        row[f"{name}_detectable"] = detectable(found.picture_sd, found.seed_sd, found.freedom, found.seeds, tests)
        if name == "hard":
            best = max(np.nanmean(each) for each in kept)
            room = 100 * (best - np.nanmean(np.where(counted[:1], floor[0], np.nan)))
            row[FLOOR] = bool(room <= detectable(found.picture_sd, 0, np.inf, 1))
    return row


def _better(stories: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Where a network is better where it is hard, and where it also gains more there, beyond chance."""
    better = (stories["hard"] > 0) & (stories["p_hard_holm"] < 1 - LEVEL)
    return better, better & (stories["change"] > 0) & (stories["p_holm"] < 1 - LEVEL)


def story_answer(stories: pd.DataFrame) -> str:
    """What a `story_table` says, in a few sentences."""
    if stories.empty:
        return "No network and its baseline were run from two seeds or more, so nothing is compared."
    if stories[FLOOR].all():
        return f"All {len(stories)} comparisons stand at the floor, where no difference can be told."
    better, more = _better(stories)
    named = "".join(f"; {row.network}, {row.story}" for row in stories[more].itertuples())
    tested = stories[~stories[FLOOR]]
    return (
        f"{len(tested)} comparisons were tested. In {better.sum()} of them a paper's network is better than its "
        f"baseline where it is hard. In {more.sum()} of them it also gains more there than where it is easy{named}. In "
        f"half of the comparisons a true gain must be at least {tested['hard_detectable'].median():.1f} points to be "
        f"detected more often than not. {stories[FLOOR].sum()} more stand at the floor, where no difference can be "
        "told."
    )


def story_page(stories: pd.DataFrame) -> str:
    """A `story_table` as Markdown, stories against networks, after the names of the networks that were not run."""
    run = stories["network"].unique()
    missing = [f"{network} (against {baseline})" for network, baseline in baselines().items() if network not in run]
    parts = [f"Not run from two seeds: {', '.join(missing)}."] if missing else []
    if len(run):
        better, more = _better(stories)
        cells = [
            f"{row.easy:+.1f} → {row.hard:+.1f} {brackets(row.hard_low, row.hard_high, '+.1f')}"
            for row in stories.itertuples()
        ]
        cells = pd.Series(cells, stories.index)
        cells = cells.mask(stories[FLOOR], FLOOR)
        cells = cells.mask(better, "better: " + cells)
        cells = cells.mask(more, "**" + cells + "**")
        table = stories.assign(pair=stories["network"] + " against " + stories["baseline"], cell=cells)
        table = table.pivot_table(index="story", columns="pair", values="cell", aggfunc="first", sort=False)
        parts.append(table.to_markdown())
    return "\n\n".join(parts)
