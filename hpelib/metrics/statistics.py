"""How sure a figure is: intervals over pictures, differences of networks over pictures and seeds, and verdicts.

A difference of two networks has two sources of chance: the pictures that it was tested on, and the seeds of the
trainings. People of one picture are right or wrong together, so whole pictures are redrawn (bootstrap: Efron and
Tibshirani 1993, chapters 13 and 16), the same ones for both networks. The variance over seeds comes from trainings that
differ in nothing else. Both add up to a t interval, whose degrees of freedom are Satterthwaite's (1946).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import norm, t

SEEN, OPPOSITE, SMALLER = "seen", "opposite", "smaller than claimed"
NOTHING, NOT_TESTABLE, NOT_RUN = "no difference beyond the detectable", "not testable here", "not run"
VERDICTS = (SEEN, OPPOSITE, SMALLER, NOTHING, NOT_TESTABLE, NOT_RUN)
LEVEL, POWER = 0.95, 0.8
ENOUGH_SEEDS = 5  # with fewer, the variance over seeds is pooled over networks
DRAWS = 1000


@dataclass(frozen=True)
class Interval:
    """A figure with its interval over pictures, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SeedNoise:
    """How much a new seed changes a figure of one training."""

    variance: float  # squared percentage points
    freedom: float  # degrees of freedom of the variance
    source: str  # which trainings it was measured on


@dataclass(frozen=True)
class Difference:
    """What a network gains over another one, in percentage points, and how much of that could be chance."""

    gain: float  # averaged over seeds
    low: float  # of its 95 % interval over pictures and seeds
    high: float
    p: float  # two-sided, of no difference
    error: float  # standard error
    freedom: float  # Satterthwaite's
    picture_sd: float  # what redrawing the pictures changes in the gain, as a standard deviation
    seed_sd: float  # what a new seed changes in the gain of one pair of trainings
    seeds: int
    noise: str  # where `seed_sd` comes from

    @property
    def detectable(self) -> float:
        """The smallest true gain that such a comparison shows four times in five."""
        return self.error * float(t.ppf((1 + LEVEL) / 2, self.freedom) + t.ppf(POWER, self.freedom))

    def p_below(self, claimed: float) -> float:
        """One-sided p of a true gain as large as claimed, against a smaller one; NaN where no gain is claimed."""
        if not claimed > 0:
            return np.nan
        return float(t.cdf((self.gain - claimed) / self.error, self.freedom)) if self.error else float(claimed < 0)


