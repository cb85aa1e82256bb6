"""What can be tested of a difference, and what cannot."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from hpelib.metrics.statistics import NOT_RUN, NOT_TESTABLE, bootstrap, difference, redrawn_means
from hpelib.study.ablations import ablation_runs
from hpelib.study.config import study_runs
from hpelib.study.evaluation import load, save
from hpelib.study.results import comparisons
from hpelib.study.results.comparisons import ONE_SEED, Study
from hpelib.study.results.tables import Comparison

NETWORK, ROW = "hourglass", "hourglass:flat"
FULL, FLAT = "hourglass:full", "hourglass:flat"
PCKH = "mpii", "PCKh@0.5"


def test_what_is_not_in_the_study_is_not_found(study, params):
    study("hourglass", "mpii", [50, 60])
    assert Study(params).find(NETWORK, "coco") is None, "not evaluated"
    assert Study(params).find("hrnet_w48", "mpii") is None, "not a network of the profile"
    assert Study(params).find("hourglass:full", "coco") is None, "the ablation is on another dataset"
    assert Study(params | {"networks": ["hrnet"]}).find(NETWORK, "mpii") is None, "no longer in the study"
    (study_runs(params, "hourglass", "mpii")[0].evaluation / "summary.json").unlink()
    assert Study(params).find(NETWORK, "mpii") is None, "not finished"


def test_a_networks_seeds_lie_in_one_evaluation_and_a_rows_in_one_each(study, params):
    study("hourglass", "mpii", [50, 60])
    study("hourglass:flat", "mpii", [40, 45])
    network, row = (Study(params).find(entry, "mpii") for entry in (NETWORK, ROW))
    assert network.summary.seeds == row.summary.seeds == (0, 1)
    assert network.values("PCKh@0.5") == [50, 60]
    assert row.values("PCKh@0.5") == [40, 45]
    saved = load(study_runs(params, "hourglass", "mpii")[0].evaluation)
    np.testing.assert_array_equal(network.keypoint_scores, saved.keypoint_scores)
    (ablation_runs(params, "hourglass", 0)["flat"].evaluation / "summary.json").unlink()
    assert Study(params).find(ROW, "mpii").summary.seeds == (1,), "a row may have only some of the seeds"


def test_a_difference_has_both_sources_of_chance(study, params):
    study(FULL, "mpii", [80, 82])
    study(FLAT, "mpii", [40, 43])
    measured = Study(params)
    row = measured.compare(FULL, FLAT, *PCKH, claimed=50)
    scores = [measured.find(entry, "mpii").keypoint_scores.mean(axis=0) for entry in (FULL, FLAT)]
    redrawn = redrawn_means(scores[0] - scores[1], np.arange(20) // 2)
    expected = difference([80, 82], [40, 43], redrawn, 10)
    assert row["ours"] == 39.5
    for name in ("low", "high", "p", "picture_sd", "seed_sd", "detectable", "freedom"):
        assert row[name] == pytest.approx(getattr(expected, name)), name
    assert row["p_below"] == pytest.approx(expected.p_below(50))
    assert (row["seeds"], row["pictures"], row["persons"]) == (2, 10, 20)
    assert "verdict" not in row


def test_average_precision_is_redrawn_itself(study, params):
    study("hourglass", "coco", [80, 81])
    study("hrnet", "coco", [40, 45])
    measured = Study(params)
    redrawn, pictures = measured.redrawn("hourglass", "coco", "AP_det")
    assert redrawn.shape == (2, 1000)
    assert pictures == 10
    row = measured.compare("hourglass", "hrnet", "coco", "AP_det")
    assert row["ours"] == 38
    sides = [measured.redrawn(entry, "coco", "AP_det")[0].mean(axis=0) for entry in ("hourglass", "hrnet")]
    assert row["picture_sd"] == pytest.approx(np.std(sides[0] - sides[1], ddof=1) * math.sqrt(10 / 9))


def test_a_single_seed_is_shown_and_not_tested(study, params):
    study(FULL, "mpii", [80])
    study(FLAT, "mpii", [40])
    row = Study(params).compare(FULL, FLAT, *PCKH)
    assert (row["verdict"], row["reason"], row["ours"], row["seeds"]) == (NOT_TESTABLE, ONE_SEED, 40, 1)
    assert row.keys() & {"low", "p", "detectable"} == set()


def test_only_seeds_of_both_sides_are_compared(study, params):
    study(FULL, "mpii", [80, 82, 10])
    params["ablation_seeds"] = [0, 1, 2]
    study(FLAT, "mpii", [40, 41])
    row = Study(params).compare(FULL, FLAT, *PCKH)
    assert (row["seeds"], row["ours"]) == (2, 40.5)


def test_what_was_not_run_names_what_would_run_it(study, params):
    study("hourglass", "mpii", [50, 60])
    params["profiles"]["large"] = {"base": "tiny", "networks": {"hrnet_w48": {"model": "hrnet_w48"}}}
    reasons = {
        "hrnet": "hrnet on mpii: not run yet (`make study PROFILE=tiny`)",
        "hrnet_w48": "this profile has no hrnet_w48 on mpii: give it one in params.yaml, as the profiles large have",
        "hourglass:none": "this profile has no hourglass:none on mpii: give it one in params.yaml",
    }
    params["ablations"]["hourglass"]["datasets"] = ["coco"]
    for worse, reason in reasons.items():
        assert Study(params).compare("hourglass", worse, *PCKH) == {"verdict": NOT_RUN, "reason": reason}
    params["networks"] = ["hourglass"]
    assert Study(params).compare("hourglass", "hrnet", *PCKH)["reason"].startswith("add hrnet to `networks`")
    row = Study(params).compare("hourglass", "hrnet_w48", "mpii", "time (ms)")
    assert row == {"verdict": NOT_TESTABLE, "reason": "this study does not measure time (ms)"}


def test_the_command_names_the_profile_unless_it_is_the_default(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparisons, "load_params", lambda path: {"profile": path.read_text()})
    aside = comparisons.ASIDE / "params.yaml"
    aside.parent.mkdir(parents=True)
    (tmp_path / "params.yaml").write_text("tiny")
    assert Study(params).command == "`make study`"
    aside.write_text("quick")  # params.yaml names the profile that runs in its place
    assert Study(params).command == "`make study PROFILE=tiny`"


def test_nothing_is_tested_at_the_floor(study, params, monkeypatch):
    study(FULL, "mpii", [52, 53])
    study(FLAT, "mpii", [12, 13])
    monkeypatch.setattr(comparisons, "mean_pose", lambda params, dataset: {"PCKh@0.5": 12.0})
    assert "verdict" not in Study(params).compare(FULL, FLAT, *PCKH, claimed=40)
    row = Study(params).compare(FULL, FLAT, *PCKH, claimed=41)
    assert row["verdict"] == NOT_TESTABLE, "a gain as claimed has no room"
    assert row["reason"] == "at the floor: mean pose has 12.0, the better side 52.5"
    monkeypatch.setattr(comparisons, "mean_pose", lambda params, dataset: {"PCKh@0.5": 50.0})
    row = Study(params).compare(FULL, FLAT, *PCKH)
    assert 2.8 * row["picture_sd"] > 2.5, "the pictures could show nothing between the floor and the better side"
    assert row["reason"].startswith("at the floor")
    monkeypatch.setattr(comparisons, "mean_pose", lambda params, dataset: {"PCKh@0.5": 1.0})
    study("hourglass", "mpii", [51], labels="shuffled")
    assert "shuffled labels has 51.0" in Study(params).compare(FULL, FLAT, *PCKH)["reason"]


@pytest.mark.parametrize(
    ("section", "setting"),
    [
        ("inputs", {"input_size": [64, 64]}),
        ("inputs", {"codec": "msra"}),
        ("recipe", {"epochs": 2}),
        ("recipe", {"learning_rate": 0.5}),
        ("test", {"pyramid": True}),
    ],
)
def test_unequal_footing_is_not_tested_and_named(study, params, section, setting):
    for entry in ("hourglass", "hrnet"):
        study(entry, "mpii", [80 if entry == "hourglass" else 40] * 2)
    assert "verdict" not in Study(params).compare("hourglass", "hrnet", *PCKH)
    params["profiles"]["tiny"]["networks"]["hrnet"] |= {section: setting}
    row = Study(params).compare("hourglass", "hrnet", *PCKH)
    assert row["verdict"] == NOT_TESTABLE
    assert row["reason"].startswith("unequal footing: ")
    assert next(iter(setting)) in row["reason"]


def test_a_row_by_its_papers_recipe_does_not_stand_beside_a_whole_network(study, params):
    params["profiles"]["tiny"]["paper_recipes"] = {"hourglass": {"epochs": 3}}
    study(FULL, "mpii", [80, 81])
    study(FLAT, "mpii", [40, 41])
    study("hrnet", "mpii", [40, 41])
    assert "epochs (3 and 1)" in Study(params).compare(FULL, "hrnet", *PCKH)["reason"]
    assert "verdict" not in Study(params).compare(FULL, FLAT, *PCKH), "rows share their recipe"


def test_what_belongs_to_a_network_may_differ(study, params):
    study("hourglass", "mpii", [80, 81])
    study("hrnet", "mpii", [40, 41])
    params["profiles"]["tiny"]["networks"]["hrnet"] |= {"inputs": {"heatmap_size": [32, 32]}, "recipe": {"loss": "x"}}
    assert "verdict" not in Study(params).compare("hourglass", "hrnet", *PCKH)


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        (["acts", "acts"], ""),
        (["acts", "constant"], "gate: constant under 1 of 2 seeds"),
        (["constant", "constant"], "gate: constant under 2 of 2 seeds"),
        (["off at this input"] * 2, "gate: off at this input under 2 of 2 seeds"),
        (None, "gate is not in the network"),
    ],
)
def test_a_gain_needs_mechanisms_that_act(study, params, states, reason):
    study("hourglass", "mpii", [80, 81])
    study("hrnet", "mpii", [40, 41])
    folder = study_runs(params, "hourglass", "mpii")[0].evaluation
    evaluation = load(folder)
    names, states = ("other", ["acts"] * 2) if states is None else ("gate", states)
    lines = pd.DataFrame({"seed": [0, 1], "mechanism": names, "units": 8, "alive_share": 0.5, "person_share": 0.5})
    save(dataclasses.replace(evaluation, liveness=lines.assign(state=states)), folder)
    row = Study(params).compare("hourglass", "hrnet", *PCKH, needs=["gate"])
    assert row.get("reason", "") == reason
    assert row.get("verdict") == (NOT_TESTABLE if reason else None)
    assert "verdict" not in Study(params).compare("hourglass", "hrnet", *PCKH), "nothing is needed"


def test_every_figure_of_the_profile_is_one_line(study, params):
    params |= {"datasets": ["mpii"], "all_datasets": ["mpii"]}
    study("hourglass", "mpii", [50, 60])
    study(FLAT, "mpii", [40, 45])
    measured = Study(params)
    lines = measured.figures.set_index(["network", "metric"])
    whole = lines.loc[("hourglass", "PCKh@0.5")]
    assert (whole["value"], whole["seeds"], whole["split"]) == (55, 2, "test")
    assert whole["run"] == study_runs(params, "hourglass", "mpii")[0].digest
    scores = measured.find("hourglass", "mpii").keypoint_scores.mean(axis=0)
    expected = bootstrap(scores, np.arange(20) // 2)
    assert (whole["low"], whole["high"]) == pytest.approx((expected.low, expected.high))
    assert set(lines.index.get_level_values("network")) == {"hourglass", FLAT}


def test_the_mean_pose_is_that_of_the_training_persons(params, write_set):
    dataset = write_set("mpii")
    found = comparisons.mean_pose(params, "mpii")
    assert {"PCKh@0.5", "Head"} <= found.keys()
    people = comparisons.scored_people(dataset)
    placed = comparisons.put_mean_pose(dataset, people)
    larger = dataclasses.replace(people, sizes_px=2 * people.sizes_px)
    moved = comparisons.put_mean_pose(dataset, larger) - people.centers[:, None]
    np.testing.assert_allclose(moved, 2 * (placed - people.centers[:, None]), rtol=1e-5)
    train = dataset.form.read(dataset, "train")
    heights = 1.25 * np.maximum(train.sizes_px[:, 1], train.sizes_px[:, 0] * 4 / 3)
    wrists = [(train.keypoints[i, 10] - train.centers[i]) / heights[i] for i in range(len(train))]
    own = comparisons.put_mean_pose(dataset, train)[0, 10] - train.centers[0]
    np.testing.assert_allclose(own / heights[0], np.mean(wrists, axis=0), rtol=1e-5)


def test_floors_of_charts_are_those_of_the_tables(params, write_set, summary):
    dataset = write_set("mpii")
    comparison = Comparison(("hourglass",), {"hourglass": SimpleNamespace(summary=summary)}, Study(params))
    curve = comparison.floor_curve.set_index("threshold")["correct"]
    assert curve.loc[0.5] == pytest.approx(comparisons.mean_pose(params, "mpii")["PCKh@0.5"])
    people = comparisons.scored_people(dataset, "val")
    hits = dataset.form.keypoint_scores(people, comparisons.put_mean_pose(dataset, people))
    assert comparison.val_floor == pytest.approx(100 * np.nanmean(hits))
