"""Evaluations side by side: the tables, their caveats in words, and the files that DVC compares."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.formats import FORMATS
from hpelib.metrics.statistics import NOT_RUN, bootstrap, seed_difference, spread
from hpelib.records import baselines, records
from hpelib.study.config import networks_on, study_runs
from hpelib.study.evaluation import Evaluation, load
from hpelib.study.results.measurements import RECALL, oks_recall

Evaluations = dict[str, Evaluation | None]

GROUPS = ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"]


def collect(params: dict, dataset: str) -> Evaluations:
    """The evaluation of every network of the study on `dataset`; None where it was not run."""
    return {
        network: _load_if_there(study_runs(params, network, dataset)[0].evaluation)
        for network in networks_on(params, dataset)
    }


def _load_if_there(folder: Path) -> Evaluation | None:
    return load(folder) if folder.is_dir() else None


def mean_and_sd(values: pd.Series) -> str:
    """A figure over its seeds, as a table prints it."""
    found = spread(values.tolist())
    return f"{found.mean:.1f}" if found.count == 1 else f"{found.mean:.1f} ± {found.sd:.1f}"


def columns_of(evaluations: Evaluations) -> list[str]:
    """The figures that a results table of this format shows, the leading one first."""
    return list(FORMATS[_summary(evaluations)["format"]].columns)


def results_table(evaluations: Evaluations) -> pd.DataFrame:
    """One row per network: figures as mean and standard deviation over seeds, cost, and `difference_table`."""
    rows = {}
    for network, evaluation in evaluations.items():
        if evaluation is None:
            rows[network] = {}
            continue
        cost = evaluation.summary
        rows[network] = {metric: _over_seeds(evaluation, metric) for metric in columns_of(evaluations)} | {
            "params (M)": f"{cost['params'] / 1e6:.3f}",
            "MACs (M)": f"{cost['macs'] / 1e6:.1f}",
            "legacy GFLOPs": f"{cost['legacy_gflops']:.4f}",
        }
    table = pd.DataFrame.from_dict(rows, orient="index").fillna(NOT_RUN).rename_axis("network")
    return table.join(difference_table(evaluations)).fillna("")


def joint_table(evaluations: Evaluations) -> pd.DataFrame:
    """One row per network: each joint group as mean and standard deviation over seeds."""
    rows = {
        network: {} if evaluation is None else {group: _over_seeds(evaluation, group) for group in GROUPS}
        for network, evaluation in evaluations.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=GROUPS).fillna(NOT_RUN).rename_axis("network")


def intervals(evaluations: Evaluations, group: str | None = None) -> pd.DataFrame:
    """Columns name, value, low, high: the mean over keypoints and seeds with its 95 % interval over persons.

    With `group`, over that joint group alone.
    """
    rows = []
    for network, evaluation in _present(evaluations).items():
        scores = evaluation.keypoint_scores.mean(axis=0)  # (N, K), over seeds
        members = evaluation.groups[group] if group else slice(None)
        found = bootstrap(scores[:, members])
        rows.append({"name": network, "value": found.value, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def group_intervals(evaluations: Evaluations) -> pd.DataFrame:
    """`intervals` of every joint group: columns joint, name, value, low, high."""
    parts = [intervals(evaluations, group).assign(joint=group) for group in GROUPS]
    return pd.concat(parts, ignore_index=True)


def differences(evaluations: Evaluations) -> pd.DataFrame:
    """How every network compares with its baseline, on the same persons, in points of `difference_metric`.

    Columns: name, baseline, value, low, high (paired 95 % interval over persons, figures averaged over seeds), noise
    (standard deviation over seeds, the larger of the baseline's and the difference's, NaN for one) and verdict: "gain"
    or "loss" where the interval excludes zero, the difference exceeds the noise and the leading figure goes the same
    way, else "none shown". Networks without a baseline here are absent.
    """
    rows = []
    present = _present(evaluations)
    metric = FORMATS[_summary(evaluations)["format"]].main_metric
    for network, baseline in baselines().items():
        if network in present and baseline in present:
            sides = present[network], present[baseline]
            difference = seed_difference(*(_judged(side) for side in sides))
            found, noise = difference.interval, difference.noise_floor
            leading = _values(sides[0], metric).mean() - _values(sides[1], metric).mean()
            shown = abs(found.value) > noise and (found.low > 0 or found.high < 0) and found.value * leading > 0
            verdict = ("gain" if found.value > 0 else "loss") if shown else "none shown"
            rows.append((network, baseline, found.value, found.low, found.high, noise, verdict))
    return pd.DataFrame(rows, columns=["name", "baseline", "value", "low", "high", "noise", "verdict"])


def difference_table(evaluations: Evaluations) -> pd.DataFrame:
    """`differences` for a reader, one row per network that has a baseline here; no columns if none has."""
    found = differences(evaluations)
    if found.empty:
        return pd.DataFrame()
    metric = difference_metric(evaluations)
    columns = {
        "baseline": found["baseline"],
        f"{metric}, difference": [f"{row.value:+.1f} [{row.low:+.1f}, {row.high:+.1f}]" for row in found.itertuples()],
        "noise floor": ["one seed" if pd.isna(noise) else f"{noise:.1f}" for noise in found["noise"]],
        f"gain or loss in {metric}": found["verdict"],
    }
    return pd.DataFrame(columns).set_axis(found["name"])


def difference_metric(evaluations: Evaluations) -> str:
    """What networks are compared with their baselines by: on COCO what the ledger of claims judges AP by."""
    form = _summary(evaluations)["format"]
    return RECALL if form == "coco" else FORMATS[form].keypoint_metric


def _judged(evaluation: Evaluation) -> np.ndarray:
    """(seeds, N, 1 or more), the scores of `difference_metric`."""
    scores = evaluation.keypoint_scores
    return oks_recall(scores) if evaluation.summary["format"] == "coco" else scores


def interval_label(evaluations: Evaluations) -> str:
    """Name and unit of what `intervals` holds, for axes."""
    return f"{FORMATS[_summary(evaluations)['format']].keypoint_metric} (%)"


def threshold_label(evaluations: Evaluations) -> str:
    """What the thresholds of `threshold_curves` are, for axes."""
    return FORMATS[_summary(evaluations)["format"]].threshold_label


def cost_table(evaluations: Evaluations) -> pd.DataFrame:
    """`intervals` beside macs and params."""
    costs = [
        {"name": network, "macs": evaluation.summary["macs"], "params": evaluation.summary["params"]}
        for network, evaluation in _present(evaluations).items()
    ]
    return intervals(evaluations).merge(pd.DataFrame(costs), on="name")


def threshold_curves(evaluations: Evaluations) -> pd.DataFrame:
    """Columns name, seed, threshold, correct."""
    parts = [evaluation.curves.assign(name=network) for network, evaluation in _present(evaluations).items()]
    return pd.concat(parts, ignore_index=True)


def histories(params: dict, dataset: str) -> pd.DataFrame:
    """The histories of all runs on `dataset`: columns name, seed, epoch, learning_rate, loss and the val figure."""
    runs = [run for network in networks_on(params, dataset) for run in study_runs(params, network, dataset)]
    parts = []
    for run in runs:
        if (run.folder / "history.csv").is_file():
            part = pd.read_csv(run.folder / "history.csv")
            part.insert(0, "name", run.network)
            part.insert(1, "seed", run.seed)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def control_statement(params: dict, dataset: str) -> str:
    """What the network trained on shuffled labels scores, in one sentence."""
    if dataset in params["extra"]["datasets"]:
        return "No control was trained on this dataset."
    evaluation = load(study_runs(params, params["control"], dataset, labels="shuffled")[0].evaluation)
    figures = evaluation.figures.set_index("metric")["value"]
    metric = FORMATS[evaluation.summary["format"]].main_metric
    return f"Control: {params['control']} trained on shuffled labels scores {metric} {figures[metric]:.1f}."


def seed_order(evaluations: Evaluations) -> pd.DataFrame:
    """One row per seed: the networks from best to worst by the leading figure."""
    metric = FORMATS[_summary(evaluations)["format"]].main_metric
    values = pd.concat(
        evaluation.figures[evaluation.figures["metric"] == metric].assign(network=network)
        for network, evaluation in _present(evaluations).items()
    )
    ranked = values.sort_values(["seed", "value"], ascending=[True, False])
    return ranked.groupby("seed")["network"].agg(" > ".join).to_frame(f"order by {metric}")


def seeds_won(evaluations: Evaluations) -> pd.DataFrame:
    """Under how many seeds the network of the row has a higher leading figure than that of the column.

    Rows and columns from the best mean to the worst; NaN on the diagonal.
    """
    metric = FORMATS[_summary(evaluations)["format"]].main_metric
    values = pd.DataFrame(
        {network: _values(evaluation, metric).to_numpy() for network, evaluation in _present(evaluations).items()}
    )  # (seeds, networks)
    values = values[values.mean().sort_values(ascending=False, kind="stable").index]
    won = pd.DataFrame({name: values.gt(values[name], axis=0).sum() for name in values})
    return won.mask([[row == column for column in values] for row in values])


def pair_table(evaluations: Evaluations) -> pd.DataFrame:
    """`seeds_won` for a reader."""
    count = len(_summary(evaluations)["seeds"])
    return seeds_won(evaluations).map(lambda won: "" if pd.isna(won) else f"{won:.0f} of {count}")


def order_statement(evaluations: Evaluations) -> str:
    """Which of the networks are in the same order under every seed, in one or two sentences."""
    seeds, won = len(_summary(evaluations)["seeds"]), seeds_won(evaluations)
    if seeds < 2:
        return "One seed only: nothing can be said about how stable the order of networks is."
    pairs = list(combinations(won.index, 2))
    unstable = [pair for pair in pairs if won.loc[pair] != seeds]
    if not unstable:
        return f"The order of networks is the same under all {seeds} seeds: {' > '.join(won.index)}."
    named = ", ".join(" and ".join(pair) for pair in unstable)
    return (
        f"The order of networks is **not stable** over the {seeds} seeds: {len(pairs) - len(unstable)} of {len(pairs)} "
        f"pairs keep theirs under every seed. Not told apart: {named}."
    )


def describe_cells(evaluations: Evaluations) -> str:
    """What figures of a dataset are of: the first half of `describe`, for tables without intervals."""
    summary = _summary(evaluations)
    seeds = summary["seeds"]
    cells = f"mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))})"
    if len(seeds) == 1:
        cells = f"one seed ({seeds[0]})"
    return (
        f"Data: {summary['source']} ({summary['format']} format), test split, {summary['persons']} persons. "
        f"Profile: {summary['profile']}; input {'x'.join(map(str, summary['input_size']))} px (width x height), "
        f"codec {summary['codec']}, {summary['epochs']} epochs, trained in {summary['precision']}, flip test in "
        f"{summary['test']['precision']}. Cells: {cells}, in percent."
    )


def describe(evaluations: Evaluations) -> str:
    """What every table of a dataset must say about itself, in one paragraph."""
    form = _summary(evaluations)["format"]
    of_recall = (
        f" Gain or loss: of {RECALL}, the share of the thresholds 0.50 to 0.95 that a person's OKS reaches, as in the "
        f"ledger of claims; none is shown where {FORMATS[form].main_metric} itself goes the other way. The column OKS, a mean "
        f"that also rises below all thresholds, may say the opposite."
    )
    return (
        f"{describe_cells(evaluations)} Intervals: 95 %, bootstrap over persons, averaged over seeds; those of one "
        f"network are of {FORMATS[form].keypoint_metric}. Noise floor: the larger of the standard deviations over seeds of the "
        f"baseline and of the difference; a difference within it, or with zero in its interval, shows nothing."
        f"{of_recall if form == 'coco' else ''}"
    )


def are_rendered(evaluations: Evaluations) -> bool:
    """Whether the pictures are of mannequins and not of real people."""
    return _summary(evaluations)["source"] == "mannequins"


def save(evaluations: Evaluations, control: str, folder: Path, metrics: Path) -> None:
    """Write results.md, results.csv, joints.csv and the curves into `folder`, and the metrics file for DVC.

    `control` is the sentence about the control.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_groups = group_intervals(evaluations)
    tables = {"Results": results_table(evaluations), "Joint groups": joint_table(evaluations)}
    parts = [describe(evaluations), order_statement(evaluations), control]
    parts += [f"### {title}\n\n{table.to_markdown()}" for title, table in tables.items()]
    parts.append(f"### Intervals over persons\n\n{_interval_table(evaluations, of_groups).to_markdown()}")
    parts.append(f"### Seeds under which the network of the row is ahead\n\n{pair_table(evaluations).to_markdown()}")
    parts.append(f"### Order under each seed\n\n{seed_order(evaluations).to_markdown()}")
    (folder / "results.md").write_text("\n\n".join(parts) + "\n")
    tidy = [
        evaluation.figures.assign(network=network)[["network", "seed", "metric", "value"]]
        for network, evaluation in _present(evaluations).items()
    ]
    pd.concat(tidy).to_csv(folder / "results.csv", index=False, float_format="%.4f")
    of_groups.to_csv(folder / "joints.csv", index=False, float_format="%.4f")
    metrics.write_text(json.dumps(_metrics(evaluations), indent=2) + "\n")


