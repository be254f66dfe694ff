"""Tiny random models in GGUF files, written for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
WORDS = (" the", " cat", " sat", " on", " mat", " and", " dog", " a", "ing", " I", " big", " red")
OTHERS = (" mat", " house", " the", " dogs", " is", " to", "ed", " a")

_WIDTH, _INNER, _HEADS, _KEPT, _SIZE = 32, 48, 4, 2, 8


def alphabet() -> list[str]:
    """The characters by which byte-level BPE writes bytes 0 to 255."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


def _vocabulary(words: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Tokens and merges: two special tokens, the bytes, then words and what they grow from."""
    chars = alphabet()
    tokens, merges = ["<|im_end|>", "<pad>", *chars], []
    for word in words:
        text = "".join(chars[b] for b in word.encode())
        for end in range(2, len(text) + 1):
            if text[:end] not in tokens:
                tokens.append(text[:end])
                merges.append(f"{text[: end - 1]} {text[end - 1]}")
    return tokens, merges


def write(
    path: Path,
    kind: str = "llama",
    *,
    words: tuple[str, ...] = WORDS,
    spread: float = 0.0,
    layers: int = 3,
    template: str | None = TEMPLATE,
    context: int = 4096,
    pooling: int | None = None,
    end: int | None = 0,
) -> Path:
    """Writes a model; models of one kind that differ in `spread` alone often agree.

    Args:
        path: Where to.
        kind: ``llama``, ``gemma3`` (a sliding window of 8), ``mamba`` or ``bert``.
        words: What its tokenizer has beside bytes.
        spread: How far the weights are from those at 0.
        layers: How many.
        template: Its chat template.
        context: The longest sequence.
        pooling: For embedding models, how they pool.
        end: The id that it names as its end; None for none.
    """
    import gguf

    tokens, merges = _vocabulary(words)
    out = gguf.GGUFWriter(path, kind)
    out.add_context_length(context)
    out.add_embedding_length(_WIDTH)
    out.add_block_count(layers)
    out.add_feed_forward_length(_INNER if kind != "mamba" else 0)
    out.add_head_count(_HEADS if kind != "mamba" else 0)
    out.add_layer_norm_rms_eps(1e-5)
    if kind not in ("mamba", "bert"):
        out.add_head_count_kv(_KEPT)
        out.add_key_length(_SIZE)
        out.add_value_length(_SIZE)
        out.add_rope_dimension_count(_SIZE)
    if kind == "gemma3":
        out.add_sliding_window(8)
    if kind == "mamba":
        out.add_ssm_conv_kernel(4)
        out.add_ssm_inner_size(2 * _WIDTH)
        out.add_ssm_state_size(4)
        out.add_ssm_time_step_rank(2)
    if kind == "bert":
        out.add_layer_norm_eps(1e-5)
        out.add_causal_attention(False)
        out.add_token_type_count(2)
    if pooling is not None:
        out.add_pooling_type(gguf.PoolingType(pooling))
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(tokens)
    out.add_token_types([3, 3] + [1] * (len(tokens) - 2))  # 3 is control, 1 is normal
    out.add_token_merges(merges)
    if end is not None:
        out.add_eos_token_id(end)
    out.add_bos_token_id(0)
    out.add_add_bos_token(False)
    if template:
        out.add_chat_template(template)
    rng, noise = np.random.default_rng(1), np.random.default_rng(2)
    for name, shape in _tensors(kind, layers, len(tokens), context):
        data = rng.normal(size=shape).astype(np.float32)
        data += spread * noise.normal(size=shape).astype(np.float32)
        if name.endswith("norm.weight"):
            data = 1 + 0.1 * data
        elif name.endswith("ssm_a"):
            data = -np.abs(data) - 0.1
        elif len(shape) > 1:
            data *= (3.0 if name == "output.weight" else 1.0) / np.sqrt(shape[-1])
        else:
            data *= 0.1
        out.add_tensor(name, data)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _tensors(kind: str, layers: int, size: int, context: int) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes, as [out, in]."""
    w, inner, q, kv = _WIDTH, _INNER, _HEADS * _SIZE, _KEPT * _SIZE
    attention: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (w,), "attn_q.weight": (q, w), "attn_k.weight": (kv, w),
        "attn_v.weight": (kv, w), "attn_output.weight": (w, q), "ffn_norm.weight": (w,),
        "ffn_gate.weight": (inner, w), "ffn_up.weight": (inner, w), "ffn_down.weight": (w, inner),
    }  # fmt: skip
    further: dict[str, Any] = {
        "attn_q_norm.weight": (_SIZE,), "attn_k_norm.weight": (_SIZE,),
        "post_attention_norm.weight": (w,), "post_ffw_norm.weight": (w,),
    }  # fmt: skip
    states: dict[str, Any] = {
        "attn_norm.weight": (w,), "ssm_in.weight": (4 * w, w), "ssm_conv1d.weight": (2 * w, 4),
        "ssm_conv1d.bias": (2 * w,), "ssm_x.weight": (2 + 8, 2 * w), "ssm_dt.weight": (2 * w, 2),
        "ssm_dt.bias": (2 * w,), "ssm_a": (2 * w, 4), "ssm_d": (2 * w,),
        "ssm_out.weight": (w, 2 * w),
    }  # fmt: skip
    both: dict[str, Any] = {
        "attn_output_norm": (w,), "attn_q": (w, w), "attn_k": (w, w), "attn_v": (w, w),
        "attn_output": (w, w), "ffn_up": (inner, w), "ffn_down": (w, inner),
        "layer_output_norm": (w,),
    }  # fmt: skip
    encoder = {f"{name}.weight": shape for name, shape in both.items()}
    encoder |= {f"{name}.bias": shape[:1] for name, shape in both.items()}
    blocks = {"llama": attention, "gemma3": attention | further, "mamba": states, "bert": encoder}
    ends: list[tuple[str, tuple[int, ...]]] = [
        ("output_norm.weight", (w,)), ("output.weight", (size, w)),
    ]  # fmt: skip
    if kind == "bert":
        ends = [
            ("position_embd.weight", (context, w)), ("token_types.weight", (2, w)),
            ("token_embd_norm.weight", (w,)), ("token_embd_norm.bias", (w,)),
        ]  # fmt: skip
    return [
        ("token_embd.weight", (size, w)),
        *ends,
        *(
            (f"blk.{i}.{name}", shape)
            for i in range(layers)
            for name, shape in blocks[kind].items()
        ),
    ]
