"""Tiny models in GGUF files. Where llama-cpp-python is not installed, these tests skip."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import baco
from baco.models.llamacpp import BACKEND
from baco.pair import Pair
from llamacpp import files


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a model once, as `llamacpp.files.write`."""
    pytest.importorskip("llama_cpp", reason="needs llama-cpp-python: make test-llamacpp")
    pytest.importorskip("gguf", reason="needs gguf: make test-llamacpp")
    folder = tmp_path_factory.mktemp("gguf")

    @cache
    def made(name: str, kind: str = "llama", **how: Any) -> Path:
        return files.write(folder / f"{name}.gguf", kind, **how)

    return made


def load(base: Path, aligned: Path, **options: Any) -> Pair:
    """Loads a pair into llama.cpp, as users do."""
    return baco.load(str(base), str(aligned), engine="llamacpp", **options)


EXACT = {"type_k": 0, "type_v": 0}
"""Keys and values in float32: what passes are made of then shows in the last bits only."""

PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "two files": ({"name": "llama-0"}, {"name": "llama-1", "spread": 0.3}),
    "one file twice": ({"name": "llama-0"}, {"name": "llama-0"}),
    "two tokenizers": (
        {"name": "llama-2", "words": files.OTHERS, "spread": 0.3, "template": None},
        {"name": "llama-0"},
    ),
    "sliding windows": (
        {"name": "gemma-0", "kind": "gemma3", "layers": 7},
        {"name": "gemma-1", "kind": "gemma3", "layers": 7, "spread": 0.3},
    ),
    "recurrent": (
        {"name": "mamba-0", "kind": "mamba"},
        {"name": "mamba-1", "kind": "mamba", "spread": 0.3},
    ),
}


@pytest.fixture(scope="session")
def pairs(gguf: Callable[..., Path]) -> Callable[[str], Pair]:
    """Loads a pair of `PAIRS`, once."""
    assert BACKEND.options

    @cache
    def made(name: str) -> Pair:
        base, aligned = (gguf(**how) for how in PAIRS[name])
        return load(base, aligned, **EXACT)

    return made