def save_plots(evaluations: Evaluations, history: pd.DataFrame, folder: Path) -> None:
    """Write the small files that `dvc plots` draws, one per network in a folder per plot.

    learning: epoch, learning_rate, loss, score; threshold: threshold, correct; joints: joint, value. Means over seeds.
    """
    joints = group_intervals(evaluations)
    for network, evaluation in _present(evaluations).items():
        learnt = (
            history[history["name"] == network].drop(columns=["name", "seed"]).groupby("epoch", as_index=False).mean()
        )
        tables = {
            "learning": learnt.set_axis([*learnt.columns[:-1], "score"], axis="columns"),
            "threshold": evaluation.curves.groupby("threshold", as_index=False)["correct"].mean(),
            "joints": joints.loc[joints["name"] == network, ["joint", "value"]],
        }
        for plot, table in tables.items():
            (folder / plot).mkdir(parents=True, exist_ok=True)
            table.to_csv(folder / plot / f"{network}.csv", index=False, float_format="%.6g")


def _metrics(evaluations: Evaluations) -> dict:
    """{dataset: {short name of the network: leading figure}}, which DVC shows in columns such as coco.hr."""
    summary = _summary(evaluations)
    metric = FORMATS[summary["format"]].main_metric
    return {
        summary["dataset"]: {
            _short(network): round(_values(evaluation, metric).mean(), 2)
            for network, evaluation in _present(evaluations).items()
        }
    }


