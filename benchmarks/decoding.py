"""Runs that are counted and timed: our engine in all its ways, transformers' `generate`, a peer."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest import mock

import torch

from baco.engine import Engine, Request, Stats, Warp
from baco.engine.noise import Draws, row_key
from baco.engine.opening import Decoder, open_engine
from baco.engine.request import Cost
from baco.engine.router import Router
from baco.engine.step import TOP, offer
from baco.methods.base import Done, tasks_for
from baco.methods.nudging import CHUNK
from baco.methods.settings import make_setting
from baco.methods.writing import Writer, WriteRequest
from baco.models.hf import HFPartner
from baco.pair import Pair
from baco.prompts import Conversation
from baco.routers import parse

LIMIT = 120
"""Most tokens of a sample."""

clock = time.perf_counter if torch.cuda.is_available() else time.process_time
"""What times a run: on a CPU its own work, whatever else the machine does."""

Make = Callable[[], Decoder]


class OwnNoise(Engine):
    """Look-ahead whose guesses do not share the rows' noise."""

    def _guess_offers(self, side: Any, at: Any, rows: Any, positions: Any) -> Any:
        batch = self._batch
        keys, t, states = self._on_device(
            batch.keys[rows] ^ 0x5DEECE66D, positions, batch.states[rows, positions]
        )
        out = torch.zeros(len(rows), TOP + 1, dtype=torch.int64)
        for i, row in enumerate(rows):  # they may differ in their warps
            one = slice(i, i + 1)
            warps = self._rows[row].request.warps
            scores = side.scores(at[one], warps[1 - self.sides.index(side)])
            draws = Draws.of(keys[one], t[one])
            out[i] = offer(scores, states[one], draws, self.vocabulary)[0]
        return out


@dataclass
class Result:
    """What decoding some groups cost: the cost model of `benchmarks/README.md`.

    Attributes:
        passes: Times that weights were read, a batch at a time; a small model's by its size.
        steps: Tokens of the longest row of each group: what a pass a token would come to.
        row_passes: Passes that served each row, summed over rows.
        token_rows: Tokens fed, over rows and sides.
        tokens: Tokens emitted.
        base_units: Units that the base model began.
        units: All units.
        cost: Sum of the rows' accounts.
        seconds: Time.
        texts: The samples, as token ids.
    """

    passes: float = 0
    steps: int = 0
    row_passes: int = 0
    token_rows: int = 0
    tokens: int = 0
    base_units: int = 0
    units: int = 0
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0
    texts: list[list[int]] = field(default_factory=list)

    @property
    def per_step(self) -> float:
        """Real batched forwards per token of the longest row."""
        return self.passes / max(self.steps, 1)

    @property
    def per_token(self) -> float:
        """Passes that served a row, per token of it."""
        return self.row_passes / max(self.tokens, 1)

    @property
    def acceptance(self) -> float:
        """Share of guesses that were right."""
        return self.cost.accepted / max(self.cost.drafted, 1)


def requests(
    pair: Pair, prompt: Conversation, router: Router, n: int, *, alone: bool = False
) -> list[Request]:
    """The rows of one group; `alone` for the aligned model as both sides."""
    base, aligned = pair.prompt_ids(prompt)
    return [
        Request(
            aligned if alone else base,
            aligned,
            router,
            row_key(0, prompt[-1].content, i),
            Warp(),
            max_new_tokens=LIMIT,
            end_rule=not alone,
        )
        for i in range(n)
    ]


def decode(
    pair: Pair,
    prompts: Sequence[Conversation],
    router: Router,
    n: int,
    make: Make,
    *,
    alone: bool = False,
) -> Result:
    """Decodes a group for each prompt, one group after another."""
    result = Result()
    for prompt in prompts:
        start = clock()
        engine = make()
        rows: dict[int, list[int]] = {
            engine.submit(r): [] for r in requests(pair, prompt, router, n, alone=alone)
        }
        while not engine.idle:
            for event in engine.step():
                rows[event.row] += event.tokens
                result.units += sum(event.begins)
                began = zip(event.sources, event.begins, strict=True)
                result.base_units += sum(s for s, b in began if b)
                result.cost += event.cost or Cost()
        result.seconds += clock() - start
        stats = engine.stats
        result.passes += stats.base_passes + stats.aligned_passes + stats.draft_cost
        result.token_rows += stats.base_token_rows + stats.aligned_token_rows
        result.steps += max(len(ids) for ids in rows.values())
        result.tokens += stats.tokens
        result.texts += list(rows.values())
    result.row_passes = result.cost.base_passes + result.cost.aligned_passes
    return result


