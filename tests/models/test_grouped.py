"""Grouped-query attention that repeats no keys and values."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AttentionInterface
from transformers.integrations import sdpa_attention

from baco.models.grouped import GROUPED, attention_of, grouped_attention
from support.engines import random_pair

ROWS, LENGTH, CHANNELS = 3, 24, 8


@pytest.mark.parametrize("heads", [(6, 2), (4, 1), (4, 4)])
@pytest.mark.parametrize("width", [1, 2, 5, CHANNELS + 1])
@pytest.mark.parametrize("masked", ["no", "bool", "additive"])
def test_it_equals_attention_that_repeats_keys_and_values(
    heads: tuple[int, int], width: int, masked: str
) -> None:
    query, key, value = (
        torch.randn(ROWS, h, length, CHANNELS, dtype=torch.float64)
        for h, length in ((heads[0], width), (heads[1], LENGTH), (heads[1], LENGTH))
    )
    places = torch.tensor([3, 9, 14])[:, None] + torch.arange(width)
    mask: torch.Tensor | None = None
    if masked != "no":
        mask = (torch.arange(LENGTH) <= places[..., None])[:, None]
    if masked == "additive":
        assert mask is not None
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -1e9)
    groups = heads[0] // heads[1]
    layer = SimpleNamespace(num_key_value_groups=groups)
    found, _ = grouped_attention(layer, query, key, value, mask, scaling=0.3)  # type: ignore[arg-type]
    repeated = (x.repeat_interleave(groups, 1) for x in (key, value))
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, *repeated, attn_mask=mask, scale=0.3, is_causal=mask is None and width > 1
    )
    torch.testing.assert_close(found, wanted.transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_a_pass_that_checks_guesses_repeats_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    partner, _ = random_pair("llama", torch.float32)
    config = partner.model.config  # type: ignore[attr-defined]
    assert config.num_attention_heads > config.num_key_value_heads
    cache = partner.new_cache()
    cache.add(2)
    cache.open([(1, 2, 3), (4, 5)], [0, 1])

    def repeated(*_: object) -> None:
        raise AssertionError("keys and values were repeated")

    monkeypatch.setattr(sdpa_attention, "repeat_kv", repeated)
    cache.feed(torch.tensor([[6, 7], [8, 9]]), torch.tensor([2, 2]))


def test_other_models_of_the_process_keep_their_attention() -> None:
    partner, _ = random_pair("llama", torch.float32)
    model = partner.model  # type: ignore[attr-defined]
    assert model.config._attn_implementation == GROUPED
    assert attention_of(model.config) == "sdpa"
    assert AttentionInterface()["sdpa"] is sdpa_attention.sdpa_attention_forward
    ids = torch.tensor([[5, 6, 7], [8, 9, 3]])
    mask = torch.tensor([[1, 1, 1], [0, 1, 1]])
    ours = model(ids, attention_mask=mask).logits
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(ours, model(ids, attention_mask=mask).logits)
