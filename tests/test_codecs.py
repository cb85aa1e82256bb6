"""Codecs against literal ports of the official per-joint algorithms, round trips, and COCO on perfect heatmaps."""

from math import cos, radians, sin
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hpelib.codecs import CODECS, make_codec
from hpelib.data.crops import crop_regions, to_crop, to_image
from hpelib.inference import flip_back

COCO_MINI = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "coco_mini"
SIZES = [((192, 256), (48, 64), 2), ((256, 256), (64, 64), 2), ((64, 64), (16, 16), 2), ((96, 128), (96, 128), 3)]


def random_keypoints(input_size, people=8, keypoints=17, margin=0.2, seed=0):
    """Points in the crop and up to `margin` of its size beyond."""
    random = np.random.default_rng(seed)
    return (random.uniform(-margin, 1 + margin, (people, keypoints, 2)) * input_size).astype(np.float32)


# ports of the official code, one joint at a time


def official_target(joints, visible, image_size, heatmap_size, sigma):
    """`generate_target` of HRNet and SimpleBaseline for one person."""
    target = np.zeros((len(joints), heatmap_size[1], heatmap_size[0]))
    weight = (np.asarray(visible) > 0).astype(float)
    reach = sigma * 3
    for j, joint in enumerate(joints):
        mu_x = int(joint[0] / (image_size[0] / heatmap_size[0]) + 0.5)
        mu_y = int(joint[1] / (image_size[1] / heatmap_size[1]) + 0.5)
        ul = [int(mu_x - reach), int(mu_y - reach)]
        br = [int(mu_x + reach + 1), int(mu_y + reach + 1)]
        if ul[0] >= heatmap_size[0] or ul[1] >= heatmap_size[1] or br[0] < 0 or br[1] < 0:
            weight[j] = 0
            continue
        x = np.arange(0, 2 * reach + 1)
        g = np.exp(-((x - reach) ** 2 + (x[:, None] - reach) ** 2) / (2 * sigma**2))
        g_x = max(0, -ul[0]), min(br[0], heatmap_size[0]) - ul[0]
        g_y = max(0, -ul[1]), min(br[1], heatmap_size[1]) - ul[1]
        img_x = max(0, ul[0]), min(br[0], heatmap_size[0])
        img_y = max(0, ul[1]), min(br[1], heatmap_size[1])
        if weight[j] > 0.5:
            target[j][img_y[0] : img_y[1], img_x[0] : img_x[1]] = g[g_y[0] : g_y[1], g_x[0] : g_x[1]]
    return target, weight


def official_udp_target(joints, visible, image_size, heatmap_size, sigma):
    """`generate_target` of UDP-Pose for one person: `official_target` with other strides and an unrounded centre."""
    target = np.zeros((len(joints), heatmap_size[1], heatmap_size[0]))
    weight = (np.asarray(visible) > 0).astype(float)
    reach = sigma * 3
    stride = (np.array(image_size) - 1.0) / (np.array(heatmap_size) - 1.0)
    for j, joint in enumerate(joints):
        mu_ac = joint / stride
        mu = [int(mu_ac[0] + 0.5), int(mu_ac[1] + 0.5)]
        ul, br = [int(m - reach) for m in mu], [int(m + reach + 1) for m in mu]
        if ul[0] >= heatmap_size[0] or ul[1] >= heatmap_size[1] or br[0] < 0 or br[1] < 0:
            weight[j] = 0
            continue
        x = np.arange(0, 2 * reach + 1)
        x0, y0 = reach + mu_ac - mu
        g = np.exp(-((x - x0) ** 2 + (x[:, None] - y0) ** 2) / (2 * sigma**2))
        g_x, g_y = ((max(0, -u), min(b, side) - u) for u, b, side in zip(ul, br, heatmap_size, strict=True))
        img_x, img_y = ((max(0, u), min(b, side)) for u, b, side in zip(ul, br, heatmap_size, strict=True))
        if weight[j] > 0.5:
            target[j][img_y[0] : img_y[1], img_x[0] : img_x[1]] = g[g_y[0] : g_y[1], g_x[0] : g_x[1]]
    return target, weight


