import math

import numpy as np
import pytest

from hpelib.metrics.statistics import (
    Difference,
    bootstrap,
    direction,
    seed_difference,
    standard_deviation,
    verdict,
)


def draw_hits(rng, persons, keypoints=4):
    """Hits of persons that differ in difficulty (mean rate 0.6), a third not labelled."""
    rates = rng.beta(3, 2, (persons, 1))
    hits = (rng.uniform(size=(persons, keypoints)) < rates).astype(float)
    hits[rng.uniform(size=hits.shape) < 1 / 3] = np.nan
    return hits


def test_interval_equals_a_plain_loop_over_redrawn_persons():
    hits = draw_hits(np.random.default_rng(0), 50)
    rng = np.random.default_rng(1)
    resampled = [100 * np.nanmean(hits[rng.integers(0, 50, 50)]) for _ in range(4000)]
    interval = bootstrap(hits, draws=4000)
    assert interval.value == pytest.approx(100 * np.nanmean(hits))
    assert interval.low == pytest.approx(np.quantile(resampled, 0.025), abs=0.8)
    assert interval.high == pytest.approx(np.quantile(resampled, 0.975), abs=0.8)


def test_an_interval_that_nobody_asks_more_of_holds_95_percent_of_1000_draws():
    hits = draw_hits(np.random.default_rng(9), 30)
    asked = {"level": 0.95, "draws": 1000, "seed": 0}
    assert bootstrap(hits) == bootstrap(hits, **asked)
    pair = np.stack([hits] * 2), np.stack([hits * 0.5] * 2)
    assert seed_difference(*pair) == seed_difference(*pair, **asked)
    others = [asked | {"level": 0.9}, asked | {"draws": 999}, asked | {"seed": 1}]
    assert bootstrap(hits) not in [bootstrap(hits, **other) for other in others]


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        interval = bootstrap(draw_hits(rng, 80), level=0.9, draws=300)
        covered += interval.low <= 60 <= interval.high
    assert 0.84 < covered / 300 < 0.95  # 0.9 within three standard errors, percentile intervals being a bit short


def test_seed_fixes_the_interval_and_persons_without_labels_have_no_say():
    hits = draw_hits(np.random.default_rng(3), 30)
    unlabelled = np.full((5, 4), np.nan)
    assert bootstrap(hits, seed=7) == bootstrap(np.concatenate([hits, unlabelled]), seed=7)
    assert bootstrap(hits, seed=7) != bootstrap(hits, seed=8)


def test_pairing_sees_a_gain_that_single_intervals_hide():
    rng = np.random.default_rng(4)
    baseline = draw_hits(rng, 200)
    better = baseline.copy()
    better[:20][better[:20] == 0] = 1
    found = seed_difference(better[None], baseline[None])
    assert found.gain == pytest.approx(bootstrap(better).value - bootstrap(baseline).value)
    assert found.low > 0
    assert bootstrap(better).low < bootstrap(baseline).high


def test_a_network_does_not_differ_from_itself():
    hits = draw_hits(np.random.default_rng(5), 20)
    found = seed_difference(np.stack([hits] * 2), np.stack([hits] * 2))
    assert (found.gain, found.low, found.high) == (0, 0, 0)
    assert found.sd == 0


def test_difference_needs_the_same_persons():
    hits = draw_hits(np.random.default_rng(6), 20)
    others = hits.copy()
    others[0, 0] = 1 if np.isnan(hits[0, 0]) else np.nan
    for baseline in (hits[:10], others):
        with pytest.raises(ValueError, match="not the same persons"):
            seed_difference(hits[None], baseline[None])


def test_no_labels_no_interval():
    with pytest.raises(ValueError, match="no labelled keypoint"):
        bootstrap(np.full((3, 2), np.nan))


def test_the_deviation_over_seeds_is_that_of_a_sample():
    assert standard_deviation([88.0, 90.0, 89.0]) == 1
    assert math.isnan(standard_deviation([88.0]))


def make_difference(value, low, high, noise_floor):
    return Difference(value, low, high, sd=0.1, noise_floor=noise_floor)


def test_a_seed_difference_is_as_computed_by_hand():
    scores = np.array([[[1, 1], [1, np.nan]], [[1, 0], [1, np.nan]]], float)  # 2 seeds, 2 persons, 2 keypoints
    baseline = np.array([[[1, 0], [0, np.nan]], [[1, 0], [1, np.nan]]], float)
    found = seed_difference(scores, baseline)
    assert found.gain == pytest.approx(100 * (0 + 0.5 + 0.5) / 3)
    assert found.sd == pytest.approx(100 * math.sqrt(2) / 3)  # the gain is 2/3 and 0
    single = seed_difference(scores[:1], baseline[:1])
    assert math.isnan(single.sd)
    assert math.isnan(single.noise_floor)