def _short(network: str) -> str:
    """A column's name, so that eight networks of two datasets fit side by side in `dvc exp show`."""
    record = records().get(network)
    return record.short if record else network


def _interval_table(evaluations: Evaluations, of_groups: pd.DataFrame) -> pd.DataFrame:
    """`intervals` and those of every joint group, which are of all its keypoints together, in cells for a reader."""
    whole = intervals(evaluations).assign(joint=FORMATS[_summary(evaluations)["format"]].keypoint_metric)
    found = pd.concat([whole, of_groups])
    cells = [f"{row.value:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in found.itertuples()]
    table = found.assign(cell=cells).pivot(index="name", columns="joint", values="cell")
    return table.loc[whole["name"], found["joint"].unique()].rename_axis("network").rename_axis(None, axis="columns")


def _over_seeds(evaluation: Evaluation, metric: str) -> str:
    values = _values(evaluation, metric)
    if values.empty:
        return NOT_RUN
    return "undefined" if values.isna().any() else mean_and_sd(values)


def _values(evaluation: Evaluation, metric: str) -> pd.Series:
    return evaluation.figures.loc[evaluation.figures["metric"] == metric, "value"]


def _present(evaluations: Evaluations) -> dict[str, Evaluation]:
    return {network: evaluation for network, evaluation in evaluations.items() if evaluation is not None}


def _summary(evaluations: Evaluations) -> dict:
    present = _present(evaluations)
    if not present:
        raise ValueError(f"none of {', '.join(evaluations)} was evaluated; run: dvc repro evaluate")
    return next(iter(present.values())).summary
