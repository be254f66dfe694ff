"""Attention for models whose query heads share keys and values, without repeating these.

Where a mask is given, transformers repeats the keys and values of a layer for all query heads that
share them, unless each row has one query: a copy of the whole cache, layer by layer, in every pass
that checks a guess. Where none is given it leaves the sharing to torch, which is slow at it for
bfloat16 on a CPU. Here the heads of a group stand as further queries of the head that they share:
the same sums, no copy, by any kernel, with or without a mask.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from baco.engine.lazy import torch

GROUPED = "grouped_sdpa"
"""What transformers knows this attention as."""

Attention = tuple["torch.Tensor", None]


def grouped_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **more: Any,
) -> Attention:
    """Attends as transformers' ``sdpa`` does; arguments and result are those of its interface.

    Args:
        module: The layer.
        query: Float [n, heads, q, channels].
        key: Float [n, shared heads, length, channels].
        value: The same.
        attention_mask: Which places each query sees, [n, 1, q, length]; None for all before it.
        **more: Passed on.

    Returns:
        Float [n, q, heads, channels], and no weights.
    """
    n, heads, width, channels = query.shape
    groups = heads // key.shape[1]
    if attention_mask is None:
        packs = width == 1
    else:
        # The mask is repeated instead, which is less than the keys if it is no wider.
        packs = width <= channels and attention_mask.shape[1] == 1
    if groups == 1 or not packs or more.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    packed = query.reshape(n, heads // groups, groups * width, channels)
    mask = None if attention_mask is None else attention_mask.repeat(1, 1, groups, 1)
    more["is_causal"] = False
    layer: Any = SimpleNamespace()  # one whose heads share nothing
    out, _ = sdpa_attention_forward(layer, packed, key, value, mask, **more)
    each = out.reshape(n, groups, width, heads // groups, -1).permute(0, 2, 3, 1, 4)
    return each.reshape(n, width, heads, -1), None


def attention_of(config: Any) -> str:
    """The attention that a model was loaded with, ``sdpa`` if it attends in groups now.

    Args:
        config: The configuration of its text part.
    """
    name = str(getattr(config, "_attn_implementation", "sdpa"))
    return "sdpa" if name == GROUPED else name


def attend_in_groups(model: Any) -> None:
    """Has a model that was loaded with ``sdpa`` attend so, and no other model of the process.

    Models that have their attention built in keep it, and those whose heads share nothing.
    """
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None)
    shares = getattr(config, "num_key_value_heads", heads) != heads
    if shares and model._can_set_attn_implementation():
        AttentionInterface.register(GROUPED, grouped_attention)
        AttentionMaskInterface.register(GROUPED, sdpa_mask)
        model.set_attn_implementation(GROUPED)
