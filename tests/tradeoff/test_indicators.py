"""Coverage, hypervolume, frontier, Dominance and the C-metric: known answers and properties."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
import scipy.integrate
from hypothesis import given
from hypothesis import strategies as st

from baco.errors import InputError
from baco.tradeoff import (
    BOUNDARIES,
    c_metric,
    coverage,
    dominance,
    frontier,
    hypervolume,
)

from .conftest import load

CASES = load("aggregates")
near = {"rel": 1e-9, "abs": 1e-9}

UNIT = st.integers(0, 20).map(lambda i: i / 20)
CURVE = st.lists(st.tuples(UNIT, UNIT), max_size=7)
CURVES = st.dictionaries(st.sampled_from("ABCD"), CURVE, min_size=1, max_size=4)


def pairs(points: list[list[float]]) -> list[tuple[float, float]]:
    return [(p[0], p[1]) for p in points]


@pytest.mark.parametrize("name", CASES["coverage"])
@pytest.mark.parametrize("rule", BOUNDARIES)
def test_known_coverage(name: str, rule: str) -> None:
    case = CASES["coverage"][name]
    points = pairs(case["points"])
    assert coverage(points, rule) == pytest.approx(case[rule], **near)
    assert hypervolume(points) == pytest.approx(case["hypervolume_ref(0,0)"], **near)


@pytest.mark.parametrize("name", CASES["dominance"])
def test_known_dominance(name: str) -> None:
    case = CASES["dominance"][name]
    curves = {m: pairs(p) for m, p in case["methods"].items()}
    front = [[p.x, p.y, list(p.owners)] for p in frontier(curves)]
    assert front == case["frontier"]
    found = dominance(curves)
    for method in curves:
        assert found[method].dom_q == pytest.approx(case["Dom-Q"][method], **near)
        assert found[method].dom_d == pytest.approx(case["Dom-D"][method], **near)
        assert found[method].dom == pytest.approx(case["Dom_hm"][method], **near)
        assert found[method].dom_share == pytest.approx(case["Dom_share (hm/sum)"][method], **near)
    total = sum(d.dom for d in found.values())
    assert total == pytest.approx(case["sum_hm"], **near)


def test_known_c_metric() -> None:
    curves = {m: pairs(p) for m, p in CASES["dominance"]["D1"]["methods"].items()}
    known = CASES["c_metric_zitzler"]
    assert c_metric(curves["A"], curves["B"]) == known["D1 C(A,B)"]
    assert c_metric(curves["B"], curves["A"]) == known["D1 C(B,A)"]
    with pytest.raises(InputError):
        c_metric(curves["A"], [])


@given(CURVE, st.sampled_from(BOUNDARIES), st.randoms(use_true_random=False))
def test_coverage_is_an_area_and_needs_no_order(points, rule, random) -> None:
    value = coverage(points, rule)
    assert -1e-12 <= value <= 1 + 1e-12
    random.shuffle(points)
    assert coverage(points, rule) == pytest.approx(value, **near)


@given(CURVE.filter(bool))
def test_coverage_drop_equals_scipy(points) -> None:
    curve = sorted(points, key=lambda p: (p[0], -p[1]))
    xs = [0.0, *(p[0] for p in curve), curve[-1][0], 1.0]
    ys = [curve[0][1], *(p[1] for p in curve), 0.0, 0.0]
    assert coverage(points) == pytest.approx(float(scipy.integrate.trapezoid(ys, xs)), **near)


@given(CURVE, UNIT, UNIT)
def test_a_point_that_dominates_all_never_lowers_coverage(points, dx, dy) -> None:
    top = max((p[0] for p in points), default=0.0), max((p[1] for p in points), default=0.0)
    best = (top[0] + dx * (1 - top[0]), top[1] + dy * (1 - top[1]))
    assert coverage([*points, best]) >= coverage(points) - 1e-12


@given(CURVE.filter(bool))
def test_hypervolume_and_frontier_equal_moocore(points) -> None:
    table = np.array(points)
    assert hypervolume(points) == pytest.approx(
        float(moocore.hypervolume(-table, ref=[0, 0])), **near
    )
    keep = moocore.is_nondominated(table, maximise=True, keep_weakly=True)
    expected = sorted({tuple(p) for p in table[keep].tolist()})
    assert [(p.x, p.y) for p in frontier({"A": points})] == expected


@given(CURVES)
def test_dominance_shares(curves) -> None:
    found = dominance(curves).values()
    if not any(curves.values()):
        assert all(d.dom_share == 0 for d in found)
        return
    assert sum(d.dom_q for d in found) == pytest.approx(1, **near)
    assert sum(d.dom_d for d in found) == pytest.approx(1, **near)
    if any(d.dom for d in found):
        assert sum(d.dom_share for d in found) == pytest.approx(1, **near)


@given(CURVES.filter(lambda c: len(c) > 1))
def test_dominance_does_not_depend_on_the_order_of_methods(curves) -> None:
    turned = dict(reversed(curves.items()))
    for method, value in dominance(curves).items():
        other = dominance(turned)[method]
        assert other.dom_d == pytest.approx(value.dom_d, **near)
        assert other.dom_q == pytest.approx(value.dom_q, **near)


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="boundary rule"):
        coverage([(0.5, 0.5)], "dorp")
    with pytest.raises(InputError, match="outside"):
        coverage([(0.5, 1.5)])
