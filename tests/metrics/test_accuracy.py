import warnings

import numpy as np
import pytest

from hpelib.metrics.accuracy import (
    LEGACY_PCKH_THRESHOLD,
    area_under_curve,
    errors_px,
    hits,
    normalised_errors,
    pck,
    pckh,
    shares_within,
    torso_size,
)

GROUPS = ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Mean"]


@pytest.fixture
def mpii():
    """Forty persons with errors around half a head: pred, gt, visible, head_size."""
    rng = np.random.default_rng(0)
    gt = rng.uniform(0, 300, (40, 16, 2))
    visible = rng.integers(0, 3, (40, 16)).astype(np.uint8)
    gt[visible == 0] = np.nan
    pred = np.nan_to_num(gt, nan=-1) + rng.normal(0, 12, (40, 16, 2))
    return pred, gt, visible, rng.uniform(15, 60, 40)


def official_pckh(pred, gt, visible, head_size, threshold):
    """HRNet's MPIIDataset.evaluate, in plain loops."""
    correct, count = [0] * 16, [0] * 16
    for n in range(len(pred)):
        for k in range(16):
            if visible[n, k]:
                count[k] += 1
                dx, dy = pred[n, k] - gt[n, k]
                correct[k] += (dx**2 + dy**2) ** 0.5 / head_size[n] <= threshold
    rate = [100 * correct[k] / count[k] for k in range(16)]
    scored = [k for k in range(16) if k not in (6, 7)]
    total = sum(count[k] for k in scored)
    return {
        "Head": rate[9],
        "Shoulder": 0.5 * (rate[13] + rate[12]),
        "Elbow": 0.5 * (rate[14] + rate[11]),
        "Wrist": 0.5 * (rate[15] + rate[10]),
        "Hip": 0.5 * (rate[3] + rate[2]),
        "Knee": 0.5 * (rate[4] + rate[1]),
        "Ankle": 0.5 * (rate[5] + rate[0]),
        "Mean": sum(rate[k] * count[k] / total for k in scored),
    }


@pytest.mark.parametrize("threshold", [0.5, 0.1, LEGACY_PCKH_THRESHOLD])
def test_pckh_equals_the_official_evaluation(mpii, threshold):
    figures = pckh(*mpii, threshold=threshold)
    assert list(figures) == GROUPS
    assert figures == pytest.approx(official_pckh(*mpii, threshold))


def test_the_legacy_threshold_is_index_11_of_the_official_grid():
    assert pytest.approx(np.arange(0, 0.5 + 0.01, 0.01)[11]) == LEGACY_PCKH_THRESHOLD


def test_an_error_of_exactly_the_threshold_is_a_hit():
    gt = np.zeros((1, 16, 2))
    pred = gt.copy()
    pred[0, :8, 0] = 5  # half a head
    pred[0, 8:, 0] = np.nextafter(5, 6)
    hit = hits(pred, gt, np.ones((1, 16)), np.array([10.0]), 0.5)
    assert hit[0].tolist() == [1] * 8 + [0] * 8


def test_pelvis_and_thorax_and_neck_as_in_the_official_figures():
    gt = np.zeros((1, 16, 2))
    pred = gt.copy()
    pred[0, [6, 7]] = 100
    assert set(pckh(pred, gt, np.ones((1, 16)), np.array([10.0])).values()) == {100.0}
    pred[0, 8] = 100  # upper neck: in the mean, not in Head
    figures = pckh(pred, gt, np.ones((1, 16)), np.array([10.0]))
    assert figures["Head"] == 100
    assert figures["Mean"] == pytest.approx(100 * 13 / 14)


def test_a_keypoint_that_is_never_labelled_has_no_figure(mpii):
    pred, gt, visible, head_size = mpii
    visible[:, 9] = 0
    gt[:, 9] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = pckh(pred, gt, visible, head_size)
        nothing = pckh(pred, gt, np.zeros_like(visible), head_size)
    assert [name for name, value in figures.items() if np.isnan(value)] == ["Head"]
    assert np.isnan(list(nothing.values())).all()