def unbiased_target(joints, visible, heatmap_size, sigma):
    """DARK's target for one person; joints in heatmap px."""
    target = np.zeros((len(joints), heatmap_size[1], heatmap_size[0]))
    x, y = np.arange(heatmap_size[0]), np.arange(heatmap_size[1])[:, None]
    for j, (mu_x, mu_y) in enumerate(joints):
        reach = 3 * sigma
        outside = mu_x - reach >= heatmap_size[0] or mu_y - reach >= heatmap_size[1] or min(mu_x, mu_y) + reach + 1 < 0
        if visible[j] and not outside:
            target[j] = np.exp(-((x - mu_x) ** 2 + (y - mu_y) ** 2) / (2 * sigma**2))
    return target


def official_peak(heatmap):
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    return np.array([x, y], float) if heatmap.max() > 0 else np.zeros(2)


def official_quarter(heatmap):
    """`get_max_preds` and the post-processing of HRNet's `get_final_preds` for one map."""
    height, width = heatmap.shape
    coord = official_peak(heatmap)
    px, py = int(np.floor(coord[0] + 0.5)), int(np.floor(coord[1] + 0.5))
    if 1 < px < width - 1 and 1 < py < height - 1:
        diff = [heatmap[py][px + 1] - heatmap[py][px - 1], heatmap[py + 1][px] - heatmap[py - 1][px]]
        coord += np.sign(diff) * 0.25
    return coord


def official_taylor(heatmap, kernel):
    """DARK's `gaussian_blur`, log and `taylor` for one map."""
    height, width = heatmap.shape
    coord, border = official_peak(heatmap), (kernel - 1) // 2
    padded = np.zeros((height + 2 * border, width + 2 * border))
    padded[border:-border, border:-border] = heatmap
    hm = cv2.GaussianBlur(padded, (kernel, kernel), 0)[border:-border, border:-border]
    hm = np.log(np.maximum(hm * heatmap.max() / hm.max(), 1e-10))
    px, py = int(coord[0]), int(coord[1])
    if 1 < px < width - 2 and 1 < py < height - 2:
        dx = 0.5 * (hm[py][px + 1] - hm[py][px - 1])
        dy = 0.5 * (hm[py + 1][px] - hm[py - 1][px])
        dxx = 0.25 * (hm[py][px + 2] - 2 * hm[py][px] + hm[py][px - 2])
        dxy = 0.25 * (hm[py + 1][px + 1] - hm[py - 1][px + 1] - hm[py + 1][px - 1] + hm[py - 1][px - 1])
        dyy = 0.25 * (hm[py + 2][px] - 2 * hm[py][px] + hm[py - 2][px])
        if dxx * dyy - dxy**2 != 0:
            coord -= np.linalg.inv([[dxx, dxy], [dxy, dyy]]) @ [dx, dy]
    return coord


def official_affine(center, size_px, rotation_deg, output_size):
    """`get_affine_transform`: three points in the image and in the crop."""

    def third_point(a, b):
        return b + np.array([-(a - b)[1], (a - b)[0]], np.float32)

    angle = np.pi * rotation_deg / 180
    up = size_px[0] * -0.5
    src_dir = np.array([-up * np.sin(angle), up * np.cos(angle)])
    src, dst = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    src[0], src[1] = center, center + src_dir
    dst[0] = output_size[0] * 0.5, output_size[1] * 0.5
    dst[1] = dst[0] + [0, output_size[0] * -0.5]
    src[2], dst[2] = third_point(src[0], src[1]), third_point(dst[0], dst[1])
    return cv2.getAffineTransform(src, dst)


