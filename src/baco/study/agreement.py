"""Agreement between raters: Pearson over pairs, ICC(2,k), Fleiss' kappa, Krippendorff's alpha.

Paper: §5.5 reports Pearson and ICC(2,k) for quality and Fleiss' kappa for the choices. What
cannot be computed (one rater, no variance, one category only) is NaN.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from baco.reporting.resampling import Floats

ScaleLevel = Literal["nominal", "ordinal", "interval"]


def complete(ratings: Floats) -> Floats:
    """The items that every rater has rated."""
    keep = ~np.any(np.isnan(ratings), axis=1)
    return np.compress(keep, ratings, axis=0)


def pearson(pairs: Floats) -> float:
    """Pearson's r of two columns; NaN without variance or with fewer than two rows."""
    if len(pairs) < 2 or not pairs.std(axis=0).all():
        return math.nan
    return float(np.asarray(np.corrcoef(pairs.T))[0, 1])


def mean_pairwise_pearson(ratings: Floats) -> float:
    """Mean of Pearson's r over all pairs of raters, each on the items both have rated.

    Args:
        ratings: Items by raters; NaN where there is no rating.

    Returns:
        The mean; pairs without variance or with fewer than two common items are left out.
    """
    values = []
    for first in range(ratings.shape[1]):
        for second in range(first + 1, ratings.shape[1]):
            both = complete(ratings[:, [first, second]])
            if not math.isnan(r := pearson(both)):
                values.append(r)
    return float(np.mean(values)) if values else math.nan


def icc_2k(ratings: Floats) -> float:
    """ICC(2,k): two-way random effects, absolute agreement, mean of k raters.

    Source: Shrout and Fleiss (1979), case 2.

    Args:
        ratings: Items by raters; items with a missing rating are left out.

    Returns:
        The coefficient.
    """
    table = complete(ratings)
    items, raters = table.shape
    if items < 2 or raters < 2:
        return math.nan
    grand = table.mean()
    by_item, by_rater = table.mean(axis=1), table.mean(axis=0)
    residual = table - by_item[:, None] - by_rater[None, :] + grand
    ms_item = raters * ((by_item - grand) ** 2).sum() / (items - 1)
    ms_rater = items * ((by_rater - grand) ** 2).sum() / (raters - 1)
    ms_error = (residual**2).sum() / ((items - 1) * (raters - 1))
    below = ms_item + (ms_rater - ms_error) / items
    return float((ms_item - ms_error) / below) if below else math.nan


def fleiss_kappa(counts: NDArray[Any]) -> float:
    """Fleiss' kappa.

    Source: Fleiss (1971).

    Args:
        counts: Items by categories; every row sums to the same number of raters.

    Returns:
        The coefficient; NaN when all votes are of one category.
    """
    if not len(counts):
        return math.nan
    raters = int(counts[0].sum())
    if raters < 2:
        return math.nan
    observed = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    chance = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
    if math.isclose(chance, 1.0):
        return math.nan
    return float((observed.mean() - chance) / (1 - chance))


def category_counts(codes: Floats) -> NDArray[np.int64]:
    """Counts per category of the items that every rater has judged, for `fleiss_kappa`.

    Args:
        codes: Items by raters; category codes, NaN where there is no vote.

    Returns:
        Items by categories.
    """
    table = complete(codes)
    categories = np.unique(table)
    counts: NDArray[np.int64] = (table[:, :, None] == categories).sum(axis=1)
    return counts


def krippendorff_alpha(codes: Floats, level: ScaleLevel) -> float:
    """Krippendorff's alpha by coincidences; missing votes are allowed.

    Source: Krippendorff (2011), Computing Krippendorff's alpha-reliability.

    Args:
        codes: Items by raters; NaN where there is no vote.
        level: How far apart two values are.

    Returns:
        The coefficient; NaN when nothing varies or no item has two votes.
    """
    values = np.unique(codes[~np.isnan(codes)])
    counts = (codes[:, :, None] == values).sum(axis=1).astype(float)
    counts = counts[counts.sum(axis=1) > 1]
    if not len(counts):
        return math.nan
    per_pair = 1 / (counts.sum(axis=1) - 1)
    coincidences = np.einsum("i,ic,ik->ck", per_pair, counts, counts)
    coincidences -= np.diag(np.einsum("i,ic->c", per_pair, counts))
    totals = coincidences.sum(axis=1)
    distance = _distance(values, totals, level)
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    if not expected:
        return math.nan
    return float(1 - (coincidences * distance).sum() / expected)


def _distance(values: Floats, totals: Floats, level: ScaleLevel) -> Floats:
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "ordinal":
        middle = np.cumsum(totals) - totals / 2
        return np.subtract.outer(middle, middle) ** 2
    return np.subtract.outer(values, values) ** 2
