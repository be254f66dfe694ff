"""Decodes two mixtures of experts in vLLM; prints how many answers equal our own engine's.

Two of Qwen 3, or, with the argument ``mixtral``, a Mixtral of four and one of eight experts.

In a process of its own: vLLM sets up experts with the first engine of a process.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from transformers import (
    MixtralConfig,
    MixtralForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

import baco
from baco.engine import Request, Warp
from baco.engine.noise import row_key
from baco.engine.opening import open_engine
from baco.routers import parse
from conftest import save_tokenizer
from support.engines import drain


def save(folder: Path, seed: int, layers: int) -> None:
    """A mixture of experts, random weights."""
    save_tokenizer(folder, chat=bool(seed))
    common = {
        "vocab_size": 400, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
        "max_position_embeddings": 512, "eos_token_id": None, "bos_token_id": None,
        "initializer_range": 0.3, "tie_word_embeddings": False, "num_experts_per_tok": 2,
    }  # fmt: skip
    torch.manual_seed(seed)
    if "mixtral" in sys.argv:
        MixtralForCausalLM(
            MixtralConfig(**common, num_local_experts=4 + 4 * seed, sliding_window=None)
        ).save_pretrained(folder)
    else:
        Qwen3MoeForCausalLM(
            Qwen3MoeConfig(**common, num_experts=4, moe_intermediate_size=32)
        ).save_pretrained(folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folders = [str(Path(name) / side) for side in ("base", "aligned")]
        for seed, folder in enumerate(folders):
            save(Path(folder), seed, 2 + seed)
        own = baco.load(*folders, dtype="float32")
        pair = baco.load(
            ",".join(folders), engine="vllm", enforce_eager=True, block_size=32,
            kv_cache_memory_bytes=64 * 2**20,
        )  # fmt: skip
    asked = [
        Request((3, 4, 5, 9 + i), tuple(range(10, 60 - i)), parse(spec), row_key(0, spec, i), warp,
                max_new_tokens=24)
        for spec in ("p@0.3", "rand@0.5", "h-ahead2@1", "rand@1")
        for warp in (Warp(), Warp(temperature=0))
        for i in range(3)
    ]  # fmt: skip
    equal = total = 0
    # Both sides; then each alone, so that the other's experts are passed over.
    for side in (None, "base", "aligned"):
        wanted = asked
        if side:
            prompt = f"{side}_prompt"
            wanted = [
                replace(r, base_prompt=getattr(r, prompt), aligned_prompt=getattr(r, prompt),
                        router=parse("rand@0"), end_rule=False)
                for r in asked
            ]  # fmt: skip
        answers = []
        for each in (pair, own):
            one = getattr(each, side) if side else None
            engine = open_engine(one or each.base, one or each.aligned)
            answers.append(drain(engine, [engine.submit(request) for request in wanted]))
        equal += sum(a == b for a, b in zip(*answers, strict=True))
        total += len(wanted)
    print(json.dumps([equal, total]))


if __name__ == "__main__":
    main()