@lru_cache(maxsize=4)  # most figures of a page are over the same pictures
def redraws(pictures: int, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each picture is drawn in each draw, (draws, pictures)."""
    return np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), size=draws)


def redrawn_means(scores: np.ndarray, pictures: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """The mean over labelled keypoints, times 100, of redrawn pictures: (draws, *leading axes of scores).

    Args:
        scores: (..., N, K), hits (0 or 1) or any other figure, NaN where a keypoint is not labelled.
        pictures: (N,) any number for each person's picture.
    """
    _, places = np.unique(pictures, return_inverse=True)
    count = int(places.max(initial=-1)) + 1
    labelled = ~np.isnan(scores)
    sums, counts = (np.moveaxis(each.sum(axis=-1), -1, 0) for each in (np.where(labelled, scores, 0.0), labelled))
    of_pictures = [np.zeros((count, *each.shape[1:])) for each in (sums, counts)]
    for total, each in zip(of_pictures, (sums, counts), strict=True):
        np.add.at(total, places, each)
    times = redraws(count, draws, seed).astype(float)
    total, number = (np.tensordot(times, each, axes=1) for each in of_pictures)
    return 100 * total / np.where(number > 0, number, np.nan)


def bootstrap(
    scores: np.ndarray, pictures: np.ndarray | None = None, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The mean over labelled keypoints, times 100, with its percentile interval over pictures.

    Args:
        scores: (N, K), one row a person; hits (0 or 1) or any other figure, NaN where a keypoint is not labelled.
        pictures: (N,) any number for each person's picture; each person has their own where it is left out.
        level: share of the redrawn means that lie in the interval.

    Raises:
        ValueError: no keypoint is labelled.
    """
    if np.isnan(scores).all():
        raise ValueError("no labelled keypoint to take a figure of")
    pictures = np.arange(len(scores)) if pictures is None else np.asarray(pictures)
    counted = ~np.isnan(scores).all(axis=1)
    redrawn = redrawn_means(scores[counted], pictures[counted], draws, seed)
    low, high = np.nanquantile(redrawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(100 * float(np.nanmean(scores)), float(low), float(high))


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (divisor n - 1) of a figure over seeds; NaN for a single seed."""
    return float(np.asarray(values, np.float64).std(ddof=1)) if len(values) > 1 else np.nan


def pooled_noise(values: Iterable[Sequence[float]], source: str) -> SeedNoise | None:
    """The variance over seeds, pooled over trainings that have two seeds or more; None if no training has.

    Args:
        values: for each network its figure from each seed.
    """
    several = [np.asarray(of_seeds, np.float64) for of_seeds in values if len(of_seeds) > 1]
    freedom = sum(len(of_seeds) - 1 for of_seeds in several)
    squares = sum(((of_seeds - of_seeds.mean()) ** 2).sum() for of_seeds in several)
    return SeedNoise(float(squares / freedom), freedom, source) if freedom else None


def difference(gains: Sequence[float], redrawn: np.ndarray, pictures: int, noise: SeedNoise) -> Difference:
    """The mean gain over seeds with its interval over pictures and seeds.

    With `ENOUGH_SEEDS` seeds the variance over seeds is that of these gains. With fewer it is twice that of one
    training, from `noise`, as the trainings of both sides differ independently.

    Args:
        gains: (S,) percentage points, of each seed.
        redrawn: (B,) the mean gain over these seeds on redrawn pictures.
        pictures: how many there are.
    """
    gain, seeds = float(np.mean(gains)), len(gains)
    own = SeedNoise(float(np.var(gains, ddof=1)) / 2, seeds - 1, "its own seeds") if seeds >= ENOUGH_SEEDS else noise
    of_pictures = float(np.nanvar(redrawn, ddof=1)) * pictures / max(1, pictures - 1)
    of_seeds = 2 * own.variance / seeds
    error = np.sqrt(of_pictures + of_seeds)
    weighed = of_pictures**2 / max(1, pictures - 1) + of_seeds**2 / own.freedom
    freedom = error**4 / weighed if weighed else np.inf
    half = error * float(t.ppf((1 + LEVEL) / 2, freedom))
    p = 2 * float(t.sf(abs(gain) / error, freedom)) if error else float(gain == 0)
    sds = np.sqrt(of_pictures), np.sqrt(2 * own.variance)
    return Difference(
        gain, gain - half, gain + half, p, float(error), float(freedom), *map(float, sds), seeds, own.source
    )


def holm(p: Sequence[float]) -> np.ndarray:
    """p values corrected for how many there are (Holm 1979), in their order; NaN stays and does not count.

    With a threshold of 0.05, at most one family in twenty has a false finding, however the tests depend on each other.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN come last
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return corrected


def verdict(gain: float, p: float, p_below: float) -> str:
    """What a comparison shows of a claimed gain, from p values that are corrected for their number.

    - "seen": a gain beyond chance, however large. "opposite": a loss beyond chance.
    - "smaller than claimed": neither, and a gain as large as claimed would have shown otherwise.
    - "no difference beyond the detectable": all other cases.
    """
    if p < 1 - LEVEL:
        return SEEN if gain > 0 else OPPOSITE
    return SMALLER if p_below < 1 - LEVEL else NOTHING


def needed_error(claimed: float) -> float:
    """The standard error with which a true gain of this size is seen four times in five (normal approximation)."""
    return claimed / float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))


def persons_needed(claimed: float, person_sd: float, seed_sd: float, seeds: int) -> float:
    """How many test persons show a true gain of this size four times in five; infinite where more seeds are needed.

    Args:
        person_sd: of a gain per person: the picture_sd of a `Difference` times the square root of its persons.
        seed_sd: as in a `Difference`.
    """
    left = needed_error(claimed) ** 2 - seed_sd**2 / seeds
    return float(np.ceil(person_sd**2 / left)) if left > 0 else np.inf


def seeds_needed(claimed: float, picture_sd: float, seed_sd: float) -> float:
    """How many seeds show a true gain of this size four times in five; infinite where more persons are needed."""
    left = needed_error(claimed) ** 2 - picture_sd**2
    return float(np.ceil(seed_sd**2 / left)) if left > 0 else np.inf
