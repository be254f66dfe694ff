"""What passes cost: counted by the models' sizes, or tried out once and rounded coarsely."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import count

import pytest
import torch

from baco.engine import costs as engine_costs
from baco.engine.costs import Costs, Speed, kind_of, speed
from support.engines import Timed, Watch, fake_pair


def timed(seconds: Callable[[int, int], float], watch: Watch, weights: int = 1) -> Timed:
    """A partner whose passes take a scripted time, by rows and tokens per row."""
    partner = Timed(fake_pair()[0], watch, seconds)
    partner.parameters = weights
    return partner


def test_without_a_clock_sizes_count() -> None:
    watch = Watch()
    aligned, base = (timed(lambda n, w: n * w, watch, weights) for weights in (7, 3))
    assert Costs((aligned, base)).of(5, 3) == [[7, 7, 7, 7], [3, 3, 3, 3]]
    assert watch.now == 0


def test_with_a_clock_passes_are_tried_out_once() -> None:
    watch = Watch()
    aligned = timed(lambda n, w: 4 * (1 + 0.5 * (w - 1)), watch)
    base = timed(lambda n, w: 1.0, watch)
    costs = Costs((aligned, base), watch)
    assert costs.of(10, 3) == [[4, 4, 6, 8], [1, 1, 1, 1]]
    spent = watch.now
    assert spent > 0
    assert costs.of(10, 3) == Costs((aligned, base), watch).of(12, 3)
    assert watch.now == spent
    assert costs.of(3, 3) == costs.of(10, 3)
    assert watch.now > spent


def test_what_is_free_for_many_rows_is_free_for_few() -> None:
    watch = Watch()
    sides = [timed(lambda n, w: 1.0 if n * w <= 64 else n * w / 64, watch) for _ in (0, 1)]
    costs = Costs(sides, watch)
    assert costs.of(10, 2) == [[1, 1, 1], [1, 1, 1]]
    spent = watch.now
    assert costs.of(1, 2) == costs.of(10, 2)
    assert watch.now == spent
    assert costs.of(64, 2) == [[1, 1, 2], [1, 1, 2]]


def test_no_more_rows_are_tried_than_the_batch_has() -> None:
    tried = []
    watch = Watch()
    partner = timed(lambda n, w: tried.append(n) or 1.0, watch)  # type: ignore[func-returns-value]
    for rows in (5, 9, 65, 200, 5000):
        speed(partner, rows, watch)
        assert max(tried) <= rows
    assert set(tried) == {5, 65}  # 9 is of the kind of 5; 200 and 5000 are of that of 65


@pytest.mark.parametrize(
    ("wide", "slope"), [(0.7, 0), (1.1, 0), (1.15, 0.25), (1.3, 0.25), (1.4, 0.5), (2.9, 2)]
)
def test_slopes_are_rounded_so_that_noise_does_not_tell(wide: float, slope: float) -> None:
    noise = count()

    def seconds(rows: int, width: int) -> float:
        slow = (1.0, 1.7, 1.2, 9.0, 1.01)[next(noise) % 5]  # what else the machine does
        return slow * (wide if width == 2 else 1.0)

    watch = Watch()
    found = speed(timed(seconds, watch), 4, watch)
    assert found is not None
    assert found.slope == slope


def test_sizes_of_sides_are_rounded_too() -> None:
    for ratio, rounded in ((1.0, 1), (1.15, 1), (0.87, 1), (2.1, 2), (8.3, 8), (1.45, 2**0.5)):
        watch = Watch()
        sides = [timed(lambda n, w, s=s: s, watch) for s in (ratio, 1.0)]  # type: ignore[misc]
        assert Costs(sides, watch).of(1, 1) == [[rounded, rounded], [1, 1]]


def test_where_nothing_can_be_tried_sizes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    sides = [timed(lambda n, w: 1.0, watch, weights) for weights in (7, 3)]
    assert Costs(sides, lambda: 0.0).of(1, 2) == [[7, 7, 7], [3, 3, 3]]  # a clock too coarse
    for side in sides:
        side.context_window = 3
    assert Costs(sides, watch).of(4, 2) == [[7, 7, 7], [3, 3, 3]]
    sides = [timed(lambda n, w: 1.0, watch, weights) for weights in (7, 3)]

    def full(*_: object) -> Speed:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(engine_costs, "_tried", full)
    assert Costs(sides, watch).of(4, 2) == [[7, 7, 7], [3, 3, 3]]


def test_a_partner_is_not_kept_alive() -> None:
    watch = Watch()
    partner = timed(lambda n, w: 1.0, watch)
    gc.collect()
    before = len(engine_costs._known)
    speed(partner, 1, watch)
    assert len(engine_costs._known) == before + 1
    del partner
    gc.collect()
    assert len(engine_costs._known) == before


@pytest.mark.parametrize(
    ("rows", "kind"), [(1, 1), (2, 4), (4, 4), (10, 16), (17, 64), (160, 256), (5000, 256)]
)
def test_kinds_of_batches(rows: int, kind: int) -> None:
    assert kind_of(rows) == kind
