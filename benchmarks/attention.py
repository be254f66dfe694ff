"""Grouped-query attention: as transformers computes it, by torch's `enable_gqa`, and as we do.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.attention``. Processor time of one layer's attention
over a cache as ours, relative to transformers', and the largest difference of results from those
with keys and values repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from types import SimpleNamespace
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from baco.models.grouped import grouped_attention

HEADS = ((9, 3, 64), (32, 8, 128))
"""Query heads, heads of keys and values, channels: SmolLM2-135M and Llama-3-8B."""

LEAST = 0.02
"""Seconds that a timing takes at least."""


def best(run: Callable[[], Any]) -> float:
    """Processor time of a call, the best of three timings."""
    run()
    count, found = 1, []
    while len(found) < 3:
        start = time.process_time()
        for _ in range(count):
            run()
        took = time.process_time() - start
        if took < LEAST:
            count *= 2
        else:
            found.append(took / count)
    return min(found)


def compared(
    heads: int, shared: int, channels: int, dtype: torch.dtype, rows: int, length: int, width: int
) -> str:
    """Times one shape; what there is to print."""
    torch.manual_seed(0)
    query = torch.randn(rows, heads, width, channels).to(dtype)
    key, value = (
        torch.randn(rows, length, shared, channels).to(dtype).transpose(1, 2) for _ in "kv"
    )
    places = torch.randint(length // 2, length - width + 1, (rows, 1)) + torch.arange(width)
    # Rows of equal length with one token each need no mask.
    seen = (torch.arange(length) <= places[..., None])[:, None] if width > 1 else None
    groups = heads // shared
    layer: Any = SimpleNamespace(num_key_value_groups=groups, is_causal=True)
    sdpa = torch.nn.functional.scaled_dot_product_attention

    ways: dict[str, Callable[[], torch.Tensor]] = {
        "transformers": lambda: sdpa_attention_forward(layer, query, key, value, seen)[0],
        "enable_gqa": lambda: sdpa(query, key, value, attn_mask=seen, enable_gqa=True).transpose(
            1, 2
        ),
        "ours": lambda: grouped_attention(layer, query, key, value, seen)[0],
    }
    repeated = (x.repeat_interleave(groups, 1) for x in (key, value))
    plain = sdpa(query, *repeated, attn_mask=seen).transpose(1, 2).float()
    took = {name: best(run) for name, run in ways.items()}
    return (
        f"{heads}/{shared} x {channels}, {str(dtype)[6:]}, {rows} x {width} over {length}: "
        f"{1e6 * took['transformers']:.0f} us; "
        + ", ".join(
            f"{name} {took[name] / took['transformers']:.2f} "
            f"(differs by {(run().float() - plain).abs().max():.0e})"
            for name, run in ways.items()
        )
    )


@torch.inference_mode()
def main() -> None:
    """Prints a line for each shape."""
    dtypes = (torch.float32, torch.bfloat16)
    for heads, *shape in product(HEADS, dtypes, (1, 10), (128, 1024), (1, 2, 4)):
        print(compared(*heads, *shape), flush=True)


if __name__ == "__main__":
    main()
