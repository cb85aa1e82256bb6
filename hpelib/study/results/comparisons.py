"""What the study measured of its entries, and whether a difference between two of them can be tested."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, cached_property

import numpy as np
import pandas as pd

from hpelib.data.crops import crop_regions
from hpelib.data.people import People
from hpelib.metrics.coco import FIGURES
from hpelib.metrics.statistics import (
    NOT_RUN,
    NOT_TESTABLE,
    Interval,
    detectable,
    difference,
    holm,
    picture_sd,
    redrawn_means,
    redraws,
    verdict,
)
from hpelib.study.ablations import ablation_runs
from hpelib.study.another import ASIDE
from hpelib.study.config import (
    PARAMS,
    Dataset,
    Run,
    load_params,
    make_dataset,
    networks_on,
    profile_params,
    study_runs,
)
from hpelib.study.evaluation import Evaluation, join, load
from hpelib.study.results.measurements import has_own_recipe, training

ACTS = "acts"  # the state of a mechanism in `Evaluation.liveness`
# What belongs to a network or to a machine: sides of a comparison may differ in it.
OF_NETWORK = {"heatmap_size", "sigma", "loss", "loss_options"}
OF_MACHINE = {"seed", "workers", "image_cache_mb", "checkpoint_steps", "compile", "device", "processes"}
OF_DIFFERENCE = ("low", "high", "p", "detectable", "picture_sd", "seed_sd", "freedom")
ONE_SEED = "one seed"


class Study:
    """What the current profile measured, each evaluation read once."""

    def __init__(self, params: dict) -> None:
        self.params = params
        self.find = cache(self._find)
        self.redrawn = cache(self._redrawn)
        self.references = cache(self._references)

    def runs(self, entry: str, dataset: str) -> list[Run]:
        """The runs of an entry, one for each seed; none if the profile does not train it on this dataset."""
        network, _, row = entry.partition(":")
        params = self.params
        if network not in profile_params(params)["networks"]:
            return []
        if not row:
            return study_runs(params, network, dataset) if network in networks_on(params, dataset) else []
        if dataset not in params["ablations"][network]["datasets"]:
            return []
        return [ablation_runs(params, network, seed, dataset)[row] for seed in params["ablation_seeds"]]

    def _find(self, entry: str, dataset: str) -> Evaluation | None:
        """The evaluation of an entry over all seeds that are finished; None if the current profile has none of it."""
        runs = self.runs(entry, dataset)
        folders = dict.fromkeys(run.evaluation for run in runs)  # of a whole network one holds all seeds
        found = [load(folder) for folder in folders if (folder / "summary.json").is_file()]
        return join(found) if found else None

    def _redrawn(self, entry: str, dataset: str, metric: str) -> tuple[np.ndarray, int] | None:
        """The figure of redrawn pictures (seeds, draws) in percent, and how many pictures there are.

        None for a figure that is neither of AP nor a mean over keypoints.
        """
        return redrawn(self.find(entry, dataset), metric)

    def interval(self, entry: str, dataset: str, metric: str) -> Interval | None:
        """The mean over seeds with its 95 % interval over pictures; None as for `redrawn`."""
        found = self.redrawn(entry, dataset, metric)
        if found is None:
            return None
        low, high = np.nanquantile(found[0].mean(axis=0), (0.025, 0.975))
        return Interval(float(np.mean(self.find(entry, dataset).values(metric))), float(low), float(high))

    def floor(self, dataset: str, metric: str) -> tuple[str, float] | None:
        """The best of `references`, by its name; None if they have no such figure."""
        found = self.references(dataset)
        found = found[found["metric"] == metric].dropna()
        return None if found.empty else tuple(found.loc[found["value"].idxmax(), ["network", "value"]])

    def _references(self, dataset: str) -> pd.DataFrame:
        """What a figure is worth that needs no learning from pictures: columns network, metric, value.

        `mean pose` puts the mean pose of the training persons into every box. `shuffled labels` is the control.
        """
        parts = {"mean pose": pd.Series(mean_pose(self.params, dataset), dtype=float)}
        if dataset in self.params["datasets"]:
            run = study_runs(self.params, self.params["control"], dataset, labels="shuffled")[0]
            if (run.evaluation / "summary.json").is_file():
                parts["shuffled labels"] = load(run.evaluation).figures.groupby("metric")["value"].mean()
        return pd.concat(parts, names=["network", "metric"]).rename("value").reset_index()

    def compare(
        self, better: str, worse: str, dataset: str, metric: str, needs: Sequence[str] = (), claimed: float = np.nan
    ) -> dict:
        """One figure of one entry against that of another, over the seeds that both have.

        Returns:
            `ours` (the gain), `OF_DIFFERENCE`, `p_below`, `seeds`, `pictures`, `persons`, `training`, `profile`, and
            `verdict` with its `reason` where nothing can be tested. Where there is no verdict, `judge` or `ledger`
            makes one from the p values.
        """
        sides = [self.find(entry, dataset) for entry in (better, worse)]
        if any(side and not side.values(metric) for side in sides):
            return {"verdict": NOT_TESTABLE, "reason": f"this study does not measure {metric}"}
        if None in sides:
            missing = [entry for entry, side in zip((better, worse), sides, strict=True) if side is None]
            return {"verdict": NOT_RUN, "reason": "; ".join(self._remedy(entry, dataset) for entry in missing)}
        seeds = [seed for seed in sides[0].summary.seeds if seed in sides[1].summary.seeds]
        values = [side.of_seeds(seeds).values(metric) for side in sides]
        if not seeds or np.isnan(values).any():
            return {"verdict": NOT_TESTABLE, "reason": "no seed in common" if not seeds else f"{metric} is undefined"}
        gain, summary = float(np.subtract(*values).mean()), sides[0].summary
        row = {"ours": gain, "seeds": len(seeds), "persons": summary.persons, "profile": summary.profile}
        row["training"] = training(summary, has_own_recipe(self.params, better))
        drawn = [self.redrawn(entry, dataset, metric) for entry in (better, worse)]
        if None in drawn:
            return row | {"verdict": NOT_TESTABLE, "reason": f"{metric} has no interval"}
        places = [[side.summary.seeds.index(seed) for seed in seeds] for side in sides]
        change = np.mean([drawn[0][0][i] - drawn[1][0][j] for i, j in zip(*places, strict=True)], axis=0)
        row |= {"pictures": drawn[0][1], "picture_sd": picture_sd(change, drawn[0][1])}
        if len(seeds) > 1:
            found = difference(*values, change, drawn[0][1])
            row |= {name: getattr(found, name) for name in OF_DIFFERENCE} | {"p_below": found.p_below(claimed)}
        needed = max(np.nan_to_num(claimed), detectable(row["picture_sd"], 0, np.inf, 1))
        reason = _off(sides[0], needs) or self._unequal(better, worse, dataset)
        reason = reason or self._at_floor(max(map(np.mean, values)), needed, dataset, metric)
        reason = reason or ("" if len(seeds) > 1 else ONE_SEED)
        return row | ({"verdict": NOT_TESTABLE, "reason": reason} if reason else {})

    def _remedy(self, entry: str, dataset: str) -> str:
        """Why there is no evaluation of an entry, and what would make one, in words."""
        network, _, row = entry.partition(":")
        if self.runs(entry, dataset):
            return f"{entry} on {dataset}: not run yet ({self.command})"
        others = [
            name
            for name in self.params["profiles"]
            if network in profile_params(self.params | {"profile": name})["networks"] and not row
        ]
        if self.params["profile"] in others:
            return f"add {network} to `networks` in params.yaml and {dataset} to the datasets"
        known = f", as the profiles {', '.join(others)} have" if others else ""
        return f"this profile has no {entry} on {dataset}: give it one in params.yaml{known}"

    @cached_property
    def command(self) -> str:
        """What runs the study under this profile, as code; it names the profile unless that is the default."""
        chosen = ASIDE / PARAMS if (ASIDE / PARAMS).is_file() else PARAMS
        default = load_params(chosen)["profile"] if chosen.is_file() else ""
        named = "" if self.params["profile"] == default else f" PROFILE={self.params['profile']}"
        return f"`make study{named}`"

    def _unequal(self, better: str, worse: str, dataset: str) -> str:
        """In what the two sides differ beyond what is compared, in words; empty where they stand on equal footing."""
        if ":" in better and better.partition(":")[0] == worse.partition(":")[0] and ":" in worse:
            return ""  # rows of one ablation differ in what the row is about alone
        settings = [_settings(self.runs(entry, dataset)[0]) for entry in (better, worse)]
        different = [name for name in settings[0] if settings[0][name] != settings[1][name]]
        words = [f"{name} ({settings[0][name]} and {settings[1][name]})" for name in different]
        return f"unequal footing: {', '.join(words)}" if words else ""

    def _at_floor(self, best: float, needed: float, dataset: str, metric: str) -> str:
        """Why the better side is too near to the floor, in words; empty if more than `needed` points are between."""
        floor = self.floor(dataset, metric)
        if floor is None or best - floor[1] > needed:
            return ""
        return f"at the floor: {floor[0]} has {floor[1]:.1f}, the better side {best:.1f}"

    @cached_property
    def figures(self) -> pd.DataFrame:
        """Every figure of every network and row: columns network, dataset, split, metric, value, low, high, seeds, run.

        `value` is the mean over seeds, `low` to `high` its 95 % interval over pictures where it has one. `run` is a
        digest of everything that decides the training of its first seed.
        """
        papers = self.params["ablations"].items()
        rows = [(f"{paper}:{row}", dataset) for paper, of in papers for dataset in of["datasets"] for row in of["rows"]]
        whole = [
            (name, dataset) for dataset in self.params["all_datasets"] for name in networks_on(self.params, dataset)
        ]
        lines = []
        for entry, dataset in whole + rows:
            if evaluation := self.find(entry, dataset):
                about = {"network": entry, "dataset": dataset, "split": "test"}
                run = {"seeds": len(evaluation.summary.seeds), "run": self.runs(entry, dataset)[0].digest}
                for metric, value in evaluation.figures.groupby("metric", sort=False)["value"].mean().items():
                    slow = metric.rpartition("_")[0] in set(FIGURES) - {"AP"}  # not worth minutes
                    interval = None if slow or np.isnan(value) else self.interval(entry, dataset, metric)
                    bounds = {"low": interval.low, "high": interval.high} if interval else {}
                    lines.append(about | {"metric": metric, "value": value} | bounds | run)
        return pd.DataFrame(
            lines, columns=["network", "dataset", "split", "metric", "value", "low", "high", "seeds", "run"]
        )


def redrawn(evaluation: Evaluation, metric: str) -> tuple[np.ndarray, int] | None:
    """As `Study.redrawn`, of an evaluation."""
    name, _, boxes = metric.rpartition("_")
    if boxes in evaluation.matches and name in FIGURES:
        matches = evaluation.matches[boxes]
        pictures = len(matches[0].persons)
        return np.stack([each.figures(redraws(pictures), [name])[name] for each in matches]), pictures
    members = slice(None) if metric == evaluation.summary.form.keypoint_metric else evaluation.groups.get(metric)
    if members is None:
        return None
    means = redrawn_means(evaluation.keypoint_scores[:, :, members], evaluation.image_ids)
    return means.T, len(np.unique(evaluation.image_ids))


def judge(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of what `Study.compare` returned: p_holm and detectable corrected for these rows, and a verdict in each.

    As no size is claimed, verdicts are "seen", "opposite" and "not told from chance", in rows that have none yet.
    """
    columns = found.columns.union(["ours", *OF_DIFFERENCE, "seeds", "verdict", "reason"], sort=False)
    found = found.reindex(columns=columns).astype({"verdict": object, "reason": object})
    open_ = found["verdict"].isna()
    found["p_holm"] = holm(found["p"].where(open_))
    found["detectable"] = np.nan  # of a row that cannot be tested nothing is seen, of whatever size
    found.loc[open_, "detectable"] = detectable_among(found[open_], open_.sum())
    judged = found.loc[open_, ["ours", "p_holm"]].itertuples(index=False)
    found.loc[open_, "verdict"] = [verdict(*each, np.nan) for each in judged]
    return found


