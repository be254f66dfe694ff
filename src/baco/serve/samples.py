"""One answer in the making: what was asked, what came out so far, when it is finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from baco.engine import SOURCE_NAMES, Cost, Event, Request, Warp
from baco.engine.noise import row_key
from baco.methods.base import MAX_ATTEMPTS
from baco.methods.reader import Reader
from baco.routers import Router

Method = Literal["baco", "base", "aligned"]
"""How a server can answer: both partners together, or one of them alone."""

SERVED: Mapping[str, Method] = {"baco": "baco", "base": "base", "aligned": "aligned"}
"""These by name; other methods of `baco.methods` do not stream through one engine."""


@dataclass(frozen=True)
class Plan:
    """What a group of samples of one prompt is to be.

    Attributes:
        method: Both partners, or one.
        base_prompt: Token ids for the base side.
        aligned_prompt: Token ids for the aligned side.
        identity: The prompt as text, for the noise keys.
        router: The bound router.
        warp: Temperature and filters.
        n: Samples.
        seed: The seed.
        max_new_tokens: Limit per sample.
        stops: Stop strings.
        restart_shorter_than: Samples that stop before this many tokens are drawn again.
        boundary: The text by which the base model opens another turn; empty for raw text.
        top_logprobs: How many alternatives to report per token; None for no log-probabilities.
    """

    method: Method
    base_prompt: tuple[int, ...]
    aligned_prompt: tuple[int, ...]
    identity: str
    router: Router
    warp: Warp
    n: int
    seed: int
    max_new_tokens: int
    stops: tuple[str, ...] = ()
    restart_shorter_than: int = 0
    top_logprobs: int | None = None
    boundary: str = ""

    def request(self, index: int, attempt: int) -> Request:
        """Returns what the engine is to decode for one attempt at one sample."""
        prompts = {
            "baco": (self.base_prompt, self.aligned_prompt),
            "base": (self.base_prompt, self.base_prompt),
            "aligned": (self.aligned_prompt, self.aligned_prompt),
        }
        base, aligned = prompts[self.method]
        return Request(
            base_prompt=base,
            aligned_prompt=aligned,
            router=self.router,
            key=row_key(self.seed, self.identity, index, attempt),
            warp=self.warp,
            max_new_tokens=self.max_new_tokens,
            end_rule=self.method == "baco",
            turn_rule="\n" in self.boundary,
        )


class Piece(NamedTuple):
    """One token of an answer.

    Attributes:
        token: The token id.
        source: ``base`` or ``aligned``.
        begins: Whether it began a unit.
        text: Its text; empty where another token completes its character.
    """

    token: int
    source: str
    begins: bool
    text: str


class Logprob(NamedTuple):
    """What the partner that wrote a token thought of it, before temperature and filters.

    Attributes:
        logprob: log P of the token.
        top: The most likely tokens and their log P, best first.
    """

    logprob: float
    top: list[tuple[int, float]]


@dataclass
class Tally:
    """Counts over one sample, or summed over several.

    Attributes:
        tokens: Tokens of the answer.
        units: Units (words, runs of punctuation, line breaks).
        base_units: Units begun by the base model.
        switches: Changes of source between units.
        emitted: Tokens that were decoded, those a stop string cut off or a restart threw away
            included.
        cost: Forward passes; None where an engine was interrupted and has not said.
        restarts: How often the sample was drawn again.
    """

    tokens: int = 0
    units: int = 0
    base_units: int = 0
    switches: int = 0
    emitted: int = 0
    cost: Cost | None = field(default_factory=Cost)
    restarts: int = 0

    def __add__(self, other: Tally) -> Tally:
        both = None if self.cost is None or other.cost is None else self.cost + other.cost
        return Tally(
            self.tokens + other.tokens,
            self.units + other.units,
            self.base_units + other.base_units,
            self.switches + other.switches,
            self.emitted + other.emitted,
            both,
            self.restarts + other.restarts,
        )

    @property
    def base_share(self) -> float:
        """Units begun by the base model / units."""
        return self.base_units / self.units if self.units else 0.0

    @property
    def forwards_per_token(self) -> float | None:
        """Forward passes of both partners per decoded token."""
        if self.cost is None or not self.emitted:
            return None
        return (self.cost.base_passes + self.cost.aligned_passes) / self.emitted


@dataclass
class Update:
    """News of one sample.

    Attributes:
        index: Which sample of the request.
        pieces: New tokens with their text.
        logprobs: One for each piece, if they were asked for.
        finish: ``stop``, ``length`` or ``stop_string`` with the last update.
        tally: The sample's counts, with the last update.
    """

    index: int
    pieces: list[Piece]
    logprobs: list[Logprob] | None = None
    finish: str | None = None
    tally: Tally | None = None


class Sample:
    """One sample, over its attempts. Lives on the engine's thread.

    Args:
        plan: What it belongs to.
        number: Index within the plan's group (part of the noise key).
        index: Index within the client's request.
        token_bytes: The bytes of each token id.
    """

    def __init__(self, plan: Plan, number: int, index: int, token_bytes: Sequence[bytes]) -> None:
        self.plan = plan
        self.number = number
        self.index = index
        self._token_bytes = token_bytes
        self._tally = Tally()
        self._last_source: str | None = None
        self._begin()

    def _begin(self) -> None:
        may_restart = self._tally.restarts < MAX_ATTEMPTS - 1
        self._hold = self.plan.restart_shorter_than if may_restart else 0
        self._reader = Reader(
            self._token_bytes,
            self.plan.stops,
            self._hold,
            "" if self.plan.method == "aligned" else self.plan.boundary,
            "aligned" if self.plan.method == "baco" else None,
        )

    @property
    def request(self) -> Request:
        """What the engine is to decode now."""
        return self.plan.request(self.number, self._tally.restarts)

    def take(self, event: Event) -> tuple[Update | None, bool]:
        """Reads an event of the engine.

        Returns:
            News to tell, or None; and whether the sample is to be drawn again.
        """
        tally, reader = self._tally, self._reader
        for token, spoke, begins in zip(event.tokens, event.sources, event.begins, strict=True):
            reader.add(token, self._name(spoke), begins)
        tally.emitted += len(event.tokens)
        finish: str | None = "stop_string" if reader.stopped else event.finish
        finish = "stop" if reader.turned else finish
        if event.finish:
            self.pay(event.cost)
        if finish == "stop" and len(reader.ids) < self._hold:
            tally.restarts += 1
            self._begin()
            return None, True
        if finish:
            reader.finish()
        pieces = [
            Piece(reader.ids[i], reader.sources[i], reader.begins[i], reader.strings[i])
            for i in reader.ready(final=finish is not None)
        ]
        for piece in pieces:
            self._count(piece)
        if not pieces and not finish:
            return None, False
        return Update(self.index, pieces, None, finish, tally if finish else None), False

    def pay(self, cost: Cost | None) -> None:
        """Books what a row has cost; None if that is not known."""
        spent = self._tally.cost
        self._tally.cost = None if spent is None or cost is None else spent + cost

    def _name(self, source: int) -> str:
        """Who wrote a token; a single model's engine calls every token aligned."""
        return "base" if self.plan.method == "base" else SOURCE_NAMES[source]

    def _count(self, piece: Piece) -> None:
        tally = self._tally
        tally.tokens += 1
        if piece.begins:
            tally.units += 1
            tally.base_units += piece.source == "base"
            tally.switches += self._last_source not in (None, piece.source)
            self._last_source = piece.source
