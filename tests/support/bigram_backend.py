"""A backend in one file: two word lists that follow each other as they do in a text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from baco.engine.partner import Abilities, Partner, RowCache
from baco.models.engines import Backend
from baco.models.recompute import RecomputeCache
from baco.models.sides import Models, Side
from baco.partners.fake import fake_vocabulary
from baco.prompts import Conversation

END = "<end>"


class Bigram(Partner):
    """Says the next word by how often it followed the last one in a text."""

    abilities = Abilities(rewinds=False)
    device = torch.device("cpu")
    context_window = 1 << 20

    def __init__(self, words: list[str], text: str) -> None:
        self.words = words
        self.vocabulary = fake_vocabulary(words, ends=(END,))
        self.counts = torch.full((len(words), len(words)), 0.1, dtype=torch.float64)
        ids = [words.index(f" {word}") for word in text.split()] + [0]
        for one, two in pairwise(ids):
            self.counts[one, two] += 1
        self.parameters = self.counts.numel()

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        return self.all_logits(ids)[-1]

    def all_logits(self, ids: Sequence[int]) -> torch.Tensor:
        return self.counts[list(ids)].log()

    def new_cache(self) -> RowCache:
        return RecomputeCache(self)


def load(base: str, aligned: str, **options: Any) -> Models:
    """Makes a pair of two texts."""
    words = [END, *sorted({f" {word}" for word in f"{base} {aligned}".split()})]
    partners = [Bigram(words, text) for text in (base, aligned)]
    partners[0].vocabulary = partners[1].vocabulary

    def encode(conversation: Conversation) -> list[int]:
        return encode_text(conversation[-1].content)

    def encode_text(text: str) -> list[int]:
        return [words.index(f" {word}") for word in text.split() if f" {word}" in words] or [0]

    pieces = [b"", *(word.encode() for word in words[1:])]
    sides = [
        Side(t[:12], p, encode, encode_text, pieces)
        for t, p in zip((base, aligned), partners, strict=True)
    ]
    return Models("bigrams", (sides[0], sides[1]))


BACKEND = Backend(load)
