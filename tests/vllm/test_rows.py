"""The batch of vLLM's runner V2 without vLLM: drafts checked, rows that leave and come back."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from baco.engine import ALIGNED, BASE, Warp
from baco.routers import parse
from baco.vllm.inside.requests import Fact, ProgramSpec, ResolvedRequest
from baco.vllm.inside.rows import ReadOn, RequestRow, Rows
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
            self.rows.write_down()
            for row in self.live:
                if row not in here:  # preempted: it reads itself anew
                    row.filled = row.ask.length + len(self.said[id(row)])
                    self.written.pop(id(row), None)
        return answers

    def step(self, here: list[RequestRow], drafting: bool) -> None:
        """Makes one pass."""
        rows, drafts = self.rows, [self.written.pop(id(row), []) for row in here]
        counts = [len(each) for each in drafts]
        rows.arrange(here, counts)
        streams = [[2] * row.ask.length + [t for t, *_ in self.said[id(row)]] for row in here]
        starts = torch.tensor([0, *(count + 1 for count in counts)]).cumsum(0)
        after = torch.tensor([len(s) + count for s, count in zip(streams, counts, strict=True)])
        rows.fed(starts.int(), after.int())
        fed = torch.tensor([t for s, d in zip(streams, drafts, strict=True) for t in (s[-1], *d)])
        assert torch.equal(rows.lines, torch.arange(len(fed)))
        rows.base_logits, logits = self.tables[BASE][fed], self.tables[ALIGNED][fed]
        if rows.lead is not None:
            rows.guess(rows.base_logits)
            logits = rows.lined_up(self.tables[ALIGNED][self.read(fed, starts)[rows.unread]])
            self.saved += int(rows.lead.has.sum())
        tokens, codes, kept = rows.choose(logits, fed)
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

    def read(self, fed: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
        """Returns what the aligned side reads: its last draft, and the base side's guess."""
        lead = self.rows.lead
        assert lead is not None
        mine = self.rows.ids(ALIGNED, fed)
        for i in lead.drafted.nonzero().flatten().tolist():
            at = int(starts[i] + lead.dropped[i])
            assert mine[at] == fed[starts[i] + lead.has[i]]
            assert mine[at + 1] == self.rows.guesses[i]
        return mine

    def draft(self, here: list[RequestRow]) -> None:
        """Lets the aligned side write on behind the rows that are left; often less is wanted."""
        rows, passes = self.rows, self.luck.randint(0, LONGEST - 1)
        t, state, _ = rows.standing
        last = torch.tensor([self.said[id(row)][-1][0] for row in here])
        has = rows.rightly_read(last)
        assert torch.equal(rows.behind[has], self.tables[ALIGNED][last[has]]) if has.any() else True
        logits = torch.zeros(len(here), LONGEST, VOCABULARY.size)
        counts = torch.zeros(len(here), dtype=torch.int64)
        for i in rows.drafting.nonzero().flatten().tolist():
            at, made = torch.tensor([i]), [int(last[i])]
            for k in range(passes + int(has[i])):
                logits[i, k] = self.tables[ALIGNED][made[-1]]
                token, state[at] = rows.draft(ALIGNED, at, logits[at, k], t[at] + k, state[at])
                made.append(int(token))
            counts[i] = len(made) - 1
            places = [*made[1:], 0][: passes + 1]  # the place of a guess, where there is no draft
            if self.luck.random() < 0.2:  # the scheduler has no room for all
                places = places[: self.luck.randint(0, passes)]
            self.written[id(here[i])] = places
        rows.read_on = ReadOn(
            rows.here, rows.lengths + t - 1, counts, logits, state, torch.zeros_like(counts)
        )


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
    for seed in range(4):
        answers, fast = play(seed, True)
        assert answers == plain
        assert fast.saved > 20
        fast_passes.append(fast.passes)
    assert any(source == BASE for answer in plain for _, source, _ in answer)
    assert max(fast_passes) < 0.9 * slow.passes, (fast_passes, slow.passes)
