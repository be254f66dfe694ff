"""vLLM as an engine that users pick by name; nothing of it is imported before it is used."""

from __future__ import annotations

from typing import Any

from baco.models.engines import Backend
from baco.models.sides import Models


def _load(*sides: Any, **options: Any) -> Models:
    from baco.vllm.load import load_vllm_pair

    return load_vllm_pair(*sides, **options)


def _likelihood(model: Any, options: Any) -> Any:
    from baco.vllm.likelihood import VllmLikelihood

    return VllmLikelihood(model, options)


BACKEND = Backend(
    _load,
    options=True,
    likelihood=_likelihood,
    spread=("tensor_parallel_size", "data_parallel_size"),
)