@pytest.mark.parametrize(
    ("of_scores", "of_baseline", "gain_sd", "noise_floor"),
    [
        ((0.5, 0.6, 0.7), (0.2, 0.3, 0.4), 0, 10),  # the baseline changes, and the network with it
        ((0.4, 0.6, 0.8), (0.2, 0.2, 0.2), 20, 20),  # the network changes alone
        ((0.7, 0.6, 0.5), (0.2, 0.3, 0.4), 20, 20),  # both do, in opposite directions
        ((0.6, 0.7, 0.8), (0.1, 0.3, 0.5), 10, 20),  # the baseline changes more
    ],
)
def test_the_noise_floor_is_the_larger_deviation_of_baseline_and_gain(of_scores, of_baseline, gain_sd, noise_floor):
    scores, baseline = (np.full((3, 5, 2), np.array(values)[:, None, None]) for values in (of_scores, of_baseline))
    found = seed_difference(scores, baseline)
    assert found.sd == pytest.approx(gain_sd, abs=1e-9)
    assert found.noise_floor == pytest.approx(noise_floor)


def test_a_seed_difference_covers_the_true_gain_as_often_as_it_says():
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(200):
        rates = 0.9 * rng.beta(3, 2, (1, 80, 1))
        scores = rng.uniform(size=(3, 80, 4)) < rates + 0.05
        baseline = rng.uniform(size=(3, 80, 4)) < rates
        interval = seed_difference(scores.astype(float), baseline.astype(float), level=0.9, draws=200)
        covered += interval.low <= 5 <= interval.high
    assert 0.83 < covered / 200 < 0.96  # 0.9 within three standard errors


@pytest.mark.parametrize(
    ("interval", "noise_floor", "claimed", "expected"),
    [
        ((1.0, 0.5, 1.5), 0.4, 2.0, "supported"),  # smaller than claimed, but a gain
        ((0.3, 0.1, 0.5), 0.4, 0.6, "undecided"),  # within the noise
        ((0.3, -0.1, 0.7), 0.1, 0.6, "undecided"),  # the interval holds zero and the claimed gain
        ((0.1, -0.1, 0.3), 0.2, 0.6, "not supported"),  # what is claimed would have been seen
        ((0.1, -0.1, 0.3), 0.31, 0.6, "undecided"),  # ... but not in this noise
        ((0.1, 0.05, 0.15), 0.2, 0.6, "not supported"),
        ((-1.0, -1.5, -0.5), 0.4, 0.3, "not supported"),
        ((-1.0, -1.5, -0.5), 0.4, math.nan, "not supported"),
        ((-1.0, -1.5, -0.5), 0.6, math.nan, "undecided"),
        ((0.1, -0.1, 0.3), 0.2, math.nan, "undecided"),
        ((1.0, 0.5, 1.5), 0.4, math.nan, "supported"),
        ((1.0, 0.2, 1.8), 0.4, math.nan, "supported"),  # the gain exceeds the noise, not all of its interval
        ((5.0, 4.0, 6.0), math.nan, 0.1, "undecided"),  # one seed
        ((0.0, 0.0, 0.0), 0.0, 0.1, "not supported"),  # the same network
    ],
)
def test_verdicts_follow_the_rule(interval, noise_floor, claimed, expected):
    assert verdict(make_difference(*interval, noise_floor), claimed) == expected


@pytest.mark.parametrize(
    ("interval", "noise_floor", "main_gain", "expected"),
    [
        ((1.0, 0.5, 1.5), 0.4, 0.1, "gain"),
        ((-1.0, -1.5, -0.5), 0.4, -0.1, "loss"),
        ((1.0, 0.5, 1.5), 0.4, -0.1, "none shown"),  # the main figure goes the other way
        ((1.0, 0.5, 1.5), 1.0, 0.1, "none shown"),  # within the noise
        ((1.0, -0.1, 2.1), 0.4, 0.1, "none shown"),  # the interval holds zero
        ((-1.0, -2.1, 0.1), 0.4, -0.1, "none shown"),
        ((1.0, 0.5, 1.5), math.nan, 0.1, "none shown"),  # one seed
    ],
)
def test_a_direction_needs_interval_noise_and_main_figure_to_agree(interval, noise_floor, main_gain, expected):
    assert direction(make_difference(*interval, noise_floor), main_gain) == expected
