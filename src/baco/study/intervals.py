"""Intervals: exact binomial, and a bootstrap that resamples prompts (and raters, if asked).

Votes on one prompt resemble each other, so an interval that takes votes as independent is too
narrow. The bootstrap draws whole prompts. With few prompts a plain percentile interval is too
narrow as well, so its percentiles are widened to what a t interval would use (Hesterberg 2015,
"expanded percentile").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from baco.errors import missing_extra
from baco.reporting.resampling import Floats, draws, ends

RESAMPLES = 4000


class Estimate(NamedTuple):
    """A value with its interval; NaN where there is none."""

    value: float
    low: float = math.nan
    high: float = math.nan


def scipy_stats() -> Any:
    """The module `scipy.stats`.

    Raises:
        BacoError: If SciPy is not installed.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise missing_extra("scipy", "study") from error
    return stats


def exact_share(wins: int, votes: int, level: float = 0.95) -> Estimate:
    """A share of votes with the exact (Clopper-Pearson) binomial interval."""
    if not votes:
        return Estimate(math.nan)
    low, high = scipy_stats().binomtest(wins, votes).proportion_ci(level, method="exact")
    return Estimate(wins / votes, float(low), float(high))


def binomial_p(wins: int, votes: int, chance: float = 0.5) -> float:
    """Two-sided exact binomial p-value; NaN without votes."""
    return float(scipy_stats().binomtest(wins, votes, chance).pvalue) if votes else math.nan


Ratio = Callable[[Floats, Floats], Floats]
"""Sum of the first over sum of the second, in every resample."""


@dataclass(frozen=True)
class Bootstrap:
    """One set of resamples, shared by all estimates of a study.

    Attributes:
        prompts: Resamples by prompts: how often each prompt was drawn.
        raters: Resamples by raters: the same; all ones when raters are not resampled.
        level: Coverage asked for.
    """

    prompts: Floats
    raters: Floats
    level: float = 0.95

    @classmethod
    def draw(
        cls,
        prompts: int,
        raters: int,
        *,
        resamples: int = RESAMPLES,
        seed: int = 0,
        resample_raters: bool = False,
        level: float = 0.95,
    ) -> Bootstrap:
        """Draws the resamples."""
        rng = np.random.default_rng(seed)

        return cls(
            draws(rng, prompts, resamples),
            draws(rng, raters, resamples) if resample_raters else np.ones((resamples, raters)),
            level,
        )

    def ratio(self, above: Floats, below: Floats) -> Floats:
        """Ratio of two sums over prompts by raters, in every resample."""
        tops = ((self.prompts @ above) * self.raters).sum(axis=1)
        bottoms = ((self.prompts @ below) * self.raters).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Floats = tops / bottoms
        return result

    def estimate(self, statistic: Callable[[Ratio], Floats]) -> Estimate:
        """A statistic made of ratios, with its interval.

        Args:
            statistic: Given a function that forms a ratio of sums, returns the statistic.

        Returns:
            The value on the data as they are, and the interval.
        """
        value = float(statistic(_plain)[0])
        count = self.prompts.shape[1]
        if count < 2:
            return Estimate(value)
        return Estimate(value, *ends(statistic(self.ratio), expanded(self.level, count)))


def _plain(above: Floats, below: Floats) -> Floats:
    bottom = below.sum()
    return np.array([above.sum() / bottom if bottom else math.nan])


def expanded(level: float, count: int) -> tuple[float, float]:
    """Percentiles for a bootstrap over few units, widened to what a t interval uses."""
    stats = scipy_stats()
    tail = (1 - level) / 2
    wide = math.sqrt(count / (count - 1)) * stats.t.ppf(tail, count - 1)
    low = float(stats.norm.cdf(wide))
    return low, 1 - low
