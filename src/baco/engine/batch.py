"""The rows being decoded, as arrays: one entry per row, the same order everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from baco.engine.request import Cost, Finish, Request

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


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
        end: The end token that stopped it, or None.
        reported: How many tokens events have told of.
        state: Unit state, kept while the row is out of the batch.
        drafted: Tokens that a partner or a third party guessed for it.
        accepted: Guesses that were right.
        cost: What looking ahead cost, and its partners' passes before it last left the batch.
    """

    number: int
    request: Request
    limit: int
    program: int
    tokens: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    begins: list[bool] = field(default_factory=list)
    finish: Finish | None = None
    end: int | None = None
    reported: int = 0
    state: int = 0
    drafted: int = 0
    accepted: int = 0
    cost: Cost = field(default_factory=Cost)

    @property
    def account(self) -> Cost:
        """What it emitted and what was guessed for it."""
        return Cost(drafted=self.drafted, accepted=self.accepted, tokens=len(self.tokens))


@dataclass(eq=False)
class Batch:
    """Arrays over n rows, on the host: only scores are worth a device.

    Attributes:
        keys: Noise keys, int64 [n].
        t: Emitted tokens, int64 [n].
        limit: Most tokens, int64 [n].
        source: Current source, int64 [n].
        drafted: Length of the draft that follows the emitted tokens, int64 [n].
        closed: 1 where the draft ends with an end token, int64 [n].
        failed: The side whose guess failed last, -1 if none since, int64 [n].
        waited: Cycles without a token, int64 [n].
        program: Index of the row's program, int64 [n].
        over: 1 where the row has finished and is about to leave, int64 [n].
        tokens: Emitted tokens, then the draft, int64 [n, width].
        states: Unit state before each place, from the first that is not emitted to the one after
            the draft, int64 [n, width].
        drafter: Who drafted the token at each place, in which situation (see `policy`),
            int64 [n, width].
    """

    keys: Integers
    t: Integers
    limit: Integers
    source: Integers
    drafted: Integers
    closed: Integers
    failed: Integers
    waited: Integers
    program: Integers
    over: Integers
    tokens: Integers
    states: Integers
    drafter: Integers

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Batch:
        """Makes the batch of some rows, without drafts."""

        def vector(values: list[int]) -> Integers:
            return np.array(values, dtype=np.int64)

        zero = np.zeros(len(rows), dtype=np.int64)
        width = max((len(r.tokens) for r in rows), default=0) + 64
        tokens = np.zeros((len(rows), width), dtype=np.int64)
        states = np.zeros_like(tokens)
        for i, row in enumerate(rows):
            tokens[i, : len(row.tokens)] = row.tokens
            states[i, len(row.tokens)] = row.state
        return cls(
            keys=vector([r.request.key for r in rows]),
            t=vector([len(r.tokens) for r in rows]),
            limit=vector([r.limit for r in rows]),
            source=vector([r.sources[-1] if r.sources else 0 for r in rows]),
            drafted=zero.copy(),
            closed=zero.copy(),
            failed=zero - 1,
            waited=zero.copy(),
            program=vector([r.program for r in rows]),
            over=zero.copy(),
            tokens=tokens,
            states=states,
            drafter=np.zeros_like(tokens),
        )

    def joined(self, other: Batch) -> Batch:
        """Returns this batch with the rows of another after its own."""
        width = max(self.tokens.shape[1], other.tokens.shape[1])
        self.widen(width)
        other.widen(width)
        return Batch(
            **{
                f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)])
                for f in fields(self)
            }
        )

    def kept(self, rows: Sequence[int]) -> Batch:
        """Returns the batch of these rows, in this order."""
        index = np.array(rows, dtype=np.int64)
        return Batch(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def widen(self, width: int) -> None:
        """Makes room for tokens up to a width."""
        missing = width - self.tokens.shape[1]
        if missing > 0:
            pad = np.zeros((len(self.tokens), missing), dtype=np.int64)
            for name in ("tokens", "states", "drafter"):
                setattr(self, name, np.concatenate([getattr(self, name), pad], 1))
