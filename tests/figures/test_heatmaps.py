import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hpelib.codecs import make_codec
from hpelib.data.crops import Crop, Picture, to_image
from hpelib.figures import style
from hpelib.figures.heatmaps import (
    View,
    before_after,
    draw_heatmap,
    heatmap_to_image,
    joint_maps,
    network_comparison,
    scene_heatmaps,
)
from hpelib.skeletons import COCO17

PIXELS = np.zeros((64, 48, 3), np.uint8)


def a_view(seed=0, peak=1.0, codec="dark"):
    """A person whose image is twice as fine as its crop, which begins at (12, -14) image px."""
    codec = make_codec(codec, (48, 64), (12, 16), sigma=1.0)
    keypoints = np.random.default_rng(seed).uniform(8, 40, (1, 17, 2)).astype(np.float32)
    heatmaps, _ = codec.encode(keypoints, np.full((1, 17), 2))
    matrix = codec.crop_matrix(np.array([60.0, 50.0]), np.array([96.0, 128.0]), 0.0)
    crop = Crop(PIXELS, keypoints[0], np.full(17, 2, np.uint8), matrix, Picture(PIXELS, 1, 0))
    return View(crop, COCO17, keypoints[0] + 1, {"heatmaps": peak * heatmaps[0].numpy()}, codec.stride)


@pytest.mark.parametrize("stride_px", [None, (4.0, 4.0), (47 / 11, 63 / 15), (1.0, 1.0)])
def test_a_heatmap_pixel_is_centred_on_its_crop_pixel(stride_px):
    heatmap = np.zeros((16, 12), np.float32)
    heatmap[5, 9] = 1.0
    figure = Figure(figsize=(4.8, 6.4), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_heatmap(axes, PIXELS, heatmap, stride_px=stride_px).set_interpolation("nearest")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    rows, columns = np.nonzero(np.asarray(canvas.buffer_rgba())[..., :3].sum(-1))
    stride_px = stride_px or (4.0, 4.0)
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


def test_joint_maps_share_limits_and_mark_each_keypoint_in_its_own_panel():
    view = a_view(peak=0.6)
    view.found[3] = np.nan
    *panels, bar = joint_maps(view).axes
    assert [axes.get_title() for axes in panels][:2] == ["nose", "left eye"]
    assert {axes.images[1].get_clim() for axes in panels} == {(0.0, float(view.heatmaps.max()))}
    truth, found = panels[7].lines
    np.testing.assert_allclose(truth.get_xydata()[0], view.crop.keypoints[7])
    np.testing.assert_allclose(found.get_xydata()[0], view.found[7])
    assert bar.get_xlabel() == "heatmap value"
    *some, _ = joint_maps(view, [1, 7]).axes
    assert [axes.get_title() for axes in some if axes.get_title()] == ["left eye", panels[7].get_title()]
    np.testing.assert_allclose(some[1].lines[0].get_xydata()[0], view.crop.keypoints[7])


def test_maps_without_a_positive_value_can_be_drawn():
    view = a_view()
    view.looks["heatmaps"] = np.full((17, 16, 12), -0.1)
    assert style.to_png(joint_maps(view)).startswith(b"\x89PNG")


def test_comparison_has_a_row_for_each_network_with_one_colour_scale():
    views = {"hrnet_w32": a_view(peak=0.9), "ditn_w32": a_view(1, peak=0.3, codec="udp")}
    views["hrnet_w32"].crop.keypoints[0], views["hrnet_w32"].crop.visibility[0] = np.nan, 0
    figure = network_comparison(views)
    rows = np.array(figure.axes[:6]).reshape(2, 3)
    assert [row[0].get_ylabel() for row in rows] == ["hrnet w32", "ditn w32"]
    assert [axes.get_title() for axes in rows[0]] == ["annotation", "prediction", "heatmaps"]
    assert [len(axes.collections) > 0 for axes in rows[0]] == [True, True, False]
    assert [dots(axes) for axes in rows[0]] == [16, 17, 0]
    maps = [row[2].images[1] for row in rows]
    assert maps[0].get_clim() == maps[1].get_clim() == (0.0, views["hrnet_w32"].heatmaps.max())
    assert maps[0].cmap == maps[1].cmap == style.HEATMAP_COLORS
    np.testing.assert_array_equal(maps[1].get_array()[1:-1, 1:-1], views["ditn_w32"].heatmaps.max(0))
    assert len(style.to_png(figure)) < style.MAX_BYTES


def test_before_and_after_has_a_row_for_each_person_with_one_colour_scale():
    people = {
        person: {"hrnet": a_view(seed, peak=0.5), "de_hrnet": a_view(seed, peak=0.9)}
        for seed, person in enumerate(("easy", "small"))
    }
    grid = np.array(before_after(people).axes[:10]).reshape(2, 5)
    assert [axes.get_title() for axes in grid[0]] == [
        *("annotation", "hrnet", "hrnet:\nheatmaps", "de hrnet", "de hrnet:\nheatmaps")
    ]
    assert [row[0].get_ylabel() for row in grid] == ["easy", "small"]
    assert [dots(axes) for axes in grid[1]] == [17, 17, 0, 17, 0]
    highest = max(view.heatmaps.max() for views in people.values() for view in views.values())
    assert {axes.images[1].get_clim() for axes in grid[:, 2::2].flat} == {(0.0, highest)}
    np.testing.assert_array_equal(
        grid[1, 4].images[1].get_array()[1:-1, 1:-1], people["small"]["de_hrnet"].heatmaps.max(0)
    )


def test_scene_shows_the_prediction_in_image_pixels():
    view = a_view()
    figure = scene_heatmaps(np.zeros((100, 120, 3), np.uint8), view)
    drawn = [np.asarray(collection.get_offsets()) for collection in figure.axes[0].collections]
    found = np.concatenate([offsets for offsets in drawn if offsets.any()])
    expected = view.found * 2 + (12, -14)
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected.tolist()), atol=1e-3)
    assert figure.axes[1].images[1].get_array()[1:-1, 1:-1].shape == (100, 120)


def dots(axes):
    drawn = [np.asarray(collection.get_offsets()) for collection in axes.collections]
    return sum(np.isfinite(offsets).all(1).sum() for offsets in drawn if offsets.any())
