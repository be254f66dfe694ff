"""What samples look like, on samples that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco.bench.samples import look, loops, repetition, stops_early, usual_lengths


def sample(sources: str, finish: str = "stop", **more: object) -> dict[str, object]:
    """A sample whose sources are written as letters."""
    names = {"b": "base", "a": "aligned"}
    return {
        "text": "x" * len(sources),
        "token_ids": list(range(len(sources))),
        "sources": [names[s] for s in sources],
        "finish_reason": finish,
        "base_share": 0.5,
        "switches": 1,
        "cost": {"base_passes": 3, "aligned_passes": 5, "tokens": len(sources)},
        **more,
    }


def test_positions_by_hand() -> None:
    seen = look([("p", [sample("abba"), sample("aab")])], {})
    assert seen.base_at[0, :5].tolist() == [0, 1, 2, 0, 0]
    assert seen.switch_at[0, :5].tolist() == [0, 1, 1, 1, 0]
    assert seen.alive_at[0, :5].tolist() == [2, 2, 2, 1, 0]
    assert seen.passes_per_token == pytest.approx(16 / 7)
    assert seen.passes_per_sample == 8
    assert seen.length.tolist() == [3.5]


def test_tenths_leave_the_first_token_out() -> None:
    seen = look([("p", [sample("a" + "b" * 10 + "a" * 10)])], {})
    assert seen.base_in[0].tolist() == [1] * 5 + [0] * 5
    assert seen.switch_in[0].tolist() == [0.5, 0, 0, 0, 0, 0.5, 0, 0, 0, 0]
    assert seen.alive_in[0].tolist() == [1] * 10


@given(st.lists(st.text("ab", min_size=1, max_size=40), min_size=1, max_size=5))
def test_positions_add_up(texts: list[str]) -> None:
    seen = look([("p", [sample(t) for t in texts])], {})
    assert seen.base_at.sum() == sum(t.count("b") for t in texts)
    assert seen.alive_at.sum() == sum(map(len, texts))
    assert (seen.base_in <= seen.alive_in + 1e-9).all()
    assert (np.diff(seen.alive_at[0]) <= 0).all()


def test_early_stops() -> None:
    usual = usual_lengths([("p", [sample("a" * n) for n in (10, 20, 12)])])
    assert usual == {"p": 12}
    assert stops_early(sample("a" * 5), 12)
    assert not stops_early(sample("a" * 6), 12)
    assert not stops_early(sample("a" * 5, finish="length"), 12)
    group = [sample("a" * 5), sample("a" * 9), sample("", text=""), sample("aa", finish="length")]
    seen = look([("p", group)], usual)
    assert seen.early.tolist() == [0.5]
    assert seen.limit.tolist() == [0.25]
    assert seen.empty.tolist() == [0.25]


def test_repetition_and_loops() -> None:
    assert repetition([1, 2, 3]) == 0
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)
    assert loops([9, 8, *[1, 2, 3, 4] * 3])
    assert loops([1] * 12)
    assert not loops([1] * 11)
    assert not loops([9, 8, *[1, 2, 3, 4] * 2, 1, 2, 3])
    assert not loops(list(range(100)))
    assert not loops([])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(3, 6))
def test_whatever_is_said_often_enough_is_a_loop(block: list[int], times: int) -> None:
    tokens = block * times
    assert loops(tokens) or len(tokens) < 12


def test_costs_that_are_not_known() -> None:
    seen = look([("p", [sample("ab"), sample("ab", cost=None)])], {})
    assert math.isnan(seen.passes_per_token)
    assert math.isnan(seen.passes_per_sample)
    old = look([("p", [sample("ab", cost={"base_passes": 1, "aligned_passes": 1})])], {})
    assert old.passes_per_token == 1


def test_draws_are_counted() -> None:
    seen = look([("p", [sample("ab", attempts=3), sample("ab")])], {})
    assert seen.attempts.tolist() == [2]


def test_empty_samples_have_no_share() -> None:
    wrote = {**sample("bb"), "base_share": 1.0, "text": "ab"}
    nothing = {**sample(""), "text": " "}
    seen = look([("p", [wrote, nothing]), ("q", [nothing])], {})
    assert seen.base_share[0] == 1.0
    assert math.isnan(seen.base_share[1])
    assert seen.share == 1.0
    assert list(seen.empty) == [0.5, 1.0]
    assert look([("q", [nothing])], {}).share == 0
