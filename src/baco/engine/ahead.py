"""Deeper look-ahead: the next tokens that a partner would write by itself, for rules that ask.

A partner's likeliest tokens, one after another, from where the row stands. They are looked at and
thrown away: no noise is used up, the rows and the engine's own guesses stay as they are, and what a
row is told does not depend on its neighbours. Every such look costs the partner as many passes as
it is deep, which are counted with the others.

Paper: §3.1 ("a router with deeper look-ahead").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from baco.engine.batch import Row
from baco.engine.rows import ALIGNED, BASE, Cost
from baco.engine.step import Scores, score
from baco.engine.warp import Warp
from baco.partners.base import Partner
from baco.partners.texts import Spent, Texts

SENTENCE = 0
"""The depth that means: to the end of the sentence."""

LONGEST_SENTENCE = 32
"""A sentence is followed for at most this many tokens."""


class Stretch(NamedTuple):
    """What a partner would write next in each of n rows.

    A row's stretch is shorter than asked where an end token (included) or the context window ends
    it. Rows that were not asked about hold one token of probability 0.

    Attributes:
        tokens: Its likeliest tokens, int64 [n, k].
        top_prob: The probability of each, float [n, k].
        entropy: The entropy of the distribution it is from, in nats, float [n, k].
        counts: Which places count, bool [n, k]; the first always does.
    """

    tokens: torch.Tensor
    top_prob: torch.Tensor
    entropy: torch.Tensor
    counts: torch.Tensor

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the mean of values [n, k] over the places that count: float [n]."""
        return (values * self.counts).sum(-1) / self.counts.sum(-1)


Look = Callable[[int, int, torch.Tensor], Stretch]
"""(side, depth, asked bool [n]) -> what that side would write."""

_PLAIN = Warp(top_p=1.0)


class Ahead:
    """Looks ahead on both partners of an engine, with caches of its own.

    Args:
        base: The base partner.
        aligned: The aligned partner.
    """

    def __init__(self, base: Partner, aligned: Partner) -> None:
        self._texts = {BASE: Texts(base), ALIGNED: Texts(aligned)}

    def passes(self, side: int) -> int:
        """Returns the passes of a side so far."""
        return self._texts[side].passes

    def tokens(self, side: int) -> int:
        """Returns the tokens fed to a side so far."""
        return self._texts[side].fed

    def over(self, rows: Sequence[Row]) -> Look:
        """Returns the look from where some rows stand; what was looked at once is kept."""
        seen: dict[tuple[int, int], Stretch] = {}

        def look(side: int, depth: int, asked: torch.Tensor) -> Stretch:
            if (side, depth) not in seen:
                seen[side, depth] = self._follow(rows, side, depth, asked)
            return seen[side, depth]

        return look

    def forget(self, rows: Sequence[int]) -> None:
        """Drops rows that have left, by their numbers."""
        for texts in self._texts.values():
            texts.forget(rows)

    def _follow(self, rows: Sequence[Row], side: int, depth: int, asked: torch.Tensor) -> Stretch:
        """Lets a partner write its likeliest tokens."""
        texts = self._texts[side]
        vocabulary, window = texts.partner.vocabulary, texts.partner.context_window
        width = depth or LONGEST_SENTENCE
        n, device = len(rows), asked.device
        tokens = torch.zeros(n, width, dtype=torch.int64, device=device)
        counts = torch.zeros(n, width, dtype=torch.bool, device=device)
        counts[:, 0] = True
        stats: tuple[torch.Tensor, torch.Tensor] | None = None
        going = asked.nonzero().flatten().tolist()
        text = {i: _text(rows[i], side) for i in going}
        before = {i: texts.spent.get(rows[i].number, Spent()) for i in going}
        for k in range(width):
            going = [i for i in going if len(text[i]) <= window]
            if not going:
                break
            logits = torch.stack(texts.read([(rows[i].number, text[i]) for i in going]))
            scores: Scores = score(logits, _PLAIN, vocabulary)
            if stats is None:
                stats = (scores.raw.new_zeros(n, width), scores.raw.new_zeros(n, width))
            tokens[going, k] = scores.top_token
            counts[going, k] = True
            stats[0][going, k] = scores.top_prob
            stats[1][going, k] = scores.entropy
            over = vocabulary.is_end[scores.top_token]
            if depth == SENTENCE:
                over = over | vocabulary.units.ends_sentence[scores.top_token]
            for i, token in zip(going, scores.top_token.tolist(), strict=True):
                text[i] += (token,)
            going = [i for i, stop in zip(going, over.tolist(), strict=True) if not stop]
        for i, spent in before.items():
            rows[i].cost += _cost(side, spent, texts.spent[rows[i].number])
        if stats is None:
            zero = torch.zeros(n, width, dtype=torch.float64, device=device)
            stats = (zero, zero)
        return Stretch(tokens, *stats, counts)


def _text(row: Row, side: int) -> tuple[int, ...]:
    request = row.request
    prompt = request.base_prompt if side == BASE else request.aligned_prompt
    return (*prompt, *row.tokens)


def _cost(side: int, before: Spent, after: Spent) -> Cost:
    """Returns what a look cost a row."""
    passes, tokens = after.passes - before.passes, after.tokens - before.tokens
    if side == BASE:
        return Cost(base_passes=passes, base_token_rows=tokens)
    return Cost(aligned_passes=passes, aligned_token_rows=tokens)