def test_a_missing_prediction_is_a_miss(mpii):
    pred, gt, visible, head_size = mpii
    pred[:] = np.nan
    assert set(pckh(pred, gt, visible, head_size).values()) == {0.0}


def test_unlabelled_persons_need_no_head(mpii):
    pred, gt, visible, head_size = mpii
    expected = pckh(pred[1:], gt[1:], visible[1:], head_size[1:])
    visible[0], head_size[0] = 0, np.nan
    assert pckh(pred, gt, visible, head_size) == expected


def test_curve_and_area_by_definition(mpii):
    errors = normalised_errors(*mpii)[:, [k for k in range(16) if k not in (6, 7)]]
    curve = shares_within(errors)
    assert curve.shape == (51,)
    for index in (0, 10, 50):
        assert curve[index] == pytest.approx(pckh(*mpii, threshold=index / 100)["Mean"])
    assert area_under_curve(curve) == pytest.approx(sum((curve[:-1] + curve[1:]) / 2) / 50)
    assert area_under_curve(np.full(51, 100.0)) == pytest.approx(100)


def test_pck_of_lsp_by_hand():
    gt = np.zeros((2, 14, 2))
    gt[:, 9] = [0, 100]  # left shoulder
    gt[:, 2] = [75, 0]  # right hip: the torso is 125 px, a hit within 25
    np.testing.assert_allclose(torso_size(gt), 125)
    pred = gt.copy()
    pred[0, 0, 0] += 25  # right ankle, on the threshold
    pred[1, 0, 0] += 26
    pred[0, 13, 1] += 40  # head top
    visible = np.full((2, 14), 2)
    visible[1, 12:] = 0  # neck and head top of the second person
    figures = pck(pred, gt, visible, torso_size(gt))
    assert list(figures) == GROUPS
    assert figures["Ankle"] == 75
    assert figures["Head"] == 50
    assert figures["Hip"] == figures["Wrist"] == 100
    assert figures["Mean"] == pytest.approx(100 * 24 / 26)  # two misses of 26 labelled, not a mean of groups


def test_torso_of_a_person_without_hip_is_missing():
    gt = np.zeros((1, 14, 2))
    gt[0, 2] = np.nan
    assert np.isnan(torso_size(gt)).all()


def test_shapes_are_checked(mpii):
    pred, gt, visible, head_size = mpii
    for wrong in (
        (pred[:3], gt, visible, head_size),
        (pred, gt[..., :1], visible, head_size),
        (pred, gt, visible[:, :14], head_size),
        (pred, gt, visible, head_size[:, None]),
    ):
        with pytest.raises(ValueError, match="expected pred and gt"):
            pckh(*wrong)
    with pytest.raises(ValueError, match="mpii16 has 16 keypoints, got 14"):
        pckh(pred[:, :14], gt[:, :14], visible[:, :14], head_size)


def test_a_truth_that_cannot_be_scored_is_refused(mpii):
    pred, gt, visible, head_size = mpii
    visible[4], gt[4] = 1, 0
    with pytest.raises(ValueError, match=r"persons \[4\]"):
        normalised_errors(pred, gt, visible, np.where(np.arange(40) == 4, 0, head_size))
    gt[4, 3] = np.nan
    with pytest.raises(ValueError, match=r"\[4, 3\]"):
        normalised_errors(pred, gt, visible, head_size)


def test_errors_in_px_are_over_the_labelled_keypoints():
    gt = np.zeros((2, 5, 2))
    pred = gt + np.array([[3, 4]]) * np.arange(10).reshape(2, 5, 1)  # 0, 5, ..., 45 px
    visible = np.full((2, 5), 2)
    assert errors_px(pred, gt, visible) == pytest.approx({"median_px": 22.5, "p90_px": 40.5})
    visible[1] = 0
    gt[1] = np.nan
    assert errors_px(pred, gt, visible) == pytest.approx({"median_px": 10, "p90_px": 18})
