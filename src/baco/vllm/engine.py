"""vLLM as an engine: the same requests in, the same events out as our own loop.

Only vLLM's public interface is used here: requests go in with what decides their samples, and
each token comes back with the code of its source (see `inside.processor`).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

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
        engine: The engine that it was submitted to.
        both: Whether both sides run for it; a single model is the engine's aligned side.
        drafts: Whether what a side reads beyond its last token are drafts: the base side in the
            same pass; the aligned side, which makes them, in passes of their own, and a guess.
        prompts: Lengths of the (base, aligned) prompt.
        passes: How many passes of both sides gave tokens.
        emitted: How many tokens belong to the answer.
        further: How many passes (base, aligned) made besides.
        wider: How many tokens (base, aligned) read beyond one for each of `passes`.
        latest: What the last pass added to both.
    """

    engine: VllmEngine
    both: bool
    drafts: bool
    prompts: tuple[int, int]
    passes: int = 0
    emitted: int = 0
    further: tuple[int, int] = (0, 0)
    wider: tuple[int, int] = (0, 0)
    latest: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    def look(self, base: int, aligned: int) -> None:
        """Counts the tokens that each side looked ahead."""
        further = wider = base, aligned
        if self.drafts:
            further, wider = (0, aligned), (base, aligned + (base > 0))
        self.latest = further, wider
        self.further = (self.further[0] + further[0], self.further[1] + further[1])
        self.wider = (self.wider[0] + wider[0], self.wider[1] + wider[1])

    @property
    def cost(self) -> Cost:
        """What it cost. Prompts count in full: what came from the prefix cache is not known."""
        if not self.passes:
            return Cost()
        base, aligned = self.prompts
        return Cost(
            base_passes=self.passes * self.both + self.further[0],
            aligned_passes=self.passes + self.further[1],
            base_token_rows=(base + self.passes - 1) * self.both + self.wider[0],
            aligned_token_rows=aligned + self.passes - 1 + self.wider[1],
            base_prompt_tokens=base * self.both,
            aligned_prompt_tokens=aligned,
            tokens=self.emitted,
        )


class Runtime:
    """One vLLM engine. The engines of a pair, and of each side alone, are views of it.

    Args:
        engine: vLLM's `LLMEngine`.
        ends: Ids that end an answer.
        window: The longest stream.

    Attributes:
        window: The longest stream.
        hubs: What sessions have opened engines of it, see `Partner.hubs`.
    """

    def __init__(self, engine: Any, ends: frozenset[int], window: int) -> None:
        self.window = window
        self.hubs: WeakSet[Any] = WeakSet()
        self._engine = engine
        self._ends = ends
        self._live: dict[int, _Live] = {}
        self._numbers = itertools.count()

    def works_for(self, engine: VllmEngine) -> bool:
        """Whether rows of an engine are being decoded."""
        return any(live.engine is engine for live in self._live.values())

    def submit(self, engine: VllmEngine, request: Request, limit: int) -> int:
        """Hands a request of an engine to vLLM; returns its number."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        ask = of_request(request, engine.method)
        number = next(self._numbers)
        params = SamplingParams(
            max_tokens=limit,
            logprobs=0,
            detokenize=False,
            temperature=0.0,
            output_kind=RequestOutputKind.DELTA,
            extra_args=ask.args(),
        )
        prompt = TokensPrompt(prompt_token_ids=list(request.aligned_prompt))
        self._engine.add_request(str(number), prompt, params)
        lengths = (len(request.base_prompt), len(request.aligned_prompt))
        drafts = not request.router.looks_ahead
        self._live[number] = _Live(engine, engine.method == "baco", drafts, lengths)
        return number

    def cancel(self, number: int) -> Cost | None:
        """Drops a request and returns what it has cost. Unknown: nothing, and None."""
        live = self._live.pop(number, None)
        if live is None:
            return None
        self._engine.abort_request([str(number)])
        return live.cost

    def step(self) -> list[Event]:
        """Runs vLLM once; returns what happened to all its rows."""
        events: list[Event] = []
        touched: dict[VllmEngine, list[tuple[_Live, Event]]] = {}
        for output in self._engine.step():
            number = int(output.request_id)
            live = self._live.get(number)
            if live is None:
                continue
            if event := self._event(output, number, live):
                events.append(event)
                touched.setdefault(live.engine, []).append((live, event))
                if event.finish:
                    del self._live[number]
        for engine, rows in touched.items():
            engine.stats += _account(rows)
        return events

    def _event(self, output: Any, number: int, live: _Live) -> Event | None:
        """Reads one of vLLM's outputs."""
        part = output.outputs[0]
        ids = list(part.token_ids)
        live.passes += bool(ids)
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
            number,
            ids,
            [fact.source for fact in said],
            [fact.begins for fact in said],
            finish,
            live.cost if finish else None,
        )


