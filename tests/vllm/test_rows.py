"""The batch of vLLM's runner V2 without vLLM: drafts checked, rows that leave and come back."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from baco.engine import ALIGNED, BASE, Warp
from baco.routers import parse
from baco.vllm.inside.requests import Fact, ProgramSpec, ResolvedRequest
from baco.vllm.inside.rows import Drafted, RequestRow, Rows
from support.engines import small_vocabulary

VOCABULARY = small_vocabulary()
LONGEST = 4


class Play:
    """Plays vLLM with two models that look at one token only.

    Args:
        rows: The batch.
        asked: The requests.
        limit: Tokens of each answer.
        luck: Decides who is in a pass, and who is preempted.
    """

    def __init__(
        self, rows: Rows, asked: list[ResolvedRequest], limit: int, luck: random.Random
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(VOCABULARY.size, VOCABULARY.size, generator=generator) * 3
        more = torch.randn(VOCABULARY.size, VOCABULARY.size, generator=generator)
        self.tables = (base + more, base)
        self.rows, self.limit, self.luck = rows, limit, luck
        self.live = [RequestRow(ask, []) for ask in asked]
        self.said: dict[int, list[tuple[int, int, bool]]] = {id(row): [] for row in self.live}
        self.written: dict[int, list[int]] = {}
        self.passes = self.saved = 0

    def run(self, drafting: bool) -> list[list[tuple[int, int, bool]]]:
        """Decodes all."""
        answers = [self.said[id(row)] for row in self.live]
        for row in self.live:
            row.filled = row.ask.length
        while self.live:
            here = [row for row in self.live if self.luck.random() < 0.9]
            if here:
                self.step(here, drafting)
            for row in self.live:
                if row not in here:  # preempted: it reads itself anew
                    row.filled = row.ask.length + len(self.said[id(row)])
                    self.written.pop(id(row), None)
        return answers

    def step(self, here: list[RequestRow], drafting: bool) -> None:
        """Makes one pass."""
        rows, drafts = self.rows, [self.written.pop(id(row), []) for row in here]
        rows.arrange(here, [len(d) for d in drafts])
        streams = [[2] * row.ask.length + [t for t, *_ in self.said[id(row)]] for row in here]
        counts = torch.tensor([len(d) + 1 for d in drafts])
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        after = torch.tensor([len(s) + len(d) for s, d in zip(streams, drafts, strict=True)])
        rows.fed(starts.int(), after.int())
        fed = torch.tensor([t for s, d in zip(streams, drafts, strict=True) for t in (s[-1], *d)])
        logits = [table[fed] for table in self.tables]
        if rows.lead is not None:
            self.saved += len(rows.lead.logits)
            assert torch.equal(logits[rows.lead.side][rows.lead.lines], rows.lead.logits)
        rows.base_logits = logits[BASE]
        tokens, codes, kept = rows.choose(logits[ALIGNED], fed)
        self.passes += 1
        for i, row in enumerate(here):
            at, said = int(starts[i]), self.said[id(row)]
            for token, code in zip(
                tokens[at : at + int(kept[i])].tolist(), codes[at:].tolist(), strict=False
            ):
                fact = Fact.of(code)
                said.append((token, fact.source, bool(fact.begins)))
                if token == 0 or len(said) == self.limit:
                    self.live.remove(row)
                    break
        if drafting:
            self.draft(here)

    def draft(self, here: list[RequestRow]) -> None:
        """Lets one side write on behind the rows that are left; often only a part is wanted."""
        rows, side = self.rows, self.luck.choice((ALIGNED, BASE))
        t, state, _ = rows.standing
        last = torch.tensor([self.said[id(row)][-1][0] for row in here])
        first = rows.lengths + t - 1
        logits = torch.zeros(len(here), LONGEST, VOCABULARY.size)
        counts = torch.zeros(len(here), dtype=torch.int64)
        going = rows.drafting.nonzero().flatten()
        for k in range(self.luck.randint(0, LONGEST)):
            logits[going, k] = self.tables[side][last[going]]
            last[going], state[going] = rows.draft(
                side, going, logits[going, k], t[going] + k, state[going]
            )
            for i in going.tolist():
                self.written.setdefault(id(here[i]), []).append(int(last[i]))
            counts[going] += 1
        for row in here:
            if self.luck.random() < 0.2:  # the scheduler has no room for all
                self.written.get(id(row), []).clear()
        rows.drafted = Drafted(side, rows.here, first, counts, logits)


def asked(specs: list[str], warp: Warp) -> list[ResolvedRequest]:
    """Requests of several programs with prompts of several lengths."""
    return [
        ResolvedRequest(
            ProgramSpec("baco", parse(spec), (warp, warp), True, i % 2 == 0),
            i * 7919,
            [2] * (3 + i % 4),
            [2] * (2 + i % 5),
        )
        for i, spec in enumerate(specs * 4)
    ]


@pytest.mark.parametrize("how", [Warp(temperature=0), Warp()], ids=["greedy", "sampled"])
@pytest.mark.parametrize("specs", [["p@0.5"], ["p-punc@0.4", "rand@0.5", "p@sentence:1,0.2/1"]])
def test_drafts_change_no_answer(specs: list[str], how: Warp) -> None:
    def play(seed: int, drafting: bool) -> tuple[Any, Play]:
        made = Play(
            Rows(VOCABULARY, torch.device("cpu")), asked(specs, how), 30, random.Random(seed)
        )
        return made.run(drafting), made

    plain, slow = play(0, False)
    fast_passes = []
    for seed in range(2):
        answers, fast = play(seed, True)
        assert answers == plain
        assert fast.saved > 20
        fast_passes.append(fast.passes)
    assert any(source == BASE for answer in plain for _, source, _ in answer)
    assert max(fast_passes) < 0.9 * slow.passes, (fast_passes, slow.passes)
