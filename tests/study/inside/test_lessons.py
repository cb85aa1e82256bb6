from dataclasses import replace

import numpy as np
import pytest
import torch

from hpelib.data.crops import to_crop
from hpelib.study.engine import NotRunError
from hpelib.study.inside.lessons import begin


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


def test_a_person_found_in_the_place_of_another_is_told(lesson):
    people = lesson.gallery.people
    one, other = 1, 2  # in one picture
    assert people.image_ids[one] == people.image_ids[other]
    (view,) = lesson.gallery.look("hourglass", one)
    place = to_crop(people.keypoints[other], view.crop.matrix)
    own_px, other_px = lesson.distances_px(one, replace(view, found=place + np.float32([3, 4])))
    labelled = people.visibility[one] > 0
    expected = np.linalg.norm(view.crop.keypoints - place - [3, 4], axis=1)[labelled].mean()
    assert other_px == pytest.approx(5, abs=1e-3)
    assert own_px == pytest.approx(expected, rel=1e-4)
    (alone,) = lesson.gallery.look("hourglass", 0)
    assert lesson.distances_px(0, alone)[1] == np.inf


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
