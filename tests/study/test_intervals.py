"""Intervals against hand-computed cases, statsmodels and their own promise of coverage."""

import math

import numpy as np
import pytest

from baco.study.intervals import Bootstrap, binomial_p, exact_share, expanded


def test_exact_interval_by_hand():
    none = exact_share(0, 10)
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(1 - 0.025**0.1, rel=1e-9)  # (1-p)^10 = 0.025
    assert exact_share(10, 10).low == pytest.approx(0.025**0.1, rel=1e-9)
    one = exact_share(1, 1, 0.9)
    assert (one.low, one.high) == (pytest.approx(0.05), 1)


@pytest.mark.parametrize(("wins", "votes"), [(5, 10), (31, 80), (63, 80), (1, 7)])
def test_exact_interval_equals_statsmodels(wins, votes):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    low, high = proportion.proportion_confint(wins, votes, method="beta")
    assert exact_share(wins, votes)[1:] == (pytest.approx(low), pytest.approx(high))


def test_exact_p_by_hand():
    assert binomial_p(9, 10) == pytest.approx(22 / 1024)  # (1 + 10) tails on both sides
    assert binomial_p(5, 10) == pytest.approx(1)
    assert binomial_p(3, 3, 1 / 3) == pytest.approx(1 / 27)


def test_no_votes_have_no_interval():
    assert math.isnan(exact_share(0, 0).value)
    assert math.isnan(binomial_p(0, 0))


def test_percentiles_reach_as_far_as_a_t_interval():
    low, high = expanded(0.95, 10)
    # z with this tail, over sqrt(n / (n - 1)), is the t quantile for 9 degrees: 2.262.
    assert low == pytest.approx(0.00854, abs=5e-5)
    assert high == 1 - low


def test_bootstrap_of_equal_prompts_has_no_width():
    boot = Bootstrap.draw(8, 3, resamples=200)
    ones = np.ones((8, 3))
    assert boot.estimate(lambda ratio: ratio(4 * ones, ones)) == (4, 4, 4)


def test_bootstrap_of_two_prompts_by_hand():
    # Each resample holds the second prompt 0, 1 or 2 times: means 1, 2, 3.
    boot = Bootstrap.draw(2, 1, resamples=4000)
    ones = np.ones((2, 1))
    estimate = boot.estimate(lambda ratio: ratio(np.array([[1.0], [3.0]]), ones))
    assert estimate == (2, 1, 3)


def test_one_prompt_has_no_interval():
    boot = Bootstrap.draw(1, 1, resamples=10)
    ones = np.ones((1, 1))
    estimate = boot.estimate(lambda ratio: ratio(2 * ones, ones))
    assert estimate.value == 2
    assert math.isnan(estimate.low)


def test_prompts_without_votes_do_not_count():
    boot = Bootstrap.draw(3, 2, resamples=500)
    sums = np.array([[4.0, 2.0], [0, 0], [0, 0]])
    counts = np.array([[1.0, 1.0], [0, 0], [0, 0]])
    assert boot.estimate(lambda ratio: ratio(sums, counts)) == (3, 3, 3)


def test_coverage_with_few_prompts():
    rng = np.random.default_rng(0)
    boot = Bootstrap.draw(12, 1, resamples=1000)
    ones = np.ones((12, 1))
    hits = 0
    for _ in range(600):
        data = rng.normal(3, 1, (12, 1))
        estimate = boot.estimate(lambda ratio, data=data: ratio(data, ones))
        hits += estimate.low <= 3 <= estimate.high
    # Binomial(600, 0.95) is within 0.92 and 0.98 but for one time in a thousand.
    assert 0.92 <= hits / 600 <= 0.98


def test_resampling_raters_widens_the_interval_when_raters_differ():
    data = np.tile([1.0, 5.0, 1.0, 5.0], (30, 1)) + np.arange(30)[:, None] / 100
    ones = np.ones_like(data)
    widths = []
    for both in (False, True):
        boot = Bootstrap.draw(30, 4, resamples=1000, resample_raters=both)
        estimate = boot.estimate(lambda ratio: ratio(data, ones))
        widths.append(estimate.high - estimate.low)
    assert widths[1] > 10 * widths[0]
