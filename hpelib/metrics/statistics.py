"""How sure a figure is: intervals over pictures, differences of networks over pictures and seeds, and verdicts.

A difference of two networks has two sources of chance: the pictures that it was tested on, and the seeds of the
trainings. People of one picture are right or wrong together, so whole pictures are redrawn (bootstrap: Efron and
Tibshirani 1993, chapters 13 and 16), the same ones for both networks. Seeds change some networks fifty times as much
as others, so each network is judged by the seeds of its own, as in Welch's test (1947), and no variance is pooled. Each
source alone gives a t interval. The half width of the interval over both is the root of the sum of the squares of these
two half widths (Howe 1974, JASA 69). With few seeds it covers 94 to 99 % in simulations: least
where the seeds of one network differ ten times as much as those of the other.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit
from scipy.stats import t

SEEN, OPPOSITE, SMALLER = "seen", "opposite", "smaller than claimed"
NOTHING, NOT_TESTABLE, NOT_RUN = "not told from chance", "not testable here", "not run"
VERDICTS = (SEEN, OPPOSITE, SMALLER, NOTHING, NOT_TESTABLE, NOT_RUN)
LEVEL, POWER = 0.95, 0.8
FEW_SEEDS = 5  # up to here variances are so rough that the power is nearer to three in five (simulated: 0.5 to 0.8)
FEWER_TIMES = f" (three in five with {FEW_SEEDS} seeds or fewer)"
P_RANGE = 1e-12, 1 - 1e-12
DRAWS = 1000


@dataclass(frozen=True)
class Interval:
    """A figure with its interval over pictures, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """What a network gains over another one, in percentage points, and how much of that could be chance."""

    gain: float  # averaged over seeds
    picture_sd: float  # what redrawing the pictures changes in the gain, as a standard deviation
    seed_sd: float  # what a new seed changes in the gain of one pair of trainings
    freedom: float  # degrees of freedom of `seed_sd`: Welch's
    seeds: int
    pictures: int

    def half_width(self, p: float = 1 - LEVEL) -> float:
        """Half the width of the interval over pictures and seeds that misses the true gain in a share p of studies."""
        of_pictures = stdtrit(max(1, self.pictures - 1), p / 2) * self.picture_sd
        return math.hypot(of_pictures, stdtrit(self.freedom, p / 2) * self.seed_sd / math.sqrt(self.seeds))

    @property
    def low(self) -> float:
        return self.gain - self.half_width()

    @property
    def high(self) -> float:
        return self.gain + self.half_width()

    @property
    def p(self) -> float:
        """Two-sided p of no difference."""
        return self._p_of(0)

    @property
    def detectable(self) -> float:
        """The smallest true gain that such a comparison shows four times in five, if it is the only one."""
        return detectable(self.picture_sd, self.seed_sd, self.freedom, self.seeds)

    def p_below(self, claimed: float) -> float:
        """One-sided p of a true gain as large as claimed, against a smaller one; NaN where no gain is claimed."""
        if not claimed > 0:
            return np.nan
        p = self._p_of(claimed) / 2
        return p if self.gain < claimed else 1 - p

    def _p_of(self, true: float) -> float:
        """Two-sided p of this true gain, at least 1e-12: the interval that misses in a share p of studies ends here."""
        distance = abs(self.gain - true)
        if not distance:
            return 1.0
        beyond = [self.half_width(p) - distance for p in P_RANGE]
        if beyond[0] <= 0:
            return P_RANGE[0]
        return 1.0 if beyond[1] >= 0 else float(brentq(lambda p: self.half_width(p) - distance, *P_RANGE))


@lru_cache(maxsize=4)  # most figures of a page are over the same pictures
def redraws(pictures: int, draws: int = DRAWS) -> np.ndarray:
    """How often each picture is drawn in each draw, (draws, pictures)."""
    return np.random.default_rng(0).multinomial(pictures, np.full(pictures, 1 / pictures), size=draws)


def redrawn_means(scores: np.ndarray, pictures: np.ndarray, draws: int = DRAWS) -> np.ndarray:
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
    times = redraws(count, draws).astype(float)
    total, number = (np.tensordot(times, each, axes=1) for each in of_pictures)
    return 100 * total / np.where(number > 0, number, np.nan)


