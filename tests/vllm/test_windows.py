"""Sliding windows and unequal caches: our own engine over transformers' models is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import baco
from baco.engine import Request, Warp
from baco.engine.noise import row_key
from baco.engine.opening import open_engine
from baco.pair import Pair
from baco.routers import parse
from conftest import save_tokenizer
from support import triton_cpu
from support.engines import drain
from support.oracle import DRAFTING

WINDOW = 24
COMMON = {
    "vocab_size": 400, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 512,
    "eos_token_id": None, "bos_token_id": None, "pad_token_id": 0, "initializer_range": 0.3,
}  # fmt: skip


def gemma(**changes: Any) -> torch.nn.Module:
    """A Gemma 3 with five sliding layers and one that reads all, random weights."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    layers = ["sliding_attention"] * 5 + ["full_attention"]
    options = {"num_hidden_layers": 6, "sliding_window": WINDOW, "layer_types": layers,
               "query_pre_attn_scalar": 32}  # fmt: skip
    return Gemma3ForCausalLM(Gemma3TextConfig(**{**COMMON, **options, **changes}))


def mistral(**changes: Any) -> torch.nn.Module:
    """A Mistral of which every layer slides, as its first version."""
    from transformers import MistralConfig, MistralForCausalLM

    options = {"num_hidden_layers": 2, "sliding_window": WINDOW, "tie_word_embeddings": False}
    return MistralForCausalLM(MistralConfig(**{**COMMON, **options, **changes}))


def qwen(**changes: Any) -> torch.nn.Module:
    """A Qwen 3 without a window."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    options = {"num_hidden_layers": 2, "tie_word_embeddings": False}
    return Qwen3ForCausalLM(Qwen3Config(**{**COMMON, **options, **changes}))


PAIRS: dict[str, tuple[Callable[[], torch.nn.Module], Callable[[], torch.nn.Module]]] = {
    "some layers slide": (gemma, gemma),
    "all layers slide": (mistral, mistral),
    "one side slides": (mistral, qwen),
    "unequal heads": (qwen, lambda: qwen(num_key_value_heads=2, num_hidden_layers=3)),
    "unequal head sizes": (lambda: qwen(head_dim=64), qwen),
    "unequal windows": (gemma, lambda: gemma(sliding_window=WINDOW // 2, num_key_value_heads=2)),
}


def save(folder: Path, make: Callable[[], torch.nn.Module], seed: int, chat: bool) -> None:
    save_tokenizer(folder, chat=chat)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        torch.manual_seed(1)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.05 * seed)
        model.save_pretrained(folder)


def asked() -> list[Request]:
    """Prompts longer than the window and shorter ones, by more than one block apart."""
    lengths = [(6, 20), (20, 6), (70, 90), (90, 10), (10, 90), (40, 40), (33, 97)]
    return [
        Request(
            tuple(3 + (7 * i + base) % 90 for i in range(base)),
            tuple(3 + (5 * i + aligned) % 90 for i in range(aligned)),
            parse(spec), row_key(0, spec, base), warp, max_new_tokens=40,
        )
        for base, aligned in lengths
        for spec in ("p@0.3", "rand@0.5", "h-ahead3@1")
        for warp in (Warp(), Warp(temperature=0))
    ]  # fmt: skip


def alone(request: Request) -> Request:
    """The aligned model alone."""
    return replace(
        request, base_prompt=request.aligned_prompt, router=parse("rand@0"), end_rule=False
    )


def decoded(pair: Pair, requests: list[Request], single: bool = False) -> list[Any]:
    engine = open_engine(pair.aligned if single else pair.base, pair.aligned)
    return drain(engine, [engine.submit(request) for request in requests])


V2 = pytest.mark.skipif(not triton_cpu.ASKED, reason="the runner V1 does not draft")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        *(pytest.param(kind, {}, id=kind) for kind in PAIRS),
        pytest.param("one side slides", DRAFTING, marks=V2, id="one side slides, drafts"),
        pytest.param("unequal heads", DRAFTING, marks=V2, id="unequal heads, drafts"),
    ],
)
def test_windows_and_unequal_caches(
    kind: str, more: dict[str, Any], load: Callable[..., Pair], tmp_path: Path, free: None
) -> None:
    for seed, (name, make) in enumerate(zip(("base", "aligned"), PAIRS[kind], strict=True)):
        save(tmp_path / name, make, seed, chat=name == "aligned")
    folders = (str(tmp_path / "base"), str(tmp_path / "aligned"))
    pair = load(",".join(folders), enforce_eager=True, **more)
    own = baco.load(*folders, dtype="float64")
    both = zip(decoded(pair, asked()), decoded(own, asked()), strict=True)
    equal = sum(here == there for here, there in both)
    control = [alone(request) for request in asked()]
    both = zip(decoded(pair, control, True), decoded(own, control, True), strict=True)
    right = sum(here == there for here, there in both)
    print(f"{kind}: {equal} of {len(asked())} equal; aligned alone {right} of {len(control)}")
    assert right >= len(control) - 2
    assert equal >= len(asked()) - 2
