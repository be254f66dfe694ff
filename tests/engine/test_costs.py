"""What passes cost: counted until they are timed, medians then, tried anew when they are old."""

from __future__ import annotations

import pytest

from baco.engine.costs import Costs, kind_of


def told(costs: Costs, side: int, width: int, seconds: float, times: int = 3) -> None:
    for _ in range(times):
        costs.add(side, width, seconds)


def test_sizes_count_until_both_sides_were_timed() -> None:
    costs = Costs((7.0, 3.0))
    assert costs.of(0, 2) == [7, 7, 7]
    told(costs, 0, 1, 0.5, times=9)
    assert costs.of(0, 1) == [7, 7]
    told(costs, 1, 1, 0.25, times=2)
    assert costs.of(1, 1) == [3, 3]
    told(costs, 1, 1, 0.25, times=1)
    assert costs.of(0, 1) == [0.5, 0.5]
    assert costs.of(1, 1) == [0.25, 0.25]


def test_a_slow_pass_now_and_then_does_not_count() -> None:
    costs = Costs((1, 1))
    for side in (0, 1):
        costs.add(side, 1, 40.0)  # the first call makes tables
        told(costs, side, 1, 0.5, times=2)
    assert costs.of(0, 1) == [0.5, 0.5]
    for k in range(30):
        costs.add(0, 1, 9.0 if k % 3 == 0 else 0.6)
    assert costs.of(0, 1) == [0.6, 0.6]


def test_what_was_not_tried_costs_what_the_next_narrower_one_does() -> None:
    costs = Costs((1, 1))
    for side in (0, 1):
        told(costs, side, 2, 2.0)
    assert costs.of(0, 4) == [2, 2, 2, 2, 2]
    told(costs, 0, 1, 1.0)
    told(costs, 0, 4, 1.5)
    assert costs.of(0, 9) == [1, 1, 2, 2, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5]
    told(costs, 0, 6, 3.0)
    assert costs.of(0, 9)[4:] == [1.5, 3, 3, 3, 3, 3]


def test_what_is_old_is_tried_anew() -> None:
    costs = Costs((1, 1))
    told(costs, 1, 1, 1.0)
    told(costs, 0, 2, 2.0)
    for _ in range(256):
        costs.add(0, 1, 1.0)
        costs.add(1, 1, 1.0)
    assert costs.of(0, 2) == [1, 1, 1]
    costs.add(0, 2, 5.0)  # one says nothing yet, and the old ones are gone
    assert costs.of(0, 2) == [1, 1, 1]
    told(costs, 0, 2, 5.0, times=2)
    assert costs.of(0, 2) == [1, 1, 5]


@pytest.mark.parametrize(
    ("width", "kind"), [(0, 1), (1, 1), (3, 3), (4, 4), (5, 8), (8, 8), (9, 16), (2048, 2048)]
)
def test_kinds_of_widths(width: int, kind: int) -> None:
    assert kind_of(width) == kind
