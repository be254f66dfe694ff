"""vLLM as an engine: the same requests in, the same events out as our own loop.

Only vLLM's public interface is used here: requests go in with what decides their samples, and
each token comes back with the code of its source (see `inside.processor`).
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from baco.engine.loop import Stats
from baco.engine.partner import Abilities, Lookahead, Partner
from baco.engine.request import Begun, Cost, Event, Finish, Request
from baco.engine.vocabulary import Vocabulary
from baco.errors import BacoError, UnsupportedError
from baco.vllm.inside.requests import Fact, of_request


@dataclass(eq=False)
class _Live:
    """A request that vLLM is working on.

    Attributes:
        owner: The engine that it belongs to.
        number: Its number there.
        both: Whether both sides run for it; a single model is the engine's aligned side.
        prompts: Lengths of the (base, aligned) prompt.
        tokens: How many tokens came back, the end included.
        emitted: How many of them belong to the answer.
        looked: How many tokens (base, aligned) looked ahead; each was a pass.
        latest: How many of them with the last tokens.
    """

    owner: int
    number: int
    both: bool
    prompts: tuple[int, int]
    tokens: int = 0
    emitted: int = 0
    looked: tuple[int, int] = (0, 0)
    latest: tuple[int, int] = (0, 0)

    def look(self, base: int, aligned: int) -> None:
        """Takes note of how many tokens each side looked ahead."""
        self.latest = (base, aligned)
        self.looked = (self.looked[0] + base, self.looked[1] + aligned)

    @property
    def cost(self) -> Cost:
        """What it cost. Prompts count in full: what came from the prefix cache is not known."""
        if not self.tokens:
            return Cost()
        base, aligned = self.prompts
        return Cost(
            base_passes=self.tokens * self.both + self.looked[0],
            aligned_passes=self.tokens + self.looked[1],
            base_token_rows=(base + self.tokens - 1) * self.both + self.looked[0],
            aligned_token_rows=aligned + self.tokens - 1 + self.looked[1],
            base_prompt_tokens=base * self.both,
            aligned_prompt_tokens=aligned,
            tokens=self.emitted,
        )


@dataclass(eq=False)
class _Box:
    """What vLLM has done for one engine and nobody has fetched yet."""

    events: list[Event] = field(default_factory=list)
    live: set[str] = field(default_factory=set)
    stats: Stats = field(default_factory=lambda: Stats(0, 0, 0, 0, 0))


class Runtime:
    """One vLLM engine, shared by all engines of a pair.

    Args:
        engine: vLLM's `LLMEngine`.
        ends: Ids that end an answer.
        window: The longest stream.
    """

    def __init__(self, engine: Any, ends: frozenset[int], window: int) -> None:
        self.window = window
        self._engine = engine
        self._ends = ends
        self._live: dict[str, _Live] = {}
        self._boxes: dict[int, _Box] = {}
        self._names = itertools.count()
        self._owners = itertools.count()
        self._left: list[int] = []

    def join(self) -> int:
        """Adds an engine; returns its number."""
        owner = next(self._owners)
        self._boxes[owner] = _Box()
        return owner

    def leave(self, owner: int) -> None:
        """Takes note that an engine is gone; its requests are dropped with the next call."""
        self._left.append(owner)

    def box(self, owner: int) -> _Box:
        """What has come back for an engine."""
        return self._boxes[owner]

    def submit(self, owner: int, number: int, request: Request, method: str, limit: int) -> None:
        """Hands a request to vLLM."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        self._sweep()
        ask = of_request(request, method)
        name = f"baco-{next(self._names)}"
        params = SamplingParams(
            max_tokens=limit,
            logprobs=0,
            detokenize=False,
            temperature=0.0,
            output_kind=RequestOutputKind.DELTA,
            extra_args=ask.args(),
        )
        prompt = TokensPrompt(prompt_token_ids=list(request.aligned_prompt))
        self._engine.add_request(name, prompt, params)
        self._live[name] = _Live(
            owner,
            number,
            method == "baco",
            (len(request.base_prompt), len(request.aligned_prompt)),
        )
        self._boxes[owner].live.add(name)

    def cancel(self, owner: int, number: int) -> Cost | None:
        """Drops a request and returns what it has cost. Unknown: nothing, and None."""
        box = self._boxes[owner]
        gone = [name for name in box.live if self._live[name].number == number]
        cost = self._live[gone[0]].cost if gone else None
        self._abort(gone)
        box.events = [event for event in box.events if event.row != number]
        return cost

    def _abort(self, names: Sequence[str]) -> None:
        for name in names:
            live = self._live.pop(name)
            self._boxes[live.owner].live.discard(name)
        if names:
            self._engine.abort_request(list(names))

    def _sweep(self) -> None:
        """Drops what belongs to engines that are gone."""
        while self._left:
            box = self._boxes[owner := self._left.pop()]
            self._abort(list(box.live))
            del self._boxes[owner]

    def step(self) -> None:
        """Runs vLLM once and sorts what comes out."""
        self._sweep()
        outputs = self._engine.step()
        touched: dict[int, list[_Live]] = {}
        for output in outputs:
            live = self._live.get(output.request_id)
            if live is None:
                continue
            box = self._boxes[live.owner]
            if event := self._event(output, live):
                box.events.append(event)
                touched.setdefault(live.owner, []).append(live)
                if event.finish:
                    del self._live[output.request_id]
                    box.live.discard(output.request_id)
        for owner, rows in touched.items():
            self._count(self._boxes[owner], rows)

    def _count(self, box: _Box, rows: Sequence[_Live]) -> None:
        """Keeps the account: one pass of each side that runs, a token-row for every row.

        Rows that look ahead do so together, as far as they look.
        """
        both, tokens = sum(live.both for live in rows), box.events[-len(rows) :]
        base, aligned = zip(*(live.latest for live in rows), strict=True)
        box.stats = Stats(
            box.stats.base_passes + (both > 0) + max(base),
            box.stats.aligned_passes + 1 + max(aligned),
            box.stats.base_token_rows + both + sum(base),
            box.stats.aligned_token_rows + len(rows) + sum(aligned),
            box.stats.tokens + sum(len(event.tokens) for event in tokens),
        )

    def _event(self, output: Any, live: _Live) -> Event | None:
        """Reads one of vLLM's outputs."""
        part = output.outputs[0]
        ids = list(part.token_ids)
        live.tokens += len(ids)
        facts = [
            Fact.of(int(alternatives[token].logprob))
            for token, alternatives in zip(ids, part.logprobs or (), strict=True)
        ]
        live.look(sum(fact.base for fact in facts), sum(fact.aligned for fact in facts))
        finish: Finish | None = None
        if part.finish_reason is not None:
            if part.finish_reason not in ("stop", "length"):
                raise BacoError(
                    f"vLLM gave a request up: {part.finish_reason}",
                    hint="its log says more",
                )
            finish = part.finish_reason
        if ids and ids[-1] in self._ends:
            ids.pop()
        elif not ids and finish is None:
            return None
        live.emitted += len(ids)
        said = facts[: len(ids)]
        return Event(
            live.number,
            ids,
            [fact.source for fact in said],
            [fact.begins for fact in said],
            finish,
            live.cost if finish else None,
        )


