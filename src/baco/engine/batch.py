"""The rows being decoded, as tensors: one entry per row, the same order everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch

from baco.engine.rows import Cost, Finish, Request


@dataclass
class Row:
    """What is kept of one row in Python.

    Attributes:
        number: The id that `Engine.submit` returned.
        request: What was asked for.
        limit: Most tokens it may emit, the context windows considered.
        program: Index of its (router, warps, end rule) among the engine's programs.
        tokens: Emitted ids.
        sources: Who emitted each.
        begins: Whether each began a unit.
        finish: Why it ended, or None.
        reported: How many tokens events have told of.
        state: Unit state, kept while the row is out of the batch.
        cost: What it cost so far, drafts included.
    """

    number: int
    request: Request
    limit: int
    program: int
    tokens: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    begins: list[bool] = field(default_factory=list)
    finish: Finish | None = None
    reported: int = 0
    state: int = 0
    cost: Cost = field(default_factory=Cost)


@dataclass(eq=False)
class Batch:
    """Tensors over n rows.

    Attributes:
        keys: Noise keys, int64 [n].
        t: Emitted tokens, int64 [n].
        limit: Most tokens, int64 [n].
        state: Unit state after the emitted tokens, int64 [n].
        source: Current source, int64 [n].
        drafted: Length of the draft that follows the emitted tokens, int64 [n].
        tip_state: Unit state after the draft, int64 [n].
        closed: Whether the draft ends with an end token, bool [n].
        failed: The side whose guess failed last, -1 if none since, int64 [n].
        waited: Cycles without a token, int64 [n].
        program: Index of the row's program, int64 [n].
        tokens: Emitted tokens, then the draft, int64 [n, width].
        drafter: Who drafted the token at each place, in which situation (see `policy`),
            int64 [n, width].
    """

    keys: torch.Tensor
    t: torch.Tensor
    limit: torch.Tensor
    state: torch.Tensor
    source: torch.Tensor
    drafted: torch.Tensor
    tip_state: torch.Tensor
    closed: torch.Tensor
    failed: torch.Tensor
    waited: torch.Tensor
    program: torch.Tensor
    tokens: torch.Tensor
    drafter: torch.Tensor

    @classmethod
    def of(cls, rows: Sequence[Row], device: torch.device) -> Batch:
        """Makes the batch of some rows, without drafts."""

        def vector(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        state = vector([r.state for r in rows])
        zero = torch.zeros_like(state)
        width = max((len(r.tokens) for r in rows), default=0) + 64
        tokens = torch.zeros(len(rows), width, dtype=torch.int64)
        for i, row in enumerate(rows):
            if row.tokens:
                tokens[i, : len(row.tokens)] = torch.tensor(row.tokens)
        tokens = tokens.to(device)
        return cls(
            keys=vector([r.request.key for r in rows]),
            t=vector([len(r.tokens) for r in rows]),
            limit=vector([r.limit for r in rows]),
            state=state,
            source=vector([r.sources[-1] if r.sources else 0 for r in rows]),
            drafted=zero,
            tip_state=state.clone(),
            closed=zero.bool(),
            failed=zero - 1,
            waited=zero.clone(),
            program=vector([r.program for r in rows]),
            tokens=tokens,
            drafter=torch.zeros_like(tokens),
        )

    def joined(self, other: Batch) -> Batch:
        """Returns this batch with the rows of another after its own."""
        width = max(self.tokens.shape[1], other.tokens.shape[1])
        self.widen(width)
        other.widen(width)
        return Batch(
            **{
                f.name: torch.cat([getattr(self, f.name), getattr(other, f.name)])
                for f in fields(self)
            }
        )

    def kept(self, rows: Sequence[int]) -> Batch:
        """Returns the batch of these rows, in this order."""
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.t.device)
        return Batch(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def widen(self, width: int) -> None:
        """Makes room for tokens up to a width."""
        missing = width - self.tokens.shape[1]
        if missing > 0:
            pad = self.tokens.new_zeros(len(self.tokens), missing)
            self.tokens = torch.cat([self.tokens, pad], 1)
            self.drafter = torch.cat([self.drafter, pad], 1)
