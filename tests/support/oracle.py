"""What decoding in vLLM must give: the oracle's answers, but for near-ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from baco.engine import Request, Warp, reference
from baco.engine.noise import row_key
from baco.engine.opening import open_engine
from baco.engine.partner import Partner
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.routers import parse
from support import golden
from support.engines import Decoded, drain

PROMPTS = (
    "Suggest a summer trip destination.",
    "Tell me a story in three sentences about a girl and her dog.",
    "Name a city in Italy for my quiz.",
    "Tell me a silly joke for the kids.",
    "What is the capital of France?",
)
LEARNED = str(Path(__file__).parents[1] / "routers" / "learned.json")
"""A router that was learned for the bundled pair."""

DRAFTING = {"speculative_config": {"num_speculative_tokens": 4}}
"""Lets a pair in vLLM draft."""

NEAR = 1e-4
"""A comparison won by less than this may go the other way in single precision."""


def requests(
    spec: str,
    warp: Warp,
    *,
    prompts: Sequence[str] = PROMPTS[:2],
    count: int = 1,
    limit: int = 24,
    seed: int = 0,
) -> list[Request]:
    """Requests of the bundled pair."""
    out = []
    for prompt in prompts:
        base, aligned = golden.tiny().prompt_ids(conversation_of(prompt))
        out += [
            Request(base, aligned, parse(spec), row_key(seed, prompt, i), warp,
                    max_new_tokens=limit, turn_rule=i % 2 == 0)
            for i in range(count)
        ]  # fmt: skip
    return out


def of_lengths(ask: Request, lengths: Sequence[tuple[int, int]]) -> list[Request]:
    """A request, twice for each pair of lengths that its base and its aligned prompt get."""

    def stretched(ids: tuple[int, ...], length: int) -> tuple[int, ...]:
        return (ids * (length // len(ids) + 1))[-length:]

    return [
        replace(
            ask,
            base_prompt=stretched(ask.base_prompt, base),
            aligned_prompt=stretched(ask.aligned_prompt, aligned),
            key=ask.key + i,
        )
        for base, aligned in lengths
        for i in range(2)
    ]


def core_of(pair: Pair) -> Any:
    """vLLM's engine of a pair."""
    return pair.aligned.runtime._engine  # type: ignore[attr-defined]


def warm_up(pair: Pair) -> None:
    """Lets vLLM's runner V2 run requests of its own, as it does at the start on GPUs."""
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.warmup import run_mixed_prefill_decode_warmup, warmup_kernels

    worker = core_of(pair).engine_core.engine_core.model_executor.driver_worker.worker
    # Kernels that the interpreter cannot run are left out: of grammars, of top-k and top-p.
    told = (worker.model_runner, worker.execute_model, lambda _: worker.sample_tokens(None))
    with patch.object(SamplingParams, "for_sampler_warmup", SamplingParams):
        warmup_kernels(*told)
    assert run_mixed_prefill_decode_warmup(*told, num_tokens=8)


def decode(pair: Pair, asked: Sequence[Request]) -> list[Decoded]:
    """Decodes requests, all in one batch."""
    engine = open_engine(pair.base, pair.aligned)
    return drain(engine, [engine.submit(request) for request in asked])


class Remembering:
    """A partner that remembers what it said: many requests go the same way for a while."""

    def __init__(self, partner: Partner) -> None:
        self.vocabulary = partner.vocabulary
        self.context_window = partner.context_window
        self.abilities = partner.abilities
        self._said = cache(partner.logits)

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        return self._said(tuple(ids))


_gumbel = cache(reference.gumbel)


@cache
def partners() -> tuple[Any, Any]:
    """The (base, aligned) partner that the oracle asks."""
    return Remembering(golden.tiny().base), Remembering(golden.tiny().aligned)


@cache
def trace(request: Request) -> reference.Trace:
    """The oracle's answer, in double precision."""
    with patch.object(reference, "gumbel", _gumbel):
        return reference.decode(*partners(), request)


class Tally(NamedTuple):
    """How many answers are equal, and the near-ties that explain the others."""

    equal: int
    total: int
    ties: list[reference.Margin]

    def __str__(self) -> str:
        return f"{self.equal} of {self.total} equal to the oracle, near-ties: {self.ties}"


def compare(
    asked: Sequence[Request],
    decoded: Sequence[Decoded],
    said: Callable[[Request], reference.Trace] = trace,
    near: float = NEAR,
) -> Tally:
    """Compares answers with the oracle's: ids, sources, unit beginnings, finish.

    Args:
        asked: What was decoded.
        decoded: What came out.
        said: Asks the oracle.
        near: By less than this a comparison may go the other way.

    Raises:
        AssertionError: If one differs otherwise than by a near-tie.
    """
    equal, ties = 0, []
    for request, got in zip(asked, decoded, strict=True):
        wanted = said(request)
        if got == (wanted.tokens, wanted.sources, wanted.begins, wanted.finish):
            equal += 1
            continue
        both = list(zip(got[0], got[1], wanted.tokens, wanted.sources, strict=False))
        at = next((k for k, (a, b, c, d) in enumerate(both) if (a, b) != (c, d)), len(both))
        tie = min((m for m in wanted.margins if m.t == at), key=lambda m: m.value)
        assert tie.value < near, (request.router.spec, at, tie, got, wanted[:4])
        ties.append(tie)
    return Tally(equal, len(asked), ties)
