import math

import numpy as np
import pytest
from scipy import stats

from hpelib.metrics.statistics import (
    NOTHING,
    OPPOSITE,
    SEEN,
    SMALLER,
    bootstrap,
    detectable,
    difference,
    holm,
    how_often,
    persons_needed,
    redrawn_means,
    seeds_needed,
    standard_deviation,
    verdict,
)

ALIKE, UNLIKE, TENFOLD = (
    (0.6, 0.6),
    (4.8, 0.1),
    (4.8, 0.5),
)  # what a new seed changes in each of two networks: standard deviations


def draw_hits(rng, persons, keypoints=4):
    """Hits of persons that differ in difficulty (mean rate 0.6), a third not labelled."""
    rates = rng.beta(3, 2, (persons, 1))
    hits = (rng.uniform(size=(persons, keypoints)) < rates).astype(float)
    hits[rng.uniform(size=hits.shape) < 1 / 3] = np.nan
    return hits


def test_interval_equals_a_plain_loop_over_redrawn_pictures():
    rng = np.random.default_rng(1)
    hits, pictures = draw_hits(np.random.default_rng(0), 50), rng.integers(100, 120, 50)
    of_picture = [np.flatnonzero(pictures == picture) for picture in np.unique(pictures)]
    drawn = [rng.integers(0, len(of_picture), len(of_picture)) for _ in range(4000)]
    resampled = [100 * np.nanmean(hits[np.concatenate([of_picture[i] for i in draw])]) for draw in drawn]
    interval = bootstrap(hits, pictures)
    assert interval.value == pytest.approx(100 * np.nanmean(hits))
    assert interval.low == pytest.approx(np.quantile(resampled, 0.025), abs=0.8)
    assert interval.high == pytest.approx(np.quantile(resampled, 0.975), abs=0.8)


def test_every_person_has_a_picture_of_their_own_unless_it_is_said():
    hits = draw_hits(np.random.default_rng(3), 30)
    assert bootstrap(hits) == bootstrap(hits, np.arange(30))
    doubled = np.concatenate([hits, hits])
    width = [found.high - found.low for found in (bootstrap(doubled, np.tile(np.arange(30), 2)), bootstrap(doubled))]
    assert width[0] > 1.2 * width[1], "copies of a picture are no further evidence"


def test_an_interval_repeats_and_persons_without_labels_have_no_say():
    hits = draw_hits(np.random.default_rng(3), 30)
    unlabelled = np.full((5, 4), np.nan)
    assert bootstrap(hits) == bootstrap(np.concatenate([hits, unlabelled]))


def test_no_labels_no_interval():
    with pytest.raises(ValueError, match="no labelled keypoint"):
        bootstrap(np.full((3, 2), np.nan))


def test_the_deviation_over_seeds_is_that_of_a_sample():
    assert standard_deviation([88.0, 90.0, 89.0]) == 1
    assert math.isnan(standard_deviation([88.0]))


def test_a_difference_is_as_computed_by_hand():
    redrawn = np.array([1.0, 3.0])  # variance 2, of 11 pictures: 2.2
    found = difference([5, 8], [4, 5], redrawn, 11)
    of_seeds = 4.5, 0.5  # variances of each side, with one degree of freedom each
    freedom = sum(of_seeds) ** 2 / (4.5**2 + 0.5**2)
    assert (found.gain, found.seeds, found.freedom) == (2, 2, pytest.approx(freedom))
    assert (found.picture_sd, found.seed_sd) == pytest.approx((math.sqrt(2.2), math.sqrt(5)))
    halves = stats.t.ppf(0.975, 10) * math.sqrt(2.2), stats.t.ppf(0.975, freedom) * math.sqrt(5 / 2)
    assert found.high - 2 == 2 - found.low == pytest.approx(math.hypot(*halves))
    with pytest.raises(ValueError, match="two seeds"):
        difference([5], [4], redrawn, 11)


def test_a_difference_over_seeds_alone_is_welchs_and_over_pictures_alone_a_t_test():
    better, worse = [5.0, 8.0, 6.5], [4.0, 5.0, 4.6]
    none = np.zeros(2)
    assert difference(better, worse, none, 11).p == pytest.approx(
        stats.ttest_ind(better, worse, equal_var=False).pvalue
    )
    gains = np.random.default_rng(0).normal(1, 3, 11)
    redrawn = np.array([-1, 1]) * math.sqrt(gains.var() / 11 / 2)  # the variance of redrawn means
    alone = difference([1 + gains.mean()] * 2, [1.0, 1.0], redrawn, 11)
    assert alone.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue)
    assert alone.p_below(3) == pytest.approx(stats.ttest_1samp(gains, 3, alternative="less").pvalue)
    assert alone.p_below(alone.gain - 1) > 0.5
    assert math.isnan(alone.p_below(math.nan))
    assert difference([1, 1], [1, 1], none, 11).p == 1
    assert difference([2, 2], [1, 1], none, 11).p < 1e-11


