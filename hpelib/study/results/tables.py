"""All networks of the study on one dataset, side by side: tables, what differs, and the files that DVC compares."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import NOT_RUN, bootstrap, direction, seed_difference
from hpelib.records import baselines, records
from hpelib.study.config import networks_on, study_runs
from hpelib.study.evaluation import Evaluation, Summary, load
from hpelib.study.results.measurements import interval_cells, judged, over_seeds


@dataclass(frozen=True)
class Comparison:
    """The networks of the study on one dataset's test split."""

    networks: tuple[str, ...]  # all of them, in the order of params.yaml
    evaluations: dict[str, Evaluation]  # of those that were run, in the same order

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError(f"none of {', '.join(self.networks)} was evaluated; run: dvc repro evaluate")

    @classmethod
    def read(cls, params: dict, dataset: str) -> "Comparison":
        """Read all evaluations on `dataset` under the current profile.

        Raises:
            FileNotFoundError: an evaluation was begun and not finished.
            ValueError: nothing was evaluated.
        """
        networks = networks_on(params, dataset)
        folders = {network: study_runs(params, network, dataset)[0].evaluation for network in networks}
        return cls(tuple(networks), {network: load(at) for network, at in folders.items() if at.is_dir()})

    @property
    def summary(self) -> Summary:
        """The summary of the first network. Apart from name, model and cost it is the same for all."""
        return next(iter(self.evaluations.values())).summary

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
        """Means over keypoints and seeds with their 95 % intervals over persons.

        Columns name, value, low, high (percent) and joint, which is `whole` or a joint group.
        """
        rows = []
        for joint in (self.whole, *self.summary.form.skeleton.groups):
            for network, evaluation in self.evaluations.items():
                _, scores = judged(evaluation, joint)
                rows.append({"name": network} | asdict(bootstrap(scores.mean(axis=0))) | {"joint": joint})
        return pd.DataFrame(rows)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """How every network compares with its baseline, where both were run.

        Columns: name; baseline; metric, the figure that is compared; the fields of `Difference`; verdict: "gain",
        "loss" or "none shown".
        """
        rows = []
        for network, baseline in baselines().items():
            if {network, baseline} <= self.evaluations.keys():
                sides = (judged(self.evaluations[name], self.summary.form.main_metric) for name in (network, baseline))
                (metric, scores), (_, others) = sides
                difference = seed_difference(scores, others)
                verdict = direction(difference, self.main[network].mean() - self.main[baseline].mean())
                row = {"name": network, "baseline": baseline, "metric": metric, "verdict": verdict}
                rows.append(row | asdict(difference))
        return pd.DataFrame(rows)

    def results_table(self) -> pd.DataFrame:
        """One row per network: figures as mean and standard deviation over seeds, cost, and `differences`."""
        costs = pd.DataFrame(
            {
                "params (M)": f"{found.summary.params / 1e6:.3f}",
                "MACs (M)": f"{found.summary.macs / 1e6:.1f}",
                "legacy GFLOPs": f"{found.summary.legacy_gflops:.4f}",
            }
            for found in self.evaluations.values()
        )
        table = self.over_seeds(self.summary.form.columns).join(costs.set_axis([*self.evaluations])).fillna(NOT_RUN)
        if self.differences.empty:
            return table
        found = self.differences.set_index("name")
        table["baseline"] = found["baseline"]
        table[f"{found['metric'].iloc[0]}, difference"] = interval_cells(found, "gain", "+.1f")
        table["noise floor"] = found["noise_floor"].map("{:.1f}".format, na_action="ignore").fillna("one seed")
        table[f"gain or loss in {found['metric'].iloc[0]}"] = found["verdict"]
        return table.fillna("")

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
            f"{len(pairs)} pairs keep theirs under every seed. Not told apart: {', '.join(unstable)}."
        )

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


def control_statement(params: dict, dataset: str) -> str:
    """What the network that was trained on shuffled labels scores, in one sentence."""
    if dataset in params["extra"]["datasets"]:
        return "No control was trained on this dataset."
    control = load(study_runs(params, params["control"], dataset, labels="shuffled")[0].evaluation)
    metric = control.summary.form.main_metric
    (score,) = control.values(metric)
    return f"Control: {params['control']} trained on shuffled labels scores {metric} {score:.1f}."
