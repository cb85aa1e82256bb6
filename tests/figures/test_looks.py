import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hpelib.data.crops import Crop, Picture
from hpelib.figures import style
from hpelib.figures.heatmaps import View
from hpelib.figures.looks import (
    Panel,
    Step,
    centred,
    common_part,
    draw_change,
    draw_panel,
    look_sheet,
    panels_of,
    step_sheet,
)
from hpelib.records import Quantity
from hpelib.skeletons import COCO17

PIXELS = np.full((64, 48, 3), 90, np.uint8)
RANDOM = np.random.default_rng(0)


def a_view(**looks):
    """A view of looks that no record knows, which are drawn as features."""
    crop = Crop(PIXELS, np.zeros((17, 2)), np.zeros(17), np.eye(2, 3), Picture(PIXELS, 1, 0))
    return View(crop, COCO17, np.zeros((17, 2)), looks, (4.0, 4.0))


def panels(kind, look, keypoint=None):
    found = panels_of(Quantity("it", "", kind), look, keypoint)
    return {title: panel.values for title, panel in found.items()}


def test_heatmaps_are_those_of_the_keypoint_or_of_all():
    maps = RANDOM.random((5, 4, 3))
    np.testing.assert_array_equal(panels("heatmaps", maps, 2)["it"], maps[2])
    np.testing.assert_array_equal(panels("heatmaps", maps)["it"], maps.max(0))
    np.testing.assert_array_equal(panels("bones", maps, 2)["it"], maps.max(0))  # a bone is no keypoint


def test_even_shares_are_one():
    np.testing.assert_allclose(panels("attention", np.full((1, 4, 3), 1 / 12))["it"], 1)
    np.testing.assert_allclose(panels("columns", np.full((7, 4, 3), 1 / 4))["it"], 1)
    scales = panels("competition", np.full((3, 4, 3), 1 / 3))
    assert list(scales) == ["it, scale 1", "it, scale 2", "it, scale 3"]
    np.testing.assert_allclose(scales["it, scale 2"], 1)


def test_channel_weights_stand_in_the_order_of_the_channels():
    weights = np.array([0.2, 0.9, 0.4, 0.1, 0.8, 0.3]).reshape(6, 1, 1)
    np.testing.assert_array_equal(panels("gate", weights)["it"], weights.ravel())
    betas = np.stack([weights, 1 - weights])
    np.testing.assert_array_equal(panels("competition", betas)["it: share of the rich transform"], weights.ravel())
    kernels = np.stack([np.full((3, 3), 1.0), np.full((3, 3), -2.0)])
    np.testing.assert_allclose(panels("kernels", kernels)["it: norm"], [3, 6])
    np.testing.assert_allclose(panels("kernels", kernels[:, :1, :1])["it: 1x1"], [1, -2])
    np.testing.assert_allclose(panels("deviations", np.array([[1.0, 4.0], [9.0, 4.0]]))["it"], [2, 6])
    assert not panels("means", np.ones((5, 2)))


def test_details_from_above_are_marked():
    (panel,) = panels_of(Quantity("it", "", "detail_gate"), np.full((6, 1, 1), 0.5)).values()
    assert panel.parts == {"details from the branch above": 2, "the branch itself": 4}
    _, axes = plt.subplots()
    draw_panel(axes, PIXELS, panel)
    details, branch = axes.lines
    assert (details.get_xdata().tolist(), branch.get_xdata().tolist()) == ([1, 2], [3, 4, 5, 6])
    assert details.get_color() != branch.get_color()
    assert axes.get_ylim() == (0, 1.05), "the whole scale of a gate"


def test_groups_have_a_map_each_and_gates_their_whole_scale():
    maps = RANDOM.uniform(0.71, 0.75, (3, 4, 3))
    found = panels_of(Quantity("it", "", "group_gate"), maps)
    assert list(found) == ["it, group 1", "it, group 2", "it, group 3"]
    np.testing.assert_array_equal(found["it, group 3"].values, maps[2])
    (mean,) = panels_of(Quantity("it", "", "gate"), maps).values()
    assert {panel.limits for panel in (*found.values(), mean)} == {(0, 1)}


