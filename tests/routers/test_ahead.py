"""Routers that look ahead, and the engine's look: names, formulas, the oracle, costs."""

from __future__ import annotations

import pytest
import torch

from baco.engine import Engine, Request, Warp, reference
from baco.engine.loop import Stats
from baco.engine.noise import row_key
from baco.engine.router import View
from baco.engine.scores import Stretch
from baco.errors import InputError, UnsupportedError
from baco.routers import parse
from support.engines import WORDS, fake_pair, random_pair, run
from support.views import HALF, SURE, VOCABULARY, view

pytestmark = pytest.mark.costs

SPECS = [
    "p-ahead@0.5", "p-ahead2@0.6", "p-ahead-sentence@0.6", "h-ahead3@1.2", "h-ahead-sentence@1",
    "punc-ahead2", "p-punc-ahead@0.6", "h-fc-ahead2@1", "p-ahead2@0.7>h-ahead3@1.1",
]  # fmt: skip


def requests(spec: str, count: int, warp: Warp | None = None, limit: int = 24) -> list[Request]:
    return [
        Request((1, 2), (3,), parse(spec), row_key(0, "ahead", i), warp or Warp(),
                max_new_tokens=limit)
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("lookahead", ["off", "auto"])
def test_the_loop_equals_the_oracle(spec: str, lookahead: str) -> None:
    base, aligned = fake_pair()
    wanted = requests(spec, 6)
    decoded = run(Engine(base, aligned, lookahead=lookahead), wanted)  # type: ignore[arg-type]
    spoke = set()
    for request, (tokens, sources, begins, finish) in zip(wanted, decoded, strict=True):
        trace = reference.decode(base, aligned, request)
        assert (tokens, sources, begins, finish) == trace[:4]
        spoke |= set(sources)
    assert spoke == {0, 1} or spec == "punc-ahead2"


@pytest.mark.parametrize("spec", ["p-ahead2@0.3", "h-ahead-sentence@2"])
def test_on_a_transformer_too(spec: str) -> None:
    base, aligned = random_pair("llama")
    prompts = [tuple(range(4, 9)), tuple(range(9, 12))]
    wanted = [
        Request(p, p[::-1], parse(spec), row_key(1, "x", i), Warp(), max_new_tokens=12)
        for i, p in enumerate(prompts * 2)
    ]
    decoded = run(Engine(base, aligned, max_rows=3), wanted)
    for request, got in zip(wanted, decoded, strict=True):
        assert tuple(got) == tuple(reference.decode(base, aligned, request)[:4])


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    base, aligned = fake_pair()
    together = run(Engine(base, aligned), requests("p-ahead3@0.6", 8))
    for i, request in enumerate(requests("p-ahead3@0.6", 8)):
        assert run(Engine(base, aligned), [request])[0] == together[i]


@pytest.mark.parametrize(("deep", "flat"), [("p-ahead1@0.6", "p@0.6"), ("h-ahead1@1", "h@1"),
                                            ("punc-ahead1", "punc"),
                                            ("p-punc-ahead1@0.6", "p-punc@0.6")])  # fmt: skip
def test_one_token_ahead_is_the_plain_rule(deep: str, flat: str) -> None:
    base, aligned = fake_pair()
    for warp in (Warp(), Warp(temperature=0)):
        assert run(Engine(base, aligned), requests(deep, 4, warp)) == run(
            Engine(base, aligned), requests(flat, 4, warp)
        )


def test_a_small_context_window_shortens_the_look() -> None:
    base, aligned = fake_pair(end=-9.0)
    base.context_window = 12
    wanted = requests("p-ahead8@0.6", 3, limit=30)
    decoded = run(Engine(base, aligned), wanted)
    for request, got in zip(wanted, decoded, strict=True):
        trace = reference.decode(base, aligned, request)
        n = len(got[0])
        assert 0 < n <= 12
        assert got[0] == trace.tokens[:n]
        assert got[1] == trace.sources[:n]


def test_the_cost_is_counted() -> None:
    def stats(spec: str) -> tuple[Stats, int]:
        base, aligned = fake_pair(end=-20.0)
        engine = Engine(base, aligned, lookahead="off")
        engine.submit(requests(spec, 1, limit=20)[0])
        passes = 0
        while not engine.idle:
            for event in engine.step():
                if event.cost:
                    passes = event.cost.base_passes
        return engine.stats, passes

    flat, row_flat = stats("p@0.6")
    deep, row_deep = stats("p-ahead6@0.6")
    assert deep.base_passes > 2 * flat.base_passes
    assert deep.base_token_rows > flat.base_token_rows
    assert row_deep > 2 * row_flat
    assert deep.aligned_passes <= 20  # only base writes ahead for `p-ahead`


def stretched(probs: list[float], tokens: list[str], spec: str) -> bool:
    one = view(HALF, SURE)
    ids = torch.tensor([[WORDS.index(token) for token in tokens]])
    top = torch.tensor([probs])
    stretch = Stretch(ids, top, -top.log(), torch.tensor([[p > 0 for p in probs]]))
    seen = View(
        one.base, one.aligned, VOCABULARY, one.context, one.asked,
        ahead=lambda side, depth, asked: stretch,
    )  # fmt: skip
    return bool(parse(spec).decide(seen)[0])


@pytest.mark.parametrize(
    ("spec", "probs", "tokens", "expected"),
    [
        ("p-ahead2@0.6", [0.4, 0.6], [" cat", " sat"], True),  # 0.5
        ("p-ahead2@0.5", [0.4, 0.6], [" cat", " sat"], False),
        ("p-ahead2@0.45", [0.4, 0.0], [" cat", " sat"], True),  # the second does not count
        ("p-ahead2@1", [1.0, 1.0], [" cat", " sat"], True),  # gamma = 1: always
        ("h-ahead2@0.6", [0.5, 0.5], [" cat", " sat"], True),  # ln 2
        ("h-ahead2@0.7", [0.5, 0.5], [" cat", " sat"], False),
        ("punc-ahead2", [0.5, 0.5], [" cat", "."], False),
        ("punc-ahead2", [0.5, 0.0], [" cat", "."], True),
        ("punc-ahead2", [0.5, 0.5], [" cat", " sat"], True),
        ("punc-ahead2", [0.5, 0.5], [",", " sat"], False),
    ],
)
def test_formulas(spec: str, probs: list[float], tokens: list[str], expected: bool) -> None:
    assert stretched(probs, tokens, spec) is expected


def test_names_round_trip() -> None:
    for spec in SPECS:
        assert parse(spec).spec == spec
        assert parse(spec) == parse(spec)
    assert parse("p-ahead").gamma == 0.5
    assert parse("p-punc-ahead3@0.4").reads == {"base", "aligned"}
    assert parse("p-ahead").looks_ahead
    assert not parse("p").looks_ahead


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("p-ahead0", r"router 'p-ahead0' looks 0 tokens ahead \(use 1 to 64, or -sentence\)"),
        ("h-ahead65", "looks 65 tokens ahead"),
        ("punc-ahead-sentence", "a sentence always ends in punctuation"),
        ("p-ahead-word", "unknown router 'p-ahead-word'"),
        ("p-ahead@1.2", "out of range"),
        ("punc-ahead2@0.3", "takes no threshold"),
    ],
)
def test_bad_names(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(spec)


def test_an_engine_that_cannot_look_says_so() -> None:
    with pytest.raises(UnsupportedError, match="cannot let a partner write ahead"):
        parse("p-ahead").decide(view(HALF, SURE))
