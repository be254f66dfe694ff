"""Which engine decodes a pair: ours, or one that the pair's partners bring along."""

from __future__ import annotations

from typing import Protocol

from baco.engine.drafts import Draft
from baco.engine.loop import Engine, Stats
from baco.engine.partner import Lookahead, Partner
from baco.engine.request import Begun, Cost, Event, Request
from baco.errors import UnsupportedError


class Decoder(Protocol):
    """What every engine offers; see `baco.engine.loop.Engine`.

    Attributes:
        max_rows: Rows decoded at the same time; may be changed between cycles.
    """

    max_rows: int

    @property
    def idle(self) -> bool:
        """Whether nothing is left to decode."""
        ...

    @property
    def stats(self) -> Stats:
        """What the engine has done so far."""
        ...

    def submit(self, request: Request, begun: Begun | None = None) -> int:
        """Adds a row, perhaps one begun in another engine, and returns its number."""
        ...

    def cancel(self, number: int) -> Cost | None:
        """Drops a row; returns what it has cost, if that is known."""
        ...

    def step(self) -> list[Event]:
        """Runs one cycle, and returns what happened."""
        ...


def open_engine(
    base: Partner,
    aligned: Partner,
    *,
    lookahead: Lookahead = "auto",
    max_rows: int = 256,
    draft: Draft = None,
) -> Decoder:
    """Makes the engine of two partners.

    Args:
        base: The base partner.
        aligned: The aligned partner; the same object for a single model.
        lookahead: How far partners may guess ahead.
        max_rows: Rows decoded at the same time.
        draft: A third party that guesses, as `Engine`.

    Returns:
        What the partners' own `open_engine` makes where they have one, else an `Engine`.

    Raises:
        UnsupportedError: If a draft is given to partners that bring their own engine along.
    """
    if aligned.abilities.brings_engine:
        if draft is not None:
            raise UnsupportedError(
                "this pair's engine takes no draft",
                hint="leave out the draft, or use the engine baco",
            )
        decoder: Decoder = aligned.open_engine(base, lookahead=lookahead, max_rows=max_rows)
        return decoder
    return Engine(base, aligned, lookahead=lookahead, max_rows=max_rows, draft=draft)
