"""What the engine asks of a partner: token ids in, next-token logits out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, cast
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from baco.engine.lazy import torch
from baco.engine.penalties import Past
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp


class RowCache(Protocol):
    """The state of one partner for a batch of rows: what each row has been fed so far.

    Rows are numbered 0..n-1 without gaps; the engine keeps both partners' numbering the same.
    """

    def add(self, count: int) -> None:
        """Appends empty rows."""
        ...

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Feeds whole prompts into rows that are empty; equal prompts are computed once.

        Args:
            prompts: One non-empty id sequence per row.
            rows: The row numbers.

        Returns:
            Logits after each prompt's last token, float [len(rows), vocabulary].
        """
        ...

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Feeds the next tokens of every row in one forward pass.

        Args:
            tokens: int64 [n, q], on the host; row i's first `counts[i]` entries count, the rest
                is padding.
            counts: int64 [n], 0..q, on the host.

        Returns:
            Logits after each fed token, float [n, q, vocabulary]; padding rows are undefined.
        """
        ...

    def truncate(self, lengths: torch.Tensor) -> None:
        """Forgets everything after the first `lengths[i]` fed tokens of each row.

        Args:
            lengths: int64 [n], on the host.
        """
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the given rows, in this order, and frees the others."""
        ...


class TailCache(RowCache, Protocol):
    """A cache that computes no more logits than are asked for."""

    def feed_tail(
        self, tokens: torch.Tensor, counts: torch.Tensor, most: torch.Tensor
    ) -> torch.Tensor:
        """Feeds as `RowCache.feed`; logits as of the function `feed_tail`."""
        ...


def tail_places(
    counts: NDArray[np.int64], most: NDArray[np.int64]
) -> tuple[NDArray[np.int64], ...]:
    """Where the last tokens of each row are: (rows, places), int64 [m] each, in order.

    Args:
        counts: How many tokens each row has, int64 [n].
        most: How many of them are looked at, from the last one back, int64 [n].
    """
    back = counts[:, None] - np.arange(int(counts.max(initial=0)))
    return np.nonzero((back > 0) & (back <= most[:, None]))


def feed_tail(
    cache: RowCache, tokens: torch.Tensor, counts: torch.Tensor, most: torch.Tensor
) -> torch.Tensor:
    """Feeds the next tokens of every row, as `RowCache.feed`.

    Args:
        cache: The rows.
        tokens: int64 [n, q], on the host.
        counts: int64 [n], on the host.
        most: After how many of each row's tokens, from the last one back, logits are wanted,
            int64 [n], on the host.

    Returns:
        These logits, row by row, in the order of `tail_places`: float [m, vocabulary].
    """
    if hasattr(cache, "feed_tail"):  # isinstance of a protocol takes longer, at every pass
        return cast(TailCache, cache).feed_tail(tokens, counts, most)
    logits = cache.feed(tokens, counts)
    rows, places = tail_places(counts.numpy(), most.numpy())
    return picked(logits.flatten(0, 1), rows * logits.shape[1] + places)


def picked(lines: torch.Tensor, index: NDArray[np.int64]) -> torch.Tensor:
    """Returns lines [n, v] by an increasing index [m] on the host; as they are if it is all."""
    return lines if len(index) == len(lines) else lines[torch.from_numpy(index).to(lines.device)]


class SlidingCache(RowCache, Protocol):
    """A cache whose rows stand between the base and the aligned model, each at its own degree."""

    def slide(self, degrees: Sequence[float | None]) -> None:
        """Gives the rows added last degrees of their own; None leaves a row as it is."""
        ...