def _account(rows: Sequence[tuple[_Live, Event]]) -> Stats:
    """What a step did for an engine: a pass of each side that runs, a token-row for every row.

    Rows that look ahead or draft do so together, as far as they go.
    """
    both = sum(live.both for live, _ in rows)
    further, wider = zip(*(live.latest for live, _ in rows), strict=True)
    passes = [max(side) for side in zip(*further, strict=True)]
    tokens = [sum(side) for side in zip(*wider, strict=True)]
    return Stats(
        (both > 0) + passes[0],
        1 + passes[1],
        both + tokens[0],
        len(rows) + tokens[1],
        sum(len(event.tokens) for _, event in rows),
    )


class VllmEngine:
    """Decodes many rows at once in a `Runtime`; looks like `baco.engine.Engine`.

    Args:
        runtime: Where.
        method: ``baco``, or the name of the side that works alone.
        windows: Context windows of (base, aligned).

    Attributes:
        method: As given.
        stats: What vLLM has done for this engine so far.
    """

    def __init__(self, runtime: Runtime, method: str, windows: tuple[int, int]) -> None:
        self.method = method
        self.stats = Stats(0, 0, 0, 0, 0)
        self.max_rows = sys.maxsize  # vLLM fills its own batch (`max_num_seqs`)
        self._runtime = runtime
        self._windows = windows

    @property
    def idle(self) -> bool:
        """Whether nothing is left to decode."""
        return not self._runtime.works_for(self)

    def submit(self, request: Request, begun: Begun | None = None) -> int:
        """Adds a row.

        Args:
            request: What to decode.
            begun: As `Engine`; vLLM goes on with nothing that was begun elsewhere.

        Returns:
            The row's number, which no other row of the runtime has.

        Raises:
            InputError: If a prompt is empty or fills the context window, or the limit is < 1.
            UnsupportedError: If its router cannot run in vLLM, or it has begun elsewhere.
        """
        if begun and begun.tokens:
            raise UnsupportedError(
                "vLLM stopped in the middle of an answer", hint="its log says more; ask again"
            )
        base, aligned = (min(own, self._runtime.window) for own in self._windows)
        return self._runtime.submit(self, request, request.limit_within((base, aligned)))

    def cancel(self, number: int) -> Cost | None:
        """Drops a row; no further event tells of it.

        Returns:
            What it has cost, or None if no such row is being decoded.
        """
        return self._runtime.cancel(number)

    def step(self) -> list[Event]:
        """Runs vLLM once.

        Returns:
            What happened to each row that emitted tokens or finished: of this engine, and of the
            others of the runtime, to whom sessions hand it on.
        """
        return self._runtime.step()


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
        self.hubs = runtime.hubs
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
            lookahead: Must be ``auto`` or ``off``: whether vLLM drafts is said where it is loaded.
            max_rows: Not used: vLLM fills its own batch (`max_num_seqs`).

        Raises:
            UnsupportedError: If look-ahead is asked for.
        """
        if lookahead not in ("auto", "off"):
            raise UnsupportedError(
                "a pair in vLLM is loaded for lock-step or for drafts; engines do not choose",
                hint="leave look-ahead at auto, and load the pair with "
                "speculative_config={'num_speculative_tokens': 4}; or use the engine baco",
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
