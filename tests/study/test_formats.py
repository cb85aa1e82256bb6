import dataclasses
import json
import logging

import numpy as np
import pytest

from hpelib.formats import FORMATS
from hpelib.formats import coco as coco_format
from hpelib.formats.coco import person_results
from hpelib.metrics.coco import coco_results
from hpelib.skeletons import COCO17, LSP14, MPII16
from hpelib.study.config import Protocol, make_run
from hpelib.study.steps import evaluate
from hpelib.study.steps.prepare import read_split


def all_figures(dataset, people, keypoints):
    return FORMATS[dataset.format].figures(dataset, people, keypoints, np.full(keypoints.shape[:2], 0.9, np.float32))


def truth(people) -> np.ndarray:
    """The annotation; where nothing is labelled, anywhere."""
    return np.nan_to_num(people.keypoints, nan=1.0)


@pytest.mark.parametrize("name", ["coco", "mpii", "lsp", "lspet"])
def test_the_truth_scores_a_hundred(write_set, name):
    dataset = write_set(name)
    people = FORMATS[name].scored(read_split(dataset, "test"))
    found = all_figures(dataset, people, truth(people))
    undefined = {metric for metric, value in found.items() if np.isnan(value)}
    assert undefined == ({"APM_gt", "APL_gt", "ARM_gt", "ARL_gt"} if name == "coco" else set()), "nobody is so large"
    assert [found[metric] for metric in found.keys() - undefined] == pytest.approx(
        [100] * (len(found) - len(undefined))
    )
    assert FORMATS[name].keypoint_figure(people, truth(people)) == {FORMATS[name].keypoint_metric: pytest.approx(100)}
    assert {FORMATS[name].main_metric, FORMATS[name].keypoint_metric} <= found.keys()


@pytest.mark.parametrize(("share_of_head", "at_half", "at_tenth"), [(0.05, 100, 100), (0.3, 100, 0), (0.6, 0, 0)])
def test_pckh_of_keypoints_that_are_off_by_a_share_of_the_head(write_set, share_of_head, at_half, at_tenth):
    dataset = write_set("mpii")
    people = read_split(dataset, "test")
    moved = truth(people)
    moved[..., 0] += share_of_head * people.head_sizes_px[:, None]
    found = all_figures(dataset, people, moved)
    assert (found["PCKh@0.5"], found["PCKh@0.1"], found["Knee"]) == (at_half, at_tenth, at_half)
    hit = FORMATS["mpii"].keypoint_scores(people, moved)
    assert np.isnan(hit[:, [MPII16.index("pelvis"), MPII16.index("thorax")]]).all(), "not scored"
    assert np.isnan(hit[:, MPII16.index("right_ankle")]).tolist() == [True, False, False], "not labelled"
    assert np.nanmean(hit) == at_half / 100


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_wrong_wrist_costs_its_share(write_set, side):
    dataset = write_set("lsp")
    people = read_split(dataset, "test")
    moved = truth(people)
    moved[0, LSP14.index(f"{side}_wrist"), 1] += 500
    found = all_figures(dataset, people, moved)
    n = len(people)
    assert found["Wrist"] == pytest.approx(100 * (2 * n - 1) / (2 * n))
    assert found["PCK@0.2"] == pytest.approx(100 * (14 * n - 1) / (14 * n))
    assert found["Ankle"] == 100


def test_oks_of_a_moved_keypoint_is_the_formula(write_set):
    dataset = write_set("coco")
    people = read_split(dataset, "test")
    moved = truth(people)
    moved[..., 1] += 2
    found = all_figures(dataset, people, moved)
    similarity = [
        np.mean([np.exp(-4 / (2 * area * (2 * sigma) ** 2)) for sigma in COCO17.sigmas[1:]]) for area in people.areas
    ]  # nobody's nose is labelled
    assert found["OKS"] == pytest.approx(100 * np.mean(similarity), rel=1e-5)
    assert 0 < found["Knee"] < 100


def test_detections_are_scored_under_names_of_their_own(write_set):
    dataset = write_set("coco")
    people, detections = read_split(dataset, "test"), FORMATS["coco"].read_detections(dataset, "test")
    confidences = np.full((len(detections), 17), 0.9, np.float32)
    found = FORMATS["coco"].detection_figures(dataset, people, detections, truth(people), confidences)
    assert found["AP_det"] == pytest.approx(100)
    assert not found.keys() & all_figures(dataset, people, truth(people)).keys()


