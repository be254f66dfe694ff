"""Runs made of runs: one after another, with one account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from baco.engine.loop import Stats
from baco.engine.request import Cost
from baco.engine.session import NOTHING, Turn
from baco.group import Sample
from baco.methods.base import Chunk, Done, Update


class Account:
    """Runs parts of a method, and adds up what their engines did.

    Attributes:
        stats: What was done so far.
    """

    def __init__(self) -> None:
        self.stats = NOTHING

    def pass_on(
        self, updates: Iterable[Update], numbers: Sequence[int] | None = None
    ) -> Iterator[Update]:
        """Passes a part's updates on.

        Args:
            updates: What a part makes.
            numbers: The task numbers of its tasks, if they are not the same.
        """
        for update in updates:
            if isinstance(update, Stats):
                self.stats += update
            elif numbers is None or isinstance(update, Turn):
                yield update
            else:
                yield update._replace(task=numbers[update.task])

    def collect(self, updates: Iterable[Update], into: dict[int, Sample]) -> Iterator[Turn]:
        """Keeps a part's samples to itself, by task number; yields only turns."""
        for update in self.pass_on(updates):
            if isinstance(update, Done):
                into[update.task] = update.sample
            elif isinstance(update, Turn):
                yield update


def tell(task: int, sample: Sample) -> Iterator[Update]:
    """Yields a finished sample as updates: its tokens, then itself."""
    for text, source, number in zip(sample.tokens, sample.sources, sample.token_ids, strict=True):
        yield Chunk(task, text, source, number)
    yield Done(task, sample)


def shares(cost: Cost | None, n: int) -> list[Cost | None]:
    """Divides a cost among n samples: what is counted in whole numbers that add up to it."""
    if cost is None:
        return [None] * n
    counted = [Cost(*(value // n + (i < value % n) for value in cost[:-1])) for i in range(n)]
    return [each._replace(draft_passes=cost.draft_passes / n) for each in counted]
