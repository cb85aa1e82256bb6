"""How each network falls as one thing about the picture gets harder, and whether a paper's network falls less.

All figures are PCKh@0.5 in percent on the rendered people of `hpelib.mannequins.stress`, with networks
trained on the study's MPII set. Hits are arrays (seeds, persons, pictures, 16), 1, 0 or NaN where a keypoint is
cut off or not scored, with pictures in the order of `stress.pictures()`.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hpelib.data.loader import Crops, InputSettings
from hpelib.data.people import People
from hpelib.formats import FORMATS
from hpelib.mannequins.stress import EASY, LEVELS, LIMBS, pictures
from hpelib.metrics.statistics import NOT_RUN, bootstrap
from hpelib.records import baselines
from hpelib.skeletons import MPII16
from hpelib.study.config import Run, study_runs
from hpelib.study.steps.evaluate import load_network
from hpelib.study.steps.predictions import make_predictor

DATASET = "mpii"
METRIC = "PCKh@0.5"
UNITS = {  # of the levels, for axes
    "occlusion": "share hidden",
    "truncation": "share cut off",
    "overlap": "IoU with neighbour",
    "height": "stature (px)",
    "scale": "region (relative)",
    "rotation": "degrees",
    "yaw": "degrees",
    "blur": "sigma (px)",
    "noise": "sigma (grey levels)",
    "light": "relative to well lit",
}
SMALL, LARGE = (
    [k for group in groups for k in MPII16.groups[group]] for groups in (("Wrist", "Ankle"), ("Shoulder", "Hip"))
)

STORY_TEXT = (
    "Gain of a paper's network over its baseline where it is hard, minus the same gain where it is easy, in percentage "
    "points with a 95 % interval over persons. Above zero, the network does better than its baseline above all where "
    "it is hard, which is what papers claim. Bold: the interval leaves out zero and every seed agrees on the sign. So "
    "many cells are looked at that some may be bold by chance."
)

Pair = tuple[np.ndarray, np.ndarray]  # hits on what is hard and on what is easy
Hits = dict[str, np.ndarray | None]  # by network; None where it was not trained


def evaluate_all(params: dict, people: People) -> Hits:
    """The hits of every network of the study on the stress tests."""
    runs = {network: study_runs(params, network, DATASET) for network in params["networks"]}
    return {
        network: evaluate_stress(of_network, people) if all(map(_is_trained, of_network)) else None
        for network, of_network in runs.items()
    }


def _is_trained(run: Run) -> bool:
    return (run.folder / "weights.safetensors").is_file()


def evaluate_stress(runs: list[Run], people: People) -> np.ndarray:
    """Hits of runs that differ in their seed only, by their test protocol.

    Raises:
        ValueError: `people` are not those of a stress test.
    """
    if not len(people) or len(people) % len(pictures()) or "factor" not in people.factors:
        raise ValueError(f"{len(people)} people are no stress test of {len(pictures())} pictures each: render it again")
    torch.set_num_threads(runs[0].threads)
    predict = make_predictor(runs[0], people)  # the seed has no say in it
    found = [predict(load_network(run, people)) for run in runs]
    form = FORMATS[runs[0].dataset.format]
    return np.stack([by_person(form.keypoint_scores(people, of_run.keypoints)) for of_run in found])


def by_person(rows: np.ndarray) -> np.ndarray:
    """Rows of a stress test's table (N, ...) as (persons, pictures, ...)."""
    return rows.reshape(-1, len(pictures()), *rows.shape[1:])


def position(factor: str, level: float) -> int:
    """Where the picture stands in `pictures()`; at a factor's first level that is the easy picture."""
    return 0 if level == LEVELS[factor][0] else pictures().index((factor, level))


def level_crops(people: People, person: int, side_px: int) -> dict[str, dict[float, np.ndarray]]:
    """What a network is shown of one person at each level of each factor, (side, side, 3) uint8 RGB."""
    settings = InputSettings(input_size=(side_px, side_px), heatmap_size=(side_px, side_px))
    of_person = np.flatnonzero(people.factors["person"] == person)
    crops = Crops(people, settings, train=False)[0, of_person]["images"]
    return {factor: {level: crops[position(factor, level)] for level in levels} for factor, levels in LEVELS.items()}


