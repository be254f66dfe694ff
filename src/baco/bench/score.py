"""Scores the groups of a store: only what is missing, every value with what made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from baco.bench.cells import Cell
from baco.bench.plan import Plan
from baco.bench.records import Record
from baco.bench.store import Store
from baco.errors import BacoError, InputError
from baco.metrics.cache import Cache
from baco.metrics.groups import Generations
from baco.metrics.passes import Passes, ScoringOptions
from baco.metrics.score import named_after_model, score
from baco.metrics.spec import METRICS, STAND_INS, resolve

if TYPE_CHECKING:
    from baco.metrics.judge import Judge

CHUNK = 500
"""Groups that are scored together; a killed run loses at most their values."""


class Outcome(NamedTuple):
    """What scoring came to.

    Attributes:
        values: Values that were computed.
        skipped: Metrics that could not be computed, and why.
    """

    values: int
    skipped: dict[str, str]


class _Item(NamedTuple):
    cell: Cell
    record: str
    group: Generations


def score_store(
    store: Store,
    plan: Plan,
    *,
    offline: bool = False,
    workers: int = 1,
    say: Callable[[str], object] = lambda line: None,
) -> Outcome:
    """Computes the values that the plan asks for and the store lacks.

    Args:
        store: The store.
        plan: The plan whose metrics are computed; the store's own, or one that asks for others.
        offline: Never ask the hub.
        workers: Processes for the lexical part.
        say: Is told now and then how far it is.

    Returns:
        What was computed, and what could not be.
    """
    scorer = _Scorer(store, plan, offline, workers, say)
    try:
        return scorer.run()
    finally:
        if scorer.judge:
            scorer.judge.close()


class _Scorer:
    """Collects groups that lack the same metrics, and scores them together."""

    def __init__(
        self,
        store: Store,
        plan: Plan,
        offline: bool,
        workers: int,
        say: Callable[[str], object],
    ) -> None:
        self.judge = _judge(plan, offline)
        self._store = store
        self._plan = plan
        self._offline = offline
        self._workers = workers
        self._say = say
        self._words: dict[tuple[str, str], str] = {}
        self._waiting: dict[tuple[str, tuple[str, ...]], list[_Item]] = {}
        self._outcome = Outcome(0, {})

    def run(self) -> Outcome:
        """Scores all cells."""
        for cell in self._store.cells():
            aligned = self._plan.aligned_of(cell.pair)
            there = {
                name: self._store.scored(cell, word, name)
                for name in self._plan.metrics.names
                if (word := self._word(name, aligned)) is not None
            }
            for group in generations(self._store, cell):
                record = str(group.extra["record"])
                missing = tuple(name for name, records in there.items() if record not in records)
                if missing:
                    items = self._waiting.setdefault((aligned, missing), [])
                    items.append(_Item(cell, record, group))
                    if len(items) == CHUNK:
                        self._score(aligned, missing, items)
                        items.clear()
        for (aligned, missing), items in self._waiting.items():
            self._score(aligned, missing, items)
        return self._outcome

    def _word(self, name: str, aligned: str) -> str | None:
        """The scorer of a metric; None, with the reason noted, if it is not to be had."""
        if name in self._outcome.skipped:
            return None
        if (name, aligned) not in self._words:
            try:
                self._words[name, aligned] = scorer_of(name, self._options(aligned))
            except BacoError as error:
                self._skip(name, error)
                return None
        return self._words[name, aligned]

    def _skip(self, name: str, error: BacoError) -> None:
        self._outcome.skipped[name] = str(error)
        self._say(f"{name} cannot be computed: {error}")

    def _options(self, aligned: str) -> ScoringOptions:
        metrics = self._plan.metrics
        return ScoringOptions(
            aligned,
            metrics.models,
            metrics.device,
            metrics.dtype,
            metrics.batch_size,
            self._workers,
            self._offline,
            self.judge,
            engine=metrics.engine,
        )

    def _score(self, aligned: str, names: Sequence[str], items: Sequence[_Item]) -> None:
        """Scores groups; where some metric fails, the others are computed without it."""
        names = [name for name in names if name not in self._outcome.skipped]
        if not items or not names:
            return
        try:
            groups = [item.group for item in items]
            found = score(groups, names, **vars(self._options(aligned)))
        except BacoError as error:
            if len(names) == 1:
                self._skip(names[0], error)
            for name in names if len(names) > 1 else ():
                self._score(aligned, [name], items)
            return
        by_cell: dict[str, tuple[Cell, list[int]]] = {}
        for number, item in enumerate(items):
            by_cell.setdefault(item.cell.key, (item.cell, []))[1].append(number)
        for name, summary in zip(names, found.summaries, strict=True):
            column = found.column(summary.metric.name)
            word = self._words[name, aligned]
            for cell, numbers in by_cell.values():
                values = {items[number].record: column[number] for number in numbers}
                self._store.add_scores(cell, name, word, summary.made_by, values)
        added = len(items) * len(names)
        self._outcome = self._outcome._replace(values=self._outcome.values + added)
        self._say(f"{self._outcome.values:,} values; now at {items[-1].cell.title}")


def _judge(plan: Plan, offline: bool) -> Judge | None:
    metrics = plan.metrics
    if not metrics.judge_url:
        if not metrics.judge_model:
            return None
        from baco.metrics.local import LocalJudge

        options = ScoringOptions(device=metrics.device, dtype=metrics.dtype, offline=offline)
        return LocalJudge(metrics.judge_model, options)
    from baco.metrics.chat import ChatJudge

    return ChatJudge(metrics.judge_url, metrics.judge_model, key_env=metrics.judge_key_env)


def scorer_of(name: str, options: ScoringOptions) -> str:
    """Returns a word that changes when the value of a metric may change.

    Args:
        name: The metric, as a plan names it.
        options: How it is computed.

    Raises:
        BacoError: If a model that it needs is not to be had.
    """
    from baco.metrics.words import tokenizer_name

    metric = named_after_model(resolve(name), options)
    passes = Passes(options, Cache(None))
    parts = [f"v{metric.version}", options.dtype]
    if metric.variant == "judge" or (metric.kind == "discourse" and not metric.variant):
        parts.append(passes.judge().settings)
    elif metric.variant == "words" or not (metric.variant or metric.role):
        parts.append(tokenizer_name())
    elif metric.variant in STAND_INS:
        parts.append(metric.variant)
    else:
        parts.append(passes.model(metric).label)
    if metric.base_name == "semantic_entropy":
        parts.append(passes.model(METRICS["ppl"]).label)
    if not metric.variant and metric.base_name.startswith(("nb_utility", "esd")):
        parts.append(passes.model(METRICS["nb_distinct"]).label)
    return "|".join(parts)


def _passed(record: Record) -> Mapping[str, Any]:
    """What metrics read of a record: the beginning that a story was given."""
    return {"prefix": record.extra["prefix"]} if "prefix" in record.extra else {}


def generations(store: Store, cell: Cell) -> Iterator[Generations]:
    """The complete groups of a cell, as metrics take them.

    Args:
        store: The store.
        cell: One of its cells.

    Yields:
        Groups; `extra` says which cell, record and category they belong to.
    """
    about: Mapping[str, Any] = {
        "cell": cell.key,
        "pair": cell.pair,
        "dataset": cell.dataset,
        "method": cell.curve,
        "router": cell.router,
        "control": cell.control,
        "seed": cell.seed,
    }
    for record, samples in store.groups(cell):
        yield Generations(
            samples[0]["prompt"],
            tuple(sample["text"] for sample in samples),
            tuple(sample["finish_reason"] for sample in samples),
            {**_passed(record), **about, "record": record.id, "category": record.category},
            f"{cell.title}, {record.id}",
        )


def all_generations(path: Path) -> list[Generations]:
    """The complete groups of a store's plan, as metrics take them.

    Raises:
        InputError: If the file is no store, or holds no complete group.
    """
    with Store(path) as store:
        found = [group for cell in store.cells() for group in generations(store, cell)]
    if not found:
        raise InputError(f"{path} holds no complete group yet", hint="baco bench run fills it")
    return found
