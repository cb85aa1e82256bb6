import matplotlib.pyplot as plt
import numpy as np
import pytest

from hpelib.figures import style
from hpelib.figures.heatmaps import Prediction
from hpelib.figures.looks import before_after, draw_change, draw_offsets, look_sheet, panels_of
from hpelib.records import Quantity
from hpelib.skeletons import COCO17

CROP = np.full((64, 48, 3), 90, np.uint8)
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def panels(kind, look, keypoint=None):
    return panels_of(Quantity("it", "", kind), look, keypoint)


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


def test_channel_weights_go_from_high_to_low():
    weights = np.array([0.2, 0.9, 0.4, 0.1, 0.8, 0.3]).reshape(6, 1, 1)
    np.testing.assert_allclose(panels("gate", weights)["it"], [0.9, 0.8, 0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(panels("detail_gate", weights)["it"], [0.9, 0.2, 0.8, 0.4, 0.3, 0.1])
    betas = np.stack([weights, 1 - weights])
    np.testing.assert_allclose(panels("competition", betas)["it: share of the first"], sorted(weights.ravel())[::-1])
    kernels = np.stack([np.full((3, 3), 1.0), np.full((3, 3), -2.0)])
    np.testing.assert_allclose(panels("kernels", kernels)["it: size"], [6, 3])
    np.testing.assert_allclose(panels("deviations", np.array([[1.0, 4.0], [9.0, 4.0]]))["it, px"], [6, 2])
    assert not panels("means", np.ones((5, 2)))


def test_of_features_their_size_counts_and_of_a_single_map_its_sign():
    features = np.array([[[3.0, -1.0]], [[-3.0, 1.0]]])
    np.testing.assert_allclose(panels("features", features)["it"], [[3.0, 1.0]])
    np.testing.assert_allclose(panels("features", features[:1])["it"], [[3.0, -1.0]])


def test_informative_is_above_one_half():
    weights = np.array([0.4, 0.6, 0.7, 0.5]).reshape(4, 1, 1).repeat(2, axis=2)
    np.testing.assert_allclose(panels("parting", weights)["it: informative"], [[0.5, 0.5]])


def test_a_column_has_one_scale_for_everybody(tmp_path):
    rows = [{"map": np.full((4, 3), 0.2 * i), "weights": np.array([0.9, 0.1])} for i in (1, 2)]
    figure = look_sheet([CROP, CROP], rows, ["easy", "occluded"])
    drawn = figure.axes[:6]
    assert [axes.get_ylabel() for axes in drawn] == ["easy", "", "", "occluded", "", ""]
    assert [axes.get_title() for axes in drawn[:3]] == ["", "map", "weights"]
    assert {drawn[i].images[1].get_clim() for i in (1, 4)} == {(0.2, 0.4)}
    assert drawn[2].get_ylim() == drawn[5].get_ylim()
    assert style.save(figure, tmp_path / "sheet.png").stat().st_size < style.MAX_BYTES


def test_a_colour_bar_has_three_numbers_at_most_as_more_would_run_together():
    for low, high in ((0.455, 0.553), (0, 1), (-3.2, 11)):
        figure = look_sheet([CROP], [{"gate": np.linspace(low, high, 12).reshape(4, 3)}], ["easy"])
        bar = figure.axes[-1]
        ticks = bar.get_xticks()
        assert 1 <= sum(bar.get_xlim()[0] <= tick <= bar.get_xlim()[1] for tick in ticks) <= 3


def test_arrows_start_where_a_point_lies_and_lead_to_where_it_is_taken_from():
    offsets = np.zeros((2, 8, 6))
    offsets[:, 5, 3] = (0.5, -0.25)  # right and up
    _, axes = plt.subplots()
    draw_offsets(axes, CROP, offsets, (0.0, 0.5))
    (arrows,) = [drawn for drawn in axes.collections if hasattr(drawn, "U")]
    (moved,) = np.flatnonzero(np.hypot(arrows.U, arrows.V))
    np.testing.assert_allclose(arrows.get_offsets()[moved], (3 * 8, 5 * 8))
    assert arrows.U[moved] > 0 > arrows.V[moved]  # image y points down, and so do the axes
    assert arrows.U[moved] == pytest.approx(8)  # as long as the arrows' spacing


def test_no_change_is_transparent_and_both_directions_are_seen():
    change = np.array([[0.0, 0.5], [-1.0, 1.0]])
    _, axes = plt.subplots()
    draw_change(axes, CROP, change, 1.0)
    mappable = axes.images[1]
    assert mappable.get_clim() == (-1.0, 1.0)
    assert mappable.get_alpha()[0, 0] == 0
    assert mappable.get_alpha()[1, 0] == mappable.get_alpha()[1, 1] > mappable.get_alpha()[0, 1] > 0


def test_before_and_after_share_people_and_colours():
    def prediction(peak):
        return Prediction(RANDOM.uniform(8, 40, (17, 2)), peak * RANDOM.random((17, 16, 12)), (4.0, 4.0))

    predictions = {"hrnet": [prediction(0.5), prediction(0.2)], "de_hrnet": [prediction(0.9), prediction(0.1)]}
    keypoints, visible = RANDOM.uniform(8, 40, (2, 17, 2)), np.full((2, 17), 2)
    figure = before_after([CROP, CROP], keypoints, visible, predictions, ["easy", "small"], COCO17)
    grid = np.array(figure.axes[:10]).reshape(2, 5)
    assert [axes.get_title() for axes in grid[0]] == ["annotation", "hrnet", "heatmaps", "de hrnet", "heatmaps"]
    assert [row[0].get_ylabel() for row in grid] == ["easy", "small"]
    highest = max(prediction.heatmaps.max() for column in predictions.values() for prediction in column)
    assert {axes.images[1].get_clim() for axes in grid[:, 2::2].flat} == {(0.0, highest)}


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="same panels for every person"):
        look_sheet([CROP], [{}], ["easy"])
    with pytest.raises(ValueError, match="same panels for every person"):
        look_sheet([CROP, CROP], [{"a": np.ones((2, 2))}, {"b": np.ones((2, 2))}], ["easy", "small"])
