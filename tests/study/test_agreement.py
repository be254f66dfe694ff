"""Agreement figures against published and independently computed answers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from baco.study import agreement

KNOWN = json.loads((Path(__file__).parent / "data" / "agreement.json").read_text())
RATINGS = np.array(KNOWN["shrout_fleiss_1979"]["ratings"], dtype=float)
N = math.nan


def test_icc_equals_shrout_and_fleiss():
    known = KNOWN["shrout_fleiss_1979"]
    assert agreement.icc_2k(RATINGS) == pytest.approx(known["ICC(2,k)"], rel=1e-9)
    assert round(agreement.icc_2k(RATINGS), 2) == known["published"]["ICC(2,4)"]


def test_icc_equals_the_mean_squares_of_a_regression():
    rng = np.random.default_rng(5)
    table = rng.normal(size=(12, 1)) + rng.normal(size=(12, 5)) + np.arange(5)
    items, raters = np.indices(table.shape).reshape(2, -1)

    def dummies(codes):
        return (codes[:, None] == np.unique(codes)[1:]).astype(float)

    def residual(*columns):
        design = np.hstack([np.ones((table.size, 1)), *columns])
        return np.linalg.lstsq(design, table.ravel(), rcond=None)[1][0]

    rest = residual(dummies(items), dummies(raters))
    by_item = (residual(dummies(raters)) - rest) / 11
    by_rater = (residual(dummies(items)) - rest) / 4
    error = rest / 44
    expected = (by_item - error) / (by_item + (by_rater - error) / 12)
    assert agreement.icc_2k(table) == pytest.approx(expected, rel=1e-9)


def test_pearson_equals_known_mean_over_pairs():
    assert agreement.mean_pairwise_pearson(RATINGS) == pytest.approx(
        KNOWN["mean_pairwise_pearson_shrout_fleiss"], rel=1e-9
    )


def test_fleiss_kappa_equals_published():
    known = KNOWN["fleiss_wikipedia_14x10"]
    value = agreement.fleiss_kappa(np.array(known["counts"]))
    assert value == pytest.approx(known["statsmodels"], rel=1e-9)
    assert round(value, 2) == known["published"]


@pytest.mark.parametrize("seed", range(20))
def test_fleiss_kappa_equals_statsmodels(seed):
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, rng.integers(2, 5), size=(rng.integers(3, 30), rng.integers(2, 7)))
    counts, _ = inter_rater.aggregate_raters(codes)
    assert agreement.fleiss_kappa(agreement.category_counts(codes.astype(float))) == pytest.approx(
        inter_rater.fleiss_kappa(counts), rel=1e-9, abs=1e-12
    )


def test_kappa_of_one_category_is_nan():
    counts = np.array(KNOWN["fleiss_all_same_category"]["counts"])
    assert math.isnan(agreement.fleiss_kappa(counts))


def test_alpha_equals_known_ordinal():
    assert agreement.krippendorff_alpha(RATINGS, "ordinal") == pytest.approx(
        KNOWN["krippendorff_ordinal_shrout_fleiss"], rel=1e-9
    )


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_with_missing_votes_equals_krippendorff_2011(level, published):
    observers = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
            [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
        ]
    )
    assert round(agreement.krippendorff_alpha(observers.T, level), 3) == published


def test_missing_votes_drop_items_where_all_raters_are_needed():
    holes = np.vstack([RATINGS, [[5, N, 5, 5]]])
    assert agreement.icc_2k(holes) == agreement.icc_2k(RATINGS)
    assert agreement.category_counts(holes).sum() == RATINGS.size


def test_what_cannot_be_computed_is_nan():
    constant = np.full((5, 3), 4.0)
    assert math.isnan(agreement.mean_pairwise_pearson(constant))
    assert math.isnan(agreement.krippendorff_alpha(constant, "nominal"))
    assert math.isnan(agreement.icc_2k(RATINGS[:, :1]))
    assert math.isnan(agreement.fleiss_kappa(np.empty((0, 3))))
    assert math.isnan(agreement.krippendorff_alpha(np.full((3, 2), N), "ordinal"))
