"""All networks of the study on one dataset, side by side: tables, what differs, and the files that DVC compares."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from hpelib.metrics.statistics import NOT_RUN, NOT_TESTABLE, NOTHING, OPPOSITE, SEEN, bootstrap, how_often
from hpelib.records import baselines, records
from hpelib.study.config import make_dataset, networks_on, study_runs
from hpelib.study.evaluation import Evaluation, Summary
from hpelib.study.results.comparisons import Study, idle, judge, put_mean_pose, scored_people
from hpelib.study.results.measurements import describe, interval_cells, over_seeds, p_cell

WIDE = 8.0  # points, a range over seeds that is worth a sentence
BINS = 10  # of heatmap maxima, to compare with the scores that they promise


@dataclass(frozen=True)
class Comparison:
    """The networks of the study on one dataset's test split."""

    networks: tuple[str, ...]  # all of them, in the order of params.yaml
    evaluations: dict[str, Evaluation]  # of those that were run, in the same order
    study: Study

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError(f"none of {', '.join(self.networks)} was evaluated; run: dvc repro evaluate")

    @classmethod
    def read(cls, study: Study, dataset: str) -> "Comparison":
        """Read all evaluations on `dataset` under the current profile.

        Raises:
            ValueError: nothing was evaluated.
        """
        networks = networks_on(study.params, dataset)
        found = {network: study.find(network, dataset) for network in networks}
        return cls(tuple(networks), {name: each for name, each in found.items() if each}, study)

    @property
    def summary(self) -> Summary:
        """The summary of the first network: dataset, format and persons are the same for all."""
        return next(iter(self.evaluations.values())).summary

    def description(self) -> str:
        """What was tested on what, over all networks, in one sentence."""
        first, *others = (found.summary for found in self.evaluations.values())
        return describe(first, others=others)

    @property
    def whole(self) -> str:
        """The figure over all keypoints of which intervals are taken, such as "PCKh@0.5"."""
        return self.summary.form.keypoint_metric

    @cached_property
    def figures(self) -> pd.DataFrame:
        """All figures: columns network, seed, metric, value (percent)."""
        parts = [found.figures.assign(network=network) for network, found in self.evaluations.items()]
        return pd.concat(parts, ignore_index=True)[["network", "seed", "metric", "value"]]

    @cached_property
    def main(self) -> pd.DataFrame:
        """The main figure of the tables, in percent: a row for each seed, a column for each network."""
        values = self.figures[self.figures["metric"] == self.summary.form.main_metric]
        return values.pivot(index="seed", columns="network", values="value")[[*self.evaluations]]

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """Means over keypoints and seeds with their 95 % intervals over pictures.

        Columns name, value, low, high (percent) and joint, which is `whole` or a joint group.
        """
        rows = []
        for joint in (self.whole, *self.summary.form.skeleton.groups):
            for network, evaluation in self.evaluations.items():
                scores = evaluation.keypoint_scores.mean(axis=0)[:, evaluation.groups.get(joint, slice(None))]
                rows.append({"name": network} | asdict(bootstrap(scores, evaluation.image_ids)) | {"joint": joint})
        return pd.DataFrame(rows)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """How every network compares with its baseline in the main figure, where both were run.

        Columns: name, baseline, what `Study.compare` returns, p_holm, and verdict: "seen", "opposite", "not told
        from chance" or "not testable here".
        """
        metric, dataset = self.summary.form.main_metric, self.summary.dataset
        pairs = [pair for pair in baselines(self.evaluations).items() if set(pair) <= self.evaluations.keys()]
        rows = [dict(zip(("name", "baseline"), pair, strict=True)) for pair in pairs]
        found = pd.DataFrame(
            row | self.study.compare(*pair, dataset, metric) for row, pair in zip(rows, pairs, strict=True)
        )
        return found if found.empty else judge(found)

    def results_table(self) -> pd.DataFrame:
        """One row per network: mean and standard deviation over seeds, and cost; then the references."""
        costs = pd.DataFrame(
            {
                "params (M)": f"{found.summary.params / 1e6:.3f}",
                "MACs (M)": f"{found.summary.macs / 1e6:.1f}",
                "legacy GFLOPs": f"{found.summary.legacy_gflops:.4f}",
            }
            for found in self.evaluations.values()
        )
        table = self.over_seeds(self.summary.form.columns).join(costs.set_axis([*self.evaluations])).fillna(NOT_RUN)
        references = self.study.references(self.summary.dataset)
        values = references.pivot(index="network", columns="metric", values="value")
        cells = values.reindex(columns=self.summary.form.columns).map("{:.1f}".format, na_action="ignore")
        return pd.concat([table, cells]).fillna("")

    def difference_table(self) -> pd.DataFrame:
        """The `differences` as cells for a reader, one row per network that has its baseline beside it."""
        found, metric = self.differences, self.summary.form.main_metric
        if found.empty:
            return pd.DataFrame(columns=["network", "baseline", metric])
        means = self.main.mean()
        tested = found["low"].notna()
        cells = {
            "network": found["name"],
            "baseline": found["baseline"],
            metric: found["name"].map(means).map("{:.1f}".format),
            f"{metric}, baseline": found["baseline"].map(means).map("{:.1f}".format),
            "difference": found["ours"].map("{:+.1f}".format),
        }
        if tested.any():
            cells["difference"] = interval_cells(found, "ours", "+.1f").where(tested, cells["difference"])
            cells["detectable"] = found["detectable"].map("{:.1f}".format, na_action="ignore")
            cells["p (Holm)"] = found["p_holm"].map(p_cell, na_action="ignore")
        cells["verdict"] = found["verdict"] + (": " + found["reason"]).fillna("")
        if (off := found["name"].map(self.idle)).any():
            cells["not acting"] = off
        return pd.DataFrame(cells).fillna("")

    def floor(self, metric: str) -> float | None:
        """The value of `Study.floor`, in percent; None if there is none."""
        found = self.study.floor(self.summary.dataset, metric)
        return None if found is None else found[1]

    @cached_property
    def floor_curve(self) -> pd.DataFrame:
        """Threshold by threshold, how many keypoints the mean pose finds: columns threshold, correct (percent)."""
        dataset = make_dataset(self.study.params, self.summary.dataset)
        people = scored_people(dataset)
        return self.summary.form.curve(people, put_mean_pose(dataset, people))

    @cached_property
    def val_floor(self) -> float:
        """The figure of learning curves, in percent, that the mean pose has on the val split."""
        dataset = make_dataset(self.study.params, self.summary.dataset)
        people = scored_people(dataset, "val")
        (figure,) = self.summary.form.keypoint_figure(people, put_mean_pose(dataset, people)).values()
        return figure

    def detectable(self) -> str:
        """The smallest difference from a baseline that can be seen here, in one sentence."""
        found = pd.Series() if self.differences.empty else self.differences["detectable"].dropna()
        if found.empty:
            return "No network was run beside its baseline from two seeds, so no difference of any size would be seen."
        rows = self.differences.loc[found.index]
        each = ", ".join(f"{size:.1f} ({name})" for name, size in zip(rows["name"], found, strict=True))
        return (
            f"The smallest true difference from the baseline that is seen {how_often(rows['seeds'])}, in points: "
            f"{each}. It depends on how many comparisons are corrected together: here {len(rows)}; on the page of "
            "claims all tested claims of a paper. So the same two networks have another size and p there, and "
            "sometimes another verdict."
        )

    @property
    def seeds_compared(self) -> list[int]:
        """How many seeds each comparison with a baseline has that was tested."""
        found = self.differences
        return [] if found.empty else found.loc[found["detectable"].notna(), "seeds"].astype(int).tolist()

    def correction(self) -> str:
        """Why differences whose interval excludes 0 have no verdict, in a few sentences; empty if there are none."""
        found = self.differences
        rows = found[(found["verdict"] == NOTHING) & (found["low"] * found["high"] > 0)] if len(found) else found
        if rows.empty:
            return ""
        each = ", ".join(f"{row.name} (p {p_cell(row.p_holm)})" for row in rows.itertuples(index=False))
        return (
            f"These differences have an interval that excludes 0, but they are not told from chance: {each}. An "
            f"interval is that of one comparison alone. The verdict is corrected for {found['p_holm'].notna().sum()} "
            "comparisons (Holm): the more comparisons there are, the more often one excludes 0 by chance."
        )

    def idle(self, network: str) -> str:
        """Mechanisms of a network that do not act here, such as "dynamic kernels: off at this input", or nothing."""
        found = idle(self.evaluations[network])
        return "; ".join(f"{name.replace('_', ' ')}: {states.mode()[0]}" for name, states in found.items())

    def conclusion(self) -> str:
        """Which networks are better than their baselines and which are not, in a few sentences."""
        parts, found = [], self.differences
        tested = len(found) and (found["verdict"] != NOT_TESTABLE).any()
        titles = {SEEN: "Better than the baseline beyond chance", OPPOSITE: "Worse beyond chance"}
        for word in (SEEN, OPPOSITE, NOTHING, NOT_TESTABLE) if len(found) else ():
            part = found[found["verdict"] == word]
            idle = part["name"].map(self.idle).map(lambda words: f"; {words}" if words else "")
            cells = [
                f"{row.name} ({row.ours:+.1f} against {row.baseline}{off})"
                for row, off in zip(part.itertuples(index=False), idle, strict=True)
            ]
            title = titles.get(word, word[0].upper() + word[1:])
            reasons = f" ({'; '.join(part['reason'].unique())})" if word == NOT_TESTABLE else ""
            if cells or (word == SEEN and tested):
                parts.append(f"{title}: {', '.join(cells) or 'none'}{reasons}.")
        first, *others = self.seeds_won.index
        ahead = all(self.seeds_won.loc[first, other] == len(self.main) for other in others)
        unsure = "" if ahead else ", but not under every seed"
        highest = f"The highest mean {self.summary.form.main_metric} is that of {first}{unsure}."
        return " ".join(filter(None, [*parts, self.correction(), highest]))

    def floor_statement(self) -> str:
        """How far the networks are above what needs no learning, in one sentence; empty without a floor."""
        metric, means = self.summary.form.main_metric, self.main.mean()
        floor = self.floor(metric)
        if floor is None:
            return ""
        return (
            f"Without learning from pictures {metric} is {floor:.1f}. Networks differ from that by "
            f"{means.min() - floor:+.1f} ({means.idxmin()}) to {means.max() - floor:+.1f} points ({means.idxmax()})."
        )

    def calibration(self) -> pd.DataFrame:
        """Whether a heatmap's maximum says how right its keypoint is: one row per network, means over seeds.

        Heatmap maxima are cut off at 1. `error` is the expected calibration error over ten bins of equal width,
        `rank correlation` Spearman's between maxima and scores. The last two columns are px of the picture.
        """
        rows = {}
        for network, found in self.evaluations.items():
            each = [
                calibrated(maxima, scores)
                for maxima, scores in zip(found.confidences, found.keypoint_scores, strict=True)
            ]
            rows[network] = pd.DataFrame(each).mean()
        table = pd.DataFrame(rows).T.map("{:.2f}".format)
        distances = self.over_seeds(("median_px", "p90_px"))
        return table.join(distances.set_axis(["median error (px)", "90 % below (px)"], axis=1))

    def over_seeds(self, metrics: Sequence[str]) -> pd.DataFrame:
        """One row per network: figures as mean and standard deviation over seeds."""
        cells = over_seeds(self.figures, ["network"], "metric")
        return cells.reindex(index=self.networks, columns=metrics).rename_axis(index="network").fillna(NOT_RUN)

    @cached_property
    def seeds_won(self) -> pd.DataFrame:
        """Under how many seeds the network of the row has a higher main figure than that of the column.

        Rows and columns go from the best mean to the worst. The diagonal is NaN.
        """
        values = self.main[self.main.mean().sort_values(ascending=False, kind="stable").index]
        won = pd.DataFrame({name: values.gt(values[name], axis=0).sum() for name in values})
        return won.mask(np.eye(len(won), dtype=bool))

    def order_statement(self) -> str:
        """Which of the networks are in the same order under every seed, in one or two sentences."""
        seeds, won = len(self.main), self.seeds_won
        if seeds < 2:
            return "One seed only: nothing can be said about how stable the order of networks is."
        pairs = list(combinations(won.index, 2))
        unstable = [" and ".join(pair) for pair in pairs if won.loc[pair] != seeds]
        if not unstable:
            return f"The order of networks is the same under all {seeds} seeds: {' > '.join(won.index)}."
        return (
            f"The order of networks is **not stable** over the {seeds} seeds: {len(pairs) - len(unstable)} of "
            f"{len(pairs)} pairs keep theirs under every seed, which is no test. Pairs that change places: "
            f"{', '.join(unstable)}."
        )

    def unsteady(self) -> str:
        """Where one network's seeds differ the most in a group of joints, in one sentence; empty below `WIDE` points.

        Such a range often is one training that went another way, for instance one that takes left legs for right ones.
        """
        groups = self.figures[self.figures["metric"].isin(self.summary.form.skeleton.groups)]
        of_groups = groups.pivot(index=["network", "metric"], columns="seed", values="value")
        ranges = of_groups.max(axis=1) - of_groups.min(axis=1)
        widest = ranges[ranges > WIDE].sort_values(ascending=False)
        widest = widest[~widest.index.get_level_values("network").duplicated()].head(3)
        each = [
            f"{name}, {joint}: {', '.join(f'{v:.1f}' for v in of_groups.loc[(name, joint)])}"
            for name, joint in widest.index
        ]
        return f"Seeds disagree most about {'; '.join(each)}." if each else ""

    def save(self, history: pd.DataFrame, folder: Path, metrics: Path, plots: Path) -> None:
        """Write what other programs read.

        - `folder`: results.csv (every figure) and joints.csv (`intervals` of joint groups).
        - `metrics`: {dataset: {short name of the network: main figure}}, which DVC shows in columns such as coco.hr.
        - `plots`: a folder for each plot that DVC draws, with a file for each network; means over seeds. learning:
          epoch, learning_rate, loss, score; threshold: threshold, correct; joints: joint, value.

        Args:
            history: what `histories` returns.
        """
        folder.mkdir(parents=True, exist_ok=True)
        joints = self.intervals[self.intervals["joint"] != self.whole]
        self.figures.to_csv(folder / "results.csv", index=False, float_format="%.4f")
        joints.to_csv(folder / "joints.csv", index=False, float_format="%.4f")
        short = {name: records()[name].short if name in records() else name for name in self.evaluations}
        means = {short[network]: round(value, 2) for network, value in self.main.mean().items()}
        metrics.write_text(json.dumps({self.summary.dataset: means}, indent=2) + "\n")
        for network, evaluation in self.evaluations.items():
            of_network = history[history["name"] == network].drop(columns=["name", "seed"])
            last = of_network.columns[-1]
            tables = {
                "learning": of_network.groupby("epoch", as_index=False).mean().rename(columns={last: "score"}),
                "threshold": evaluation.curves.groupby("threshold", as_index=False)["correct"].mean(),
                "joints": joints.loc[joints["name"] == network, ["joint", "value"]],
            }
            for plot, table in tables.items():
                (plots / plot).mkdir(parents=True, exist_ok=True)
                table.to_csv(plots / plot / f"{network}.csv", index=False, float_format="%.6g")


