import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from hpelib.metrics.coco import Matches
from hpelib.skeletons import MPII16
from hpelib.study.evaluation import ARRAYS, Evaluation, join, load, save

ALIVE = ["seed", "mechanism", "units", "alive_share", "person_share", "state"]


def matches(random, count) -> Matches:
    states = random.integers(-1, 2, (count, 3, 10)).astype(np.int8)
    return Matches(random.integers(0, 3, count), states, random.integers(0, 3, (3, 3)))


@pytest.fixture
def evaluation(summary) -> Evaluation:
    random = np.random.default_rng(0)
    scores = random.uniform(size=(2, 5, 16)).astype(np.float32)
    scores[:, 0, 0] = np.nan
    rows = [
        (seed, metric, 10.1234567 * seed + place) for seed in (0, 1) for place, metric in enumerate(("Head", "AUC"))
    ]
    return Evaluation(
        figures=pd.DataFrame(rows, columns=["seed", "metric", "value"]),
        curves=pd.DataFrame({"seed": [0, 1], "threshold": 0.5, "correct": [3.0, 4.0]}),
        liveness=pd.DataFrame([(0, "gate", 8, 0.5, 0.25, "acts"), (1, "gate", 8, 0.0, 0.0, "constant")], columns=ALIVE),
        keypoint_scores=scores,
        keypoints=random.uniform(0, 64, (2, 5, 16, 2)).astype(np.float32),
        confidences=scores,
        detected_keypoints=random.uniform(0, 64, (2, 7, 16, 2)),
        detected_confidences=random.uniform(size=(2, 7, 16)),
        image_ids=np.array([3, 3, 4, 5, 5]),
        matches={"gt": [matches(random, 4), matches(random, 5)]},
        summary=dataclasses.replace(summary, options={"widths": [8, 8]}),
    )


def test_what_is_saved_is_loaded(evaluation, tmp_path):
    save(evaluation, tmp_path / "new")
    loaded = load(tmp_path / "new")
    pd.testing.assert_frame_equal(loaded.figures, evaluation.figures, rtol=0, atol=1e-6)
    pd.testing.assert_frame_equal(loaded.curves, evaluation.curves)
    pd.testing.assert_frame_equal(loaded.liveness, evaluation.liveness)
    np.testing.assert_array_equal(loaded.image_ids, evaluation.image_ids)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(evaluation, name), strict=True)
    for found, expected in zip(loaded.matches["gt"], evaluation.matches["gt"], strict=True):
        np.testing.assert_equal(vars(found), vars(expected))
    assert loaded.summary == evaluation.summary
    assert loaded.groups == MPII16.groups


def test_the_summary_is_plain_json(evaluation, tmp_path):
    save(evaluation, tmp_path)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["test"] == {"pyramid": False, "nms": "hard", "precision": "fp32"}
    assert (written["input_size"], written["seeds"], written["persons"]) == ([32, 48], [0, 1], 20)


@pytest.mark.parametrize("change", [lambda values: values.pop("epochs"), lambda values: values.update(epochs2=1)])
def test_a_summary_of_another_version_is_refused(evaluation, tmp_path, change):
    save(evaluation, tmp_path)
    values = json.loads((tmp_path / "summary.json").read_text())
    change(values)
    (tmp_path / "summary.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"summary.json: unknown or missing epochs"):
        load(tmp_path)


def test_an_unfinished_evaluation_is_refused(evaluation, tmp_path):
    save(evaluation, tmp_path)
    (tmp_path / "summary.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no finished evaluation; run: dvc repro"):
        load(tmp_path)


def test_seeds_are_taken_apart_and_joined_again(evaluation):
    first, second = (evaluation.of_seeds([seed]) for seed in (0, 1))
    assert second.values("Head") == [10.1234567]
    np.testing.assert_array_equal(second.keypoints[0], evaluation.keypoints[1])
    assert second.matches["gt"] == evaluation.matches["gt"][1:]
    joined = join([first, second])
    assert joined.matches == evaluation.matches
    pd.testing.assert_frame_equal(joined.figures, evaluation.figures)
    pd.testing.assert_frame_equal(joined.curves, evaluation.curves)
    np.testing.assert_array_equal(joined.keypoint_scores, evaluation.keypoint_scores)
    assert joined.summary == evaluation.summary
    assert evaluation.values("Knee") == []


def test_what_a_link_leads_to_is_not_written(evaluation, tmp_path):
    """DVC's cache may lie behind links in the folder of results."""
    save(evaluation, tmp_path / "cache")
    before = {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    (tmp_path / "out").mkdir()
    for name in before:
        (tmp_path / "out" / name).symlink_to(tmp_path / "cache" / name)
    changed = dataclasses.replace(evaluation, confidences=evaluation.confidences + 1)
    save(changed, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()} == before
    assert np.array_equal(load(tmp_path / "out").confidences, changed.confidences, equal_nan=True)
