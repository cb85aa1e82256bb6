"""The sampling rules of the official code, their statistics and their independence of everything but the seed."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from hpelib.data.augment import Augmentation, draw, half_bodies, plain
from hpelib.data.people import People
from hpelib.skeletons import COCO17

INPUT_SIZE = (192, 256)


def some_people(count, seed=0):
    random = np.random.default_rng(seed)
    visibility = (random.random((count, 17)) < random.random((count, 1))).astype(np.uint8) * 2
    boxes = np.concatenate((random.uniform(0, 200, (count, 2)), random.uniform(30, 200, (count, 2))), 1)
    return People(
        COCO17,
        image_paths=np.full(count, "image.jpg"),
        image_ids=np.arange(count),
        ids=np.arange(count),
        keypoints=boxes[:, None, :2] + random.random((count, 17, 2)) * boxes[:, None, 2:],
        visibility=visibility,
        boxes=boxes,
    )


def official_half_body(keypoints, visibility, upper_ids, prefer_upper, aspect):
    """`half_body_transform` of HRNet for one person, sizes in px."""
    upper, lower = [], []
    for joint, (point, visible) in enumerate(zip(keypoints, visibility, strict=True)):
        if visible > 0:
            (upper if joint in upper_ids else lower).append(point)
    selected = upper if prefer_upper and len(upper) > 2 else lower if len(lower) > 2 else upper
    if len(selected) < 2:
        return None
    selected = np.array(selected, np.float64)
    width, height = selected.max(0) - selected.min(0)
    if width > aspect * height:
        height = width / aspect
    elif width < aspect * height:
        width = height * aspect
    return selected.mean(0), np.array([width, height]) * 1.5


def test_half_bodies_equal_the_official_code():
    people = some_people(300)
    prefer_upper = np.random.default_rng(1).random(300) < 0.5
    centers, sizes_px = half_bodies(people, INPUT_SIZE, prefer_upper)
    without = 0
    for i in range(300):
        expected = official_half_body(
            people.keypoints[i], people.visibility[i], COCO17.upper_body, prefer_upper[i], 192 / 256
        )
        if expected is None:
            without += 1
            assert np.isnan(sizes_px[i]).all()
        else:
            np.testing.assert_allclose(centers[i], expected[0], rtol=1e-5)
            np.testing.assert_allclose(sizes_px[i], expected[1], rtol=1e-4)
    assert 0 < without < 100


def test_a_half_without_extent_is_not_used():
    people = some_people(1)
    keypoints, visibility = np.full((1, 17, 2), 50, np.float32), np.full((1, 17), 2, np.uint8)
    people = replace(people, keypoints=keypoints, visibility=visibility)
    plan = draw(people, Augmentation(half_body_probability=1), INPUT_SIZE, seed=0, epoch=0)
    np.testing.assert_allclose(plan.centers, people.centers)
    assert np.isfinite(plan.sizes_px).all()


def test_distributions_follow_the_official_rules():
    people = some_people(20000)
    augmentation = Augmentation(scale_factor=0.3, rotation_deg=40, half_body_probability=0)
    plan, whole = draw(people, augmentation, INPUT_SIZE, seed=3, epoch=5), plain(people, INPUT_SIZE)
    scales = plan.sizes_px / whole.sizes_px
    np.testing.assert_allclose(scales[:, 0], scales[:, 1])
    scales = scales[:, 0]
    assert scales.min() == pytest.approx(0.7)
    assert scales.max() == pytest.approx(1.3)
    assert np.mean(scales <= 0.7 + 1e-9) == pytest.approx(0.159, abs=0.01)  # the clipped tail of a normal
    assert scales.mean() == pytest.approx(1, abs=0.01)

    turned = plan.rotations_deg[plan.rotations_deg != 0]
    assert len(turned) / 20000 == pytest.approx(0.6, abs=0.01)
    assert (turned.min(), turned.max()) == (-80, 80)
    assert np.mean(abs(turned) < 40) == pytest.approx(0.683, abs=0.01)
    assert plan.flips.mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_array_equal(plan.centers, whole.centers)
    assert abs(np.corrcoef([scales, plan.rotations_deg, plan.flips]) - np.eye(3)).max() < 0.03


def test_truncated_draws_are_those_of_scipy():
    people = some_people(20000)
    settings = {"scale_factor": 0.5, "rotation_deg": 80, "half_body_probability": 0, "sampling": "truncated"}
    augmentation = Augmentation(**settings, shift_factor=0.16, shift_probability=0.3)
    plan, whole = draw(people, augmentation, INPUT_SIZE, seed=3, epoch=5), plain(people, INPUT_SIZE)
    shifts = (plan.centers - whole.centers) / whole.sizes_px / 0.16
    shifted = (shifts != 0).any(1)
    assert shifted.mean() == pytest.approx(0.3, abs=0.01)
    angles = plan.rotations_deg[plan.rotations_deg != 0] / 80
    for drawn in ((plan.sizes_px / whole.sizes_px)[:, 0] * 2 - 2, angles, *shifts[shifted].T):
        assert kstest(drawn, truncnorm(-1, 1).cdf).pvalue > 0.01
    assert abs(np.corrcoef(shifts[shifted].T)[0, 1]) < 0.03


def test_a_shift_leaves_the_other_draws_as_they_were():
    people = some_people(50)
    still, moved = (draw(people, Augmentation(shift_factor=0.1, shift_probability=p), INPUT_SIZE, 0, 0) for p in (0, 1))
    for name in ("sizes_px", "rotations_deg", "flips"):
        np.testing.assert_array_equal(getattr(still, name), getattr(moved, name))
    assert (still.centers != moved.centers).all()


def test_half_body_needs_more_than_eight_keypoints_and_prefers_the_upper():
    people = some_people(20000)
    plan = draw(people, Augmentation(half_body_probability=0.3), INPUT_SIZE, seed=0, epoch=0)
    halved = (plan.centers != people.centers.astype(np.float64)).any(1)
    eligible = (people.visibility > 0).sum(1) > 8
    assert not halved[~eligible].any()
    assert halved[eligible].mean() == pytest.approx(0.3, abs=0.02)
    upper_centers = half_bodies(people, INPUT_SIZE, np.ones(20000, bool))[0]
    lower_centers = half_bodies(people, INPUT_SIZE, np.zeros(20000, bool))[0]
    choice = halved & (upper_centers != lower_centers).any(1)
    upper = (plan.centers == upper_centers).all(1)
    assert upper[choice].mean() == pytest.approx(0.69, abs=0.03)  # N(0, 1) < 0.5


def test_a_plan_depends_on_seed_and_epoch_alone():
    people = some_people(50)

    def sizes_px(seed, epoch):
        return draw(people, Augmentation(), INPUT_SIZE, seed, epoch).sizes_px

    np.testing.assert_array_equal(sizes_px(1, 2), sizes_px(1, 2))
    assert (sizes_px(1, 2) != sizes_px(1, 3)).any()
    assert (sizes_px(1, 2) != sizes_px(2, 2)).any()


def test_switching_one_augmentation_off_leaves_the_others_as_they_were():
    people = some_people(50)
    full = draw(people, Augmentation(), INPUT_SIZE, 0, 0)
    part = draw(people, Augmentation(half_body_probability=0, flip_probability=0), INPUT_SIZE, 0, 0)
    np.testing.assert_array_equal(full.rotations_deg, part.rotations_deg)
    assert not part.flips.any()


def test_no_strength_is_the_plain_plan():
    people = some_people(50)
    nothing = Augmentation(scale_factor=0, rotation_deg=0, flip_probability=0, half_body_probability=0)
    drawn, expected = draw(people, nothing, INPUT_SIZE, 0, 0), plain(people, INPUT_SIZE)
    for name in ("centers", "sizes_px", "rotations_deg", "flips"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(expected, name))


@pytest.mark.parametrize(
    "bad",
    [
        {"scale_factor": 1.0},
        {"rotation_probability": 1.5},
        {"flip_probability": -1},
        {"shift_probability": 2},
        {"sampling": "uniform"},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_impossible_strengths_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Augmentation(**bad)