def test_what_is_parted_has_one_scale(monkeypatch):
    monkeypatch.setattr("hpelib.figures.looks.quantity", lambda name: Quantity(name, "", "parts"))
    view = a_view(informative=np.full((2, 4, 3), 3.0), redundant=np.full((2, 4, 3), 0.1))
    _, informative, redundant, *_ = look_sheet({"easiest": view}, "informative|redundant").axes
    assert informative.images[1].get_clim() == redundant.images[1].get_clim() == (0, 3)


def test_of_features_their_size_counts_and_of_a_single_map_its_sign():
    features = np.array([[[3.0, -1.0]], [[-3.0, 1.0]]])
    np.testing.assert_allclose(panels("features", features)["it"], [[3.0, 1.0]])
    np.testing.assert_allclose(panels("features", features[:1])["it"], [[3.0, -1.0]])


def test_informative_is_above_one_half():
    weights = np.array([0.4, 0.6, 0.7, 0.5]).reshape(4, 1, 1).repeat(2, axis=2)
    np.testing.assert_allclose(panels("parting", weights)["it: informative"], [[0.5, 0.5]])


def test_a_column_has_one_scale_for_everybody():
    weights = np.array([0.9, 0.1]).reshape(2, 1, 1)
    views = {
        name: a_view(map=np.full((1, 4, 3), value), gate=weights) for name, value in (("easy", 0.2), ("hard", 0.4))
    }
    figure = look_sheet(views, "map|gate")
    drawn = figure.axes[:6]
    assert [axes.get_ylabel() for axes in drawn] == ["easy", "", "", "hard", "", ""]
    assert [axes.get_title() for axes in drawn[:3]] == ["", "map", "gate"]
    assert {drawn[i].images[1].get_clim() for i in (1, 4)} == {(0, 0.4)}
    assert drawn[2].get_ylim() == drawn[5].get_ylim()
    assert len(style.to_png(figure)) < style.MAX_BYTES


def test_columns_stand_in_the_order_of_the_patterns_on_the_scales_asked_for():
    views = {"easy": a_view(**{name: np.full((1, 4, 3), 0.6) for name in ("first", "second", "third")})}
    axes = look_sheet(views, ["third", "first|second"], {"second": (0.5, 1.0)}).axes
    assert [each.get_title() for each in axes[1:4]] == ["third", "first", "second"]
    assert [each.images[1].get_clim() for each in axes[1:4]] == [(0, 0.6), (0, 0.6), (0.5, 1.0)]


@pytest.mark.parametrize("side", [1, 3])
def test_steps_of_one_scale_can_be_compared_and_a_kernel_shows_its_pixels(side):
    kernel = np.arange(1.0, side * side + 1).reshape(side, side)
    steps = {
        "bone": Step(np.full((4, 3), 0.8), "answer"),
        "kernel A": Step(kernel, "kernel", "kernels"),
        "kernel B": Step(-2 * kernel, "kernel", "kernels"),
        "signed": Step(np.full((4, 3), -0.5), "signed"),
        "nothing": Step(np.zeros((4, 3)), "signed"),
    }
    figure = step_sheet(PIXELS, steps, 5)
    bone, one, two, signed, nothing, *bars = figure.axes
    assert [axes.get_title() for axes in figure.axes[:5]] == list(steps)
    assert len(bars) == 5, "a colour bar each"
    np.testing.assert_array_equal(two.images[0].get_array(), -2 * kernel)
    assert one.images[0].get_clim() == two.images[0].get_clim() == (-2 * side**2, 2 * side**2)
    assert bone.images[1].get_clim() == (0, 0.8)
    assert signed.images[1].get_clim() == (-0.5, 0.5)
    assert not nothing.images[1].get_alpha().any()
    assert len(style.to_png(figure)) < style.MAX_BYTES


@pytest.mark.parametrize(("low", "high"), [(0.455, 0.553), (0, 1), (-3.2, 11)])
def test_a_colour_bar_has_three_numbers_at_most_as_more_would_run_together(low, high):
    bar = look_sheet({"easy": a_view(map=np.linspace(low, high, 12).reshape(1, 4, 3))}, "map").axes[-1]
    left, right = bar.get_xlim()
    assert 1 <= sum(left <= tick <= right for tick in bar.get_xticks()) <= 3


