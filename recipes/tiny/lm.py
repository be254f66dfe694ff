"""Building, saving and loading the small Llama checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

Model = Any
"""A causal language model of transformers (whose classes are largely untyped)."""


def build(tokenizer: PreTrainedTokenizerBase, seed: int, width: int, depth: int) -> Model:
    """Make an untrained model.

    Args:
        tokenizer: Fixes the vocabulary and the special tokens.
        seed: Decides the initial weights.
        width: Hidden size, a multiple of 32.
        depth: Number of layers.

    Returns:
        The model, in float32.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=depth,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def save(model: Model, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save a checkpoint in bfloat16, with its tokenizer.

    Args:
        model: The model; it stays as it is.
        tokenizer: The tokenizer.
        folder: Where to.
    """
    shipped = copy.deepcopy(model).to(torch.bfloat16)
    generation: Any = GenerationConfig
    shipped.generation_config = generation(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    shipped.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def load(folder: Path) -> Model:
    """Load a checkpoint for training or evaluation.

    Args:
        folder: The checkpoint's folder.

    Returns:
        The model, in float32, in evaluation mode.
    """
    model: Model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()
