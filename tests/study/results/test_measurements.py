import json

import numpy as np
import pandas as pd
import pytest

from hpelib.metrics.cost import complexity
from hpelib.models import create_model
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import study_runs
from hpelib.study.results.measurements import Measurement, find, full_size, full_sizes, oks_recall
from hpelib.study.steps import evaluate


def test_an_entry_that_was_not_run_is_none(study, params):
    assert find(params, "hourglass", "coco") is None
    assert find(params, "hrnet_w48", "mpii") is None, "not a network of the profile"
    assert find(params, "hourglass:full", "coco") is None, "the ablation is on another dataset"


def test_an_unfinished_evaluation_is_none(study, params):
    study("hourglass", "mpii", [50, 60])
    folder = study_runs(params, "hourglass", "mpii")[0].evaluation
    (folder / "summary.json").unlink()
    assert find(params, "hourglass", "mpii") is None


def test_a_networks_seeds_lie_in_one_evaluation_and_a_rows_in_one_each(study, params):
    study("hourglass", "mpii", [50, 60])
    study("hourglass:flat", "mpii", [40, 45])
    network, row = (find(params, entry, "mpii") for entry in ("hourglass", "hourglass:flat"))
    assert network.seeds == row.seeds == [0, 1]
    assert network.values("PCKh@0.5") == [50, 60]
    assert row.values("PCKh@0.5") == [40, 45]
    assert row.keypoint_scores.shape == network.keypoint_scores.shape == (2, 20, 16)
    assert row.of_seeds([1]).values("PCKh@0.5") == [45]
    np.testing.assert_array_equal(row.of_seeds([1]).keypoint_scores[0], row.keypoint_scores[1])


def test_a_row_may_have_only_some_of_the_seeds(study, params):
    study("hourglass:flat", "mpii", [40, 45])
    (ablation_runs(params, "hourglass", 0)["flat"].evaluation / "summary.json").unlink()
    assert find(params, "hourglass:flat", "mpii").seeds == [1]


def test_what_another_profile_or_study_left_behind_is_not_measured(study, params):
    study("hourglass", "mpii", [50, 60])
    summary = study_runs(params, "hourglass", "mpii")[0].evaluation / "summary.json"
    text = summary.read_text()
    summary.write_text(json.dumps(json.loads(text) | {"profile": "standard"}))
    assert find(params, "hourglass", "mpii") is None
    summary.write_text(text)
    assert find(params, "hourglass", "mpii").seeds == [0, 1]
    assert find(params | {"networks": ["hrnet"]}, "hourglass", "mpii") is None


def test_recall_is_the_share_of_thresholds_that_a_persons_oks_reaches():
    similarity = np.array([[0.9, 0.53, np.nan], [np.nan] * 3, [0.2, 0.2, 0.2], [1, 1, 1]])
    found = oks_recall(similarity)
    assert found[0, 0] == 0.5, "0.715 reaches 0.50 to 0.70 in steps of 0.05"
    assert np.isnan(found[1, 0])
    assert found[2:, 0].tolist() == [0, 1]
    np.testing.assert_array_equal(oks_recall(similarity[None])[0], found)


@pytest.mark.parametrize("similarity", [[0.5], [0.25, 0.5, 0.75]])
def test_an_oks_of_exactly_a_half_reaches_the_first_threshold(similarity):
    assert oks_recall(np.array([similarity])).tolist() == [[0.1]]


def test_what_an_interval_is_of_depends_on_the_metric():
    scores = np.random.default_rng(0).uniform(size=(2, 5, 16))
    measurement = Measurement(pd.DataFrame(), scores, {"skeleton": "mpii16"})
    assert measurement.judged("PCKh@0.5").scores is scores
    knee = measurement.judged("Knee")
    assert (knee.metric, knee.scores.shape) == ("Knee", (2, 5, 2))
    np.testing.assert_array_equal(knee.scores, scores[:, :, [1, 4]])
    assert measurement.judged("AP_det").metric == "OKS recall"
    assert measurement.judged("APM_det") is None


@pytest.fixture
def papers_params():
    return {
        "ablations": {
            "ditn": {"rows": {"resnet": {"options": {"backbone": "resnet50", "backbone_options": "simple_baseline"}}}},
            "daunet": {"rows": {"ibn": {"options": {"scru": False}}}},
        }
    }


def test_the_full_size_of_an_entry_is_the_papers(papers_params):
    assert full_size(papers_params, "hrnet") == ("hrnet_w32", {})
    assert full_size(papers_params, "simple_baseline_resnet152") == ("simple_baseline_resnet152", {})
    assert full_size(papers_params, "daunet:ibn") == ("daunet_resnet50", {"scru": False})
    assert full_size(papers_params, "ditn:resnet") == ("ditn_w32", {"backbone": "resnet50", "backbone_options": {}})


def test_sizes_are_counted_at_the_printed_input(papers_params):
    wanted = pd.DataFrame({"entry": ["daunet:ibn"], "dataset": ["mpii"], "input": ["64x32"]}, index=[7])
    found = full_sizes(papers_params, wanted).loc[7]
    expected = complexity(create_model("daunet_resnet50", 16, scru=False), (32, 64))
    assert found["params (M)"] == expected.params / 1e6
    assert found["MACs (G)"] == expected.macs / 1e9
    assert found["legacy GFLOPs"] == pytest.approx(expected.legacy_gflops)


def test_a_measurement_reads_what_evaluate_saves(study, params):
    study("hourglass", "mpii", [50, 60])
    saved = evaluate.load(study_runs(params, "hourglass", "mpii")[0].evaluation)
    np.testing.assert_array_equal(find(params, "hourglass", "mpii").keypoint_scores, saved.keypoint_scores)
