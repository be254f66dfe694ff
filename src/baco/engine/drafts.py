"""Third parties that guess ahead, so that both partners only verify.

Their guesses join the same drafts as the partners' own, so results stay what they are; only the
cost changes. Where text repeats, several tokens pass per two passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from baco.engine.step import Context, score, step
from baco.engine.warp import Warp
from baco.errors import InputError
from baco.partners.base import Partner, RowCache
from baco.routers import parse


class Ask(NamedTuple):
    """A row that could use a guess.

    Attributes:
        row: The row's number, the same over its life.
        text: The aligned prompt, the emitted tokens and the present draft.
        key: The row's noise key.
        t: Position of the token to guess first.
        state: Unit state there.
        warp: The aligned side's warps.
        room: Most tokens to guess.
    """

    row: int
    text: tuple[int, ...]
    key: int
    t: int
    state: int
    warp: Warp
    room: int


@runtime_checkable
class Drafter(Protocol):
    """Guesses how rows go on.

    Attributes:
        cost: What one of its passes costs, in passes of the aligned partner.
        passes: Passes made so far.
    """

    cost: float
    passes: int

    def guess(self, asks: Sequence[Ask]) -> list[list[int]]:
        """Guesses the next tokens of some rows: at most `room` each, none where unsure."""
        ...

    def forget(self, row: int) -> None:
        """Drops what is kept of a row that has left."""
        ...


class PromptLookup:
    """Guesses that what followed the last few tokens before follows them again.

    Args:
        longest: The longest run of tokens that is looked up first.
        shortest: The shortest run worth a guess.
    """

    def __init__(self, longest: int = 3, shortest: int = 2) -> None:
        self.longest = longest
        self.shortest = shortest
        self.cost = 0.0
        self.passes = 0

    def guess(self, asks: Sequence[Ask]) -> list[list[int]]:
        """Guesses the tokens after the latest earlier occurrence of each text's last tokens."""
        return [self._after(ask.text)[: ask.room] for ask in asks]

    def _after(self, text: tuple[int, ...]) -> list[int]:
        for size in range(min(self.longest, len(text) - 1), self.shortest - 1, -1):
            tail = text[-size:]
            for start in range(len(text) - size - 1, -1, -1):
                if text[start : start + size] == tail:
                    return list(text[start + size :])
        return []

    def forget(self, row: int) -> None:
        """Nothing is kept."""


class ModelDrafter:
    """A small model that decodes ahead with the rows' own noise.

    Args:
        partner: The small model; it must share the pair's vocabulary.
        parameters: Weights of the aligned partner, for the cost of a pass.
    """

    def __init__(self, partner: Partner, parameters: int) -> None:
        self.partner = partner
        self.cost = partner.parameters / max(parameters, 1)
        self.passes = 0
        self._cache: RowCache = partner.new_cache()
        self._rows: dict[int, int] = {}
        self._texts: list[tuple[int, ...]] = []
        self._own = parse("rand", 0)

    def guess(self, asks: Sequence[Ask]) -> list[list[int]]:
        """Decodes ahead for all rows at once."""
        logits = self._read([(ask.row, ask.text) for ask in asks])
        out: list[list[int]] = [[] for _ in asks]
        states = [ask.state for ask in asks]
        for k in range(max(ask.room for ask in asks)):
            if k:
                texts = [(a.row, a.text + tuple(o)) for a, o in zip(asks, out, strict=True)]
                logits = self._read(texts)
            for i, ask in enumerate(asks):
                done = out[i] and bool(self.partner.vocabulary.is_end[out[i][-1]])
                if k >= ask.room or done:
                    continue
                token, states[i] = self._step(ask, k, states[i], logits[i])
                out[i].append(token)
        return out

    def _step(self, ask: Ask, k: int, state: int, logits: torch.Tensor) -> tuple[int, int]:
        """One token of one row, and the unit state after it."""

        def vector(value: int) -> torch.Tensor:
            return torch.tensor([value], device=logits.device)

        vocabulary = self.partner.vocabulary
        scores = score(logits[None], ask.warp, vocabulary)
        context = Context(vector(ask.key), vector(ask.t + k), vector(state), vector(0))
        choice = step(scores, scores, context, self._own, (ask.warp, ask.warp), vocabulary)
        after = vocabulary.units.advance(vector(state), choice.token)
        return int(choice.token), int(after)

    def _read(self, texts: Sequence[tuple[int, tuple[int, ...]]]) -> list[torch.Tensor]:
        """Brings rows to their texts in one pass (two with new rows); logits after each text."""
        new = [(row, text) for row, text in texts if row not in self._rows]
        out: dict[int, torch.Tensor] = {}
        if new:
            places = list(range(len(self._texts), len(self._texts) + len(new)))
            self._cache.add(len(new))
            logits = self._cache.open([text for _, text in new], places)
            self.passes += 1
            for place, (row, text), each in zip(places, new, logits, strict=True):
                self._rows[row] = place
                self._texts.append(text)
                out[row] = each
        keep = [len(text) for text in self._texts]
        fresh: list[tuple[int, ...]] = [() for _ in self._texts]
        for row, text in texts:
            place = self._rows[row]
            if row in out:
                continue
            old = self._texts[place]
            same = next(
                (i for i, (a, b) in enumerate(zip(old, text, strict=False)) if a != b),
                min(len(old), len(text)),
            )
            keep[place] = min(same, len(text) - 1)  # at least one token, to have logits
            fresh[place] = text[keep[place] :]
            self._texts[place] = text
        width = max(len(f) for f in fresh)
        if width:
            device = self.partner.device
            self._cache.truncate(torch.tensor(keep, device=device))
            padded = torch.tensor([[*f, *[0] * (width - len(f))] for f in fresh], device=device)
            logits = self._cache.feed(padded, torch.tensor([len(f) for f in fresh], device=device))
            self.passes += 1
            for row, _ in texts:
                place = self._rows[row]
                if fresh[place]:
                    out[row] = logits[place, len(fresh[place]) - 1]
        return [out[row] for row, _ in texts]

    def forget(self, row: int) -> None:
        """Drops a row that has left."""
        if row not in self._rows:
            return
        gone = self._rows.pop(row)
        left = [place for place in range(len(self._texts)) if place != gone]
        self._cache.keep(left)
        self._texts = [self._texts[place] for place in left]
        self._rows = {r: left.index(place) for r, place in self._rows.items()}


def make_drafter(draft: Drafter | Partner | str | None, aligned: Partner) -> Drafter | None:
    """Reads the engine's `draft` argument.

    Args:
        draft: ``prompt-lookup``, a small model as a partner, a drafter, or None.
        aligned: The aligned partner.

    Raises:
        InputError: If the name is unknown or the small model has other token ids.
    """
    if draft == "prompt-lookup":
        return PromptLookup()
    if isinstance(draft, str):
        raise InputError(f"unknown draft {draft!r}", hint="use prompt-lookup or give a small model")
    if draft is None or isinstance(draft, Drafter):
        return draft
    if draft.vocabulary is not aligned.vocabulary:
        raise InputError(
            "the draft model has another vocabulary", hint="use one with the pair's tokenizer"
        )
    return ModelDrafter(draft, aligned.parameters)
