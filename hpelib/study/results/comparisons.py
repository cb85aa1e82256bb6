"""What the study measured of its entries, and whether a difference between two of them can be tested."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, cached_property

import numpy as np
import pandas as pd

from hpelib.data.crops import crop_regions
from hpelib.formats import FORMATS
from hpelib.metrics.coco import FIGURES
from hpelib.metrics.statistics import (
    NOT_RUN,
    NOT_TESTABLE,
    Difference,
    Interval,
    SeedNoise,
    difference,
    pooled_noise,
    redrawn_means,
    redraws,
)
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import Run, make_dataset, networks_on, profile_params, study_runs
from hpelib.study.evaluation import Evaluation, join, load
from hpelib.study.results.measurements import has_own_recipe, training

# A gain of PCKh had this standard deviation over three seeds in the study recorded before this one (root mean square of
# nine differences on mannequins); gains of AP had 0.7. It stands in where no training of a kind has a second seed.
EARLIER = SeedNoise(1.2**2 / 2, 16, "an earlier study (sd 1.2)")
ACTS = "acts"  # the state of a mechanism in `Evaluation.liveness`
# What belongs to a network or to a machine: sides of a comparison may differ in it.
OF_NETWORK = {"heatmap_size", "sigma", "loss", "loss_options"}
OF_MACHINE = {"seed", "workers", "image_cache_mb", "checkpoint_steps", "compile", "device", "processes"}
OF_DIFFERENCE = ("low", "high", "p", "error", "freedom", "detectable", "picture_sd", "seed_sd", "seeds", "noise")


class Study:
    """What the current profile measured, each evaluation read once."""

    def __init__(self, params: dict) -> None:
        self.params = params
        self.find = cache(self._find)
        self.redrawn = cache(self._redrawn)
        self.noise = cache(self._noise)
        self.floor = cache(self._floor)

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

    def _noise(self, dataset: str, metric: str, of_rows: bool) -> SeedNoise:
        """What a new seed changes in a figure of one training, of whole networks or of rows of ablations."""
        entries = networks_on(self.params, dataset)
        if of_rows:
            entries = [f"{paper}:{row}" for paper, of in self.params["ablations"].items() for row in of["rows"]]
        found = [evaluation for entry in entries if (evaluation := self.find(entry, dataset))]
        values = [each for evaluation in found if len(each := evaluation.values(metric)) > 1]
        noise = pooled_noise(values, f"pooled over {len(values)} {'rows' if of_rows else 'networks'}")
        if noise is None and of_rows:
            return max(EARLIER, self.noise(dataset, metric, False), key=lambda each: each.variance)
        return noise or EARLIER

    def _floor(self, dataset: str, metric: str) -> tuple[str, float] | None:
        """The best of `references`, by its name."""
        found = self.references(dataset)
        found = found[found["metric"] == metric]
        return None if found.empty else tuple(found.loc[found["value"].idxmax(), ["network", "value"]])

    def references(self, dataset: str) -> pd.DataFrame:
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
            `ours` (the gain), `OF_DIFFERENCE`, `p_below`, `pictures`, `persons`, `training`, `profile`, and `verdict`
            with its `reason` where nothing can be tested. Without a verdict, the p values have the word.
        """
        sides = [self.find(entry, dataset) for entry in (better, worse)]
        seeds = [seed for seed in sides[0].summary.seeds if seed in sides[1].summary.seeds] if all(sides) else []
        values = [side.of_seeds(seeds).values(metric) for side in sides if seeds]
        if not all(values) or not values or np.isnan(values).any():
            return {"verdict": NOT_RUN}
        gains, summary = np.subtract(*values), sides[0].summary
        row = {"ours": float(gains.mean()), "seeds": len(seeds), "profile": summary.profile}
        row["training"] = training(summary, has_own_recipe(self.params, better))
        drawn = [self.redrawn(entry, dataset, metric) for entry in (better, worse)]
        if None in drawn:
            return row | {"verdict": NOT_TESTABLE, "reason": f"{metric} has no interval"}
        places = [[side.summary.seeds.index(seed) for seed in seeds] for side in sides]
        change = np.mean([drawn[0][0][i] - drawn[1][0][j] for i, j in zip(*places, strict=True)], axis=0)
        of_rows = ":" in better or ":" in worse
        found = difference(gains, change, drawn[0][1], self.noise(dataset, metric, of_rows))
        row |= {name: getattr(found, name) for name in OF_DIFFERENCE}
        row |= {
            "pictures": drawn[0][1],
            "persons": summary.persons,
            "p_below": found.p_below(claimed),
        }
        reason = self._unequal(better, worse, dataset) or _off(sides[0], needs)
        reason = reason or self._at_floor(max(map(np.mean, values)), found, dataset, metric)
        return row | ({"verdict": NOT_TESTABLE, "reason": reason} if reason else {})

    def _unequal(self, better: str, worse: str, dataset: str) -> str:
        """In what the two sides differ beyond what is compared, in words; empty where they stand on equal footing."""
        if ":" in better and better.partition(":")[0] == worse.partition(":")[0] and ":" in worse:
            return ""  # rows of one ablation differ in what the row is about alone
        settings = [_settings(self.runs(entry, dataset)[0]) for entry in (better, worse)]
        different = [name for name in settings[0] if settings[0][name] != settings[1][name]]
        words = [f"{name} ({settings[0][name]} and {settings[1][name]})" for name in different]
        return f"unequal footing: {', '.join(words)}" if words else ""

    def _at_floor(self, best: float, found: Difference, dataset: str, metric: str) -> str:
        floor = self.floor(dataset, metric)
        if floor is None or best - floor[1] > found.detectable:
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


def mean_pose(params: dict, dataset: str) -> dict[str, float]:
    """The figures, in percent, of the training persons' mean pose, put into every annotated box of the test split."""
    chosen = make_dataset(params, dataset)
    form = FORMATS[chosen.format]
    train, people = form.read(chosen, "train"), form.scored(form.read(chosen, "test"))
    heights = [crop_regions(each.centers, each.sizes_px, (3, 4))[:, 1, None, None] for each in (train, people)]
    places = np.where(train.visibility[..., None] > 0, train.keypoints - train.centers[:, None], np.nan)
    mean = np.nanmean(places / heights[0], axis=0)  # (K, 2) in heights of the box
    keypoints = people.centers[:, None] + mean * heights[1]
    return form.figures(chosen, people, keypoints, np.ones(keypoints.shape[:2]))


def _settings(run: Run) -> dict:
    """What both sides of a comparison must share, by a name that a reader knows."""
    parts = {**asdict(run.inputs), **asdict(run.recipe)}
    parts |= {f"test {name}": value for name, value in asdict(run.test).items()} | {"pretrained": run.pretrained}
    return {name: value for name, value in parts.items() if name not in OF_NETWORK | OF_MACHINE}


def _off(better: Evaluation, needs: Sequence[str]) -> str:
    """Which of the mechanisms that a gain is put down to does not act in most seeds, in words; empty if all act."""
    alive = better.liveness
    for mechanism in needs if len(alive) else ():
        states = alive.loc[alive["mechanism"] == mechanism, "state"]
        if states.empty:
            return f"{mechanism} is not in the network"
        if (states == ACTS).mean() <= 0.5:
            other = states[states != ACTS]
            return f"{mechanism}: {other.mode()[0]} under {len(other)} of {len(states)} seeds"
    return ""