def detectable_among(found: pd.DataFrame, tests: int) -> list[float]:
    """For rows of what `Study.compare` returned, what is detectable after a correction for so many tests."""
    rows = found[["picture_sd", "seed_sd", "freedom", "seeds"]].itertuples(index=False)
    return [detectable(*row, tests=tests) for row in rows]


def mean_pose(params: dict, dataset: str) -> dict[str, float]:
    """The figures, in percent, of the training persons' mean pose, put into every annotated box of the test split."""
    chosen = make_dataset(params, dataset)
    people = scored_people(chosen)
    keypoints = put_mean_pose(chosen, people)
    return chosen.form.figures(chosen, people, keypoints, np.ones(keypoints.shape[:2]))


def scored_people(dataset: Dataset, split: str = "test") -> People:
    """The persons of a split that are scored.

    Raises:
        FileNotFoundError: no study was run here; the message says what to run.
    """
    try:
        return dataset.form.scored(dataset.form.read(dataset, split))
    except FileNotFoundError as error:
        if dataset.manifest.is_file():
            raise
        raise FileNotFoundError(
            f"no study was run here under this profile ({dataset.manifest} is missing). Run make study first; the "
            "pages that it makes are recorded in reports/"
        ) from error


def put_mean_pose(dataset: Dataset, people: People) -> np.ndarray:
    """The mean pose of the training persons in the box of each of `people`: (N, K, 2) px of their pictures."""
    train = dataset.form.read(dataset, "train")
    heights = [crop_regions(each.centers, each.sizes_px, (3, 4))[:, 1, None, None] for each in (train, people)]
    places = np.where(train.visibility[..., None] > 0, train.keypoints - train.centers[:, None], np.nan)
    mean = np.nanmean(places / heights[0], axis=0)  # (K, 2) in heights of the box
    return people.centers[:, None] + mean * heights[1]


def _settings(run: Run) -> dict:
    """What both sides of a comparison must share, by a name that a reader knows."""
    parts = {**asdict(run.inputs), **asdict(run.recipe)}
    parts |= {f"test {name}": value for name, value in asdict(run.test).items()} | {"pretrained": run.pretrained}
    return {name: value for name, value in parts.items() if name not in OF_NETWORK | OF_MACHINE}


def idle(evaluation: Evaluation) -> dict[str, pd.Series]:
    """The mechanisms of a network that do not act in most seeds, each with its states under the seeds where not."""
    states = evaluation.liveness.groupby("mechanism", sort=False)["state"]
    return {name: of[of != ACTS] for name, of in states if (of == ACTS).mean() <= 0.5}


def _off(better: Evaluation, needs: Sequence[str]) -> str:
    """Which of the mechanisms that a gain is put down to does not act in most seeds, in words; empty if all act."""
    seeds, found = better.liveness.groupby("mechanism").size(), idle(better)
    for mechanism in needs if len(seeds) else ():
        if mechanism not in seeds:
            return f"{mechanism} is not in the network"
        if mechanism in found:
            states = found[mechanism]
            return f"{mechanism}: {states.mode()[0]} under {len(states)} of {seeds[mechanism]} seeds"
    return ""
