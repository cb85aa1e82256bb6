"""What the first lines of a network's page say that was measured."""

from dataclasses import replace

import pandas as pd
import pytest

from hpelib.study.config import study_runs
from hpelib.study.evaluation import load, save
from hpelib.study.results import headlines
from hpelib.study.results.comparisons import Study
from hpelib.study.results.headlines import measured


@pytest.fixture
def pair(study, params, monkeypatch):
    """`pair(dataset, ours, baseline)` leaves evaluations of a network and its baseline; hourglass is that of hrnet."""
    monkeypatch.setattr(headlines, "baselines", lambda: {"hrnet": "hourglass"})
    params["all_datasets"] = params["datasets"] = ["coco", "mpii"]

    def leave(dataset: str, ours: list[float], baseline: list[float]) -> None:
        study("hrnet", dataset, ours)
        study("hourglass", dataset, baseline)

    return leave


def annotated(params: dict, network: str, value: float) -> None:
    """Add AP in annotated boxes to an evaluation."""
    folder = study_runs(params, network, "coco")[0].evaluation
    found = load(folder)
    lines = [{"seed": seed, "metric": "AP_gt", "value": value} for seed in found.summary.seeds]
    figures = pd.concat([found.figures, pd.DataFrame(lines)], ignore_index=True)
    save(replace(found, figures=figures, matches=found.matches | {"gt": found.matches["det"]}), folder)


def test_one_seed_is_shown_without_an_interval_or_a_verdict(pair, params):
    pair("coco", [45], [50])
    text = measured(Study(params), "hrnet")
    assert "Measured on coco, one seed: hrnet 45.0, hourglass 50.0 (-5.0 AP_det)." in text
    assert headlines.ONE_SEED in text
    assert headlines.BOXES not in text, "AP_gt was not measured"


def test_both_kinds_of_boxes_are_shown_with_why_they_may_disagree(pair, params):
    pair("coco", [45], [50])
    for network, value in (("hrnet", 62), ("hourglass", 60)):
        annotated(params, network, value)
    text = measured(Study(params), "hrnet")
    assert "(-5.0 AP_det); hrnet 62.0, hourglass 60.0 (+2.0 AP_gt)." in text
    assert headlines.BOXES in text


def test_every_dataset_with_both_sides_is_shown_whatever_is_claimed(pair, study, params):
    pair("mpii", [70, 74], [60, 61])
    study("hrnet", "coco", [50, 51])
    text = measured(Study(params), "hrnet")
    row = Study(params).compare("hrnet", "hourglass", "mpii", "PCKh@0.5")
    interval = f"[{row['low']:+.1f}, {row['high']:+.1f}]"
    assert f"Measured on mpii, means of 2 seeds: hrnet 72.0, hourglass 60.5 (+11.5 {interval} PCKh@0.5)." in text
    assert "coco" not in text, "the baseline was not run there"
    assert headlines.INTERVALS in text
    assert headlines.ONE_SEED not in text


def test_without_both_sides_the_command_is_named(study, params):
    assert "`make study PROFILE=tiny`" in measured(Study(params), "hourglass")