def official_udp_warp(center, size_px, rotation_deg, output_size):
    """`get_warp_matrix` of UDP-Pose, called with twice the centre and the output size - 1."""
    theta = radians(rotation_deg)
    scale_x, scale_y = (output_size[0] - 1) / size_px[0], (output_size[1] - 1) / size_px[1]
    x, y = center[0] * 2, center[1] * 2
    return np.array(
        [
            [
                cos(theta) * scale_x,
                -sin(theta) * scale_x,
                scale_x * (-0.5 * x * cos(theta) + 0.5 * y * sin(theta) + 0.5 * size_px[0]),
            ],
            [
                sin(theta) * scale_y,
                cos(theta) * scale_y,
                scale_y * (-0.5 * x * sin(theta) - 0.5 * y * cos(theta) + 0.5 * size_px[1]),
            ],
        ]
    )


@pytest.mark.parametrize(("name", "official"), [("msra", official_target), ("udp", official_udp_target)])
@pytest.mark.parametrize(("input_size", "heatmap_size", "sigma"), SIZES)
def test_targets_equal_the_official_code(name, official, input_size, heatmap_size, sigma):
    keypoints = random_keypoints(input_size, margin=0.6)
    visible = np.random.default_rng(1).integers(0, 3, keypoints.shape[:2])
    heatmaps, weights = make_codec(name, input_size, heatmap_size, sigma).encode(keypoints, visible)
    for person in range(len(keypoints)):
        target, weight = official(keypoints[person], visible[person], input_size, heatmap_size, sigma)
        np.testing.assert_allclose(heatmaps[person], target, atol=1e-5)
        np.testing.assert_array_equal(weights[person], weight)
    assert 0 < weights.mean() < 1


@pytest.mark.parametrize(("input_size", "heatmap_size", "sigma"), SIZES)
def test_dark_targets_equal_the_formula(input_size, heatmap_size, sigma):
    keypoints = random_keypoints(input_size, margin=0.6)
    visible = np.random.default_rng(1).integers(0, 2, keypoints.shape[:2])
    heatmaps, weights = make_codec("dark", input_size, heatmap_size, sigma).encode(keypoints, visible)
    joints = keypoints * np.array(heatmap_size) / np.array(input_size)
    for person in range(len(keypoints)):
        target = unbiased_target(joints[person], visible[person], heatmap_size, sigma)
        np.testing.assert_allclose(heatmaps[person], target, atol=1e-5)
    assert 0 < weights.mean() < visible.mean()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(("input_size", "heatmap_size", "sigma"), SIZES)
def test_decoding_equals_the_official_code(name, input_size, heatmap_size, sigma):
    codec = make_codec(name, input_size, heatmap_size, sigma)
    heatmaps, _ = make_codec("dark", input_size, heatmap_size, sigma).encode(
        random_keypoints(input_size, margin=0.05), np.ones((8, 17))
    )
    heatmaps += 0.02 * torch.rand(heatmaps.shape, generator=torch.Generator().manual_seed(0)) - 0.01
    heatmaps[0, 0], heatmaps[0, 2] = 0, heatmaps[0, 2] - 2  # nothing found
    heatmaps[1] -= 0.35  # smoothed, the peaks' neighbours fall to the floor of the logarithm
    keypoints, scores = codec.decode(heatmaps)
    unit = int(name == "udp")
    scale = (np.array(input_size) - unit) / (np.array(heatmap_size) - unit)
    for n, k in np.ndindex(8, 17):
        heatmap = heatmaps[n, k].numpy().astype(np.float64)
        if heatmap.max() <= 0:
            expected = np.zeros(2)
        elif name == "msra":
            expected = official_quarter(heatmap)
        else:
            expected = official_taylor(heatmap, {2: 11, 3: 17}[sigma])
        np.testing.assert_allclose(keypoints[n, k], expected * scale, atol=1e-4)
    np.testing.assert_array_equal(scores, heatmaps.amax((-2, -1)))


@pytest.mark.parametrize("rotation_deg", [0, 30, -75, 180])
def test_crop_matrices_equal_the_official_code(rotation_deg):
    random = np.random.default_rng(0)
    centers = random.uniform(50, 400, (6, 2))
    sizes_px = random.uniform(40, 300, (6, 1)) * (0.75, 1)
    matrices = make_codec("msra", (192, 256), (48, 64)).crop_matrix(centers, sizes_px, np.full(6, rotation_deg))
    udp_matrices = make_codec("udp", (192, 256), (48, 64)).crop_matrix(centers, sizes_px, rotation_deg)
    assert matrices.shape == (6, 2, 3)
    assert matrices.dtype == np.float64
    for i in range(6):
        np.testing.assert_allclose(
            matrices[i], official_affine(centers[i], sizes_px[i], rotation_deg, (192, 256)), rtol=1e-4, atol=1e-4
        )
        np.testing.assert_allclose(
            udp_matrices[i], official_udp_warp(centers[i], sizes_px[i], -rotation_deg, (192, 256)), atol=1e-9
        )


