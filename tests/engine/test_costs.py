"""What passes cost: the models' sizes, and a table of what further tokens per row add."""

from __future__ import annotations

import time

import pytest
import torch

from baco.engine import Engine, Request
from baco.engine.costs import KINDS, SLOPES, Costs, slope
from baco.engine.noise import row_key
from baco.engine.opening import open_engine
from baco.routers import parse
from support.engines import fake_pair, random_pair, run


def test_without_a_table_sizes_count() -> None:
    aligned, base = fake_pair()
    aligned.parameters, base.parameters = 7, 3
    assert Costs((aligned, base)).of(5, 3) == [[7, 7, 7, 7], [3, 3, 3, 3]]


@pytest.mark.parametrize(("kind", "dtype"), SLOPES)
def test_models_are_looked_up_by_device_precision_and_rows(kind: str, dtype: str) -> None:
    assert kind == "cpu"
    base, aligned = random_pair("llama", getattr(torch, dtype.removeprefix("torch.")))
    size, by_kind = aligned.parameters, SLOPES[kind, dtype]
    for rows, column in ((1, 0), (2, 1), (4, 1), (5, 2), (64, 3), (5000, 3)):
        step = by_kind[column]
        assert slope(aligned.runs_on, rows) == step
        assert (
            Costs((aligned, base)).of(rows, 3)
            == [[size, size, size * (1 + step), size * (1 + 2 * step)]] * 2
        )


def test_the_table_is_one_of_passes() -> None:
    for by_kind in SLOPES.values():
        assert len(by_kind) == len(KINDS)
        assert all(4 * step in range(9) for step in by_kind)


def test_no_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> float:
        raise AssertionError("a clock was read")

    asked = [
        Request((5, 6), (7, 8), parse("p-punc@0.3"), row_key(0, "p", i), max_new_tokens=12)
        for i in range(3)
    ]
    engine = open_engine(*random_pair("llama", torch.float32), draft="prompt-lookup")
    assert isinstance(engine, Engine)
    with monkeypatch.context() as patch:
        for name in ("time", "perf_counter", "monotonic", "process_time", "thread_time"):
            patch.setattr(time, name, read)
            patch.setattr(time, name + "_ns", read)
        decoded = run(engine, asked)
    assert sum(len(tokens) for tokens, *_ in decoded) > 12
