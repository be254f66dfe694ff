"""Every router on the bundled pair gives what the oracle gave when the traces were recorded."""

from __future__ import annotations

import json

import pytest

from baco.engine import Engine
from support import golden
from support.engines import run

RECORDED = json.loads(golden.FILE.read_text())


def test_every_router_is_recorded() -> None:
    assert set(RECORDED) == {f"{spec} {warp}" for spec in golden.SPECS for warp in golden.WARPS}


@pytest.mark.parametrize("key", RECORDED)
def test_the_loop_gives_the_recorded_trace(key: str) -> None:
    spec, warp = key.split(" ")
    pair = golden.tiny()
    decoded = run(Engine(pair.base, pair.aligned), golden.requests(spec, warp))
    for (ids, sources, _, finish), wanted in zip(decoded, RECORDED[key], strict=True):
        assert (ids, sources, finish) == (wanted["ids"], wanted["sources"], wanted["finish"])


@pytest.mark.parametrize("key", ["p-punc default", "h-fc greedy"])
def test_the_oracle_still_gives_them(key: str) -> None:
    assert golden.traces(*key.split(" ")) == RECORDED[key]
