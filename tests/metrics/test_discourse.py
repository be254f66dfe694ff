"""Turning points and arousal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import baco.metrics
from baco.errors import BacoError
from baco.metrics.discourse import (
    arousal_curve,
    arousal_div,
    check_turning_points,
    most_tp_div,
    sampled_sentences,
    tp_div,
)

from .conftest import load

CASES = load("discourse")
near = {"rel": 1e-9, "abs": 1e-9}


def test_tp_div_of_known_annotations() -> None:
    assert tp_div(CASES["hand"]["r"]) == pytest.approx(CASES["hand"]["TP-Div"], **near)
    real = CASES["narrative_discourse"]
    places = [[p / n for p in tp] for tp, n in zip(real["tp"], real["L"], strict=True)]
    assert tp_div(places) == pytest.approx(real["TP-Div"], **near)
    for film in CASES["tripod_multi_annotator"]["groups"].values():
        places = [[(p + 1) / film["L"] for p in tp] for tp in film["tp_0based"]]
        assert places == pytest.approx(np.array(film["r = (tp+1)/L"]), **near)
        assert tp_div(places) == pytest.approx(film["TP-Div"], **near)


@given(st.integers(2, 12))
def test_tp_div_reaches_its_theory_end(n: int) -> None:
    halves = [[0.0] * 5] * (n // 2) + [[1.0] * 5] * (n - n // 2)
    assert tp_div(halves) == pytest.approx(most_tp_div(n))
    assert tp_div([[0.5] * 5] * n) == 0


def test_arousal_div() -> None:
    case = CASES["arousal"]
    one_way = case["Arousal-Div one-directional (paper)"]
    assert arousal_div(case["scores"], symmetric=False) == pytest.approx(one_way, **near)
    both = case["Arousal-Div symmetrised (recommended)"]
    assert arousal_div(case["scores"]) == pytest.approx(both, **near)
    assert arousal_div(case["scores"][::-1]) == pytest.approx(both, **near)
    p, q = (arousal_curve(s) for s in case["scores"][:2])
    expected = (scipy.stats.entropy(p, q) + scipy.stats.entropy(q, p)) / 2
    assert arousal_div(case["scores"][:2]) == pytest.approx(float(expected), **near)
    assert arousal_div([case["scores"][0]] * 3) == pytest.approx(0, abs=1e-12)
    assert math.isnan(arousal_div(case["scores"][:1]))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_curves_are_distributions(scores: list[float]) -> None:
    curve = arousal_curve(scores)
    assert curve.sum() == pytest.approx(1)
    assert (curve > 0).all()


@pytest.mark.parametrize(
    ("points", "fine"),
    [
        ([1, 2, 2, 3, 10], True),
        ([1, 2, 3, 4], False),
        ([0, 1, 2, 3, 4], False),
        ([1, 2, 3, 4, 11], False),
        ([1, 3, 2, 4, 5], False),
        ([1.0, 2, 3, 4, 5], False),
        ("12345", False),
    ],
)
def test_turning_points_are_checked(points: object, fine: bool) -> None:
    assert (check_turning_points(points, 10) is not None) is fine


def test_sampled_sentences() -> None:
    assert sampled_sentences(3) == [0, 1, 2]
    found = sampled_sentences(100)
    assert len(found) == 20
    assert (found[0], found[-1]) == (0, 99)
    assert sampled_sentences(0) == []


def test_annotations_in_the_input() -> None:
    row = {
        "prompt": "p",
        "prefix": "One. Two.",
        "generations": ["Three. Four. Five.", "Three. Four. Five."],
        "turning_points": [[1, 2, 3, 4, 5], [1, 2, 3, 4, 4]],
        "arousal": [[0.1, 0.9], [0.9, 0.1]],
    }
    scores = baco.metrics.score([row], "tp_div@file,arousal_div@file", cache=False)
    assert scores.means["tp_div@file"] == pytest.approx(0.2 / 5)
    assert scores.means["arousal_div@file"] > 0
    for field, wrong in (("turning_points", [[1, 2, 3, 4, 6]] * 2), ("arousal", [[0.1], [1.5]])):
        name = {"turning_points": "tp_div@file", "arousal": "arousal_div@file"}[field]
        with pytest.raises(BacoError, match="group 1"):
            baco.metrics.score([{**row, field: wrong}], name, cache=False)


def test_means_of_raters_are_turning_points_too() -> None:
    group = {
        "generations": ["a", "b"],
        "turning_points": [[1, 2.5, 3, 4, 5], [1, 2, 3, 4, 4]],
        "sentences": [10, 10],
    }
    found = baco.metrics.score([group], "tp_div@file", cache=False).means["tp_div@file"]
    assert found == pytest.approx((0.05 + 0.1) / 5)
    for wrong in ([1, 2.5, 2, 4, 5], [1, 2, 3, 4, math.nan], [0.5, 2, 3, 4, 5], [1, 2, 3, 4, 10.5]):
        bad = {**group, "turning_points": [wrong, [1, 2, 3, 4, 4]]}
        with pytest.raises(BacoError, match="not five numbers from 1 to 10"):
            baco.metrics.score([bad], "tp_div@file", cache=False)
    assert check_turning_points([1, 2.5, 3, 4, 5], 10) is None
