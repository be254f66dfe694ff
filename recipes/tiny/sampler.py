"""Batched sampling with a key-value cache, for roll-outs and for the figures of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from recipes.tiny.lm import Model


@dataclass(frozen=True)
class Sampled:
    """One sampled continuation.

    Args:
        ids: Its tokens, the end token included if one was drawn.
        ended: Whether an end token was drawn before the limit.
    """

    ids: list[int]
    ended: bool


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Mask what lies outside the nucleus.

    Args:
        logits: Logits, last axis the vocabulary.
        top_p: Mass to keep; the token that crosses it stays.

    Returns:
        Logits with ``-inf`` outside the nucleus.
    """
    if top_p >= 1.0:
        return logits
    ordered, order = torch.sort(logits, descending=True, dim=-1)
    mass = torch.softmax(ordered, dim=-1)
    outside = mass.cumsum(-1) - mass >= top_p
    return logits.masked_fill(outside.scatter(-1, order, outside), float("-inf"))


@torch.inference_mode()
def sample(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    end: int,
    generator: torch.Generator,
    limit: int = 160,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[Sampled]:
    """Sample one continuation of each prompt.

    Args:
        model: A causal language model of transformers.
        prompts: Token ids of each prompt.
        end: The end token.
        generator: Decides every draw.
        limit: Most tokens of a continuation.
        temperature: Divides the logits; 0 takes the most likely token.
        top_p: Nucleus mass, after the temperature.

    Returns:
        The continuations, in the order of the prompts.
    """
    longest = max(len(ids) for ids in prompts)
    ids = torch.tensor([[end] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache()
    rows = torch.arange(len(prompts))
    drawn: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    for step in range(limit):
        logits = (
            model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                logits_to_keep=1,
            )
            .logits[:, -1]
            .float()
        )
        token = _draw(logits, temperature, top_p, generator)
        for row, value in zip(rows.tolist(), token.tolist(), strict=True):
            drawn[row].append(value)
            ended[row] = value == end
        keep = (token != end).nonzero().squeeze(-1)
        if not len(keep) or step == limit - 1:
            break
        if len(keep) < len(rows):
            cache.batch_select_indices(keep)
            rows, mask, position, token = rows[keep], mask[keep], position[keep], token[keep]
        ids = token.unsqueeze(-1)
        position = position[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)
    return [Sampled(ids_, done) for ids_, done in zip(drawn, ended, strict=True)]


def _draw(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    warped = nucleus(logits / temperature, top_p)
    noise = torch.rand(warped.shape, generator=generator).clamp_(min=1e-20)
    return (warped - torch.log(-torch.log(noise))).argmax(-1)
