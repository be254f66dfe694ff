"""The bootstrap: units, mostly prompts, are drawn again; figures get percentile intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000

INTERVAL = (0.025, 0.975)
"""Quantiles at the ends of an interval."""


def draws(rng: np.random.Generator, units: int, resamples: int) -> Floats:
    """Draws units with replacement.

    Args:
        rng: Decides the draws.
        units: How many there are.
        resamples: How often all of them are drawn.

    Returns:
        How often each unit was drawn, float [resamples, units].
    """
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=resamples)
    return drawn.astype(np.float64)


def ends(values: Floats, quantiles: tuple[float, float] = INTERVAL) -> tuple[float, float]:
    """Returns the ends of a figure's interval; NaN where no resample has the figure.

    Args:
        values: The figure in each resample, NaN where it has none, float [resamples].
        quantiles: Where the interval ends.
    """
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, quantiles) if known.size else (math.nan, math.nan)
    return float(low), float(high)


def resampled(
    statistic: Callable[[Floats], float], units: int, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """A statistic with its 95 % bootstrap interval.

    Args:
        statistic: Takes how often each unit is drawn, float [units].
        units: How many there are.
        seed: Decides the draws.
        resamples: How often all of them are drawn.

    Returns:
        The statistic, and the ends of the interval; NaN for one unit.
    """
    value = statistic(np.ones(units))
    if units < 2:
        return value, math.nan, math.nan
    drawn = draws(np.random.default_rng(seed), units, resamples)
    return value, *ends(np.array([statistic(draw) for draw in drawn]))
