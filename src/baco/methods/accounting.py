"""Runs made of runs: one after another, with one account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from baco.engine.loop import Stats
from baco.engine.request import Cost
from baco.group import Sample
from baco.methods.base import Chunk, Done, Setting, Update

NOTHING = Stats(0, 0, 0, 0, 0)


class Account:
    """Runs parts of a method, and adds up what their engines did.

    Args:
        setting: The method's setting.

    Attributes:
        stats: What was done so far. Engines that are shared with other runs tell of all of
            them: then it is the last word of the last one.
    """

    def __init__(self, setting: Setting) -> None:
        self._shared = setting.seat is not None
        self.stats = NOTHING

    def pass_on(
        self, updates: Iterable[Update], numbers: Sequence[int] | None = None
    ) -> Iterator[Update]:
        """Passes a part's updates on.

        Args:
            updates: What a part makes.
            numbers: The task numbers of its tasks, if they are not the same.

        Yields:
            Its updates. Accounts come only where engines are shared, as a chance to take turns.
        """
        last = NOTHING
        for update in updates:
            if isinstance(update, Stats):
                last = update
                if self._shared:
                    yield update
            elif numbers is None:
                yield update
            else:
                yield update._replace(task=numbers[update.task])
        self.stats = last if self._shared else self.stats + last

    def collect(self, updates: Iterable[Update], into: dict[int, Sample]) -> Iterator[Update]:
        """Keeps a part's samples to itself, by task number; yields only chances to take turns."""
        for update in self.pass_on(updates):
            if isinstance(update, Done):
                into[update.task] = update.sample
            elif not isinstance(update, Chunk):
                yield update


def tell(task: int, sample: Sample) -> Iterator[Update]:
    """Yields a finished sample as updates: its tokens, then itself."""
    for text, source in zip(sample.tokens, sample.sources, strict=True):
        yield Chunk(task, text, source)
    yield Done(task, sample)


def shares(cost: Cost | None, n: int) -> list[Cost | None]:
    """Divides a cost among n samples: what is counted in whole numbers that add up to it."""
    if cost is None:
        return [None] * n
    counted = [Cost(*(value // n + (i < value % n) for value in cost[:-1])) for i in range(n)]
    return [each._replace(draft_passes=cost.draft_passes / n) for each in counted]
