"""Writes small GGUF files with the package `gguf`, as llama.cpp's converter would."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(
    path: Path,
    architecture: str,
    fields: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Writes a file with metadata and tensors.

    Args:
        path: The file.
        architecture: llama.cpp's name of it.
        fields: Metadata by key; integers are written as uint32, numbers as float32.
        tensors: Tensors by llama.cpp's names.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    for key, value in fields.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, tensor in (tensors or {"token_embd.weight": np.ones((4, 32), np.float32)}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_model(
    folder: Path,
    path: Path,
    *,
    template: str | None = None,
    further: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Writes a Llama with a byte-level tokenizer as a file, its weights in float32.

    Args:
        folder: The model's folder.
        path: The file.
        template: The chat template; None for the tokenizer's own.
        further: Tensors beside the model's own, by llama.cpp's names.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = model.config
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = tokenizer.convert_ids_to_tokens(list(range(config.vocab_size)))
    special = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    chat = tokenizer.chat_template if template is None else template
    fields: dict[str, Any] = {
        "general.type": "model",
        "general.name": "a test",
        "llama.block_count": config.num_hidden_layers,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "llama.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "llama.rope.dimension_count": config.head_dim,
        "llama.vocab_size": config.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if i in special else 1 for i in range(len(tokens))],
        "tokenizer.ggml.merges": [
            m if isinstance(m, str) else " ".join(m) for m in bpe["model"]["merges"]
        ],
        "tokenizer.ggml.eos_token_id": int(tokenizer.eos_token_id),
        "tokenizer.ggml.add_bos_token": False,
    }
    if chat:
        fields["tokenizer.chat_template"] = chat
    tensors = dict(further or {})
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        array = tensor.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if ".q_" in name else config.num_key_value_heads
            array = _interleaved(array, heads)
        tensors[_named(name)] = array
    return write_gguf(path, "llama", fields, tensors)


def _named(name: str) -> str:
    """llama.cpp's name of a tensor of transformers' Llama."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    inner = rest.removesuffix(".weight")
    return f"blk.{layer}.{_NAMES[inner]}.weight"


def _interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head as llama.cpp rotates them: the two halves in turn."""
    rows, columns = weights.shape
    halves = weights.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
