from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hpelib.data.crops import Crop, Picture
from hpelib.figures.heatmaps import View
from hpelib.skeletons import COCO17
from hpelib.study.inside import seen

PIXELS = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture
def view():
    """A nose at (20, 10) that is seen, a left ankle at (20, 50) that is hidden; nothing else is labelled."""
    keypoints, visibility = np.zeros((17, 2)), np.zeros(17)
    keypoints[0], keypoints[15], visibility[0], visibility[15] = (20, 10), (20, 50), 2, 1
    crop = Crop(PIXELS, keypoints, visibility, np.eye(2, 3), Picture(PIXELS, 1, 0))
    return View(crop, COCO17, keypoints, {}, (4.0, 4.0))


def test_what_is_hidden_is_named(view):
    assert seen.hidden(view) == "1 of 2 joints are hidden; to be seen: nose."


def test_sureness_is_the_mean_height_of_the_peaks(view):
    maps = np.zeros((2, 4, 4))
    maps[0, 1, 1], maps[1, 2, 3] = 0.9, 0.3
    told = seen.sureness({"easiest": {"a": replace(view, looks={"heatmaps": maps})}})
    assert told == "highest value of a heatmap, mean over joints: easiest: a 0.60."


def test_shares_on_the_body_are_of_the_box_about_labelled_joints(view):
    box = seen.body_box(view, (64, 64))  # 4 px wider on each side
    assert (np.flatnonzero(box.any(axis=0))[[0, -1]].tolist(), np.flatnonzero(box.any(axis=1))[[0, -1]].tolist()) == (
        [16, 24],
        [6, 54],
    )
    share, area = seen.on_body(view, np.ones((64, 64)))
    assert share == pytest.approx(area) == pytest.approx(9 * 49 / 64**2)
    peak = np.zeros((16, 16))
    peak[7, 5] = 3
    assert seen.on_body(view, peak)[0] == 1
    assert seen.on_body(view, peak.T)[0] == 0


def test_the_strongest_tenth_is_looked_for_on_the_body(view):
    values = np.zeros((10, 10))
    values[:, 3] = 1.0
    inside, area = seen.strongest_on_body(view, values)
    assert inside == pytest.approx(0.8), "rows 1 to 8 of the column, whose centres lie at y = 9.1 to 53.9"
    assert area == pytest.approx(0.08)


def test_a_part_is_that_of_the_nearest_labelled_joint(view):
    change = np.full((16, 16), 0.1)
    change[12, 6] = -2.0
    assert seen.part_of(view, change) == "ankle"
    change[1, 9] = 3.0
    assert "ankle" not in seen.part_of(view, change)


def test_bars_and_crosses_are_rows_and_columns():
    x, y = np.random.default_rng(0).random((2, 8))
    assert seen.bars(x + y[:, None]) == pytest.approx(1)
    assert seen.bars(np.eye(8)) == pytest.approx(0, abs=1e-9)


def test_gates_that_are_the_same_for_everybody_are_named():
    gates = {"one": np.tile([0.1, 0.9], (3, 1)), "two": np.array([[0.0, 0.0], [1.0, 0.5]])}
    expected = "sd over persons, mean over channels: one 0.000, the same for everybody; two 0.375."
    assert seen.same_for_all(gates) == expected


def test_parts_that_are_hardly_missed_are_named():
    table = pd.Series({"as trained": 73.2, "a": 49.7, "b": 73.3}, name="score").to_frame()
    assert seen.hardly_missed(table, ["a", "b"]).startswith("less than 0.5 points of difference: b (+0.1).")
    assert seen.hardly_missed(table, ["a"]) == "every change costs or gains at least 0.5 points."


def test_widths_are_standard_deviations_in_x_and_y():
    axis = np.linspace(-6, 6, 65)
    density = 3 * np.exp(-((axis - 1) ** 2) / (2 * 0.5**2) - axis[:, None] ** 2 / 2)  # narrow in x
    assert seen.widths(density, axis) == pytest.approx((0.5, 1), abs=1e-3)
