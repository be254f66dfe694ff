"""CUDA graphs, emulated on a CPU: a replay reads the memory of its capture, whatever it is given.

vLLM captures what lies between attention layers once for each of a few sizes, with its own inputs,
and pads every later pass to one of them. So here: each side's model is run once for each size and
remembers the tensors that it was given; in every later pass it reads those, and sees what stands
in their memory then.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from baco.engine import Request, Warp
from baco.pair import Pair
from support import triton_cpu
from support.oracle import DRAFTING, PROMPTS, compare, decode, requests

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)


class Captured:
    """A side's model behind the graphs of all sizes."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._plain = model.forward
        self._given: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.capturing = self.looking = False
        self.replays = 0

    def __call__(self, ids: torch.Tensor, positions: torch.Tensor, *rest: Any) -> Any:
        from vllm.forward_context import get_forward_context

        if self.capturing:
            self._given[len(ids)] = (ids, positions)
        elif self.looking:
            pass  # no graph is asked for; from 0.33.0 on vLLM describes such a batch all the same
        elif get_forward_context().batch_descriptor is not None and len(ids) in self._given:
            ids, positions = self._given[len(ids)]
            self.replays += 1
        return self._plain(ids, positions, *rest)


def runner_of(pair: Pair) -> Any:
    """What runs the models, inside vLLM."""
    engine = pair.aligned.runtime._engine  # type: ignore[attr-defined]
    return engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner


def capture(pair: Pair) -> list[Captured]:
    """Captures both sides at all sizes, and pads every pass to one of them from now on."""
    from vllm.config import CUDAGraphMode

    runner = runner_of(pair)

    def size_of(num_tokens: int) -> int:
        return next((size for size in SIZES if size >= num_tokens), num_tokens)

    if triton_cpu.ASKED:
        from vllm.v1.worker.gpu import model_runner
        from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor

        def sized(manager: Any, reqs: int, tokens: int, *rest: Any, **_: Any) -> tuple[Any, None]:
            return BatchExecutionDescriptor(CUDAGraphMode.NONE, size_of(tokens), None), None

        # A runner of its own: others in this process go on without graphs.
        calls = runner.execute_model

        def execute_model(*args: Any, **more: Any) -> Any:
            with patch.object(model_runner, "dispatch_cg_and_sync_dp", sized):
                return calls(*args, **more)

        runner.execute_model = execute_model
    else:
        from vllm.forward_context import BatchDescriptor

        def padded(num_tokens: int, **_: object) -> tuple[object, object]:
            return CUDAGraphMode.NONE, BatchDescriptor(size_of(num_tokens))

        runner.cudagraph_dispatcher.dispatch = padded
    sides = []
    for model in (runner.model.aligned, runner.model.base):
        sides.append(Captured(model))
        model.forward = sides[-1]
        sides[-1].capturing = True
    feed = runner.model.rows.ahead.feed

    def looks(*args: Any) -> Any:
        for side in sides:
            side.looking = True
        try:
            return feed(*args)
        finally:
            for side in sides:
                side.looking = False

    runner.model.rows.ahead.feed = looks
    for size in SIZES:
        runner._dummy_run(size, cudagraph_runtime_mode=CUDAGraphMode.NONE)
        runner.execute_model_state = None
    for side in sides:
        side.capturing = False
    return sides


@pytest.fixture(scope="module")
def graphs(load: Callable[..., Pair]) -> tuple[Pair, list[Captured]]:
    pair = load(enforce_eager=True)
    return pair, capture(pair)


def asked() -> list[Request]:
    """Routers that read one side, both, and ahead; prompts of unequal lengths, some in chunks."""
    return [
        request
        for spec in ("p-punc@0.4", "rand@0.5", "p-ahead3@0.6")
        for warp in (Warp(), Warp(temperature=0))
        for request in requests(spec, warp, prompts=PROMPTS, limit=24)
    ]


def test_replays_read_what_each_side_reads(graphs: tuple[Pair, list[Captured]]) -> None:
    pair, sides = graphs
    tally = compare(asked(), decode(pair, asked()))
    print(f"{tally}, replays {[side.replays for side in sides]}")
    assert tally.equal >= tally.total - 1
    assert min(side.replays for side in sides) >= 20


@pytest.mark.skipif(not triton_cpu.ASKED, reason="the runner V1 does not draft")
def test_replays_of_passes_that_check_drafts(
    load: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch, free: None
) -> None:
    """Where graphs have fixed shapes, a side runs over all tokens, those that it has read too."""
    from baco.vllm.inside import model

    pair = load(enforce_eager=True, **DRAFTING)
    sides = capture(pair)
    monkeypatch.setattr(model, "CUDAGraphMode", SimpleNamespace(NONE=None))
    tally = compare(asked(), decode(pair, asked()))
    print(f"{tally}, replays {[side.replays for side in sides]}")
    assert tally.equal >= tally.total - 1
    assert min(side.replays for side in sides) >= 10


def test_a_side_alone_replays_its_own(graphs: tuple[Pair, list[Captured]]) -> None:
    pair, sides = graphs
    before = [side.replays for side in sides]
    options = {"n": 3, "max_new_tokens": 16, "seed": 2}
    from support import golden

    for method in ("base", "aligned"):
        here = pair.generate(PROMPTS[0], method=method, **options)
        assert here.texts == golden.tiny().generate(PROMPTS[0], method=method, **options).texts
    assert all(side.replays > was for side, was in zip(sides, before, strict=True))


def test_nothing_unreadable_stands_beyond_a_pass(graphs: tuple[Pair, list[Captured]]) -> None:
    """vLLM leaves old labels behind a pass's tokens, which are no token ids."""
    pair, _ = graphs
    decode(pair, asked()[:3])
    model = runner_of(pair).model
    for inputs in model._inputs:
        ids, positions = inputs.first(SIZES[-1])
        assert ids.min() >= 0
        assert ids.max() < model.config.vocab_size
        assert positions.min() >= 0
