"""Makes samples of many cells of one pair at once, so that the engine's batch stays full.

Runs of all settings share a session (`baco.engine.session`). One that fails is tried again by
halves on engines of its own, until it is known which groups fail; all others go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from baco.bench.cells import Cell, make_bench_setting
from baco.bench.plan import Plan
from baco.bench.records import Record
from baco.errors import BacoError

if TYPE_CHECKING:
    from baco.engine.session import Run, Seat
    from baco.group import Sample
    from baco.methods.base import Task, Update
    from baco.pair import Pair


class GroupJob(NamedTuple):
    """Samples of one group that are to be made.

    Attributes:
        cell: The cell.
        record: The record.
        places: Their indices in the group; all of them where a method makes groups as a whole.
    """

    cell: Cell
    record: Record
    places: tuple[int, ...]


class Made(NamedTuple):
    """A sample is made.

    Attributes:
        job: What it belongs to.
        sample: The sample.
        last: Whether all samples of the job are made now.
    """

    job: GroupJob
    sample: Sample
    last: bool


class Failed(NamedTuple):
    """The samples of a job could not be made, and why."""

    job: GroupJob
    message: str


Pull = Callable[[int], Sequence[GroupJob]]
"""(rows) -> jobs of about so many samples; none if there is nothing to do at present."""


class _Jobs:
    """Jobs of one cell that run together.

    Args:
        jobs: The jobs.
    """

    def __init__(self, jobs: list[GroupJob]) -> None:
        self._jobs = jobs
        self._owners = [number for number, job in enumerate(jobs) for _ in job.places]
        self.missing = [set(job.places) for job in jobs]

    def updates(self, pair: Pair, plan: Plan, seat: Seat | None) -> Iterator[Update]:
        """Makes the samples; also what is wrong with their setting is said only here."""
        setting = make_bench_setting(plan, self._jobs[0].cell)
        tasks = [_task(job.record, place) for job in self._jobs for place in job.places]
        yield from pair.run(tasks, replace(setting, seat=seat))

    def made(self, updates: Iterable[Update]) -> Iterator[Made]:
        """Passes finished samples on."""
        from baco.methods.base import Done

        for update in updates:
            if isinstance(update, Done):
                job = self._owners[update.task]
                self.missing[job].discard(update.sample.index)
                yield Made(self._jobs[job], update.sample, not self.missing[job])

    @property
    def left(self) -> list[GroupJob]:
        """What is not made yet."""
        return [
            job if job.cell.whole_group else job._replace(places=tuple(sorted(missing)))
            for job, missing in zip(self._jobs, self.missing, strict=True)
            if missing
        ]


def make(pair: Pair, plan: Plan, pull: Pull) -> Iterator[Made | Failed]:
    """Makes samples for as long as there are jobs.

    Args:
        pair: The pair.
        plan: Says how models run.
        pull: Gives jobs of this pair.

    Yields:
        Every sample once, and every job that failed.
    """
    from baco.methods.run import new_session

    session = new_session(plan.run.max_rows)
    runs: dict[Run[Update], _Jobs] = {}
    while True:
        pending = sum(len(missing) for jobs in runs.values() for missing in jobs.missing)
        if pending < plan.run.max_rows:
            pulled = pull(2 * plan.run.max_rows - pending)
            for _, same in itertools.groupby(pulled, key=lambda job: job.cell.key):
                jobs = _Jobs(list(same))
                runs[session.start(partial(jobs.updates, pair, plan))] = jobs
        if session.idle:
            return
        for run, updates in session.cycle():
            yield from runs[run].made(updates)
            if run.over:
                jobs = runs.pop(run)
                if run.error:
                    yield from _by_halves(pair, plan, jobs.left)


def _task(record: Record, place: int) -> Task:
    from baco.methods.base import Task

    return Task(record.prompt, place, tuple(record.extra.get("paraphrases", ())))


def _by_halves(pair: Pair, plan: Plan, jobs: list[GroupJob]) -> Iterator[Made | Failed]:
    """Makes jobs on engines of their own; what fails is split until it is one job that fails."""
    if not jobs:
        return
    together = _Jobs(jobs)
    try:
        yield from together.made(together.updates(pair, plan, None))
    except Exception as error:
        left = together.left
        if len(left) == 1:
            yield Failed(left[0], _words(error))
        else:
            half = len(left) // 2
            yield from _by_halves(pair, plan, left[:half])
            yield from _by_halves(pair, plan, left[half:])


def _words(error: Exception) -> str:
    """Says in one line what went wrong."""
    text = str(error) if isinstance(error, BacoError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def cost_of(sample: Sample) -> dict[str, Any] | None:
    """Returns what a sample cost as JSON, or None if it is not known."""
    return None if sample.cost is None else sample.cost._asdict()
