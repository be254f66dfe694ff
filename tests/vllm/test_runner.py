"""Which of vLLM's model runners a pair gets: vLLM's own choice, without any setting.

``BACO_TEST_TRITON=1`` lets vLLM find Triton (`support.triton_cpu`), as on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from baco.engine import Warp
from baco.errors import UnsupportedError
from baco.pair import Pair
from support import triton_cpu
from support.oracle import compare, core_of, decode, requests, warm_up


def test_vllm_chooses_the_runner(eager: Pair) -> None:
    assert "VLLM_USE_V2_MODEL_RUNNER" not in os.environ
    config = core_of(eager).vllm_config
    core = core_of(eager).engine_core.engine_core
    runner = core.model_executor.driver_worker.worker.model_runner
    two = any(kind.__module__ == "vllm.v1.worker.gpu.model_runner" for kind in type(runner).mro())
    assert two == triton_cpu.ASKED == config.use_v2_model_runner


@pytest.mark.skipif(not triton_cpu.ASKED, reason="the runner V1 warms up without requests")
def test_warming_up(load: Callable[..., Pair]) -> None:
    """vLLM's default on GPUs: it runs requests of its own at the start, which name no pair."""
    pair = load(enforce_eager=True, max_num_seqs=4)
    warm_up(pair)
    asked = requests("p-punc@0.4", Warp(), count=2)
    assert compare(asked, decode(pair, asked)).equal >= len(asked) - 1


@pytest.mark.skipif(triton_cpu.ASKED, reason="the runner V2 may schedule asynchronously")
def test_runner_v1_does_not_schedule_asynchronously(load: Callable[..., Pair]) -> None:
    with pytest.raises(UnsupportedError, match="asynchronous scheduling by the model runner V1"):
        load(enforce_eager=True, async_scheduling=True)


@pytest.mark.skipif(not triton_cpu.ASKED, reason="the runner V1 schedules in step")
@pytest.mark.parametrize("tight", [False, True], ids=["", "preempted"])
def test_asynchronous_scheduling(
    tight: bool, load: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM's default on GPUs: a pass is scheduled before the last one's tokens are known."""
    from vllm.platforms.cpu import CpuPlatform
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler

    plain, preempt = CpuPlatform.check_and_update_config, AsyncScheduler._preempt_request
    preempted = []

    def check_and_update_config(vllm_config: Any) -> None:
        plain(vllm_config)
        vllm_config.scheduler_config.async_scheduling = True  # a CPU turns it off

    def counting(self: Any, request: Any, *args: Any, **more: Any) -> None:
        preempted.append(len(request.output_token_ids))
        preempt(self, request, *args, **more)

    monkeypatch.setattr(
        CpuPlatform, "check_and_update_config", staticmethod(check_and_update_config)
    )
    monkeypatch.setattr(AsyncScheduler, "_preempt_request", counting)
    # Tight: room for about eight answers, and two dozen of them at a time.
    room = {"num_gpu_blocks_override": 18, "max_model_len": 128} if tight else {}
    pair = load(enforce_eager=True, **room)
    core = core_of(pair).engine_core.engine_core
    assert isinstance(core.scheduler, AsyncScheduler)
    assert core.batch_queue_size > 1
    asked = [
        request
        for spec in ("p-punc@0.4", "rand@0.5", "p@sentence:1,0.2/1", "h-ahead9@1")
        for warp in (Warp(), Warp(temperature=0))
        for request in requests(spec, warp, count=3, limit=60 if tight else 24)
    ]
    tally = compare(asked, decode(pair, asked))
    print(f"{tally}, {sum(t > 0 for t in preempted)} preemptions within answers")
    assert tally.equal >= 0.95 * tally.total
    assert not tight or sum(t > 0 for t in preempted) >= 5