def bootstrap(scores: np.ndarray, pictures: np.ndarray | None = None) -> Interval:
    """The mean over labelled keypoints, times 100, with its 95 % percentile interval over pictures.

    Args:
        scores: (N, K), one row a person; hits (0 or 1) or any other figure, NaN where a keypoint is not labelled.
        pictures: (N,) any number for each person's picture; each person has their own where it is left out.

    Raises:
        ValueError: no keypoint is labelled.
    """
    if np.isnan(scores).all():
        raise ValueError("no labelled keypoint to take a figure of")
    pictures = np.arange(len(scores)) if pictures is None else np.asarray(pictures)
    counted = ~np.isnan(scores).all(axis=1)
    redrawn = redrawn_means(scores[counted], pictures[counted])
    low, high = np.nanquantile(redrawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(100 * float(np.nanmean(scores)), float(low), float(high))


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (divisor n - 1) of a figure over seeds; NaN for a single seed."""
    return float(np.asarray(values, np.float64).std(ddof=1)) if len(values) > 1 else np.nan


def picture_sd(redrawn: np.ndarray, pictures: int) -> float:
    """What redrawing `pictures` changes in a figure, as a standard deviation; `redrawn` (B,) is the redrawn figure."""
    return float(np.sqrt(np.nanvar(redrawn, ddof=1) * pictures / max(1, pictures - 1)))


def difference(better: Sequence[float], worse: Sequence[float], redrawn: np.ndarray, pictures: int) -> Difference:
    """The mean gain over seeds, with what pictures and seeds change in it.

    Args:
        better: (S,) a figure in percent, of each seed. worse: (S,) the same of the other network.
        redrawn: (B,) the mean gain over these seeds on redrawn pictures.
        pictures: how many there are.

    Raises:
        ValueError: fewer than two seeds, which say nothing of what another seed would change.
    """
    seeds = len(better)
    if seeds < 2:
        raise ValueError("a difference needs two seeds or more")
    variances = np.var([better, worse], axis=1, ddof=1)
    squares = (variances**2).sum()
    freedom = (seeds - 1) * (variances.sum() ** 2 / squares if squares else 2.0)
    gain = float(np.mean(better) - np.mean(worse))
    sds = picture_sd(redrawn, pictures), float(np.sqrt(variances.sum()))
    return Difference(gain, *sds, float(freedom), seeds, pictures)


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
    - "smaller than claimed": neither, and a gain as large as claimed would have shown otherwise. It may be a loss.
    - "not told from chance": all other cases. This does not say that there is no difference.
    """
    if p < 1 - LEVEL:
        return SEEN if gain > 0 else OPPOSITE
    return SMALLER if p_below < 1 - LEVEL else NOTHING


def detectable(picture_sd: float, seed_sd: float, freedom: float, seeds: int, tests: int = 1) -> float:
    """The smallest true gain that is shown four times in five, two-sided at 5 % among so many tests (Bonferroni).

    With five seeds or fewer the variances are known so roughly that it is shown three times in five (simulated).

    Args: as in a `Difference`.
    """
    return math.hypot(_units(np.inf, tests) * picture_sd, _units(freedom, tests) * seed_sd / math.sqrt(seeds))


def how_often(seeds: Iterable[float]) -> str:
    """How often true gains as large as `detectable` says are shown by comparisons of so many seeds each, in words."""
    few = {number <= FEW_SEEDS for number in seeds}
    return "three times in five" if few == {True} else "four times in five" + FEWER_TIMES * (True in few)


def persons_needed(claimed: float, person_sd: float, seed_sd: float, seeds: int) -> float:
    """How many test persons make this gain `detectable` with so many seeds; infinite where more seeds are needed.

    Args:
        person_sd: of a gain per person: the picture_sd of a `Difference` times the square root of its persons.
        seed_sd: as in a `Difference`.
    """
    left = claimed**2 - detectable(0, seed_sd, 2 * (seeds - 1), seeds) ** 2
    return float(np.ceil((_units(np.inf) * person_sd) ** 2 / left)) if left > 0 else np.inf


def seeds_needed(claimed: float, picture_sd: float, seed_sd: float, tests: int = 1) -> float:
    """How many seeds, two or more, make this gain `detectable` among so many tests with the pictures as they are.

    It is infinite where more persons are needed, or more than 1000 seeds.
    """
    enough = (n for n in range(2, 1001) if detectable(picture_sd, seed_sd, 2 * (n - 1), n, tests) <= claimed)
    return next(enough, np.inf)


@lru_cache
def _units(freedom: float, tests: int = 1) -> float:
    """How many standard errors a true gain must have to be shown four times in five among so many tests."""
    return float(t.isf((1 - LEVEL) / (2 * tests), freedom) + t.ppf(POWER, freedom))
