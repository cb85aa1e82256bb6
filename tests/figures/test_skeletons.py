import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from hpelib.figures.skeletons import bone_side, draw_person, keypoint_side
from hpelib.figures.style import SIDE_COLORS, SIDE_RIMS
from hpelib.skeletons import COCO17, MPII16, SKELETONS

SCALE = 10  # canvas px per image px


def canvas(image, keypoints, visibility, line_width_pt=8.0):
    """The drawn canvas (H * SCALE, W * SCALE, 3) in [0, 1], at 72 dpi: 1 pt is 1 canvas px."""
    height, width = image.shape[:2]
    figure = Figure(figsize=(width * SCALE / 72, height * SCALE / 72), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_person(axes, image, keypoints, visibility, COCO17, line_width_pt)
    figure.canvas = plt.matplotlib.backends.backend_agg.FigureCanvasAgg(figure)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255


def color_at(drawn, x, y, dx=0, dy=0):
    """Colour at image position (x, y), shifted by canvas px; pixel centres are at integers."""
    return drawn[int((y + 0.5) * SCALE + dy), int((x + 0.5) * SCALE + dx)]


def a_bone(first, second, visibility=2):
    keypoints, seen = np.full((17, 2), np.nan, np.float32), np.zeros(17, np.uint8)
    keypoints[COCO17.index(first)], keypoints[COCO17.index(second)] = (10, 20), (30, 20)
    seen[[COCO17.index(first), COCO17.index(second)]] = visibility
    return keypoints, seen


BLACK_IMAGE = np.zeros((40, 40, 3), np.uint8)


@pytest.mark.parametrize(
    ("first", "second", "side"),
    [
        ("left_shoulder", "left_elbow", "left"),
        ("right_hip", "right_knee", "right"),
        ("left_hip", "right_hip", "centre"),
        ("nose", "left_eye", "left"),
    ],
)
def test_a_bone_lies_where_its_ends_are_in_the_colour_of_its_side(first, second, side):
    drawn = canvas(np.full((40, 40, 3), 127, np.uint8), *a_bone(first, second))
    np.testing.assert_allclose(color_at(drawn, 20, 20), to_rgb(SIDE_COLORS[side]), atol=0.01)
    np.testing.assert_allclose(color_at(drawn, 20, 20, dy=6), to_rgb(SIDE_RIMS[side]), atol=0.01)
    np.testing.assert_allclose(color_at(drawn, 20, 20, dy=-7), to_rgb(SIDE_RIMS[side]), atol=0.01)
    np.testing.assert_allclose(color_at(drawn, 20, 20, dy=10), 127 / 255, atol=0.01)
    for x, end in ((10, first), (30, second)):
        own_side = keypoint_side(COCO17, COCO17.index(end))
        np.testing.assert_allclose(color_at(drawn, x, 20), to_rgb(SIDE_COLORS[own_side]), atol=0.01)


def test_an_occluded_keypoint_is_hollow():
    drawn = canvas(BLACK_IMAGE, *a_bone("right_hip", "right_knee", visibility=1))
    np.testing.assert_allclose(color_at(drawn, 10, 20), 1.0)
    np.testing.assert_allclose(color_at(drawn, 10, 20, dx=-12), to_rgb(SIDE_COLORS["right"]), atol=0.01)


def test_a_prediction_is_drawn_as_if_all_were_visible():
    keypoints, _ = a_bone("right_hip", "right_knee")
    drawn = canvas(BLACK_IMAGE, keypoints, None)
    for x in (10, 20, 30):
        np.testing.assert_allclose(color_at(drawn, x, 20), to_rgb(SIDE_COLORS["right"]), atol=0.01)


@pytest.mark.parametrize("missing", ["unlabelled", "nan"])
def test_a_missing_keypoint_is_left_out_with_its_bones(missing):
    keypoints, visibility = a_bone("left_hip", "left_knee")
    if missing == "nan":
        keypoints[COCO17.index("left_knee")] = np.nan
    else:
        visibility[COCO17.index("left_knee")] = 0
    drawn = canvas(BLACK_IMAGE, keypoints, visibility)
    np.testing.assert_allclose(color_at(drawn, 10, 20), to_rgb(SIDE_COLORS["left"]), atol=0.01)
    assert not color_at(drawn, 20, 20).any()
    assert not color_at(drawn, 30, 20).any()


def test_a_person_without_keypoints_leaves_the_image_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    drawn = canvas(image, np.full((17, 2), np.nan), np.zeros(17, np.uint8))
    np.testing.assert_array_equal((drawn[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE] * 255).round(), image)


def test_wrong_skeleton_is_named():
    with pytest.raises(ValueError, match=r"mpii16 has 16 keypoints.*\(17, 2\)"):
        draw_person(Figure().add_subplot(), BLACK_IMAGE, np.zeros((17, 2)), np.zeros(17), MPII16)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_mirroring_swaps_the_sides(skeleton):
    swapped = {"left": "right", "right": "left", "centre": "centre"}
    mirrored = skeleton.flip_permutation
    for keypoint in range(skeleton.num_keypoints):
        assert keypoint_side(skeleton, mirrored[keypoint]) == swapped[keypoint_side(skeleton, keypoint)]
    for a, b in skeleton.bones:
        assert bone_side(skeleton, (mirrored[a], mirrored[b])) == swapped[bone_side(skeleton, (a, b))]
