"""Decoding in llama.cpp against the oracle, which asks the same models without a cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from baco.engine import Request, Warp, noise, reference
from baco.engine.loop import Engine
from baco.engine.noise import row_key
from baco.engine.partner import Lookahead
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.routers import parse
from llamacpp.conftest import PAIRS, load
from support.engines import Decoded, run
from support.oracle import Remembering, Tally, compare

HOW = {"greedy": Warp(temperature=0), "sampled": Warp()}
SPECS = ("p-punc@0.4", "rand@0.5", "h@1")

REAL = Path(os.environ.get("BACO_GGUF_FILES", "nowhere"))
"""A folder with the files of the pair ``real``: see docs/llamacpp.md."""
SMOL, GEMMA = REAL / "SmolLM2-135M-Instruct.Q4_1.gguf", REAL / "gemma-3-270m-q4_k_m.gguf"


def asked(
    pair: Pair, texts: Sequence[str], spec: str, warp: Warp, n: int, limit: int
) -> list[Request]:
    out = []
    for text in texts:
        base, aligned = pair.prompt_ids(conversation_of(text))
        out += [
            Request(base, aligned, parse(spec), row_key(0, text, i), warp, max_new_tokens=limit)
            for i in range(n)
        ]
    return out


def decode(pair: Pair, requests: Sequence[Request], lookahead: Lookahead) -> list[Decoded]:
    return run(Engine(pair.base, pair.aligned, lookahead=lookahead), requests)


def tally(
    pair: Pair, requests: Sequence[Request], decoded: Sequence[Decoded], near: float = 1e-4
) -> Tally:
    return compare(requests, decoded, lambda request: trace(pair, request), near)


remembering = cache(Remembering)


@cache
def trace(pair: Pair, request: Request) -> reference.Trace:
    """The oracle's answer, by the logits of llama.cpp."""
    with patch.object(reference, "gumbel", gumbel):
        return reference.decode(remembering(pair.base), remembering(pair.aligned), request)  # type: ignore[arg-type]


@cache
def gumbel(key: int, t: int, size: int, stream: int = noise.TOKEN) -> Any:
    """The oracle's noise, in arrays: tests/engine/test_noise.py compares it with its own."""
    return noise.gumbel(torch.tensor([key]), torch.tensor([t]), torch.arange(size), stream)[
        0
    ].numpy()


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", PAIRS)
def test_every_kind_of_pair(pairs: Callable[[str], Pair], name: str, how: str) -> None:
    """n = 1 and n = 10, with and without look-ahead, on one prompt each and on two together."""
    pair = pairs(name)
    texts = ("The cat sat on the mat, and", "Suggest a big red dog.\n")
    for spec in SPECS:
        for n in (1, 10):
            requests = asked(pair, texts[: 2 if n == 1 else 1], spec, HOW[how], n, 24)
            plain = decode(pair, requests, "off")
            found = tally(pair, requests, plain)
            print(f"{name}, {spec}, {how}, n = {n}: {found}")
            assert found.equal >= len(requests) - 1
            if pair.aligned.abilities.rewinds:
                for lookahead in ("auto", 4):
                    assert decode(pair, requests, lookahead) == plain


def test_the_comparison_can_fail(pairs: Callable[[str], Pair]) -> None:
    pair = pairs("two files")
    requests = asked(pair, ["The cat sat"], "p@0.9", HOW["greedy"], 1, 24)
    wrong = asked(pair, ["The dog sat"], "p@0.9", HOW["greedy"], 1, 24)
    with pytest.raises(AssertionError):
        tally(pair, requests, decode(pair, wrong, "off"))


REAL_PAIRS = {"smol-plain": (SMOL, SMOL), "gemma+smol": (GEMMA, SMOL)}
REAL_NEAR = 0.1
"""llama.cpp rounds activations to 8 bits before it multiplies quantised weights, so the last bit of
a sum, which depends on what else is in the batch, can move a score by a whole step of that."""


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", REAL_PAIRS)
def test_real_files(gguf: Callable[..., Path], name: str, how: str) -> None:
    """Quantised weights: answers that differ must do so at a near-tie; -s counts them."""
    if not (SMOL.is_file() and GEMMA.is_file()):
        pytest.skip("BACO_GGUF_FILES names no folder with both files (docs/llamacpp.md)")
    pair = load(*REAL_PAIRS[name])
    text = "Tell me a story in three sentences about a girl and her dog."
    for n, limit in ((1, 24), (10, 8)):
        requests = asked(pair, [text], "p-punc@0.3", HOW[how], n, limit)
        for lookahead in ("off", "auto"):
            found = tally(pair, requests, decode(pair, requests, lookahead), REAL_NEAR)
            print(f"{name}, {how}, n = {n}, look-ahead {lookahead}: {found}", flush=True)