def level_table(hits: Hits) -> pd.DataFrame:
    """Columns network, factor, level, joints, persons, seeds, value, sd, low, high; a row per level and joint group.

    `value` is the mean over keypoints and seeds, `sd` its standard deviation over seeds (NaN for a single one), `low`
    and `high` the 95 % interval over persons. Joints are "Mean" or a joint group. All levels of a factor are scored on
    the same keypoints, those that its last level leaves in the picture; groups of which none is left have no row.
    """
    rows = []
    for network, found in hits.items():
        for factor in LEVELS if found is not None else ():
            for level, of_level in zip(LEVELS[factor], _paired_levels(found, factor), strict=True):
                for joints, members in {"Mean": slice(None), **MPII16.groups}.items():
                    figures = _figures(of_level[..., members])
                    if figures["persons"]:
                        rows.append({"network": network, "factor": factor, "level": level, "joints": joints} | figures)
    return pd.DataFrame(rows)


def _paired_levels(hits: np.ndarray, factor: str) -> list[np.ndarray]:
    """Hits (S, P, K) at each level of a factor, NaN where the last level has none."""
    levels = [hits[:, :, position(factor, level)] for level in LEVELS[factor]]
    return [np.where(np.isnan(levels[-1]), np.nan, of_level) for of_level in levels]


def _figures(hits: np.ndarray) -> dict[str, float]:
    """Persons, value and its uncertainty of hits (S, P, k)."""
    counted = ~np.isnan(hits[0])
    persons, seeds = int(counted.any(axis=1).sum()), len(hits)
    if not persons:
        return {"persons": 0}
    of_seeds = 100 * hits[:, counted].mean(axis=1)
    found = bootstrap(hits.mean(axis=0))
    sd = of_seeds.std(ddof=1) if seeds > 1 else np.nan
    return {"persons": persons, "seeds": seeds, "value": found.value, "sd": sd, "low": found.low, "high": found.high}