class VllmEngine:
    """Decodes many rows at once in a `Runtime`; looks like `baco.engine.Engine`.

    Args:
        runtime: Where.
        method: ``baco``, or the name of the side that works alone.
        windows: Context windows of (base, aligned).
    """

    def __init__(self, runtime: Runtime, method: str, windows: tuple[int, int]) -> None:
        self._runtime = runtime
        self._method = method
        self._windows = windows
        self.max_rows = sys.maxsize  # vLLM fills its own batch (`max_num_seqs`)
        self._numbers = itertools.count()
        self._owner = runtime.join()
        self._gone = weakref.finalize(self, runtime.leave, self._owner)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to decode."""
        box = self._runtime.box(self._owner)
        return not box.live and not box.events

    @property
    def stats(self) -> Stats:
        """What vLLM has done for this engine so far."""
        return self._runtime.box(self._owner).stats

    def submit(self, request: Request, begun: Begun | None = None) -> int:
        """Adds a row.

        Args:
            request: What to decode.
            begun: As `Engine`; vLLM goes on with nothing that was begun elsewhere.

        Returns:
            The row's number.

        Raises:
            InputError: If a prompt is empty or fills the context window, or the limit is < 1.
            UnsupportedError: If its router cannot run in vLLM, or it has begun elsewhere.
        """
        if begun and begun.tokens:
            raise UnsupportedError(
                "vLLM stopped in the middle of an answer", hint="its log says more; ask again"
            )
        base, aligned = (min(own, self._runtime.window) for own in self._windows)
        limit = request.limit_within((base, aligned))
        number = next(self._numbers)
        self._runtime.submit(self._owner, number, request, self._method, limit)
        return number

    def cancel(self, number: int) -> Cost | None:
        """Drops a row; no further event tells of it.

        Returns:
            What it has cost, or None if no such row is being decoded.
        """
        return self._runtime.cancel(self._owner, number)

    def step(self) -> list[Event]:
        """Runs vLLM once, unless it has done something for this engine already.

        Returns:
            What happened to each row that emitted tokens or finished.
        """
        box = self._runtime.box(self._owner)
        if not box.events and box.live:
            self._runtime.step()
        events, box.events = box.events, []
        return events


class VllmPartner(Partner):
    """One side of a pair that lives in vLLM.

    Args:
        name: ``base`` or ``aligned``.
        runtime: Where it lives.
        vocabulary: Tables over token ids, shared by both sides.
        context_window: The longest sequence it takes.
    """

    abilities = Abilities(rewinds=False, lends_caches=False, brings_engine=True)

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        vocabulary: Vocabulary,
        context_window: int,
    ) -> None:
        self.name = name
        self.runtime = runtime
        self.vocabulary = vocabulary
        self.context_window = context_window
        self.parameters = 1  # not counted: there is no choice whom to run
        self.device = torch.device("cpu")

    def open_engine(
        self, base: Partner, *, lookahead: Lookahead = "auto", max_rows: int = 256
    ) -> VllmEngine:
        """Makes an engine of this side (as the aligned one) and another, or of it alone.

        Args:
            base: The base side; this one itself for a single model.
            lookahead: Must be ``auto`` or ``off``: vLLM goes in lock-step.
            max_rows: Not used: vLLM fills its own batch (`max_num_seqs`).

        Raises:
            UnsupportedError: If look-ahead is asked for.
        """
        if lookahead not in ("auto", "off"):
            raise UnsupportedError(
                "vLLM goes in lock-step and does not look ahead",
                hint="leave look-ahead at auto, or use the engine baco",
            )
        windows = (base.context_window, self.context_window)
        return VllmEngine(self.runtime, self.name if base is self else "baco", windows)

    def new_cache(self) -> Any:
        """Refuses: the cache is vLLM's.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            "log-probabilities of single tokens are not available from vLLM pairs",
            hint="leave out logprobs, or use the engine baco",
        )

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Refuses: logits stay in vLLM's processes.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(
            "the aligned model cannot judge when it lives in vLLM",
            hint="use another router, or the engine baco",
        )
