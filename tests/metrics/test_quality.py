"""Perplexities from known token log-probabilities."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco.metrics.quality import group_perplexity

from .conftest import load


def test_known_perplexities() -> None:
    case = load("quality")
    nlls = [-sum(t) / len(t) for t in case["token_logprobs_incl_end_token"]]
    assert nlls == pytest.approx(case["nll"], rel=1e-9)
    expected = case["group_mean_ppl (paper: average of Q(y))"]
    assert group_perplexity(nlls) == pytest.approx(expected, rel=1e-9)
    geometric = math.exp(sum(nlls) / len(nlls))
    assert geometric == pytest.approx(case["group_geometric (exp mean nll)"], rel=1e-9)


def test_a_likelihood_beyond_all_bounds_is_no_crash() -> None:
    assert group_perplexity([800.0]) == math.inf


@given(st.lists(st.floats(0, 20), min_size=1, max_size=8))
def test_the_mean_is_never_below_the_geometric_one(nlls: list[float]) -> None:
    assert group_perplexity(nlls) >= math.exp(sum(nlls) / len(nlls)) * (1 - 1e-9)
    assert group_perplexity(nlls) >= 1
