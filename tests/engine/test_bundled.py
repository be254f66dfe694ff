"""On the bundled pair: loop equals oracle over batch shapes, in double and single precision."""

from __future__ import annotations

import pytest

import baco
from baco.engine import Engine, reference
from baco.engine.request import Request
from support import golden
from support.engines import Decoded, run

pytestmark = pytest.mark.costs


def expected(requests: list[Request]) -> list[Decoded]:
    pair = golden.tiny()
    traces = (reference.decode(pair.base, pair.aligned, r) for r in requests)
    return [(t.tokens, t.sources, t.begins, t.finish) for t in traces]


@pytest.mark.parametrize("warp", golden.WARPS)
@pytest.mark.parametrize("spec", ["p-punc@0.4", "rand@0.5"])
def test_batch_shapes(spec: str, warp: str) -> None:
    pair = golden.tiny()
    requests = golden.requests(spec, warp, count=10, limit=16)
    wanted = expected(requests)
    for rows in (1, 3, 16):
        assert run(Engine(pair.base, pair.aligned, max_rows=rows), requests) == wanted
    assert run(Engine(pair.base, pair.aligned), requests[:1]) == wanted[:1]  # n = 1
    assert run(Engine(pair.base, pair.aligned, lookahead="off"), requests) == wanted


def test_single_precision_differs_only_at_near_ties() -> None:
    exact, single = golden.tiny(), baco.load("tiny", dtype="float32")
    listed = []
    requests = golden.requests("p-punc@0.4", "default", count=10)
    decoded = run(Engine(single.base, single.aligned), requests)
    for request, (tokens, sources, _, _) in zip(requests, decoded, strict=True):
        trace = reference.decode(exact.base, exact.aligned, request)
        if (tokens, sources) == (trace.tokens, trace.sources):
            continue
        both = zip(tokens, sources, trace.tokens, trace.sources, strict=False)
        at = next((k for k, (a, b, c, d) in enumerate(both) if (a, b) != (c, d)), len(tokens))
        near = min((m for m in trace.margins if m.t == at), key=lambda m: m.value)
        listed.append((request.key, at, near))
        assert near.value < 1e-4, listed
    print("near-ties:", listed)