def test_numbers_of_narrow_colour_bars_do_not_touch():
    maps = {f"map{group}": np.linspace(-0.25, 0.25, 12).reshape(1, 4, 3) for group in range(8)}
    figure = look_sheet({"easy": a_view(**maps)}, "map.*")
    figure.draw_without_rendering()
    for bar in figure.axes[-8:]:
        left, right = bar.get_xlim()
        inside = [label for label in bar.get_xticklabels() if left <= label.get_position()[0] <= right]
        boxes = [label.get_window_extent() for label in inside]
        assert len(boxes) == 3
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_what_a_network_does_not_show_is_an_error_that_lists_what_it_shows():
    views = {"easy": a_view(heatmaps=np.ones((17, 4, 3)), stack1=np.ones((1, 4, 3)))}
    with pytest.raises(ValueError, match=r"nothing that matches 'stack'; it shows heatmaps, stack1"):
        look_sheet(views, "stack")


def test_arrows_start_where_a_point_lies_and_lead_to_where_it_is_taken_from():
    offsets = np.zeros((2, 8, 6))
    offsets[:, 5, 3] = (0.5, -0.25)  # right and up
    _, axes = plt.subplots()
    draw_panel(axes, PIXELS, Panel(offsets, "px"))
    (arrows,) = [drawn for drawn in axes.collections if hasattr(drawn, "U")]
    (moved,) = np.flatnonzero(np.hypot(arrows.U, arrows.V))
    np.testing.assert_allclose(arrows.get_offsets()[moved], (3 * 8, 5 * 8))
    assert arrows.U[moved] > 0 > arrows.V[moved]  # image y points down, and so do the axes
    assert np.hypot(arrows.U, arrows.V)[moved] == pytest.approx(8)  # the longest is as long as the arrows' spacing


def test_no_change_is_transparent_and_both_directions_are_seen():
    change = np.array([[0.0, 0.5], [-1.0, 1.0]])
    _, axes = plt.subplots()
    draw_change(axes, PIXELS, change, 1.0)
    mappable = axes.images[1]
    assert mappable.get_clim() == (-1.0, 1.0)
    alpha = mappable.get_alpha()[1:-1, 1:-1]
    assert alpha[0, 0] == 0
    assert alpha[1, 0] == alpha[1, 1] > alpha[0, 1] > 0


def test_maps_and_offsets_are_drawn_about_their_mean():
    gate = panels_of(Quantity("it", "", "gate"), np.array([[[0.2, 0.4], [0.6, 0.4]]]))["it"]
    offsets = panels_of(Quantity("it", "", "offsets"), np.array([[[[1.0, 3.0]]], [[[5.0, 5.0]]]]))["it"]
    np.testing.assert_allclose(centred(gate).values, [[-0.2, 0], [0.2, 0]])
    np.testing.assert_allclose(centred(offsets).values, [[[-1, 1]], [[0, 0]]])
    assert (centred(gate).signed, centred(gate).limits, centred(offsets).signed) == (True, None, False)
    _, axes = plt.subplots()
    assert draw_panel(axes, PIXELS, centred(gate)).get_clim() == pytest.approx((-0.2, 0.2))


def test_each_pixel_of_a_shuffle_has_a_mean_of_its_own():
    own = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(common_part(np.tile(own, (3, 2)), 2), np.tile(own, (3, 2)))
    values = RANDOM.random((2, 5, 7))
    np.testing.assert_allclose(common_part(values)[1], np.full((5, 7), values[1].mean()))
    np.testing.assert_allclose(common_part(values, 2)[0, 1::2, ::2], np.full((2, 4), values[0, 1::2, ::2].mean()))


def test_a_column_may_end_at_a_percentile_so_that_one_peak_does_not_darken_it():
    values = np.ones((1, 10, 10))
    values[0, 0, 0] = 300
    drawn = look_sheet({"easy": a_view(map=values)}, "map", percentile=99).axes[1].images[1]
    assert drawn.get_clim()[1] < 10
    assert look_sheet({"easy": a_view(map=values)}, "map").axes[1].images[1].get_clim() == (0, 300)
