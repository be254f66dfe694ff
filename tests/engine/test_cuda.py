"""The engine on CUDA. Without a device all of this skips."""

from __future__ import annotations

import pytest
import torch

import baco
from baco.engine import Engine, Request, reference
from baco.engine.noise import row_key
from baco.models.grouped import attention_of
from baco.models.memory import Workload, need_of
from baco.routers import parse
from support.engines import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ASK = "Suggest a summer trip destination."


def requests(pair: baco.Pair, spec: str, count: int = 4, limit: int = 24) -> list[Request]:
    base, aligned = pair.prompt_ids(baco.prompts.conversation_of(ASK))
    return [
        Request(base, aligned, parse(spec), row_key(0, "p", i), max_new_tokens=limit)
        for i in range(count)
    ]


def near_ties(pair: baco.Pair, device: str, dtype: str, spec: str) -> list[float]:
    """How near each difference from the oracle on the CPU in float64 was to a tie."""
    other = baco.load("tiny", device=device, dtype=dtype)
    asked = requests(pair, spec)
    found = run(Engine(other.base, other.aligned), requests(other, spec))
    near = []
    for request, (tokens, sources, _, _) in zip(asked, found, strict=True):
        trace = reference.decode(pair.base, pair.aligned, request)
        both = zip(tokens, sources, trace.tokens, trace.sources, strict=False)
        at = next((k for k, (a, b, c, d) in enumerate(both) if (a, b) != (c, d)), None)
        if at is None and len(tokens) != len(trace.tokens):
            at = min(len(tokens), len(trace.tokens))
        if at is not None:
            near.append(min(m.value for m in trace.margins if m.t == at))
    return near


@pytest.fixture(scope="module")
def exact() -> baco.Pair:
    return baco.load("tiny", device="cpu", dtype="float64")


@pytest.mark.parametrize("spec", ["p-punc@0.3", "rand@0.5", "h@1"])
def test_float64_equals_the_oracle(exact: baco.Pair, spec: str) -> None:
    assert near_ties(exact, "cuda", "float64", spec) == []


def test_float32_differs_only_at_near_ties(exact: baco.Pair) -> None:
    assert all(margin < 1e-4 for margin in near_ties(exact, "cuda", "float32", "p-punc@0.3"))


def test_bfloat16_with_sdpa() -> None:
    pair = baco.load("tiny", device="cuda", dtype="bfloat16")
    group = pair.generate(ASK, n=4, max_new_tokens=24)
    assert attention_of(pair.aligned.model.config) == "sdpa"
    assert all(sample.text for sample in group)
    assert pair.generate(ASK, n=4, max_new_tokens=24) == group


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_pair_on_two_devices(exact: baco.Pair) -> None:
    assert near_ties(exact, "cuda:0,cuda:1", "float64", "p-punc@0.3") == []


def test_one_side_on_the_cpu(exact: baco.Pair) -> None:
    assert near_ties(exact, "cpu,cuda:0", "float64", "p-punc@0.3") == []
    assert near_ties(exact, "cuda:0,cpu", "float64", "p-punc@0.3") == []


def test_memory_is_predicted() -> None:
    pair = baco.load("tiny", device="cuda", dtype="float32")
    asked = requests(pair, "p-punc@0.3", count=20, limit=60)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(Engine(pair.base, pair.aligned), asked)
    used = torch.cuda.max_memory_allocated() - before
    lengths = (len(asked[0].base_prompt), len(asked[0].aligned_prompt))
    need = need_of((pair.base, pair.aligned), Workload([lengths], 20, 60, lags=False))
    assert need is not None
    assert used <= need.at(20, weights=False)[pair.aligned.device]