class IdCache(ABC):
    """A `RowCache` that keeps the ids of each row, for partners that read texts from the start."""

    def __init__(self) -> None:
        self._ids: list[tuple[int, ...]] = []

    def add(self, count: int) -> None:
        """Appends empty rows."""
        self._ids += [()] * count

    def _put(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        """Puts whole prompts into rows."""
        for row, prompt in zip(rows, prompts, strict=True):
            self._ids[row] = tuple(prompt)

    @abstractmethod
    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Takes whole prompts, as `RowCache.open`."""

    @abstractmethod
    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Takes the next tokens of every row, as `RowCache.feed`."""

    def truncate(self, lengths: torch.Tensor) -> None:
        """Forgets later tokens."""
        self._ids = [ids[:n] for ids, n in zip(self._ids, lengths.tolist(), strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the given rows, in this order."""
        self._ids = [self._ids[row] for row in rows]


SequenceOfIds = Sequence[int] | NDArray[np.int64]

Level = Literal["text", "top-k", "logits"]
"""What a partner gives, and a rule or method needs; each includes the ones before."""


Lookahead = Literal["auto", "off"] | int
"""How far the partners may guess ahead: a number of tokens, ``off``, or ``auto``."""


class Abilities(NamedTuple):
    """What a partner can do, as a value: engines and methods ask for nothing else.

    Attributes:
        gives: What it gives. The logits of one that gives ``top-k`` are true log-probabilities of
            its likeliest tokens, -inf for all others: they need not sum to 1, and must not be
            normalised again.
        top: How many likeliest tokens it gives; None for all.
        rewinds: Whether its cache can take back tokens; if not, it goes in lock-step.
        lends_caches: Whether others may have caches of it beside the engine's.
        brings_engine: Whether it is decoded by an engine of its own (`Partner.open_engine`).
        slides: Whether rows may have degrees of their own: its caches are `SlidingCache`s.
    """

    gives: Level = "logits"
    top: int | None = None
    rewinds: bool = True
    lends_caches: bool = True
    brings_engine: bool = False
    slides: bool = False


class Partner(ABC):
    """One of the two models as the engine sees it; a backend is a subclass.

    Attributes:
        vocabulary: Tables over token ids; two partners with the same object share ids.
        context_window: The longest sequence the model takes, in tokens.
        device: Where logits live.
        parameters: Number of weights, for cost accounts.
        abilities: What it can do.
        label: What errors call it.
        hubs: For a partner that brings its engine along, the hubs of sessions that use it: what
            one step of it yields goes to all of them. None where every hub has its own engine.
        runs_on: (kind of device, precision) of its passes; None where passes cost nothing to
            speak of, or nobody knows.
        offset: Where the ids of `own` begin among those of `vocabulary`.
    """

    vocabulary: Vocabulary
    context_window: int
    device: torch.device
    parameters: int
    abilities: Abilities = Abilities()
    label: str = "the model"
    hubs: WeakSet[Any] | None = None
    runs_on: tuple[str, torch.dtype] | None = None
    offset: int = 0

    @property
    def inner(self) -> Partner:
        """The partner itself, without what bridges it to another tokenizer."""
        return self

    @property
    def weights(self) -> object:
        """What two partners have in common that are one set of weights."""
        return self

    @property
    def own(self) -> Vocabulary:
        """The ids that it gives probability to, where others are laid beside them."""
        return self.inner.vocabulary

    def own_cache(self) -> RowCache:
        """Returns an empty cache whose logits are over `own` ids; what it is fed is not."""
        return self.new_cache()

    @abstractmethod
    def new_cache(self) -> RowCache:
        """Returns an empty cache for a new batch."""

    @abstractmethod
    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Next-token logits after a whole sequence, without any cache: the oracle's view.

        Args:
            ids: Prompt and response so far; at least one id.

        Returns:
            Float tensor [vocabulary].
        """

    def past(self, prompt: SequenceOfIds, answer: SequenceOfIds) -> Past:
        """Returns what the partner has read, as it reads it, for penalties.

        Args:
            prompt: Its prompt.
            answer: The answer so far.
        """
        return Past.of(prompt, answer)

    def shared_cache(self, other: Partner) -> RowCache | None:
        """Returns a cache through which one pass serves two sides, where that is possible.

        Args:
            other: The other side of the pair.

        Returns:
            A cache whose even rows are this side's and whose odd rows are the other's; None where
            there is none, as by default.
        """
        return None

    def open_engine(self, base: Partner, *, lookahead: Lookahead, max_rows: int) -> Any:
        """Makes the engine that decodes this partner as the aligned side (`brings_engine`).

        Args:
            base: The base side; this partner itself for a single model.
            lookahead: As `baco.engine.loop.Engine`.
            max_rows: As `baco.engine.loop.Engine`.

        Returns:
            A `baco.engine.opening.Decoder`.
        """
        raise NotImplementedError

    def account(self, texts: Iterable[Sequence[int]], warp: Warp) -> dict[str, Any] | None:
        """Tells what a partner that does not know everything did for one answer.

        Args:
            texts: Ids of the prompt and of the answer as far as it had come, token by token.
            warp: Temperature and filters.

        Returns:
            A dictionary ready for JSON; None for partners that know everything.
        """
        return None