def test_crop_matrix_broadcasts_one_region_over_many():
    codec = make_codec("dark", (64, 64), (16, 16))
    one = codec.crop_matrix((40, 50), (30, 30), 20)
    assert one.shape == (2, 3)
    np.testing.assert_allclose(one @ [40, 50, 1], [32, 32])
    many = codec.crop_matrix([(40, 50), (60, 70)], (30, 30), 20)
    np.testing.assert_allclose(many[0], one)
    np.testing.assert_allclose(codec.crop_matrix((40, 50), (30, 30), [0, 20])[1], one)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("msra", 1.3, 1.7), ("dark", 0, 0.01), ("udp", 0, 0.01)], ids=CODECS
)
def test_localisation_floor_of_perfect_heatmaps(name, least, most):
    codec = make_codec(name, (256, 256), (64, 64))
    keypoints = torch.from_numpy(random_keypoints((256, 256), people=60, margin=-0.15))
    decoded, scores = codec.decode(codec.encode(keypoints, np.ones((60, 17)))[0])
    assert least <= (decoded - keypoints).norm(dim=-1).mean() <= most
    assert scores.min() > 0.8


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(("input_size", "heatmap_size", "sigma"), SIZES)
def test_flip_shift_is_the_better_one_on_perfect_heatmaps(name, input_size, heatmap_size, sigma):
    """Recorded: one px for msra and dark at stride 4, none at stride 1, none for udp."""
    codec = make_codec(name, input_size, heatmap_size, sigma)
    keypoints = torch.from_numpy(random_keypoints(input_size, margin=-0.2))
    mirrored = keypoints.clone()
    mirrored[..., 0] = input_size[0] - 1 - keypoints[..., 0]
    visible = torch.ones(keypoints.shape[:2])
    heatmaps = codec.encode(mirrored, visible)[0]
    errors = [
        (codec.decode(flip_back(heatmaps, (), shift))[0] - keypoints)[..., 0].mean().abs() for shift in (False, True)
    ]
    assert codec.flip_shift == (errors[1] < errors[0])
    assert codec.flip_shift == (name != "udp" and heatmap_size != input_size)


@pytest.mark.parametrize(("side", "shift"), [(31, True), (32, True), (33, False)])
def test_the_flip_shift_is_the_nearest_whole_px_and_half_a_px_rounds_up(side, shift):
    assert make_codec("msra", (64, 64), (side, 64)).flip_shift is shift


@pytest.mark.parametrize("name", CODECS)
def test_what_is_not_labelled_leaves_no_trace(name):
    codec = make_codec(name, (64, 64), (16, 16))
    keypoints = np.array([[[np.nan, np.nan], [20, 20], [np.nan, 5], [1e6, 20], [20, 20]]])
    heatmaps, weights = codec.encode(keypoints, np.array([[0, 0, 2, 2, 1]], np.uint8))
    assert weights.tolist() == [[0, 0, 0, 0, 1]]
    assert heatmaps.dtype == weights.dtype == torch.float32
    np.testing.assert_array_equal(heatmaps.amax((-2, -1)) > 0, weights > 0)
    assert heatmaps.isfinite().all()


@pytest.mark.parametrize("name", CODECS)
def test_half_precision_maps_are_decoded_in_float32(name):
    codec = make_codec(name, (64, 64), (16, 16))
    heatmaps = codec.encode(random_keypoints((64, 64), margin=-0.2), np.ones((8, 17)))[0].bfloat16()
    expected, scores = codec.decode(heatmaps.float())
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            keypoints, half_scores = codec.decode(heatmaps)
        assert keypoints.dtype == half_scores.dtype == torch.float32
        torch.testing.assert_close(keypoints, expected, rtol=0, atol=0)
        torch.testing.assert_close(half_scores, scores, rtol=0, atol=0)


