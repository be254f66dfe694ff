"""Deeper look-ahead: the next tokens that a partner would write by itself, for rules that ask.

A partner's likeliest tokens, one after another, from where the row stands. They are looked at and
thrown away: no noise is used up, the rows and the engine's own guesses stay as they are, and what a
row is told does not depend on its neighbours. Every such look costs the partner as many passes as
it is deep, which are counted with the others.

Paper: §3.1 ("a router with deeper look-ahead").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baco.engine.batch import Row
from baco.engine.lazy import torch
from baco.engine.partner import Partner
from baco.engine.prefix_cache import CachedTexts, Spent
from baco.engine.request import ALIGNED, BASE, Cost
from baco.engine.scores import Look, SideScores, Stretch, score
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp

SENTENCE = 0
"""The depth that means: to the end of the sentence."""

LONGEST_SENTENCE = 32
"""A sentence is followed for at most this many tokens."""


_PLAIN = Warp(top_p=1.0)


def follow(
    asked: torch.Tensor,
    depth: int,
    room: torch.Tensor,
    read: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor],
    vocabulary: Vocabulary,
) -> Stretch:
    """Follows a side's likeliest tokens.

    Args:
        asked: The rows that matter, bool [n].
        depth: Tokens, or `SENTENCE`.
        room: How many tokens fit into the context window of each row, int64 [n].
        read: Feeds some rows (int64 [m]) their last token (int64 [m]; None at first, when they
            stand where they stand) and returns the logits after it, float [m, v].
        vocabulary: The side's.
    """
    width, n = depth or LONGEST_SENTENCE, len(asked)
    tokens = torch.zeros(n, width, dtype=torch.int64, device=asked.device)
    counts = torch.zeros_like(tokens, dtype=torch.bool)
    counts[:, 0] = True
    top_prob = entropy = torch.zeros_like(tokens, dtype=torch.float64)
    going, last = asked.nonzero().flatten(), None
    for k in range(width):
        fits = room[going] > k
        going, last = going[fits], None if last is None else last[fits]
        if not len(going):
            break
        scores: SideScores = score(read(going, last), _PLAIN, vocabulary)
        last = scores.top_token
        if k == 0:
            top_prob, entropy = (scores.raw.new_zeros(n, width) for _ in range(2))
        tokens[going, k] = last
        counts[going, k] = True
        top_prob[going, k] = scores.top_prob
        entropy[going, k] = scores.entropy
        over = vocabulary.is_end[last]
        if depth == SENTENCE:
            over = over | vocabulary.units.ends_sentence[last]
        going, last = going[~over], last[~over]
    return Stretch(tokens, top_prob, entropy, counts)


class Ahead:
    """Looks ahead on both partners of an engine, with caches of its own.

    Args:
        base: The base partner.
        aligned: The aligned partner.
    """

    def __init__(self, base: Partner, aligned: Partner) -> None:
        self._texts = {BASE: CachedTexts(base), ALIGNED: CachedTexts(aligned)}

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
        going = asked.nonzero().flatten().tolist()
        text = {i: _text(rows[i], side) for i in going}
        before = {i: texts.spent.get(rows[i].number, Spent()) for i in going}
        room = torch.zeros_like(asked, dtype=torch.int64)
        for i in going:
            room[i] = texts.partner.context_window - len(text[i]) + 1

        def read(going: torch.Tensor, last: torch.Tensor | None) -> torch.Tensor:
            places = going.tolist()
            if last is not None:
                for i, token in zip(places, last.tolist(), strict=True):
                    text[i] += (token,)
            return torch.stack(texts.read([(rows[i].number, text[i]) for i in places]))

        stretch = follow(asked, depth, room, read, texts.partner.vocabulary)
        for i, spent in before.items():
            rows[i].cost += _cost(side, spent, texts.spent[rows[i].number])
        return stretch


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