@pytest.mark.parametrize(("name", "kept"), [("lsp", 2), ("coco", 3), ("mpii", 3)])
def test_only_leeds_persons_need_a_torso(write_set, name, kept):
    dataset = write_set(name)
    people = read_split(dataset, "test")
    keypoints, visibility = people.keypoints.copy(), people.visibility.copy()
    hip = people.skeleton.index("right_hip")
    keypoints[1, hip], visibility[1, hip] = np.nan, 0
    lacking = dataclasses.replace(people, keypoints=keypoints, visibility=visibility)
    assert len(FORMATS[name].scored(lacking)) == kept


def test_leeds_persons_need_a_torso_that_has_a_length(write_set):
    dataset = write_set("lsp")
    people = read_split(dataset, "test")
    keypoints = people.keypoints.copy()
    keypoints[1, LSP14.index("right_hip")] = keypoints[1, LSP14.index("left_shoulder")]
    kept = FORMATS["lsp"].scored(dataclasses.replace(people, keypoints=keypoints))
    assert kept.ids.tolist() == people.ids[[0, 2]].tolist()
    assert kept.left_out == {"persons without a labelled torso": 1}


@pytest.mark.parametrize(("oks", "stay"), [(0.91, 1), (0.89, 2)])
def test_copies_are_told_at_the_scale_of_the_padded_box_of_three_to_four(write_set, oks, stay):
    people = read_split(write_set("coco"), "test").take([1, 2])  # in one image
    people = dataclasses.replace(people, sizes_px=np.full_like(people.sizes_px, 30))
    area = (1.25 * 30) * (1.25 * 40)
    distances = np.linspace(0, 20, 20001)
    similarity = np.mean([np.exp(-(distances**2) / (2 * area * (2 * sigma) ** 2)) for sigma in COCO17.sigmas], axis=0)
    keypoints = np.zeros((2, 17, 2))
    keypoints[1, :, 0] = distances[np.abs(similarity - oks).argmin()]
    assert len(person_results(people, keypoints, np.ones((2, 17)))) == stay


@pytest.mark.parametrize("nms", ["hard", "soft"])
def test_copies_are_cleared_by_the_protocol_whatever_the_boxes(trained, monkeypatch, nms):
    used = []

    def noting(*arrays, nms, **others):
        used.append(nms)
        return coco_results(*arrays, nms=nms, **others)

    monkeypatch.setattr(coco_format, "coco_results", noting)
    run = dataclasses.replace(make_run(trained, "hourglass", "coco", 1), test=Protocol(nms=nms))
    evaluate.evaluate([run])
    assert used == [nms] * 4, "annotated boxes and detected ones, for the figures and for what is kept of them"


@pytest.mark.parametrize("name", ["coco", "mpii", "lsp"])
def test_a_curve_rises_from_exact_hits_to_the_figure(write_set, name):
    dataset = write_set(name)
    people = read_split(dataset, "test")
    moved = truth(people) + np.random.default_rng(0).normal(0, 1.5, people.keypoints.shape)
    curve = FORMATS[name].curve(people, moved)
    assert curve["correct"].is_monotonic_increasing
    assert curve["threshold"].iloc[[0, -1]].tolist() == [0, 0.5]
    assert curve["correct"].iloc[0] == 0
    if name != "coco":
        threshold = {"mpii": 0.5, "lsp": 0.2}[name]
        at = curve["correct"][np.isclose(curve["threshold"], threshold)].item()
        assert at == pytest.approx(FORMATS[name].keypoint_figure(people, moved)[FORMATS[name].keypoint_metric])
    exact = FORMATS[name].curve(people, truth(people))
    assert (exact["correct"] == 100).all()


def test_every_table_of_a_format_has_the_columns_that_its_record_names(write_set):
    for name, form in FORMATS.items():
        dataset = write_set(name)
        people = form.scored(read_split(dataset, "test"))
        found = all_figures(dataset, people, truth(people))
        detections = form.read_detections(dataset, "test")
        if detections is not None:
            confidences = np.ones((len(detections), 17))
            found |= form.detection_figures(dataset, people, detections, truth(people), confidences)
        assert set(form.columns) | set(people.skeleton.groups) <= found.keys()
        assert form.columns[0] == form.main_metric
        assert (detections is None) == (name != "coco")