class Run(NamedTuple):
    """One repetition of one contestant.

    Attributes:
        seconds: Time of all groups.
        tokens: Tokens emitted.
        passes: Weight passes; None where they are not counted.
        drawn: Tokens generated, those thrown away included; None where there are no others.
        published: The same for NUDGING's published code, at most.
    """

    seconds: float
    tokens: int
    passes: float | None = None
    drawn: int | None = None
    published: int | None = None


def engine_run(
    pair: Pair, prompts: Sequence[Conversation], spec: str, n: int, **options: Any
) -> Run:
    """Our engine as users run it; spec ``alone`` is the aligned model by itself."""
    alone = spec == "alone"
    base = pair.aligned if alone else pair.base

    def make() -> Decoder:
        return open_engine(base, pair.aligned, **options)

    router = parse("rand@0" if alone else spec)
    result = decode(pair, prompts, router, n, make, alone=alone)
    return Run(result.seconds, result.tokens, result.passes)


def generate_run(pair: Pair, prompts: Sequence[Conversation], n: int) -> Run:
    """Transformers' `generate` with the aligned model alone."""
    partner = pair.aligned
    assert isinstance(partner, HFPartner)
    seconds, tokens = 0.0, 0
    ends = torch.tensor(sorted(partner.vocabulary.end_ids))
    for prompt in prompts:
        _, aligned = pair.prompt_ids(prompt)
        ids = torch.tensor([aligned]).repeat(n, 1)
        torch.manual_seed(0)
        start = clock()
        with torch.inference_mode():
            out = partner.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_p=0.9, top_k=0,
                temperature=1.0, max_new_tokens=LIMIT, eos_token_id=ends.tolist(),
            )  # fmt: skip
        seconds += clock() - start
        made = out[:, len(aligned) :]
        stopped = torch.isin(made, ends).int()
        tokens += int(torch.where(stopped.any(1), stopped.argmax(1), made.shape[1]).sum())
    return Run(seconds, tokens)


def nudging_run(pair: Pair, prompts: Sequence[Conversation], n: int) -> Run:
    """NUDGING, which reads no text twice here.

    The method's own code draws no more of a chunk than its decisions need. The published code draws
    every chunk whole; how much that would be follows from the number of chunks.
    """
    setting = make_setting(method="nudging", max_new_tokens=LIMIT, n=n)
    seconds, tokens, passes, drawn, chunks = 0.0, 0, 0, 0, 0
    write = Writer.write

    def counting(self: Writer, asks: Sequence[WriteRequest]) -> Any:
        nonlocal chunks
        chunks += sum(not ask.given for ask in asks)  # the rest of a chunk is no chunk of its own
        return write(self, asks)

    with mock.patch.object(Writer, "write", counting):
        for prompt in prompts:
            start = clock()
            for update in pair.run(tasks_for([prompt], n), setting):
                if isinstance(update, Done):
                    tokens += len(update.sample.token_ids)
                    drawn += (update.sample.details or {})["drawn_tokens"]
                elif isinstance(update, Stats):
                    passes += update.base_passes + update.aligned_passes
            seconds += clock() - start
    return Run(seconds, tokens, passes, drawn, chunks * CHUNK)


Contestant = Callable[[Sequence[Conversation]], Run]


def race(
    contestants: dict[str, Contestant], prompts: Sequence[Conversation], times: int
) -> dict[str, dict[str, Any]]:
    """Lets contestants run in turns, several times; a slow moment of the machine hits them all.

    Returns:
        For each, the median seconds per token, all of them, tokens, and passes per token.
    """
    for run in contestants.values():
        run(prompts[:1])  # what happens only once
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    last: dict[str, Run] = {}
    for _ in range(times):
        for name, run in contestants.items():
            done = last[name] = run(prompts)
            seconds[name].append(done.seconds / done.tokens)
    return {
        name: {
            "seconds_per_token": statistics.median(seconds[name]),
            "all_seconds_per_token": seconds[name],
            "tokens": run.tokens,
            "passes": run.passes,
            "drawn": run.drawn,
            "published": run.published,
        }
        for name, run in last.items()
    }
