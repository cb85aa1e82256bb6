import dataclasses

import numpy as np
import pandas as pd
import pytest

from hpelib.metrics.coco import coco_ap
from hpelib.metrics.errors import ERRORS, KINDS, Diagnosis, diagnose
from hpelib.study.config import make_run
from hpelib.study.evaluation import Evaluation
from hpelib.study.results import errors
from hpelib.formats.coco import person_results
from hpelib.study.steps.prepare import read_split


@pytest.fixture
def diagnosed(write_set, params) -> errors.Diagnosed:
    """Two seeds of a network that finds everything but for what is spoilt below: sides mixed up, elbows missed."""
    dataset = write_set("coco")
    run = make_run(params, "hourglass", "coco", 0)
    people = read_split(dataset, "test")
    people = dataclasses.replace(people, areas=np.full(len(people), 40.0, np.float32))  # keypoints far apart
    keypoints = np.stack([np.nan_to_num(people.keypoints)] * 2)  # (2, N, 17, 2)
    keypoints[0, 0, [9, 10]] = keypoints[0, 0, [10, 9]]
    keypoints[1, :, 7] = 1000
    keypoints[1, 2, 13] = 1000
    persons = np.array([[0.7, 0.8, 0.9]] * 2, np.float32)  # the second seed is surest of the worst
    persons[0] = persons[0, ::-1]
    confidences = np.repeat(persons[..., None], 17, axis=2)
    figures = [
        {"seed": seed, "metric": "AP_gt", "value": ap(dataset, people, keypoints[seed], confidences[seed])}
        for seed in (0, 1)
    ]
    summary = {"format": "coco", "source": "noise", "profile": "tiny", "codec": "dark", "input_size": [32, 32]}
    summary |= {"seeds": [0, 1], "epochs": 1, "persons": 3, "precision": "fp32", "test": {"precision": "fp32"}}
    evaluation = Evaluation(pd.DataFrame(figures), pd.DataFrame(), confidences, keypoints, confidences, summary)
    diagnoses = [diagnose(points, people.keypoints, people.areas, people.image_ids) for points in keypoints]
    return errors.Diagnosed(run, people, {"hourglass": evaluation}, {"hourglass": diagnoses})


def ap(dataset, people, keypoints, confidences) -> float:
    truth = dataset.root / dataset.splits["test"]["annotations"]
    return coco_ap(truth, person_results(people, keypoints, confidences))["AP"]


def share(table: pd.DataFrame, seed: int, joint: str, kind: str) -> float:
    return table.query("seed == @seed and joint == @joint and kind == @kind")["share"].item()


def test_shares_are_of_the_labelled_keypoints_of_a_group(diagnosed):
    table = errors.shares(diagnosed)
    assert share(table, 0, "Wrist", "inversion") == pytest.approx(100 * 2 / 6)
    assert share(table, 0, "All", "inversion") == pytest.approx(100 * 2 / 48), "nobody's nose is labelled"
    assert share(table, 1, "Elbow", "miss") == pytest.approx(50)
    assert share(table, 1, "Elbow", "good") == pytest.approx(50)
    np.testing.assert_allclose(table.groupby(["seed", "joint"])["share"].sum(), 100)
    assert errors.share_table(table).columns.tolist() == list(KINDS)
    assert errors.share_table(table).loc["hourglass", "inversion"] == "2.1 ± 2.9"
    means = errors.mean_shares(table).set_index(["joint", "kind"])["share"]
    assert means["Wrist", "inversion"] == pytest.approx(100 * 2 / 6 / 2)
    assert errors.joint_table(table)["joint"].tolist() == list(diagnosed.people.skeleton.groups)


def test_gains_are_what_repairing_one_kind_brings(diagnosed):
    table = errors.gains(diagnosed)
    figures = diagnosed.evaluations["hourglass"].figures["value"]
    for row in table.itertuples():
        mended = (row.seed, row.kind) in {(0, "inversion"), (1, "miss")}
        assert row.AP_gt == pytest.approx(figures[row.seed] + row.gain)
        assert row.gain > 0 if mended else row.gain == pytest.approx(0)
    assert errors.gain_table(table).columns.tolist() == list(ERRORS)


def test_examples_are_where_the_network_was_wrong(diagnosed):
    found = errors.examples(diagnosed, "hourglass")
    assert [(example.kind, example.joint) for example in found] == [("inversion", 9)], "one of a kind per person"
    (example,) = found
    np.testing.assert_allclose(example.predicted, example.keypoints[10], atol=1e-3)
    assert example.crop.shape == (32, 32, 3)


def test_examples_are_the_cases_nearest_to_the_median_of_different_people(diagnosed):
    kinds, similarity = np.zeros((3, 17), np.int8), np.ones((3, 17))
    cases = {(0, 5): 0.52, (1, 7): 0.70, (1, 8): 0.84, (2, 9): 0.78, (2, 10): 0.60}  # the median is 0.70
    for case, value in cases.items():
        kinds[case], similarity[case] = KINDS.index("jitter"), value
    diagnosed = dataclasses.replace(diagnosed, diagnoses={"hourglass": [Diagnosis(kinds, similarity)]})
    assert [example.joint for example in errors.examples(diagnosed, "hourglass")] == [7, 9, 5]
    assert [example.joint for example in errors.examples(diagnosed, "hourglass", count=2)] == [7, 9]


def test_what_is_saved_can_be_read(diagnosed, tmp_path):
    shares, gains = errors.shares(diagnosed), errors.gains(diagnosed)
    errors.save(diagnosed, shares, gains, tmp_path / "errors")
    assert len(pd.read_csv(tmp_path / "errors" / "shares.csv")) == 2 * 8 * len(KINDS)
    assert pd.read_csv(tmp_path / "errors" / "gains.csv")["kind"].tolist() == [*ERRORS] * 2
    page = (tmp_path / "errors" / "errors.md").read_text()
    assert "| hourglass" in page
    assert "nterval" not in page, "no table there has one"


def test_other_formats_are_refused(params):
    with pytest.raises(ValueError, match="mpii has format mpii; kinds of error need COCO's similarity"):
        errors.Diagnosed.of(params, "mpii")