def summary_table(levels: pd.DataFrame, networks: list[str]) -> pd.DataFrame:
    """One row per network, from a `level_table`: the easy picture and the hardest level of each factor."""
    cells = levels[levels["joints"] == "Mean"].set_index(["network", "factor", "level"])
    cells = cells.apply(lambda row: f"{row['value']:.1f} [{row['low']:.1f}, {row['high']:.1f}]", axis=1)
    asked = {EASY: ("occlusion", LEVELS["occlusion"][0])}
    asked |= {f"{factor} {steps[-1]:g}": (factor, steps[-1]) for factor, steps in LEVELS.items()}
    rows = {
        network: {title: cells.get((network, *key), NOT_RUN) for title, key in asked.items()} for network in networks
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def comparisons(hits: np.ndarray, hidden: np.ndarray) -> dict[str, Pair]:
    """For each story hits on what is hard and on what is easy about it, both (S, P, k), paired keypoint by keypoint.

    Shapes: hits (S, P, F, 16), hidden (P, F, 16) bool. Unless a story says otherwise, hard is the
    factor's last level and easy the same keypoints in the easy picture.
    """
    hardest = {factor: hits[:, :, position(factor, levels[-1])] for factor, levels in LEVELS.items()}
    easy, smallest = hits[:, :, 0], hardest["height"]
    limbs = np.isin(MPII16.keypoints, LIMBS)
    hidden_last = hidden[:, position("occlusion", LEVELS["occlusion"][-1])]
    behind, in_view = hidden_last & ~hidden[:, 0], ~hidden_last & limbs
    return {
        "wrists and ankles against shoulders and hips": (
            easy[..., SMALL],
            easy[..., LARGE],
        ),
        f"the same at {LEVELS['height'][-1]:g} px": (smallest[..., SMALL], smallest[..., LARGE]),
        "joints that the panel hides": (np.where(behind, hardest["occlusion"], np.nan), easy),
        "joints that it leaves in view": (np.where(in_view, hardest["occlusion"], np.nan), easy),
        **{f"{factor} {LEVELS[factor][-1]:g}, all joints": (found, easy) for factor, found in hardest.items()},
    }


def story_table(hits: Hits, hidden: np.ndarray) -> pd.DataFrame:
    """Does a paper's network gain more over its baseline where it is hard than where it is easy?

    A row per network of `baselines()` and story, where both were run, with the figures of `difference_in_differences`.
    hidden (P, F, 16) as for `comparisons`.
    """
    columns = [
        "network",
        "baseline",
        "story",
        "persons",
        "gain_easy",
        "gain_hard",
        "difference",
        "low",
        "high",
        "agree",
    ]
    rows = []
    for network, baseline in baselines().items():
        if hits.get(network) is None or hits.get(baseline) is None:
            continue
        ours, theirs = (comparisons(hits[name], hidden) for name in (network, baseline))
        for story in ours:
            figures = difference_in_differences(ours[story], theirs[story])
            rows.append({"network": network, "baseline": baseline, "story": story} | figures)
    return pd.DataFrame(rows, columns=columns)


def difference_in_differences(ours: Pair, theirs: Pair) -> dict[str, float]:
    """Gain over the baseline on hard hits minus that on easy ones, paired keypoint by keypoint.

    `ours` and `theirs` are hits (S, P, k) on hard and easy; a keypoint counts where all four are known. Returns the
    persons, and in percentage points, over all seeds, gain_easy, gain_hard and their `difference`, whose 95 % interval
    from `low` to `high` draws persons again, each with all pictures of it. `agree` is the share of seeds in which the
    difference has that sign. ValueError if no keypoint counts.
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
    """The differences as Markdown, stories against networks."""
    run = stories["network"].unique()
    missing = [f"{network} (against {baseline})" for network, baseline in baselines().items() if network not in run]
    parts = [f"{NOT_RUN.capitalize()}: {', '.join(missing)}."] if missing else []
    if len(run):
        cells = stories.assign(cell=[_difference_cell(row) for row in stories.itertuples()])
        names = {row.network: f"{row.network} against {row.baseline}" for row in stories.itertuples()}
        table = cells.pivot(index="story", columns="network", values="cell").loc[cells["story"].unique(), run]
        parts.append(table.rename(columns=names).to_markdown())
    return "\n\n".join(parts)


def _difference_cell(row) -> str:
    text = f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
    return f"**{text}**" if (row.low > 0 or row.high < 0) and row.agree == 1 else text


def describe(params: dict, people: People) -> str:
    """What every table and picture of the stress tests must say about itself, in one paragraph."""
    run, seeds = study_runs(params, params["networks"][0], DATASET)[0], params["seeds"]
    return (
        f"Data: rendered people, not photographs; {people.factors['person'].nunique()} persons, each in "
        f"{len(pictures())} pictures. Networks: trained on {DATASET} ({run.dataset.source}), "
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))}). Profile: {run.profile}; input "
        f"{'x'.join(map(str, run.inputs.input_size))} px (width x height), flip test. {METRIC} in percent, mean over "
        "keypoints and seeds. Intervals: 95 %, bootstrap over persons; what a new seed would change is not in them."
    )


def save(params: dict, people: People, levels: pd.DataFrame, stories: pd.DataFrame, folder: Path) -> None:
    """Write stress.md, levels.csv and stories.csv into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    levels.to_csv(folder / "levels.csv", index=False, float_format="%.4f")
    stories.to_csv(folder / "stories.csv", index=False, float_format="%.4f")
    parts = ["# Stress tests", describe(params, people)]
    parts.append(f"## At the hardest level\n\n{summary_table(levels, params['networks']).to_markdown()}")
    parts.append(f"## Where the papers' networks gain\n\n{STORY_TEXT}\n\n{story_page(stories)}")
    (folder / "stress.md").write_text("\n\n".join(parts) + "\n")
