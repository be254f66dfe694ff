"""The fast loop equals the slow oracle, whatever the batch, the look-ahead and the neighbours."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baco.engine import ALIGNED, BASE, Cost, Engine, Request, Warp, reference
from baco.engine.blend import Blend
from baco.engine.noise import row_key
from baco.engine.penalties import Penalties
from baco.engine.router import ALONE, View
from baco.engine.step import PLAUSIBLE_OPENING
from baco.errors import BacoError, InputError
from baco.partners.fake import FakeCache, FakePartner
from baco.routers import CASCADES, ROUTERS, custom, parse
from support.engines import (
    ARCHITECTURES,
    Decoded,
    drain,
    fake_pair,
    random_pair,
    random_script,
    run,
    words_vocabulary,
)

pytestmark = pytest.mark.costs

SPECS = sorted({*ROUTERS, *CASCADES} - {"judge"})


def expected(pair: tuple[FakePartner, FakePartner], requests: list[Request]) -> list[Decoded]:
    return [tuple(reference.decode(*pair, request)[:4]) for request in requests]  # type: ignore[misc]


def some_requests(spec: str, how: Warp, count: int = 4, limit: int = 24) -> list[Request]:
    router = parse(spec)
    return [
        Request((1, 2 + i % 3), (1, 2, 3 + i % 2), router, row_key(0, "p", i), how,
                max_new_tokens=limit, turn_rule=i % 2 == 1)
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    "how",
    [
        Warp(),
        Warp(temperature=0),
        Warp(temperature=1.3, top_p=1),
        Warp(top_k=5, top_p=0.6),
        Warp(top_p=1, top_n_sigma=1.2, xtc=0.2),
        Warp(top_p=1, typical=0.8),
    ],
    ids=["default", "greedy", "hot", "filters", "sigma-xtc", "typical"],
)
def test_every_router_equals_the_oracle(spec: str, how: Warp) -> None:
    pair = fake_pair()
    requests = some_requests(spec, how)
    wanted = expected(pair, requests)
    for lookahead, rows in (("off", 16), ("auto", 3), (1, 1), (3, 16)):
        engine = Engine(*pair, lookahead=lookahead, max_rows=rows)  # type: ignore[arg-type]
        assert run(engine, requests) == wanted, (lookahead, rows)


@pytest.mark.parametrize(
    "how",
    [Warp(), Warp(temperature=0), Warp(temperature=1.3, top_p=1),
     Warp(penalties=Penalties(logit_bias=((3, 4.0), (12, -2.0))))],
    ids=["default", "greedy", "hot", "penalties"],
)  # fmt: skip
@pytest.mark.parametrize("barred", [(), ((0, 3), (0, 7), (1, 2))], ids=["free", "barred"])
def test_openings_equal_the_oracle(how: Warp, barred: tuple[tuple[int, int], ...]) -> None:
    """Of an aligned model so sure that little else is plausible."""
    vocabulary = words_vocabulary()
    scripts = random_script("base", 2.0, 1.5, -1.0), random_script("aligned", 5.0, 1.5, -1.0)
    pair = FakePartner(vocabulary, scripts[0]), FakePartner(vocabulary, scripts[1])
    requests = [
        replace(request, barred=barred)
        for spec in ("open>rand@0.6", "open>p@0.9", "open>p-a@0.9", "open>p-ahead2@0.9")
        for request in some_requests(spec, how, count=5, limit=5)
    ]
    wanted = expected(pair, requests)
    for lookahead, rows in (("off", 16), ("auto", 3), (1, 1), (3, 16)):
        engine = Engine(*pair, lookahead=lookahead, max_rows=rows)  # type: ignore[arg-type]
        assert run(engine, requests) == wanted, (lookahead, rows)
    assert {sources[0] for _, sources, *_ in wanted if sources} == {ALIGNED, BASE}
    for request, (tokens, sources, *_) in zip(requests, wanted, strict=True):
        if tokens and sources[0] == BASE:
            p = pair[1].logits(request.aligned_prompt).softmax(-1)
            assert p[tokens[0]] >= PLAUSIBLE_OPENING * p.max()


BLENDS = [
    Blend("linear", 0.5), Blend("linear", 0.9), Blend("geometric", 0.3), Blend("contrast", 0.5),
    Blend("overlap", 0.0), Blend("overlap", 0.6), Blend("overlap", 1.0),
]  # fmt: skip


@pytest.mark.parametrize("how", BLENDS, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_blends_equal_the_oracle(how: Blend, temperature: float) -> None:
    pair = fake_pair()
    alone = some_requests("rand@0", Warp(temperature=temperature))
    requests = [replace(request, blend=how, end_rule=False) for request in alone]
    wanted = expected(pair, requests)
    for lookahead, rows in (("off", 16), ("auto", 3), (1, 1), (3, 16)):
        engine = Engine(*pair, lookahead=lookahead, max_rows=rows)  # type: ignore[arg-type]
        assert run(engine, requests + alone)[: len(requests)] == wanted, (lookahead, rows)
        assert engine.stats.base_passes > 0


@pytest.mark.parametrize("kind", ["linear", "geometric"])
def test_a_blend_of_one_is_that_one(kind: str) -> None:
    pair = fake_pair()
    for weight, partner, side in ((0.0, pair[0], "base_prompt"), (1.0, pair[1], "aligned_prompt")):
        for request in some_requests("rand@0", Warp(), count=6):
            prompt = getattr(request, side)
            alone = replace(request, base_prompt=prompt, aligned_prompt=prompt, end_rule=False)
            [wanted] = run(Engine(partner, partner), [alone])
            mixed = replace(request, blend=Blend(kind, weight), end_rule=False)  # type: ignore[arg-type]
            assert run(Engine(*pair), [mixed]) == [wanted]


@settings(max_examples=25)
@given(
    spec=st.sampled_from(SPECS),
    gamma=st.floats(0, 1),
    lookahead=st.sampled_from(["off", "auto", 1, 2, 5]),
    rows=st.integers(1, 6),
    count=st.integers(1, 6),
    limit=st.integers(1, 20),
    seed=st.integers(0, 1000),
    end=st.sampled_from([-3.0, 0.0, 2.0]),
    temperature=st.sampled_from([0.0, 0.7, 1.0, 2.0]),
)
def test_any_setting_equals_the_oracle(
    spec: str, gamma: float, lookahead: str | int, rows: int, count: int, limit: int, seed: int,
    end: float, temperature: float,
) -> None:  # fmt: skip
    router = parse(spec)
    if router.control is not None:
        router = router.with_gamma(gamma)
    pair = fake_pair(end)
    requests = [
        Request((1 + i % 2,), (3, 4)[: 1 + i % 2], router, row_key(seed, "p", i),
                Warp(temperature=temperature), max_new_tokens=limit, turn_rule=(seed + i) % 3 > 0)
        for i in range(count)
    ]  # fmt: skip
    engine = Engine(*pair, lookahead=lookahead, max_rows=rows)  # type: ignore[arg-type]
    assert run(engine, requests) == expected(pair, requests)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures_equal_the_oracle_in_float64(architecture: str) -> None:
    pair = random_pair(architecture)
    for spec in ("p-punc@0.05", "rand@0.5", "h@3"):
        requests = [
            Request(tuple(range(10, 14 + i % 3)), tuple(range(20, 22 + 5 * (i % 2))), parse(spec),
                    row_key(0, "p", i), max_new_tokens=16, turn_rule=i % 2 == 1)
            for i in range(4)
        ]  # fmt: skip
        wanted = expected(pair, requests)  # type: ignore[arg-type]
        for lookahead in ("off", "auto"):
            assert run(Engine(*pair, lookahead=lookahead, max_rows=3), requests) == wanted  # type: ignore[arg-type]


def test_float32_differs_only_at_near_ties() -> None:
    """A difference must come from a comparison that was won by less than 1e-4."""
    exact = random_pair("llama")
    single = random_pair("llama", torch.float32)
    listed = []
    for i in range(24):
        request = Request((10, 11, 12), (20, 21), parse("p-punc@0.05"), row_key(0, "p", i),
                          max_new_tokens=30)  # fmt: skip
        trace = reference.decode(*exact, request)
        [(tokens, sources, _, _)] = run(Engine(*single), [request])
        if (tokens, sources) != (trace.tokens, trace.sources):
            both = zip(tokens, sources, trace.tokens, trace.sources, strict=False)
            at = next((k for k, (a, b, c, d) in enumerate(both) if (a, b) != (c, d)), len(tokens))
            near = min(m.value for m in trace.margins if m.t == at)
            listed.append((i, at, near))
            assert near < 1e-4, listed
    print("near-ties:", listed)


def test_a_row_does_not_depend_on_its_neighbours_or_when_it_joined() -> None:
    pair = fake_pair()
    specs = ["p@0.4", "rand@0.5", "h-punc@1", "fc"]
    requests = [
        Request((1, 2), (3, 4), parse(specs[i % 4]), row_key(i, "p", 0),
                Warp(temperature=0.5 + 0.25 * (i % 3)), max_new_tokens=10 + i)
        for i in range(10)
    ]  # fmt: skip
    alone = [run(Engine(*pair), [request])[0] for request in requests]
    assert run(Engine(*pair), requests) == alone
    engine = Engine(*pair, max_rows=4)
    numbers, events = [], []
    for request in requests:
        numbers.append(engine.submit(request))
        events += engine.step() + engine.step()
    late = drain(engine, numbers)
    early = {n: [e for e in events if e.row == n] for n in numbers}
    for number, (tokens, sources, _, _), one in zip(numbers, late, alone, strict=True):
        before = early[number]
        assert [t for e in before for t in e.tokens] + tokens == one[0]
        assert [s for e in before for s in e.sources] + sources == one[1]


def test_cancelled_rows_leave_and_the_others_do_not_notice() -> None:
    pair = fake_pair(end=-9)
    requests = some_requests("p@0.5", Warp(), count=6, limit=30)
    wanted = expected(pair, requests)
    engine = Engine(*pair, max_rows=4)
    numbers = [engine.submit(r) for r in requests]
    seen = engine.step() + engine.step()
    for gone in (numbers[1], numbers[5], 999):
        engine.cancel(gone)
    rest = drain(engine, [n for n in numbers if n not in (numbers[1], numbers[5])])
    kept = [w for i, w in enumerate(wanted) if i not in (1, 5)]
    for (tokens, *_), (full, *_) in zip(rest, kept, strict=True):
        assert full[len(full) - len(tokens) :] == tokens
    assert seen


def test_cancelled_rows_tell_what_they_cost() -> None:
    pair = fake_pair(end=-9)
    requests = some_requests("p@0.5", Warp(), count=3, limit=30)
    engine = Engine(*pair, max_rows=2)
    numbers = [engine.submit(r) for r in requests]
    emitted = 0
    while emitted < 5:
        emitted += sum(len(e.tokens) for e in engine.step() if e.row == numbers[0])
    cost = engine.cancel(numbers[0])
    assert cost is not None
    assert cost.tokens == emitted
    assert cost.base_passes > 0
    assert cost.base_passes + cost.aligned_passes <= sum(engine.stats[:2])
    assert cost.aligned_token_rows >= len(requests[0].aligned_prompt) + emitted - 1
    assert engine.cancel(numbers[2]) == Cost()  # it waits: nothing was spent on it
    assert engine.cancel(999) is None
    drain(engine, numbers)
    assert engine.stats.tokens < 2 * 30


def test_rows_of_narrow_and_wide_nuclei_share_a_batch() -> None:
    """Greedy rows keep one token, filtered rows a few, unfiltered ones the whole vocabulary."""
    pair = random_pair("llama")
    warps = [Warp(temperature=0), Warp(top_p=0.3), Warp(), Warp(temperature=3, top_p=0.99),
             Warp(top_p=1)]  # fmt: skip
    requests = [
        Request((10, 11), (20, 21), parse("p-punc@0.05"), row_key(0, "p", i),
                how, base_warp=base, max_new_tokens=10)
        for i, (how, base) in enumerate((a, b) for a in warps for b in (None, warps[-1], warps[0]))
    ]  # fmt: skip
    wanted = expected(pair, requests)  # type: ignore[arg-type]
    for order in (requests, requests[::-1]):
        rows = run(Engine(*pair, max_rows=4), order)
        assert (rows if order is requests else rows[::-1]) == wanted


def test_programs_that_nobody_uses_are_forgotten() -> None:
    pair = fake_pair()
    requests = [
        Request((1, 2), (3, 4), parse("p", i / 400), row_key(i, "p", 0), max_new_tokens=6)
        for i in range(300)
    ]
    engine = Engine(*pair, max_rows=5)
    late = [run(engine, requests[i : i + 20]) for i in range(0, 300, 20)]
    assert len(engine._programs) <= 64 + 20
    assert [row for rows in late for row in rows] == expected(pair, requests)


def test_gamma_from_end_to_end() -> None:
    pair = fake_pair(end=-9)

    def base_share(spec: str) -> float:
        asked = some_requests(spec, Warp(), count=8, limit=40)
        # By the turn rule the aligned model speaks where the base model may not break a line.
        rows = run(Engine(*pair), [replace(request, turn_rule=False) for request in asked])
        sources = [s for _, sources, begins, _ in rows
                   for s, b in zip(sources[1:], begins[1:], strict=True) if b]  # fmt: skip
        return sum(sources) / len(sources)

    for up, spec in (("rand", (0, 1)), ("p", (0, 1)), ("p-a", (0, 1)), ("pr", (0, "inf"))):
        assert base_share(f"{up}@{spec[0]}") == 0
        assert base_share(f"{up}@{spec[1]}") == 1
    for down in ("h", "h-a", "hr"):
        assert base_share(f"{down}@inf") == 0
        assert base_share(f"{down}@0") == 1
    for name, grid in (
        ("rand", (0, 0.25, 0.5, 0.75, 1)), ("p", (0, 0.2, 0.4, 0.6, 1)),
        ("p-punc", (0, 0.2, 0.4, 0.6, 1)), ("h", (3, 2, 1.5, 1, 0)),
    ):  # fmt: skip
        shares = [base_share(f"{name}@{g}") for g in grid]
        assert all(b >= a - 0.05 for a, b in pairwise(shares)), (name, shares)
        assert shares[-1] > shares[0]


def test_a_partner_that_is_not_needed_does_not_run() -> None:
    pair = fake_pair(end=-9)
    engine = Engine(*pair)
    run(engine, some_requests("rand@0", Warp(), count=3, limit=20))
    assert engine.stats.base_passes == 0
    assert engine.stats.aligned_passes == 20
    engine = Engine(*pair)
    run(engine, some_requests("p-a@0", Warp(), count=3, limit=20))
    assert engine.stats.base_passes == 0


def test_single_model_is_the_same_partner_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    _, aligned = fake_pair()
    requests = [
        Request((1,), (1,), router, row_key(0, "p", i), end_rule=False, max_new_tokens=20)
        for router in (parse("rand@0"), ALONE)
        for i in range(5)
    ]
    wanted = expected((aligned, aligned), requests)
    assert wanted[5:] == wanted[:5]
    engine = Engine(aligned, aligned)
    assert run(engine, requests) == wanted
    assert engine.stats.base_passes == 0
    # Where nobody is to be asked, nobody is, and nothing is brought to the device for it.
    monkeypatch.delattr(Engine, "_asked")
    assert run(Engine(aligned, aligned), requests[5:]) == wanted[5:]


def test_costs_add_up() -> None:
    pair = fake_pair(end=-9)
    engine = Engine(*pair)
    for request in some_requests("p@0.5", Warp(), count=5, limit=20):
        engine.submit(request)
    costs = []
    while not engine.idle:
        costs += [e.cost for e in engine.step() if e.cost]
    assert len(costs) == 5
    assert engine.stats.tokens == 100
    for cost in costs:
        assert 0 < cost.aligned_passes <= engine.stats.aligned_passes
        assert 0 < cost.base_passes <= engine.stats.base_passes
        assert 0 <= cost.accepted <= cost.drafted


def test_users_own_router() -> None:
    pair = fake_pair()
    seen = []

    def even(view: View) -> torch.Tensor:
        """Base at even positions."""
        seen.append(view)
        return view.context.t % 2 == 0

    mine = custom(even, name="even", reads=())
    requests = [Request((1,), (2,), mine, row_key(0, "p", i), max_new_tokens=20) for i in range(3)]
    assert run(Engine(*pair), requests) == expected(pair, requests)
    assert seen
    with pytest.raises(InputError, match="cannot read"):
        custom(even, reads=("both",))


class Greedy(FakePartner):
    """A partner with room for three rows."""

    def new_cache(self) -> FakeCache:
        return SmallCache(self)


class SmallCache(FakeCache):
    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().feed(tokens, counts)


def test_out_of_memory_splits_the_batch_and_goes_on() -> None:
    base, aligned = fake_pair()
    pair = (Greedy(base.vocabulary, base.script), Greedy(aligned.vocabulary, aligned.script))
    requests = some_requests("p@0.5", Warp(), count=9)
    engine = Engine(*pair)
    assert run(engine, requests) == expected((base, aligned), requests)
    assert engine.max_rows <= 3


def test_out_of_memory_with_one_row_says_what_to_do() -> None:
    class Full(FakeCache):
        def open(self, *_: object) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    class Tiny(FakePartner):
        def new_cache(self) -> FakeCache:
            return Full(self)

    base, aligned = fake_pair()
    engine = Engine(base, Tiny(aligned.vocabulary, aligned.script))
    engine.submit(some_requests("p", Warp())[0])
    with pytest.raises(BacoError, match="out of memory with a single row"):
        drain(engine, [0])


def test_bad_requests() -> None:
    base, aligned = fake_pair()
    aligned.context_window = 8
    engine = Engine(base, aligned)
    router = parse("p")
    with pytest.raises(InputError, match="the prompt is empty"):
        engine.submit(Request((), (1,), router, 0))
    with pytest.raises(InputError, match="the prompt has 8 tokens, the context window 8"):
        engine.submit(Request((1,), (1,) * 8, router, 0))
    with pytest.raises(InputError, match="max_new_tokens 0 is out of range"):
        engine.submit(Request((1,), (1,), router, 0, max_new_tokens=0))
    for lookahead in (0, 65, "on", True):
        with pytest.raises(InputError, match=r"look-ahead .* is out of range"):
            Engine(base, aligned, lookahead=lookahead)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_rows 0"):
        Engine(base, aligned, max_rows=0)
    other = fake_pair()[0]
    with pytest.raises(InputError, match="different tokenizers"):
        Engine(other, aligned)
    # The context window ends a row.
    row = engine.submit(Request((1,), (1,) * 5, parse("rand@0"), 0, max_new_tokens=99))
    [(tokens, _, _, finish)] = drain(engine, [row])
    assert len(tokens) <= 3
    assert finish == "stop" or len(tokens) == 3
