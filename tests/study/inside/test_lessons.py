from dataclasses import replace

import numpy as np
import pytest
import torch

from hpelib.study.engine import NotRunError
from hpelib.study.inside.lessons import _to_segments_px, begin


@pytest.fixture
def lesson(trained):
    return begin(trained | {"seeds": [1]}, "hourglass", "coco", "1")


def test_a_lesson_is_one_person_as_the_trained_network_sees_them(lesson):
    assert (lesson.run.seed, lesson.position) == (1, 1)
    with torch.no_grad():
        np.testing.assert_allclose(lesson.network(lesson.images)[0].numpy(), lesson.view.heatmaps, atol=1e-5)
    (expected,) = lesson.gallery.look("hourglass", 1)
    np.testing.assert_array_equal(lesson.view.crop.pixels, expected.crop.pixels)


def test_parts_are_switched_off_one_by_one_and_on_again(lesson):
    head = lesson.network.heads[-1]
    table = lesson.switched_off({"no heatmaps": ([head], torch.zeros_like), "all on": ([head], lambda output: output)})
    scores = table.iloc[:, 0]
    assert (
        scores["all on"]
        == scores["hourglass, as trained"]
        == pytest.approx(lesson.gallery.mean_score("hourglass"), abs=0.05)
    )
    assert scores["no heatmaps"] != scores["all on"], "an empty map is decoded to the corner"


def test_distances_are_those_from_segments_not_from_lines():
    ends = np.array([[[[0, 0], [4, 0]], [[np.nan, np.nan], [4, 0]]]])
    points = np.array([[2, 3], [7, 4]])  # above the segment, beyond its end
    np.testing.assert_allclose(_to_segments_px(points, ends), [[[3, 5], [np.inf, np.inf]]])


def test_a_person_found_in_the_place_of_another_is_told(lesson):
    people = lesson.gallery.people
    assert people.image_ids[1] == people.image_ids[2] != people.image_ids[0]
    apart = people.keypoints.copy()
    apart[2, :, 0] += 1000
    lesson.gallery.people = replace(people, keypoints=apart)
    (view,) = lesson.gallery.look("hourglass", 1)
    assert lesson.nearer_to_others(1, view) == 0
    assert lesson.nearer_to_others(2, view) == len(view.found)
    assert lesson.nearer_to_others(0, view) == 0, "nobody is beside"


def test_the_error_is_the_mean_distance_of_labelled_joints(lesson):
    moved = replace(lesson, view=replace(lesson.view, found=lesson.view.crop.keypoints + np.float32([3, 4])))
    assert np.isnan(lesson.view.crop.keypoints).any()
    assert moved.error_px() == pytest.approx(5)


def test_hidden_joints_are_scored_apart(lesson):
    people = lesson.gallery.people
    visibility = np.where(people.visibility > 0, 2, 0)
    joint = (visibility > 0).sum(axis=0).argmax()
    visibility[:, joint] = visibility[:, joint] > 0
    lesson.gallery.people = replace(people, visibility=visibility)
    found = np.where(visibility == 0, np.nan, 0.25)
    found[visibility == 1] = 0.75
    lesson.gallery._found = lambda name, count: found[:count]
    row = lesson.hidden_and_visible().loc["hourglass"]
    visible, hidden = (visibility == 2).sum(), (visibility == 1).sum()
    assert hidden > 0
    assert row.to_dict() == {f"visible, % (of {visible})": 25.0, f"hidden, % (of {hidden})": 75.0}


def test_what_was_not_trained_is_not_run(trained):
    with pytest.raises(NotRunError, match=r"no trained weights of hourglass on coco under the profile tiny"):
        begin(trained | {"seeds": [0]}, "hourglass", "coco", "easy")
