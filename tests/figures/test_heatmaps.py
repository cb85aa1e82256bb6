import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hpelib.codecs import make_codec
from hpelib.data.crops import to_image
from hpelib.figures import style
from hpelib.figures.heatmaps import (
    Prediction,
    draw_heatmap,
    heatmap_grid,
    heatmap_to_image,
    network_comparison,
    scene_heatmaps,
)
from hpelib.skeletons import COCO17

CROP = np.zeros((64, 48, 3), np.uint8)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def a_prediction(seed=0, peak=1.0, name="dark"):
    codec = make_codec(name, (48, 64), (12, 16), sigma=1.0)
    keypoints = np.random.default_rng(seed).uniform(8, 40, (1, 17, 2)).astype(np.float32)
    heatmaps, _ = codec.encode(keypoints, np.full((1, 17), 2))
    return Prediction(keypoints[0], peak * heatmaps[0].numpy(), codec.stride)


@pytest.mark.parametrize("stride_px", [(4.0, 4.0), (47 / 11, 63 / 15), (1.0, 1.0)])
def test_a_heatmap_pixel_is_centred_on_its_crop_pixel(stride_px):
    heatmap = np.zeros((16, 12), np.float32)
    heatmap[5, 9] = 1.0
    figure = Figure(figsize=(4.8, 6.4), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_heatmap(axes, CROP, heatmap, stride_px)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rows, columns = np.nonzero(np.asarray(canvas.buffer_rgba())[..., :3].sum(-1))
    # the canvas shows crop px -0.5 to 47.5 at ten canvas px each
    centre = (np.array([columns.mean(), rows.mean()]) + 0.5) / 10 - 0.5
    np.testing.assert_allclose(centre, np.array([9, 5]) * stride_px, atol=0.06)
    size = np.array([np.ptp(columns), np.ptp(rows)]) + 1
    np.testing.assert_allclose(size / 10, stride_px, atol=0.11)


@pytest.mark.parametrize("name", ["msra", "dark", "udp"])
@pytest.mark.parametrize("rotation_deg", [0.0, 35.0])
def test_peak_carried_back_lies_on_the_decoded_keypoint(name, rotation_deg):
    codec = make_codec(name, (192, 256), (48, 64))
    size_px = np.array([300.0, 400.0])
    matrix = codec.crop_matrix(np.array([260.0, 230.0]), size_px, rotation_deg)
    keypoint = np.array([[[70.3, 141.9]]], np.float32)
    heatmaps, _ = codec.encode(keypoint, np.array([[2]]))
    decoded = to_image(codec.decode(heatmaps)[0].numpy(), matrix[None])[0, 0]
    carried = heatmap_to_image(heatmaps[0, 0].numpy(), matrix, codec.stride, (520, 460))
    assert carried.shape == (460, 520)
    peak = np.unravel_index(carried.argmax(), carried.shape)[::-1]
    heatmap_px = size_px[0] / 48  # in px of the image
    assert np.abs(peak - decoded).max() <= heatmap_px / 2 + 0.5
    # the centroid has no raster: it must meet the encoded keypoint, but for the rounding of msra
    weights = carried / carried.sum()
    centroid = (weights.sum(0) @ np.arange(520), weights.sum(1) @ np.arange(460))
    truth = to_image(keypoint, matrix[None])[0, 0]
    np.testing.assert_allclose(centroid, truth, atol=heatmap_px * (0.75 if name == "msra" else 0.02))


def test_identity_leaves_the_map_as_it_is():
    heatmap = np.random.default_rng(0).random((6, 5)).astype(np.float32)
    carried = heatmap_to_image(heatmap, np.eye(3)[:2], (1.0, 1.0), (7, 6))
    np.testing.assert_allclose(carried[:, :5], heatmap, atol=1e-6)
    assert not carried[:, 5:].any()


def test_grid_shares_limits_and_marks_each_keypoint_in_its_own_panel():
    prediction = a_prediction(peak=0.6)
    keypoints = prediction.keypoints.copy()
    keypoints[3] = np.nan
    figure = heatmap_grid(CROP, prediction.heatmaps, COCO17.keypoints, prediction.stride_px, keypoints)
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels][:2] == ["nose", "left eye"]
    assert {axes.images[1].get_clim() for axes in panels} == {(0.0, float(prediction.heatmaps.max()))}
    np.testing.assert_allclose(panels[7].lines[0].get_xydata()[0], prediction.keypoints[7])
    assert bar.get_xlabel() == "heatmap value"


def test_maps_without_a_positive_value_can_be_drawn(tmp_path):
    figure = heatmap_grid(CROP, np.full((2, 16, 12), -0.1), ["a", "b"], (4.0, 4.0), label="attention")
    assert figure.axes[-1].get_xlabel() == "attention"
    style.save(figure, tmp_path / "empty.png")


def test_comparison_has_a_row_per_network_with_one_colour_scale(tmp_path):
    predictions = {"hrnet_w32": a_prediction(peak=0.9), "ditn_w32": a_prediction(1, peak=0.3, name="udp")}
    keypoints, visibility = predictions["hrnet_w32"].keypoints.copy(), np.full(17, 2, np.uint8)
    keypoints[0], visibility[0] = np.nan, 0
    figure = network_comparison(CROP, keypoints, visibility, predictions, COCO17)
    rows = np.array(figure.axes[:8]).reshape(2, 4)
    assert [row[0].get_ylabel() for row in rows] == ["hrnet w32", "ditn w32"]
    maps = [row[3].images[1] for row in rows]
    assert maps[0].get_clim() == maps[1].get_clim() == (0.0, predictions["hrnet_w32"].heatmaps.max())
    assert maps[0].cmap == maps[1].cmap == style.HEATMAP_COLORS
    np.testing.assert_array_equal(maps[1].get_array(), predictions["ditn_w32"].heatmaps.max(0))
    assert style.save(figure, tmp_path / "rows.png").stat().st_size < style.MAX_BYTES


def test_scene_shows_the_prediction_in_image_pixels():
    codec = make_codec("dark", (48, 64), (12, 16), sigma=1.0)
    matrix = codec.crop_matrix(np.array([60.0, 50.0]), np.array([96.0, 128.0]), 0.0)
    prediction = a_prediction()
    figure = scene_heatmaps(np.zeros((100, 120, 3), np.uint8), prediction, matrix, COCO17)
    dots = [np.asarray(collection.get_offsets()) for collection in figure.axes[0].collections]
    found = np.concatenate([offsets for offsets in dots if offsets.any()])
    expected = prediction.keypoints * 2 + (12, -14)  # the crop is half as fine, its corner at 60 - 48, 50 - 64
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected.tolist()), atol=1e-3)
    assert figure.axes[1].images[1].get_array().shape == (100, 120)


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="at least one network"):
        network_comparison(CROP, np.zeros((17, 2)), np.zeros(17), {}, COCO17)
    with pytest.raises(ValueError, match="1 maps and 2 titles"):
        heatmap_grid(CROP, np.zeros((1, 16, 12)), ["nose", "left_eye"], (4.0, 4.0))
