"""How sure a figure is: bootstrap intervals over persons, paired differences of networks, spread over seeds.

The person is what is drawn again, as the keypoints of one person succeed and fail together (Efron and Tibshirani
1993, chapters 13 and 16). Intervals of one run speak of the sample of persons only; what a new seed changes is in
`spread`.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A gain over a baseline in percentage points, with two measures of what it could be by chance."""

    interval: Interval  # over persons, of the gain averaged over seeds
    sd: float  # of the gain over seeds, NaN for a single one
    noise_floor: float  # what a new seed changes anyway: sd of the baseline or of the gain, the larger; NaN likewise


@dataclass(frozen=True)
class Spread:
    """One figure over several seeds. `sd` is the sample standard deviation, NaN for a single seed."""

    mean: float
    sd: float
    low: float
    high: float
    count: int


def bootstrap(hits: np.ndarray, level: float = 0.95, draws: int = 1000, seed: int = 0) -> Interval:
    """Percentile interval of 100 x sum(hits) / number of labelled keypoints when persons are drawn again.

    Persons without a labelled keypoint have no say.

    Shapes: hits (N, K) as from `pck.hits`: 1, 0, or NaN where not labelled (or any other figure per keypoint).
    Raises ValueError if nothing is labelled.
    """
    labelled = (~np.isnan(hits)).sum(1)  # (N,)
    values = np.nansum(hits, axis=1)[labelled > 0]
    labelled = labelled[labelled > 0]
    N = len(labelled)
    if N == 0:
        raise ValueError("no labelled keypoint to take a figure of")
    times_drawn = np.random.default_rng(seed).multinomial(N, np.full(N, 1 / N), size=draws)  # (draws, N)
    resampled = 100 * (times_drawn @ values) / (times_drawn @ labelled)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(100 * float(values.sum() / labelled.sum()), float(low), float(high))


def bootstrap_difference(
    hits: np.ndarray, baseline: np.ndarray, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Interval:
    """Percentile interval of the gain over a baseline on the same persons, in percentage points.

    Both networks are judged on the same drawn persons, which takes out what is hard for both.

    Shapes: hits and baseline (N, K), NaN at the same places. Raises ValueError if they are not.
    """
    if hits.shape != baseline.shape or (np.isnan(hits) != np.isnan(baseline)).any():
        raise ValueError(f"not the same persons and labelled keypoints: {hits.shape} and {baseline.shape}")
    return bootstrap(hits - baseline, level, draws, seed)


def spread(values: list[float]) -> Spread:
    """Mean, standard deviation and range of a figure over seeds. Raises ValueError if there is none."""
    values = np.asarray(values, np.float64)
    if values.size == 0:
        raise ValueError("no values to take the spread of")
    sd = float(values.std(ddof=1)) if values.size > 1 else np.nan
    return Spread(float(values.mean()), sd, float(values.min()), float(values.max()), values.size)


def seed_difference(
    scores: np.ndarray, baseline: np.ndarray, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Difference:
    """The gain over a baseline whose trainings had the same seeds, on the same persons.

    Persons are drawn again for the interval, seeds are not: scores are averaged over them first. What the interval
    leaves out is in the noise floor, for which a restless network counts as much as a restless baseline.

    Shapes: scores and baseline (seeds, N, K), 0 to 1, NaN where not labelled. Raises ValueError if they do not match.
    """
    interval = bootstrap_difference(scores.mean(axis=0), baseline.mean(axis=0), level, draws, seed)
    of_seeds, of_baseline = (100 * np.nanmean(values, axis=(1, 2)) for values in (scores - baseline, baseline))
    sd = spread(of_seeds).sd
    return Difference(interval, sd, noise_floor=max(sd, spread(of_baseline).sd))


SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_RUN = "supported", "not supported", "undecided", "not run"


def verdict(difference: Difference | None, claimed: float = np.nan) -> str:
    """Whether a gain that somebody claims, in percentage points, is there.

    - "supported": the whole interval lies above zero, and the gain exceeds the noise floor;
    - "not supported": otherwise, if even the interval's upper end plus the noise floor stays below the claimed gain,
      or below zero where no size is claimed (NaN);
    - "undecided": anything else, so also every difference within the noise and every one from a single seed;
    - "not run": there is no difference, or it is NaN.
    """
    if difference is None or np.isnan(difference.interval.value):
        return NOT_RUN
    interval, floor = difference.interval, difference.noise_floor
    if np.isnan(floor):
        return UNDECIDED
    if interval.low > 0 and interval.value > floor:
        return SUPPORTED
    if interval.high + floor < (0 if np.isnan(claimed) else claimed):
        return NOT_SUPPORTED
    return UNDECIDED
