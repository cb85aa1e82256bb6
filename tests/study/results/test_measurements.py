import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hpelib.study.ablations import ablation_runs
from hpelib.study.config import study_runs
from hpelib.study.evaluation import load
from hpelib.study.results import measurements
from hpelib.study.results.measurements import find, judged, oks_recall

ROOT = Path(__file__).parents[3]
NETWORK, ROW = "hourglass", "hourglass:flat"


def test_pages_of_results_load_no_torch():
    pages = ("tables", "claims", "papers", "index")
    code = f"import sys; from hpelib.study.results import {', '.join(pages)}; print(sorted(sys.modules))"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    for module in ("'torch'", "'accelerate'", "'hpelib.training.fit'", "'hpelib.study.steps"):
        assert module not in loaded


def test_what_is_not_in_the_study_is_not_found(study, params):
    study("hourglass", "mpii", [50, 60])
    assert find(params, NETWORK, "coco") is None, "not evaluated"
    assert find(params, "hrnet_w48", "mpii") is None, "not a network of the profile"
    assert find(params, "hourglass:full", "coco") is None, "the ablation is on another dataset"
    assert find(params | {"networks": ["hrnet"]}, NETWORK, "mpii") is None, "no longer in the study"
    (study_runs(params, "hourglass", "mpii")[0].evaluation / "summary.json").unlink()
    assert find(params, NETWORK, "mpii") is None, "not finished"


def test_a_networks_seeds_lie_in_one_evaluation_and_a_rows_in_one_each(study, params):
    study("hourglass", "mpii", [50, 60])
    study("hourglass:flat", "mpii", [40, 45])
    network, row = (find(params, entry, "mpii") for entry in (NETWORK, ROW))
    assert network.summary.seeds == row.summary.seeds == (0, 1)
    assert network.values("PCKh@0.5") == [50, 60]
    assert row.values("PCKh@0.5") == [40, 45]
    saved = load(study_runs(params, "hourglass", "mpii")[0].evaluation)
    np.testing.assert_array_equal(network.keypoint_scores, saved.keypoint_scores)
    (ablation_runs(params, "hourglass", 0)["flat"].evaluation / "summary.json").unlink()
    assert find(params, ROW, "mpii").summary.seeds == (1,), "a row may have only some of the seeds"


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


def test_what_stands_for_a_metric(study, params):
    study("hourglass", "mpii", [50, 60])
    study("hourglass", "coco", [50, 60])
    mpii, coco = (find(params, NETWORK, dataset) for dataset in ("mpii", "coco"))
    name, scores = judged(mpii, "Knee")
    assert name == "Knee"
    np.testing.assert_array_equal(scores, mpii.keypoint_scores[:, :, [1, 4]])
    assert judged(mpii, "PCKh@0.5") == ("PCKh@0.5", mpii.keypoint_scores)
    assert judged(coco, "OKS") == ("OKS", coco.keypoint_scores)
    name, scores = judged(coco, "AP_det")
    assert name == "OKS recall"
    np.testing.assert_array_equal(scores, oks_recall(coco.keypoint_scores))
    assert judged(coco, "APM_det") is None


def test_cells_of_intervals_keep_the_rows_of_the_table():
    table = pd.DataFrame({"gain": [1.04, -2.0], "low": [-0.5, -3.0], "high": [2.0, -1.0]}, index=[7, 3])
    cells = measurements.interval_cells(table, "gain", "+.1f")
    assert cells.to_dict() == {7: "+1.0 [-0.5, +2.0]", 3: "-2.0 [-3.0, -1.0]"}


@pytest.mark.parametrize(
    ("values", "cell"),
    [([88.0, 90.0, 89.0], "89.0 ± 1.0"), ([61.04], "61.0"), ([1.0, np.nan], "undefined"), ([np.nan], "undefined")],
)
def test_a_cell_is_mean_and_deviation_over_seeds(values, cell):
    assert measurements.mean_and_sd(values) == cell
    assert measurements.mean_and_sd(pd.Series(values)) == cell


def test_a_description_names_all_that_decides_a_figure(summary):
    summary = dataclasses.replace(summary, epochs=3)
    text = measurements.describe(summary, own_recipe=True)
    wanted = ("mpii", "20 persons", "noise", "tiny", "32x48 px", "3 epochs by the paper's own", "bf16", "fp32", "dark")
    for said in (*wanted, "seeds 0, 1"):
        assert said in text
    assert measurements.training(dataclasses.replace(summary, epochs=1)) == "1 epoch"


def test_trainings_of_rows_are_told_apart_from_those_of_networks():
    measured = pd.DataFrame({"training": ["own", "1 epoch", "1 epoch", np.nan], "seeds": [1, 2, 2, np.nan]})
    of_rows = pd.Series([True, False, False, True])
    text = measurements.training_note(measured, of_rows)
    assert "of their own: own, 1 seed; whole networks: 1 epoch, 2 seeds." in text
    assert measurements.training_note(measured[1:], of_rows[1:]) == "", "no row was measured"
    assert measurements.training_note(measured.assign(training="1 epoch", seeds=3), of_rows) == "", "no difference"
