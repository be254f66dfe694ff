"""Which of vLLM's model runners a pair gets: vLLM's own choice, without any setting.

``BACO_TEST_TRITON=1`` lets vLLM find Triton (`support.triton_cpu`), as on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from baco.engine import Warp
from baco.errors import UnsupportedError
from baco.pair import Pair
from support import triton_cpu
from support.oracle import compare, decode, requests


def core_of(pair: Pair) -> object:
    """vLLM's engine of a pair."""
    return pair.aligned.runtime._engine  # type: ignore[attr-defined]


def test_vllm_chooses_the_runner(eager: Pair) -> None:
    assert "VLLM_USE_V2_MODEL_RUNNER" not in os.environ
    config = core_of(eager).vllm_config  # type: ignore[attr-defined]
    core = core_of(eager).engine_core.engine_core  # type: ignore[attr-defined]
    runner = core.model_executor.driver_worker.worker.model_runner
    two = ".gpu." in type(runner).__mro__[-3].__module__ or "worker.cpu." in type(runner).__module__
    assert two == triton_cpu.ASKED == config.use_v2_model_runner
    assert config.scheduler_config.async_scheduling == triton_cpu.ASKED


@pytest.mark.skipif(triton_cpu.ASKED, reason="the runner V2 schedules asynchronously")
def test_runner_v1_does_not_schedule_asynchronously(load: Callable[..., Pair]) -> None:
    with pytest.raises(UnsupportedError, match="asynchronous scheduling by the model runner V1"):
        load(enforce_eager=True, async_scheduling=True)


def test_scheduling_in_step(load: Callable[..., Pair]) -> None:
    pair = load(enforce_eager=True, async_scheduling=False)
    asked = [r for spec in ("p-punc@0.4", "h-ahead2@1") for r in requests(spec, Warp(), count=3)]
    assert compare(asked, decode(pair, asked)).equal >= len(asked) - 1
