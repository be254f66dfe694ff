"""A cache that keeps nothing but the ids: for models whose state cannot be set back per row.

Recurrent and hybrid models carry a state that mixes all tokens seen. They are read anew from the
start at every pass: right and simple, and slow on long texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from baco.engine.lazy import torch
from baco.engine.partner import IdCache


class Reads(Protocol):
    """A model that can be read anew; see `baco.models.hf.HFPartner`."""

    device: torch.device

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Returns the logits after the last of some ids, float [vocabulary]."""
        ...

    def all_logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Returns the logits after each of some ids, float [n, vocabulary]."""
        ...


class RecomputeCache(IdCache):
    """Rows as id sequences; see `baco.engine.partner.RowCache`."""

    def __init__(self, partner: Reads) -> None:
        super().__init__()
        self.partner = partner

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Takes whole prompts; equal prompts are computed once."""
        self._put(prompts, rows)
        known = {p: self.partner.logits(p) for p in {self._ids[row] for row in rows}}
        return torch.stack([known[self._ids[row]] for row in rows])

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Takes the next tokens of every row; one sequence at a time, no padding to disturb it."""
        rows = zip(tokens.tolist(), counts.tolist(), strict=True)
        out: list[torch.Tensor] = []
        for i, (new, count) in enumerate(rows):
            self._ids[i] += tuple(new[:count])
            out.append(self.partner.all_logits(self._ids[i])[-count:] if count else torch.zeros(0))
        size = next(o.shape[-1] for o in out if o.ndim == 2)
        logits = torch.zeros(*tokens.shape, size, dtype=out[0].dtype, device=self.partner.device)
        for i, each in enumerate(out):
            if each.ndim == 2:
                logits[i, : len(each)] = each
        return logits
