"""How sure a figure is: intervals over persons, paired differences of networks, noise over seeds, and verdicts.

Intervals come from the bootstrap over persons (Efron and Tibshirani 1993, chapters 13 and 16). Whole persons are drawn
again, because the keypoints of one person are often right or wrong together. Such an interval speaks about the sample
of persons only. What a new seed of the training would change is measured apart, as the noise floor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_RUN = "supported", "not supported", "undecided", "not run"
GAIN, LOSS, NONE_SHOWN = "gain", "loss", "none shown"


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """What a network gains over its baseline, in percentage points, and how much of that could be chance."""

    gain: float  # averaged over seeds
    low: float  # of its interval over persons
    high: float
    sd: float  # standard deviation of the gain over seeds, NaN for a single seed
    noise_floor: float  # what a new seed changes anyway: sd of the baseline or of the gain, the larger; NaN likewise


def bootstrap(scores: np.ndarray, level: float = 0.95, draws: int = 1000, seed: int = 0) -> Interval:
    """The mean over labelled keypoints, times 100, with its percentile interval over persons.

    Persons without a labelled keypoint do not count.

    Args:
        scores: (N, K), one row a person; hits (0 or 1) or any other figure, NaN where a keypoint is not labelled.
        level: share of the redrawn means that lie in the interval.

    Raises:
        ValueError: no keypoint is labelled.
    """
    labelled = (~np.isnan(scores)).sum(1)  # (N,)
    values = np.nansum(scores, axis=1)[labelled > 0]
    labelled = labelled[labelled > 0]
    N = len(labelled)
    if N == 0:
        raise ValueError("no labelled keypoint to take a figure of")
    times_drawn = _draw(N, draws, seed)
    resampled = 100 * (times_drawn @ values) / (times_drawn @ labelled)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(100 * float(values.sum() / labelled.sum()), float(low), float(high))


@lru_cache(maxsize=2)  # drawing takes far longer than all else, and most intervals of a page are over the same persons
def _draw(persons: int, draws: int, seed: int) -> np.ndarray:
    """How often each person is drawn in each draw, (draws, persons)."""
    return np.random.default_rng(seed).multinomial(persons, np.full(persons, 1 / persons), size=draws)


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (divisor n - 1) of a figure over seeds; NaN for a single seed."""
    return float(np.asarray(values, np.float64).std(ddof=1)) if len(values) > 1 else np.nan


def seed_difference(
    scores: np.ndarray, baseline: np.ndarray, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Difference:
    """What a network gains over a baseline that was trained from the same seeds and tested on the same persons.

    Scores are averaged over seeds. Then persons are drawn again, the same ones for both networks, so that what is hard
    for both cancels out. The interval does not cover new seeds; the noise floor does.

    Args:
        scores: (seeds, N, K) of the network, 0 to 1, NaN where a keypoint is not labelled.
        baseline: the same of the baseline, NaN at the same places.

    Raises:
        ValueError: the two differ in shape or in what is labelled.
    """
    if scores.shape != baseline.shape or (np.isnan(scores) != np.isnan(baseline)).any():
        raise ValueError(f"not the same persons and labelled keypoints: {scores.shape} and {baseline.shape}")
    interval = bootstrap(scores.mean(axis=0) - baseline.mean(axis=0), level, draws, seed)
    sd, baseline_sd = (
        standard_deviation(100 * np.nanmean(each, axis=(1, 2))) for each in (scores - baseline, baseline)
    )
    return Difference(interval.value, interval.low, interval.high, sd, noise_floor=max(sd, baseline_sd))


def verdict(difference: Difference, claimed: float = np.nan) -> str:
    """Whether the data support a claimed gain.

    - "supported": the whole interval lies above zero, and the gain exceeds the noise floor.
    - "not supported": otherwise, if the interval's upper end plus the noise floor stays below the claimed gain.
    - "undecided": all other cases. So is every difference from a single seed, whose noise is unknown.

    Args:
        claimed: percentage points; NaN where the paper gives no size, which counts as zero.
    """
    if np.isnan(difference.noise_floor):
        return UNDECIDED
    if difference.low > 0 and difference.gain > difference.noise_floor:
        return SUPPORTED
    if difference.high + difference.noise_floor < (0 if np.isnan(claimed) else claimed):
        return NOT_SUPPORTED
    return UNDECIDED


def direction(difference: Difference, main_gain: float) -> str:
    """Whether a difference is a "gain", a "loss", or "none shown".

    It is a gain or a loss if the interval excludes zero, the difference exceeds the noise floor, and the main figure
    of the tables goes the same way.

    Args:
        main_gain: what the network gains in the main figure, such as AP, of which no interval can be taken.
    """
    excludes_zero = difference.low > 0 or difference.high < 0
    if excludes_zero and abs(difference.gain) > difference.noise_floor and difference.gain * main_gain > 0:
        return GAIN if difference.gain > 0 else LOSS
    return NONE_SHOWN
