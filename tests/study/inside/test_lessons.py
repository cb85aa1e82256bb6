import numpy as np
import pytest
import torch

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


def test_what_was_not_trained_is_not_run(trained):
    with pytest.raises(NotRunError, match=r"no trained weights of hourglass on coco under the profile tiny"):
        begin(trained | {"seeds": [0]}, "hourglass", "coco", "easy")
