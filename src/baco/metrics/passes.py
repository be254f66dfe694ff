"""Shared passes: whatever several metrics need of the same texts is computed once and kept."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from baco.errors import BacoError, InputError
from baco.metrics.cache import Cache, content_key
from baco.metrics.models import BUNDLED, DEFAULTS, FoundModel, ModelUnavailable, find_model
from baco.metrics.spec import Item, Metric
from baco.models.engines import ENGINES, OURS
from baco.models.gguf import is_gguf
from baco.models.known import known_pair, known_pairs, locate

if TYPE_CHECKING:
    from baco.metrics.groups import Generations
    from baco.metrics.judge import Judge

Values = NDArray[np.float64]
PassFunction = Callable[[list[Item]], Iterable[Sequence[float]]]

FLUSH_SECONDS = 2.0
POOL_FROM = 40
"""From so many groups on, starting worker processes pays."""

T = TypeVar("T")


class NotComputable(BacoError):
    """A metric needs something that was not given; the message says what."""


def _side_of(pair: str, side: str, offline: bool) -> FoundModel:
    """The base or the aligned model of a pair that BaCo knows by name."""
    known = known_pair(pair)
    whole = known.base if side == "base" else known.aligned
    if not whole:
        raise InputError(
            f"the aligned side of the pair {pair!r} is an adapter", hint="name a whole model"
        )
    found = find_model(locate(whole), offline)
    return dataclasses.replace(found, name=f"{pair} ({side})")


@dataclass(frozen=True)
class ScoringOptions:
    """How to score.

    Args:
        aligned: Aligned model (folder, hub id or known pair) for perplexity, likelihoods and
            EAD's tokens.
        models: Other models than the default ones, by role.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``auto`` (bfloat16 for large models on a GPU, else float32) or a torch dtype.
        batch_size: Texts or pairs in one forward pass.
        workers: Processes for the lexical part.
        offline: Whether the hub may not be asked.
        judge: Chat model for the metrics that need one.
        progress: Whether to draw a progress bar on stderr.
        engine: What computes likelihoods: ``baco`` (transformers), ``vllm`` or another engine.
    """

    aligned: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 16
    workers: int = 1
    offline: bool = False
    judge: Judge | None = None
    progress: bool = False
    engine: str = "baco"

    def __post_init__(self) -> None:
        for role in self.models:
            if role not in DEFAULTS:
                raise InputError(f"unknown role {role!r}", hint=f"known: {', '.join(DEFAULTS)}")
        if self.engine != OURS and ENGINES[self.engine].likelihood is None:
            raise InputError(
                f"the engine {self.engine!r} computes no likelihoods", hint=f"use {OURS}"
            )
        if self.batch_size < 1 or self.workers < 1:
            raise InputError("the batch size and the number of workers must be at least 1")
        if self.dtype not in ("auto", "float32", "float16", "bfloat16", "float64"):
            raise InputError(
                f"unknown dtype {self.dtype!r}",
                hint="known: auto, float32, float16, bfloat16, float64",
            )


class Passes:
    """Runs passes over texts, remembers their results, and records which models made them.

    Args:
        options: How to score.
        cache: Where results are kept between runs.
        lexical: Names of all lexical metrics asked for, so that one pass computes them together.
    """

    def __init__(self, options: ScoringOptions, cache: Cache, lexical: Sequence[str] = ()) -> None:
        self.options = options
        self.lexical = tuple(lexical)
        self.made_by: dict[str, str] = {}
        self._cache = cache
        self._memory: dict[bytes, Values] = {}
        self._loaded: tuple[object, Any] | None = None

    # -- models ---------------------------------------------------------------------------------

    def model(self, metric: Metric) -> FoundModel:
        """The model of a metric: the one after ``@``, the one given for its role, or the default.

        Args:
            metric: A metric with a role.

        Returns:
            The model. Without a hub, the bundled encoder takes the place of a default encoder.

        Raises:
            ModelUnavailable: If it is not to be had.
            NotComputable: If it is the aligned or the base model and none was given.
        """
        options = self.options
        given = options.aligned if metric.role == "aligned" else options.models.get(metric.role, "")
        named = metric.variant or given
        if not named and metric.role == "aligned":
            raise NotComputable("it needs the aligned model", hint="name it with --aligned")
        if metric.role == "base" and not named:
            if options.aligned not in known_pairs():
                raise NotComputable("it needs the base model", hint="name it: --model base=MODEL")
            named = options.aligned
        if metric.role in ("aligned", "base") and named in known_pairs():
            return _side_of(named, metric.role, options.offline)
        if metric.role not in ("aligned", "base") and is_gguf(named):
            raise InputError(
                f"{named} is a GGUF file, and no model for the role {metric.role!r} comes as one",
                hint="give a model's folder or Hub id",
            )
        try:
            return find_model(named or DEFAULTS[metric.role], options.offline)
        except ModelUnavailable:
            if named or metric.role not in ("encoder", "vendi"):
                raise
            return find_model(BUNDLED, offline=True)

    def judge(self) -> Judge:
        """The chat model that judges.

        Raises:
            NotComputable: If none was given.
        """
        if self.options.judge is None:
            raise NotComputable(
                "it needs a judge model", hint="--judge-model, and --judge-url for one elsewhere"
            )
        return self.options.judge

    def load(self, key: object, make: Callable[[], T]) -> T:
        """Loads a model unless it is the one loaded last; only one is held at a time."""
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            self._loaded = (key, make())
        made: T = self._loaded[1]
        return made

    # -- results --------------------------------------------------------------------------------

    def run(
        self, kind: str, items: Sequence[Item], run: PassFunction, *, together: bool = False
    ) -> list[Values]:
        """Computes a value for each item, from memory, from disk, or by running the pass.

        Items are run from long to short, so that a batch holds texts of like length and memory runs
        out at once or never. What is done is stored every few seconds; values that are not a
        number are computed again next time.

        Args:
            kind: What computes the values: the pass, its settings, the model's revision.
            items: The texts of each value; equal items are computed once.
            run: Yields the values of a list of items, in order.
            together: Whether items of the same first part are run one after the other.

        Returns:
            The values, one per item.
        """
        keys = [content_key(kind, item) for item in items]
        missing = {k: i for k, i in zip(keys, items, strict=True) if k not in self._memory}
        for key, blob in self._cache.get(missing).items():
            self._memory[key] = np.frombuffer(blob, dtype=np.float64)
            del missing[key]
        if missing:
            self._compute(kind, missing, run, together)
        return [self._memory[key] for key in keys]

    def _compute(
        self, kind: str, missing: Mapping[bytes, Item], run: PassFunction, together: bool
    ) -> None:
        def place(key: bytes) -> tuple[int, str, int]:
            item = missing[key]
            length = sum(map(len, item))
            return (-len(item[0]), item[0], -length) if together else (-length, "", 0)

        order = sorted(missing, key=place)
        fresh: dict[bytes, bytes] = {}
        stored = time.monotonic()
        with self._progress(kind.partition("|")[0], len(order)) as advance:
            try:
                results = run([missing[key] for key in order])
                for key, result in zip(order, results, strict=True):
                    value = np.asarray(result, dtype=np.float64)
                    self._memory[key] = value
                    if np.isfinite(value).all():
                        fresh[key] = value.tobytes()
                    advance()
                    if time.monotonic() - stored > FLUSH_SECONDS:
                        self._cache.put(fresh)
                        fresh, stored = {}, time.monotonic()
            finally:
                self._cache.put(fresh)

    @contextlib.contextmanager
    def _progress(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        if not self.options.progress:
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)

    def over_workers(
        self, function: Callable[[Item], Sequence[float]], items: list[Item]
    ) -> Iterator[Sequence[float]]:
        """Applies a function to items, in worker processes if there are enough of both.

        Args:
            function: A picklable function of an item.
            items: The items.

        Yields:
            The results, in order.
        """
        if self.options.workers == 1 or len(items) < POOL_FROM:
            yield from map(function, items)
            return
        workers = min(self.options.workers, len(items))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(function, items, chunksize=max(1, len(items) // (8 * workers)))

    # -- partitions -----------------------------------------------------------------------------

    def partitions(
        self,
        groups: Sequence[Generations],
        same: Callable[[Sequence[tuple[Generations, int, int]]], Sequence[bool]],
    ) -> list[list[int]]:
        """Partitions many groups at once; each round asks one question batch for all of them.

        Args:
            groups: The groups.
            same: Says which of the outputs (group, first, other) are equivalent.

        Returns:
            The class of each output, for every group.
        """
        from baco.metrics.partition import first_come

        found: list[list[int]] = [[] for _ in groups]
        open_: dict[int, Generator[list[tuple[int, int]], Sequence[bool], list[int]]] = {}
        asked: dict[int, list[tuple[int, int]]] = {}

        def advance(index: int, answers: Sequence[bool] | None) -> None:
            try:
                asked[index] = next(open_[index]) if answers is None else open_[index].send(answers)
            except StopIteration as stop:
                found[index] = stop.value
                asked.pop(index, None)

        for index, group in enumerate(groups):
            open_[index] = first_come(len(group.generations))
            advance(index, None)
        while asked:
            turn = {i: list(pairs) for i, pairs in asked.items()}
            answers = iter(same([(groups[i], a, b) for i, pairs in turn.items() for a, b in pairs]))
            for index, pairs in turn.items():
                advance(index, [next(answers) for _ in pairs])
        return found
