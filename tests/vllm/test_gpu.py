"""The same answers on a GPU (``make test-vllm-gpu``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baco.engine import Warp
from baco.pair import Pair
from support.oracle import DRAFTING, LEARNED, compare, decode, requests

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("more", [{}, DRAFTING], ids=["", "drafts"])
@pytest.mark.parametrize("eagerly", [True, False], ids=["eager", "compiled"])
def test_a_gpu_gives_the_oracles_answers(
    load: Callable[..., Pair], eagerly: bool, more: dict[str, Any]
) -> None:
    pair = load(
        block_size=16, kv_cache_memory_bytes=2**30, dtype="float32", enforce_eager=eagerly, **more
    )
    asked = [
        request
        for spec in ("p-punc@0.4", "rand@0.5", "h@1", "fc", "p@sentence:1,0.2/1", "p-ahead3@0.6",
                     f"{LEARNED}@0.6")
        for warp in (Warp(), Warp(temperature=0))
        for request in requests(spec, warp, count=4)
    ]  # fmt: skip
    tally = compare(asked, decode(pair, asked))
    print(tally)
    assert tally.equal >= 0.95 * tally.total
