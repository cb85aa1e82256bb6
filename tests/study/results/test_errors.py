import dataclasses

import numpy as np
import pandas as pd
import pytest

from hpelib.formats.coco import FORMAT as COCO
from hpelib.metrics.errors import ERRORS, KINDS, Diagnosis
from hpelib.study.config import Protocol, study_runs
from hpelib.study.evaluation import Summary, save
from hpelib.study.results import errors
from hpelib.study.results.measurements import over_seeds

SUMMARY = Summary(
    network="hourglass",
    model="hourglass",
    options={},
    dataset="coco",
    format="coco",
    source="noise",
    own_skeleton={},
    skeleton="coco17",
    profile="tiny",
    labels="true",
    codec="dark",
    precision="fp32",
    machine="some CPU",
    test=Protocol(),
    input_size=(32, 32),
    seeds=(0, 1),
    epochs=1,
    persons=3,
    params=1,
    macs=1,
    legacy_gflops=1.0,
)


@pytest.fixture
def evaluated(write_set, params, tmp_path, monkeypatch, complete_evaluation) -> dict:
    """Parameters of a study whose network finds everything but for sides mixed up (seed 0) and elbows missed (1)."""
    monkeypatch.chdir(tmp_path)
    dataset = write_set("coco")
    people = COCO.read(dataset, "test")
    keypoints = np.stack([np.nan_to_num(people.keypoints)] * 2)  # (2, N, 17, 2)
    keypoints[0, 0, [9, 10]] = keypoints[0, 0, [10, 9]]
    keypoints[1, :, 7] = 1000
    keypoints[1, 2, 13] = 1000
    persons = np.array([[0.9, 0.8, 0.7], [0.7, 0.8, 0.9]], np.float32)  # the second seed is surest of the worst
    confidences = np.repeat(persons[..., None], 17, axis=2)
    figures = [
        {"seed": seed, "metric": name, "value": value}
        for seed in (0, 1)
        for name, value in COCO.figures(dataset, people, keypoints[seed], confidences[seed]).items()
    ]
    curves = pd.DataFrame({"seed": [0, 1], "threshold": 0.5, "correct": 1.0})
    parts = {"keypoint_scores": confidences, "keypoints": keypoints, "confidences": confidences}
    evaluation = complete_evaluation(figures=pd.DataFrame(figures), curves=curves, **parts, summary=SUMMARY)
    save(evaluation, study_runs(params, "hourglass", "coco")[0].evaluation)
    return params


@pytest.fixture
def diagnosed(evaluated) -> errors.Diagnosed:
    return errors.Diagnosed.of(evaluated, "coco")


def share(table: pd.DataFrame, seed: int, joint: str, kind: str) -> float:
    return table.query("seed == @seed and joint == @joint and kind == @kind")["share"].item()


def test_shares_are_of_the_labelled_keypoints_of_a_group(diagnosed):
    table = errors.shares(diagnosed)
    assert share(table, 0, "Wrist", "inversion") == pytest.approx(100 * 2 / 6)
    assert share(table, 0, "All", "inversion") == pytest.approx(100 * 2 / 48), "nobody's nose is labelled"
    assert share(table, 1, "Elbow", "miss") == pytest.approx(50)
    assert share(table, 1, "Elbow", "good") == pytest.approx(50)
    np.testing.assert_allclose(table.groupby(["seed", "joint"])["share"].sum(), 100)
    cells = over_seeds(table, ["joint", "name"], "kind", "share")
    assert cells.columns.tolist() == list(KINDS)
    assert cells.loc[("All", "hourglass"), "inversion"] == "2.1 ± 2.9"
    assert cells.loc[("Wrist", "hourglass"), "inversion"] == "16.7 ± 23.6"
    assert cells.index.get_level_values("joint").tolist() == ["All", *diagnosed.people.skeleton.groups]


def test_gains_are_what_repairing_one_kind_brings(diagnosed):
    table = errors.gains(diagnosed)
    before = diagnosed.evaluations["hourglass"].values("AP_gt")
    for row in table.itertuples():
        mended = (row.seed, row.kind) in {(0, "inversion"), (1, "miss")}
        assert row.AP_gt == pytest.approx(before[row.seed] + row.gain)
        assert row.gain > 1 if mended else row.gain == pytest.approx(0, abs=1e-6)
    assert over_seeds(table, ["name"], "kind", "gain").columns.tolist() == list(ERRORS)


def test_gains_are_of_the_figure_that_the_tables_print(diagnosed):
    people, evaluation = diagnosed.people, diagnosed.evaluations["hourglass"]
    for seed in (0, 1):
        predicted = evaluation.keypoints[seed], evaluation.confidences[seed]
        (found,) = COCO.match(diagnosed.run.dataset, people, people, [predicted[0]], predicted[1])
        assert found.figures()["AP"] == COCO.figures(diagnosed.run.dataset, people, *predicted)["AP_gt"]


def test_examples_are_where_the_network_was_wrong(diagnosed):
    found = errors.examples(diagnosed, "hourglass")
    assert [(example.kind, example.joint) for example in found] == [("inversion", 9)], "one of a kind per person"
    (example,) = found
    np.testing.assert_allclose(example.predicted, example.crop.keypoints[10], atol=1e-3)
    assert example.crop.pixels.shape == (32, 32, 3)


def test_examples_are_the_cases_nearest_to_the_median_of_different_people(diagnosed):
    kinds, similarity = np.zeros((3, 17), np.int8), np.ones((3, 17))
    cases = {(0, 5): 0.52, (1, 7): 0.70, (1, 8): 0.84, (2, 9): 0.78, (2, 10): 0.60}  # the median is 0.70
    for case, value in cases.items():
        kinds[case], similarity[case] = KINDS.index("jitter"), value
    diagnosed = dataclasses.replace(diagnosed, diagnoses={"hourglass": [Diagnosis(kinds, similarity)]})
    assert [example.joint for example in errors.examples(diagnosed, "hourglass")] == [7, 9, 5]
    assert [example.joint for example in errors.examples(diagnosed, "hourglass", count=2)] == [7, 9]


def test_an_evaluation_of_other_persons_is_refused(evaluated):
    folder = study_runs(evaluated, "hourglass", "coco")[0].evaluation
    text = (folder / "summary.json").read_text().replace('"persons": 3', '"persons": 4')
    (folder / "summary.json").write_text(text)
    with pytest.raises(ValueError, match="hourglass was evaluated on 4 persons, but coco has 3 for testing"):
        errors.Diagnosed.of(evaluated, "coco")


def test_other_formats_are_refused(params):
    with pytest.raises(ValueError, match="mpii has format mpii; kinds of error need COCO's similarity"):
        errors.Diagnosed.of(params, "mpii")
