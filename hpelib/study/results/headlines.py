"""What was measured of a network beside its baseline, in a few sentences that need no claim of its paper."""

import numpy as np

from hpelib.records import baselines
from hpelib.study.evaluation import Evaluation
from hpelib.study.results.comparisons import Study
from hpelib.study.results.measurements import brackets, count

ANNOTATED, DETECTED = "AP_gt", "AP_det"
LEADING = (DETECTED, "PCKh@0.5", "PCK@0.2")  # the figures that papers lead with
ONE_SEED = "One seed gives no verdict."
INTERVALS = "Brackets are the 95 % interval of the difference, of this comparison alone."
BOXES = (
    f"{ANNOTATED} puts each network into the annotated boxes, {DETECTED} into those of a detector. These are less "
    "exact, and some hold nobody. If this harms one network more than another, the order of networks can change."
)


def measured(study: Study, network: str) -> str:
    """The leading figures of a network beside its baseline on every dataset where both were evaluated.

    Example: "Measured on coco, one seed: ditn 47.7, hrnet 50.2 (-2.5 AP_det). One seed gives no verdict."
    """
    baseline = baselines().get(network, "")
    lines, notes = [], set()
    for dataset in study.params["all_datasets"]:
        sides = [study.find(entry, dataset) for entry in (network, baseline)]
        metrics = [] if None in sides else _metrics(*sides)
        if not metrics:
            continue
        seeds = [seed for seed in sides[0].summary.seeds if seed in sides[1].summary.seeds]
        notes |= {ONE_SEED if len(seeds) == 1 else INTERVALS} | ({BOXES} if len(metrics) > 1 else set())
        cells = "; ".join(_cell(study, (network, baseline), dataset, metric, seeds) for metric in metrics)
        of = "one seed" if len(seeds) == 1 else f"means of {count(len(seeds), 'seed')}"
        lines.append(f"Measured on {dataset}, {of}: {cells}.")
    if not lines:
        return f"{network} was not measured beside its baseline yet ({study.command})."
    return " ".join([*lines, *(note for note in (INTERVALS, ONE_SEED, BOXES) if note in notes)])


def _metrics(better: Evaluation, worse: Evaluation) -> list[str]:
    """The leading figure that both have, and beside that of a detector's boxes the one of annotated boxes."""
    if not set(better.summary.seeds) & set(worse.summary.seeds):
        return []
    both = set(better.figures["metric"]) & set(worse.figures["metric"])
    leading = [name for name in LEADING if name in both][:1]
    return [name for name in (*leading, ANNOTATED) if name in both]


def _cell(study: Study, names: tuple[str, str], dataset: str, metric: str, seeds: list[int]) -> str:
    """Such as "ditn 12.5, hrnet 19.7 (-7.2 [-11.0, -3.4] AP_det)"; the means are over the seeds that both have."""
    means = [np.mean(study.find(name, dataset).of_seeds(seeds).values(metric)) for name in names]
    if np.isnan(means).any():
        return f"{metric} is undefined"
    found = study.compare(*names, dataset, metric)
    interval = f" {brackets(found['low'], found['high'], '+.1f')}" if "low" in found else ""
    sides = ", ".join(f"{name} {mean:.1f}" for name, mean in zip(names, means, strict=True))
    return f"{sides} ({found['ours']:+.1f}{interval} {metric})"
