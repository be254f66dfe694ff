"""Schedules: by what passes cost, fair to all rows, and never of any weight for results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count, product

import pytest
from _pytest.mark.structures import ParameterSet
from hypothesis import given, settings
from hypothesis import strategies as st

from baco.engine import Engine, Request, reference
from baco.engine.costs import Costs
from baco.engine.noise import row_key
from baco.engine.policy import plan
from baco.partners.fake import FakePartner, Script
from baco.routers import parse
from support.engines import (
    WORDS,
    Timed,
    Watch,
    fake_pair,
    random_script,
    run,
    words_vocabulary,
)

LONGEST = 8


Cost = Callable[[int, int], float]

COSTS: dict[str, tuple[Cost, Cost]] = {
    "flat": (lambda n, w: 1.0,) * 2,
    "half more for each token": (lambda n, w: 1 + 0.5 * (w - 1),) * 2,
    "by the token": (lambda n, w: float(w),) * 2,
    "more than by the token": (lambda n, w: w**1.5,) * 2,
    "two are expensive, four are not": (lambda n, w: {1: 1.0, 2: 1.95}.get(w, 1.5),) * 2,
    "five at once are expensive": (lambda n, w: max(1.0, w / 4),) * 2,
    "arithmetic from four tokens on": (lambda n, w: max(1.0, n * w / 4),) * 2,
    "a small base": (lambda n, w: 0.8 + 0.2 * w, lambda n, w: 0.08 + 0.02 * w),
    "a small aligned": (lambda n, w: 0.08 + 0.02 * w, lambda n, w: 0.8 + 0.2 * w),
}
"""What passes of (aligned, base) take, by rows and by tokens per row."""


@cache
def close_pair(apart: float) -> tuple[FakePartner, FakePartner]:
    """Two partners that agree the more, the less they are apart; they never end."""
    vocabulary = words_vocabulary()
    return (
        FakePartner(vocabulary, random_script("base", apart, 2.0, -99)),
        FakePartner(vocabulary, random_script("aligned", apart, 2.0, -99)),
    )


class Table(Costs):
    """What a table says of scripted costs: passes of one and of two tokens, the rest in a line."""

    def __init__(self, sides: Sequence[Cost]) -> None:
        self.sides = sides

    def of(self, rows: int, widths: int) -> list[list[float]]:
        steps = [(side(rows, 1), max(0.0, side(rows, 2) - side(rows, 1))) for side in self.sides]
        return [[one + step * max(0, w - 1) for w in range(widths + 1)] for one, step in steps]


def watched(
    apart: float, sides: Sequence[Cost], spec: str, rows: int, lookahead: str, costs: Costs
) -> float:
    """What decoding takes by scripted costs."""
    watch = Watch()
    base, aligned = close_pair(apart)
    engine = Engine(
        Timed(base, watch, sides[1]),
        Timed(aligned, watch, sides[0]),
        lookahead=lookahead,  # type: ignore[arg-type]
    )
    engine.policy.costs = costs
    asked = [
        Request((1, 2), (3, 4), parse(spec), row_key(0, "p", i), max_new_tokens=300)
        for i in range(rows)
    ]
    run(engine, asked)
    return watch.now


def seconds(apart: float, cost: str, spec: str, rows: int, table: str | None = None) -> float:
    """The same with look-ahead, where the table of costs is right or made for other costs."""
    return watched(apart, COSTS[cost], spec, rows, "auto", Table(COSTS[table or cost]))


@cache
def lock_steps(apart: float, spec: str, rows: int) -> list[Counter[tuple[int, int]]]:
    """Passes of (aligned, base) in lock-step by rows and tokens per row; no cost changes them."""
    made: list[Counter[tuple[int, int]]] = [Counter(), Counter()]

    def counting(side: Counter[tuple[int, int]]) -> Cost:
        def cost(n: int, w: int) -> float:
            side[n, w] += 1
            return 1.0

        return cost

    watched(apart, [counting(side) for side in made], spec, rows, "off", Table(COSTS["flat"]))
    return made


def lock_seconds(apart: float, cost: str, spec: str, rows: int) -> float:
    """What the same decoding takes in lock-step."""
    made = zip(COSTS[cost], lock_steps(apart, spec, rows), strict=True)
    return sum(times * side(n, w) for side, passes in made for (n, w), times in passes.items())


def cases() -> list[ParameterSet]:
    """Every cost for one row and for four; what four rows tell besides is quickly told by three."""
    quick = ("flat", "arithmetic from four tokens on", "a small base")
    return [
        pytest.param(*case, marks=() if case[2] == 1 or case[0] in quick else pytest.mark.slow)
        for case in product(COSTS, (0.3, 1.5), (1, 4))
    ]


@pytest.mark.parametrize(("cost", "apart", "rows"), cases())
def test_never_worse_than_lock_step_by_more_than_5_percent(
    cost: str, apart: float, rows: int
) -> None:
    for spec in ("p@0", "p-punc@0.3", "rand@0", "rand@0.5", "rand@1"):
        ahead, lock = (priced(apart, cost, spec, rows) for priced in (seconds, lock_seconds))
        # What is not known at first costs some passes of the more expensive side: it tells where a
        # small base model speaks alone, and the other side would never have run.
        start = 6 * max(side(rows, 1) for side in COSTS[cost]) if spec == "rand@1" else 0
        assert ahead <= 1.05 * lock + start, (spec, ahead / lock)


@pytest.mark.parametrize(
    ("cost", "least", "most"), [("by the token", 1.05, 1.2), ("more than by the token", 1.2, 1.8)]
)
def test_what_a_table_costs_that_is_wrong(cost: str, least: float, most: float) -> None:
    """It takes further tokens to be free; only acceptance tells that guesses do not pay."""
    ratios = [
        seconds(1.5, cost, spec, 1, table="flat") / lock_seconds(1.5, cost, spec, 1)
        for spec in ("p@0", "p-punc@0.3", "rand@0.5")
    ]
    assert least < max(ratios) < most


def test_where_it_pays_it_is_used() -> None:
    for cost, least in (("flat", 1.5), ("five at once are expensive", 1.5), ("a small base", 1.3)):
        ahead, lock = (priced(0.3, cost, "p-punc@0.3", 1) for priced in (seconds, lock_seconds))
        assert lock >= least * ahead, (cost, lock / ahead)


def costs(*by_width: float) -> list[float]:
    """Costs for widths 0, 1, ...; the last one holds for wider passes."""
    return [by_width[0], *by_width, *[by_width[-1]] * (LONGEST + 1 - len(by_width))]


@pytest.mark.parametrize("accept", [0.2, 0.6, 0.95])
def test_plans_by_hand(accept: float) -> None:
    flat = costs(1.0)
    found = plan((flat, flat), (accept, accept), 2.0, LONGEST)
    assert found.rate == pytest.approx(1 / (2 - accept))  # they alternate
    for two in (1.01 + accept, 4):
        wide = costs(1.0, two)
        found = plan((wide, wide), (accept, accept), 2.0, LONGEST)
        short = plan((wide, wide), (accept, accept), 2.0, 1)
        assert short.rate == 1 / 2  # lock-step
        assert all(worth[1] < worth[0] for worth in short.worth)  # nobody guesses
        assert found.rate >= short.rate
    wide = costs(1.0, 0.99 + accept)
    found = plan((wide, wide), (accept, accept), 2.0, 1)
    assert found.rate > 1 / 2
    assert all(worth[1] > worth[0] for worth in found.worth)


def test_nobody_guesses_without_look_ahead() -> None:
    found = plan(([1.0, 1.0], [1.0, 1.0]), (0.9, 0.9), 2.0, 0)
    assert found.rate == 1 / 2
    assert [len(worth) for worth in found.worth] == [1, 1]


def scripted(always: bool) -> tuple[Script, Script]:
    """Scripts of (base, aligned): guesses are always right, or always wrong."""

    def one(shift: int) -> Script:
        def say(ids: tuple[int, ...]) -> list[float]:
            p = [1e-9] * len(WORDS)
            p[1 + (len(ids) + shift) % 6] = 1.0
            return p

        return say

    return one(0), one(0 if always else 1)


@settings(max_examples=30)
@given(
    easy=st.lists(st.booleans(), min_size=2, max_size=5),
    spec=st.sampled_from(["p@0.5", "pr@0.5", "rand@0.5", "p-punc@0.9", "h@1"]),
    lookahead=st.sampled_from(["off", "auto", 1, 4, 64]),
    cost=st.sampled_from(["none", *COSTS]),
    drafted=st.booleans(),
)
def test_no_row_waits_for_ever(
    easy: list[bool], spec: str, lookahead: str | int, cost: str, drafted: bool
) -> None:
    """Rows whose guesses are always right stand beside rows whose guesses never are."""
    vocabulary = words_vocabulary()
    kinds = {always: scripted(always) for always in (True, False)}

    def side(which: int) -> FakePartner:
        return FakePartner(vocabulary, lambda ids: kinds[ids[0] == 1][which](ids))

    pair = (side(0), side(1))
    draft = "prompt-lookup" if drafted and lookahead != "off" else None
    engine = Engine(*pair, lookahead=lookahead, draft=draft)  # type: ignore[arg-type]
    if cost != "none":
        engine.policy.costs = Table(COSTS[cost])
    asked = [
        Request((1 if e else 2,), (1 if e else 2,), parse(spec), row_key(0, "p", i),
                max_new_tokens=40)
        for i, e in enumerate(easy)
    ]  # fmt: skip
    live = {engine.submit(request): 0 for request in asked}
    # A row may wait while others lead, for the longest draft, and until its weight tells.
    bound = engine.longest + 12 * len(easy)
    for cycle in count():
        for event in engine.step():
            if event.tokens:
                live[event.row] = cycle
            if event.finish:
                del live[event.row]
        assert all(cycle - last <= bound for last in live.values())
        if engine.idle:
            break


def test_results_do_not_depend_on_costs() -> None:
    pair = fake_pair()
    asked = [
        Request((1, 2), (3, 4 + i % 2), parse("p-punc@0.5"), row_key(0, "p", i), max_new_tokens=40)
        for i in range(4)
    ]
    wanted = [tuple(reference.decode(*pair, request)[:4]) for request in asked]
    for sides in COSTS.values():
        engine = Engine(*pair)
        engine.policy.costs = Table(sides)
        assert run(engine, asked) == wanted
