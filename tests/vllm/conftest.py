"""Pairs in vLLM, loaded once. Where vLLM is not installed, these tests skip."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from baco.errors import UnsupportedError
from baco.pair import Pair
from baco.vllm.inside.versions import installed
from support import triton_cpu

if triton_cpu.ASKED:
    _triton = tempfile.TemporaryDirectory()
    triton_cpu.install(Path(_triton.name), os.environ)

os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

ENVIRONMENT = dict(os.environ)
"""Before vLLM, which sets variables for the workers of its first engine."""

SMALL = {"block_size": 32, "kv_cache_memory_bytes": 256 * 2**20}
"""Blocks so small that prompts of the bundled world fill some, and not too much memory."""


def need_vllm() -> None:
    """Skips the test where vLLM is not installed."""
    try:
        installed()
    except UnsupportedError as error:
        pytest.skip(f"{error}; or run make test-vllm")


def in_vllm(name: str = "tiny", **options: object) -> Pair:
    """Loads a pair into vLLM, or skips the test."""
    need_vllm()
    import baco

    return baco.load(name, engine="vllm", **{**SMALL, **triton_cpu.COLD, **options})


@pytest.fixture(scope="session")
def eager() -> Pair:
    """The bundled pair, without compiling."""
    return in_vllm(enforce_eager=True)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets further tokens of a pass cost nothing, so that all batches of pairs that draft do."""
    need_vllm()
    from baco.vllm.inside.drafts import Drafts

    monkeypatch.setattr(Drafts, "_cost", lambda self, n, width: 1.0)


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """For processes that start a vLLM of their own."""
    return ENVIRONMENT


@pytest.fixture(scope="session")
def load() -> Callable[..., Pair]:
    """Loads a pair for one test."""
    need_vllm()
    return in_vllm
