"""Ballast: the bundled models at the cost of larger ones, with not one token changed.

Each MLP gets a second one beside it whose down-projection is zero. It is computed like any other
and adds exact zeros, so every logit keeps its last bit in every precision.
"""

from __future__ import annotations

from typing import Any

import torch

import baco
from baco.models.hf import HFPartner
from baco.models.linear import use_onednn
from baco.pair import Pair


class WithBallast(torch.nn.Module):
    """An MLP with units beside it that do nothing.

    Args:
        mlp: The MLP, perhaps with adapters in it.
        width: Units to add.
        like: A weight of the model, for its width, precision and place.
    """

    def __init__(self, mlp: torch.nn.Module, width: int, like: torch.Tensor) -> None:
        super().__init__()
        hidden = like.shape[-1]
        self.mlp = mlp
        self.up = torch.nn.Linear(hidden, 2 * width, bias=False, device=like.device)
        self.down = torch.nn.Linear(width, hidden, bias=False, device=like.device)
        torch.nn.init.normal_(self.up.weight, std=0.02)
        torch.nn.init.zeros_(self.down.weight)
        self.to(like.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The MLP's output, plus zeros."""
        gate, value = self.up(x).chunk(2, -1)
        out: torch.Tensor = self.mlp(x) + self.down(torch.nn.functional.silu(gate) * value)
        return out


def add_ballast(partner: HFPartner, width: int, dtype: torch.dtype) -> None:
    """Gives a partner's model ballast and a precision; once, where partners share a model."""
    model: Any = partner.model
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(inner.model.layers[0].mlp, WithBallast):
        model.to(dtype)
        for layer in inner.model.layers:
            layer.mlp = WithBallast(layer.mlp, width, inner.model.embed_tokens.weight)
        use_onednn(model)  # as for any model of that size when it is loaded
    partner.parameters = sum(p.numel() for p in model.parameters())


def added(pair: Pair, width: int) -> int:
    """How many weights ballast adds to one model."""
    config = pair.aligned.model.config  # type: ignore[attr-defined]
    return int(3 * width * config.hidden_size * config.num_hidden_layers)


def heavy_pair(name: str, width: int, dtype: torch.dtype) -> Pair:
    """A bundled pair with ballast on both sides."""
    pair = baco.load(name)
    with torch.no_grad():
        for side in pair.sides:
            assert isinstance(side.partner, HFPartner)
            add_ballast(side.partner, width, dtype)
    return pair


def light_model(pair: Pair, name: str, dtype: torch.dtype) -> HFPartner:
    """The aligned side of a bundled pair, without ballast, as a small model for another pair."""
    small = baco.load(name).aligned
    assert isinstance(small, HFPartner)
    small.model.to(dtype)
    return HFPartner(small.model, pair.aligned.vocabulary)