def test_stride_maps_heatmap_to_crop():
    assert make_codec("dark", (192, 256), (48, 64)).stride == (4, 4)
    assert make_codec("udp", (192, 256), (48, 64)).stride == (191 / 47, 255 / 63)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simcc", (64, 64), (16, 16)), "'msra', 'dark', 'udp'"),
        (("msra", (64, 64), (128, 16)), "at most the input side"),
        (("udp", (64, 64), (16, 1)), "at least 2"),
        (("dark", (64, 64), (16, 16), 0), "sigma"),
    ],
)
def test_impossible_codecs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_codec(*arguments)


def test_wrong_shapes_are_refused():
    codec = make_codec("msra", (64, 96), (16, 24))
    with pytest.raises(ValueError, match=r"\(2, 17, 2\) and \(2, 16\)"):
        codec.encode(np.zeros((2, 17, 2)), np.ones((2, 16)))
    with pytest.raises(ValueError, match=r"\(N, K, 24, 16\), got \(2, 17, 16, 24\)"):
        codec.decode(torch.zeros(2, 17, 16, 24))
    with pytest.raises(ValueError, match="positive sizes"):
        codec.crop_matrix((10, 10), (0, 10), 0)


# COCO on perfect heatmaps


@pytest.fixture(scope="module")
def coco():
    if not COCO_MINI.is_dir():
        pytest.skip("no COCO mini set beside the repository")
    from pycocotools.coco import COCO

    from hpelib.data.coco import read_coco

    annotations = COCO_MINI / "annotations" / "person_keypoints_train2017.json"
    return COCO(annotations), read_coco(annotations, COCO_MINI / "train2017")


def average_precision(coco, keypoints):
    from pycocotools.cocoeval import COCOeval

    truth, people = coco
    triples = np.concatenate((keypoints, np.ones((*keypoints.shape[:2], 1))), -1).reshape(len(keypoints), -1)
    results = [
        {"image_id": int(image_id), "category_id": 1, "keypoints": person.tolist(), "score": 1.0}
        for image_id, person in zip(people.image_ids, triples, strict=True)
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
    evaluation.params.imgIds = sorted(set(people.image_ids.tolist()))
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def through_the_crop(people, codec, back=None, with_heatmaps=True):
    """Ground truth to the crop, perhaps to heatmaps, and back to the image, the way back by codec `back` if given."""
    back = back or codec
    sizes_px = crop_regions(people.centers, people.sizes_px, codec.input_size)
    keypoints = to_crop(np.nan_to_num(people.keypoints), codec.crop_matrix(people.centers, sizes_px))
    if with_heatmaps:
        keypoints = back.decode(codec.encode(keypoints, people.visibility)[0])[0].numpy()
    return to_image(keypoints, back.crop_matrix(people.centers, sizes_px))


@pytest.mark.parametrize("name", CODECS)
def test_the_affine_map_there_and_back_loses_nothing(coco, name):
    codec = make_codec(name, (192, 256), (48, 64))
    assert average_precision(coco, through_the_crop(coco[1], codec, with_heatmaps=False)) == 1.0


@pytest.mark.parametrize("name", CODECS)
def test_perfect_heatmaps_score_nearly_one(coco, name):
    assert average_precision(coco, through_the_crop(coco[1], make_codec(name, (192, 256), (48, 64)))) >= 0.95


def test_wrong_paths_score_lower(coco):
    dark, udp = (make_codec(name, (192, 256), (48, 64)) for name in ("dark", "udp"))
    right, mixed = (average_precision(coco, through_the_crop(coco[1], dark, back)) for back in (dark, udp))
    assert mixed < right - 0.02
    swapped = coco[1].keypoints[:, list(coco[1].skeleton.flip_permutation)]
    assert average_precision(coco, np.nan_to_num(swapped)) < 0.02