def test_holm_equals_the_table_of_its_paper_and_leaves_gaps():
    found = holm([0.01, math.nan, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, np.nan, 0.06, 0.06, 0.02])
    assert holm([]).size == 0


@pytest.mark.parametrize(
    ("gain", "p", "p_below", "expected"),
    [
        (0.2, 0.01, 0.01, SEEN),  # smaller than claimed, but a gain
        (-0.2, 0.01, 0.01, OPPOSITE),
        (0.2, 0.2, 0.01, SMALLER),
        (-0.2, 0.2, 0.01, SMALLER),
        (0.2, 0.2, 0.2, NOTHING),
        (0.2, 0.2, math.nan, NOTHING),
    ],
)
def test_verdicts_follow_the_rule(gain, p, p_below, expected):
    assert verdict(gain, p, p_below) == expected


def test_power_is_that_of_the_known_formula():
    assert persons_needed(0.3, person_sd=0.21 * 1006**0.5, seed_sd=0, seeds=3) == pytest.approx(3870, abs=5)
    assert persons_needed(0.3, 6.7, seed_sd=0.85, seeds=3) == math.inf
    assert seeds_needed(0.3, picture_sd=0.21, seed_sd=0.85) == math.inf
    enough = seeds_needed(2.0, picture_sd=0.21, seed_sd=0.85)
    sizes = [detectable(0.21, 0.85, 2 * (seeds - 1), seeds) for seeds in (enough - 1, enough)]
    assert sizes[1] <= 2.0 < sizes[0]


def test_few_seeds_show_a_detectable_gain_less_often():
    assert how_often([3, 2, 3]) == "three times in five"
    assert how_often([6, 10]) == "four times in five"
    assert how_often([5, 10]) == "four times in five (three in five with 5 seeds or fewer)"


def studies(rng, count, seeds, pictures=150, gain=0.0, per_picture=3, sds=ALIKE):
    """Differences of `count` simulated studies: people of a picture are alike, and a seed moves a network as a whole.

    Scores are in percent: what both networks share cancels out, what one does otherwise on a picture does not.
    """
    found = []
    for _ in range(count):
        better, worse = (sd * rng.normal(size=seeds) for sd in sds)
        of_picture = rng.normal(0, 4, (pictures, 1)) + rng.normal(0, 4, (pictures, per_picture))
        better = gain + better[:, None, None] + of_picture + rng.normal(0, 2, (seeds, pictures, per_picture))
        gains = (better - worse[:, None, None]).reshape(seeds, -1, 1)
        redrawn = redrawn_means(gains.mean(axis=0) / 100, np.repeat(np.arange(pictures), per_picture), draws=200)
        found.append(difference(better.mean(axis=(1, 2)), worse, redrawn, pictures))
    return found


@pytest.mark.parametrize("sds", [ALIKE, UNLIKE, TENFOLD])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_equal_networks_are_rarely_told_apart_and_intervals_hold_what_they_say(seeds, sds):
    """Whether a new seed changes both networks alike or one ten or fifty times as much. Few seeds are more careful."""
    found = studies(np.random.default_rng(seeds), 1000, seeds, sds=sds)
    false = np.mean([verdict(each.gain, each.p, math.nan) == SEEN for each in found])
    assert false <= 0.03 + 2 * math.sqrt(0.025 * 0.975 / 1000)
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    assert 0.93 <= covered <= (0.97 if seeds > 5 else 0.995)
    bounds = [each.p_below(0.5) < 0.05 for each in studies(np.random.default_rng(seeds), 300, seeds, gain=0.5, sds=sds)]
    assert np.mean(bounds) < 0.1, "a gain as large as claimed is rarely called smaller"


def test_power_rises_with_seeds_and_with_persons_to_what_is_promised():
    rng = np.random.default_rng(0)
    gain = 1.2

    def power(seeds, pictures):
        return np.mean([each.gain > 0 and each.p < 0.05 for each in studies(rng, 250, seeds, pictures, gain)])

    assert power(3, 150) + 0.1 < power(10, 150) < power(10, 600) + 0.02
    assert power(2, 150) + 0.1 < power(3, 150)
    promised = detectable(4 * math.sqrt((1 + 1 / 3) / 150), math.hypot(*ALIKE), 2 * (5 - 1), 5)
    assert 0.72 < np.mean([each.p < 0.05 for each in studies(rng, 250, 5, 150, promised)]) < 0.88
    assert detectable(1, 0, 8, 5) == pytest.approx(stats.norm.isf(0.025) + stats.norm.isf(0.2))
    assert detectable(1, 0, 8, 5, tests=10) == pytest.approx(stats.norm.isf(0.0025) + stats.norm.isf(0.2))
