"""A prefix cache: each row is given as a whole sequence, and only what is new is computed.

For text that may be discarded again (guesses, look-ahead, NUDGING's proposals): what a sequence
shares with the row's previous one is not computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from baco.engine.lazy import torch
from baco.engine.partner import Partner, RowCache


class Spent(NamedTuple):
    """What was computed for a row.

    Attributes:
        passes: Forward passes that served it.
        tokens: Tokens fed for it. What rows that are new together share is fed once, and counts
            for the first of them.
        prefilled: Whether it was that first one, or shared nothing.
    """

    passes: int = 0
    tokens: int = 0
    prefilled: bool = False


class CachedTexts:
    """The texts of some rows on one partner.

    Args:
        partner: The partner.

    Attributes:
        passes: Forward passes so far.
        fed: Tokens fed so far.
        spent: What was computed for each row, by its number.
    """

    def __init__(self, partner: Partner) -> None:
        self.partner = partner
        self.passes = 0
        self.fed = 0
        self.spent: dict[int, Spent] = {}
        self._cache: RowCache = partner.new_cache()
        self._places: dict[int, int] = {}
        self._held: list[tuple[int, ...]] = []

    def read(self, texts: Sequence[tuple[int, tuple[int, ...]]]) -> list[torch.Tensor]:
        """Brings rows to their texts, in one pass (two where some rows are new).

        Args:
            texts: (row number, token ids from the first one of the prompt on); a row at most once.

        Returns:
            The logits after each text, float [vocabulary].
        """
        out: dict[int, torch.Tensor] = {}
        new = [(row, text) for row, text in texts if row not in self._places]
        if new:
            out = self._open(new)
        keep = [len(held) for held in self._held]
        fresh: list[tuple[int, ...]] = [() for _ in self._held]
        for row, text in texts:
            if row in out:
                continue
            place = self._places[row]
            same = _shared(self._held[place], text)
            keep[place] = min(same, len(text) - 1)  # at least one token, to have logits
            fresh[place] = text[keep[place] :]
            self._held[place] = text
            self._book(row, len(fresh[place]))
        width = max(len(f) for f in fresh)
        if width:
            self._cache.truncate(torch.tensor(keep))
            padded = torch.tensor([[*f, *[0] * (width - len(f))] for f in fresh])
            logits = self._cache.feed(padded, torch.tensor([len(f) for f in fresh]))
            self.passes += 1
            for row, _ in texts:
                place = self._places[row]
                if fresh[place]:
                    out[row] = logits[place, len(fresh[place]) - 1]
        return [out[row] for row, _ in texts]

    def _open(self, new: Sequence[tuple[int, tuple[int, ...]]]) -> dict[int, torch.Tensor]:
        places = list(range(len(self._held), len(self._held) + len(new)))
        self._cache.add(len(new))
        logits = self._cache.open([text for _, text in new], places)
        self.passes += 1
        computed = set()
        for place, (row, text) in zip(places, new, strict=True):
            self._places[row] = place
            self._held.append(text)
            self._book(row, 0 if text in computed else len(text))
            computed.add(text)
        return {row: each for (row, _), each in zip(new, logits, strict=True)}

    def _book(self, row: int, tokens: int) -> None:
        before = self.spent.get(row, Spent())
        self.fed += tokens
        opened = before.prefilled or (before.passes == 0 and tokens > 0)
        self.spent[row] = Spent(before.passes + 1, before.tokens + tokens, opened)

    def forget(self, rows: Iterable[int]) -> None:
        """Drops rows; unknown ones are no mistake."""
        gone = {self._places.pop(row) for row in set(rows) & set(self._places)}
        if not gone:
            return
        left = [place for place in range(len(self._held)) if place not in gone]
        moved = {place: new for new, place in enumerate(left)}
        self._cache.keep(left)
        self._held = [self._held[place] for place in left]
        self._places = {row: moved[place] for row, place in self._places.items()}
        self.spent = {row: spent for row, spent in self.spent.items() if row in self._places}


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Returns how many tokens two sequences begin with together."""
    end = min(len(one), len(other))
    if one[:end] == other[:end]:
        return end
    return next(i for i in range(end) if one[i] != other[i])