def edit(path, **changes) -> None:
    document = json.loads(path.read_text())
    document["annotations"][0] |= changes
    path.write_text(json.dumps(document))


def test_all_figures_are_over_the_same_persons(write_set):
    """The first box lies in the picture's last column, so that the reader leaves its person out."""
    dataset = write_set("coco")
    edit(dataset.root / "test.json", bbox=[63.5, 10, 0.4, 20])
    people, detections = read_split(dataset, "test"), FORMATS["coco"].read_detections(dataset, "test")
    assert people.summary() == "2 persons; left out: 1 labelled persons without a box"
    found = all_figures(dataset, people, truth(people))
    assert found["OKS"] == found["AP_gt"] == found["AR_gt"] == pytest.approx(100)
    everywhere = np.concatenate([np.full((1, 17, 2), 30.0), truth(people)])  # the first is found, and found wrong
    found = FORMATS["coco"].detection_figures(dataset, people, detections, everywhere, np.ones((3, 17)))
    assert found["AR_det"] == pytest.approx(100)


def test_images_with_more_persons_than_ap_scores_are_counted_and_the_limit_can_be_lifted(write_set, caplog):
    dataset = write_set("coco")
    path = dataset.root / "test.json"
    document = json.loads(path.read_text())
    first = document["annotations"][0]
    keypoints = np.reshape(first["keypoints"], (17, 3))
    spread = np.random.default_rng(0).uniform(0, 30, (25, 17, 2))
    document["annotations"] = [
        first
        | {"id": i + 1, "area": 50, "keypoints": np.concatenate([spread[i], keypoints[:, 2:]], 1).ravel().tolist()}
        for i in range(25)
    ]
    path.write_text(json.dumps(document))
    people = read_split(dataset, "test")
    with caplog.at_level(logging.WARNING):
        FORMATS["coco"].check_truth(dataset, "test", people)
    assert "coco test: 1 images have more than 20 persons" in caplog.text
    assert all_figures(dataset, people, truth(people))["AR_gt"] == pytest.approx(80)

    caplog.clear()
    lifted = dataset.splits | {"test": dataset.splits["test"] | {"max_persons": 25}}
    dataset = dataclasses.replace(dataset, splits=lifted)
    FORMATS["coco"].check_truth(dataset, "test", people)
    assert not caplog.messages
    assert all_figures(dataset, people, truth(people))["AR_gt"] == pytest.approx(100)


def test_persons_that_are_annotated_twice_are_named(write_set, caplog):
    """Nobody can find a person twice: perfect answers have an AP below 100, and nothing else would say why."""
    dataset = write_set("coco")
    path = dataset.root / dataset.splits["test"]["annotations"]
    document = json.loads(path.read_text())
    with caplog.at_level(logging.WARNING):
        dataset.form.check_truth(dataset, "test", read_split(dataset, "test"))
    assert not caplog.messages
    first = document["annotations"][0]
    document["annotations"] += [first | {"id": 77}, first | {"id": 78, "keypoints": [5, 5, 2] + [0] * 48}]
    path.write_text(json.dumps(document))
    with caplog.at_level(logging.WARNING):
        dataset.form.check_truth(dataset, "test", read_split(dataset, "test"))
    (said,) = caplog.messages
    assert "coco test: 1 persons are annotated twice" in said
    assert "ids 77." in said


@pytest.mark.parametrize(("first", "last"), [(1, 4), (3, 2), (4, 9)])
def test_numbers_that_are_no_part_of_the_set_are_refused(write_set, first, last):
    dataset = write_set("lsp")  # three images to test
    splits = dataset.splits | {"test": dataset.splits["test"] | {"numbers": [first, last]}}
    with pytest.raises(ValueError, match=f"lsp test: numbers {first} to {last} are no part of 1 to 3"):
        read_split(dataclasses.replace(dataset, splits=splits), "test")


def test_a_set_on_which_the_metric_is_defined_for_nobody_is_refused(write_set):
    dataset = write_set("lsp")
    people = read_split(dataset, "test")
    keypoints = np.repeat(people.keypoints[:, :1], 14, axis=1)  # torsos without a length
    with pytest.raises(ValueError, match=r"lsp test: PCK@0\.2 is defined for none of 3 persons"):
        FORMATS["lsp"].check_truth(dataset, "test", dataclasses.replace(people, keypoints=keypoints))
