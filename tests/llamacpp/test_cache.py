"""Rows as sequences of one context: what they are fed, share, forget and keep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from baco.models.llamacpp import LlamaCache, LlamaPartner
from baco.pair import Pair

NEAR = {"rtol": 1e-3, "atol": 5e-3}
"""Which cells are summed first is not fixed, and ggml's GELU (Gemma) is a table of halves."""


@pytest.fixture(params=["two files", "sliding windows"])
def partner(pairs: Callable[[str], Pair], request: pytest.FixtureRequest) -> LlamaPartner:
    found = pairs(request.param).aligned
    assert isinstance(found, LlamaPartner)
    return found


def text(seed: int, length: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, 258, (length,), generator=generator).tolist()


class Rows:
    """A cache beside the plain ids of its rows: what it says is checked against no cache."""

    def __init__(self, partner: LlamaPartner) -> None:
        self.partner = partner
        self.cache = LlamaCache(partner)
        self.ids: list[list[int]] = []

    def open(self, prompts: list[list[int]]) -> None:
        rows = list(range(len(self.ids), len(self.ids) + len(prompts)))
        self.cache.add(len(prompts))
        self.ids += [list(prompt) for prompt in prompts]
        found = self.cache.open(prompts, rows)
        wanted = torch.stack([self.partner.logits(prompt) for prompt in prompts])
        torch.testing.assert_close(found, wanted, **NEAR)

    def feed(self, new: list[list[int]]) -> None:
        width = max(len(ids) for ids in new)
        tokens = torch.tensor([ids + [0] * (width - len(ids)) for ids in new])
        found = self.cache.feed(tokens, torch.tensor([len(ids) for ids in new]))
        for row, ids in enumerate(new):
            self.ids[row] += ids
            if ids:
                wanted = self.partner.all_logits(self.ids[row])[-len(ids) :]
                torch.testing.assert_close(found[row, : len(ids)], wanted, **NEAR)

    def truncate(self, lengths: list[int]) -> None:
        self.cache.truncate(torch.tensor(lengths))
        self.ids = [ids[:n] for ids, n in zip(self.ids, lengths, strict=True)]

    def keep(self, rows: list[int]) -> None:
        self.cache.keep(rows)
        self.ids = [list(self.ids[row]) for row in rows]


def test_rows_share_prompts_and_go_their_own_ways(partner: LlamaPartner) -> None:
    rows = Rows(partner)
    rows.open([text(1, 20)] * 3 + [text(2, 33)])
    rows.feed([text(3, 1), text(4, 5), [], text(5, 2)])
    rows.truncate([21, 22, 20, 33])  # guesses taken back, within the window and beyond it
    rows.feed([text(6, 3), text(7, 1), text(8, 4), []])
    rows.truncate([4, 26, 24, 10])  # far into the shared prompt
    rows.feed([text(9, 12), [], text(10, 1), text(11, 2)])
    rows.keep([3, 1])
    rows.feed([text(12, 2), text(13, 2)])
    rows.open([text(1, 20), text(14, 7)])  # into the numbers of those that left
    rows.keep([0, 0, 2, 2, 1])
    rows.feed([text(k, 2) for k in range(20, 25)])
    rows.keep([])
    rows.open([text(2, 5)])


def test_a_token_too_few_shows(partner: LlamaPartner) -> None:
    """The control: the comparison can fail."""
    ids = text(1, 20)
    for gone in (0, 10, 18):
        other = partner.logits(ids[:gone] + ids[gone + 1 :])
        assert (partner.logits(ids) - other).abs().max() > 10 * NEAR["atol"]


def test_contexts_grow_in_tokens_and_rows(partner: LlamaPartner) -> None:
    rows = Rows(partner)
    rows.open([text(1, 300), text(2, 150)])
    rows.feed([text(3, 200), []])  # more than the 512 cells of the first context
    rows.feed([text(4, 1), text(5, 2)])
    rows.open([text(6, 9)] * 30)  # more than its 16 sequences
    rows.feed([text(k, 1) for k in range(32)])


def test_more_rows_than_sequences_are_too_many(partner: LlamaPartner) -> None:
    cache = LlamaCache(partner)
    cache.add(300)
    with pytest.raises(torch.OutOfMemoryError, match="at most 256 sequences, not 300"):
        cache.open([[5, 6]] * 300, list(range(300)))


def test_a_prompt_longer_than_a_batch(pairs: Callable[[str], Pair]) -> None:
    partner = pairs("two files").aligned
    assert isinstance(partner, LlamaPartner)
    rows = Rows(partner)
    rows.open([text(1, 2100), text(2, 3)])
    rows.feed([text(3, 1), text(4, 1)])