def histories(params: dict, dataset: str) -> pd.DataFrame:
    """The histories of all runs on `dataset`: columns name, seed, epoch, learning_rate, loss and the val figure."""
    runs = [run for network in networks_on(params, dataset) for run in study_runs(params, network, dataset)]
    paths = {(run.network, run.seed): run.folder / "history.csv" for run in runs}
    parts = {key: pd.read_csv(path) for key, path in paths.items() if path.is_file()}
    return pd.concat(parts, names=["name", "seed", None]).reset_index(["name", "seed"]).reset_index(drop=True)


def calibrated(maxima: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Expected against observed keypoint scores; shapes (N, K), NaN scores do not count."""
    counted = ~np.isnan(scores)
    expected, observed = maxima[counted].clip(0, 1), scores[counted]
    of_bins = pd.DataFrame({"bin": (expected * BINS).astype(int).clip(max=BINS - 1), "gap": expected - observed})
    gaps = of_bins.groupby("bin")["gap"].agg(["mean", "size"])
    return {
        "heatmap maximum": float(expected.mean()),
        "score": float(observed.mean()),
        "error": float((gaps["mean"].abs() * gaps["size"]).sum() / gaps["size"].sum()),
        "rank correlation": float(spearmanr(expected, observed).statistic),
    }
