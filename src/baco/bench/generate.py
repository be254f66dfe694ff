"""Makes samples of many cells of one pair at once, so that the engine's batch stays full.

Runs of all settings share engines (`baco.engine.session`) and take turns, one cycle each. A run
that fails is tried again by halves on engines of its own, until it is known which groups fail;
all others go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from baco.bench.cells import Cell, make_bench_setting
from baco.bench.plan import Plan
from baco.bench.records import Record
from baco.errors import BacoError

if TYPE_CHECKING:
    from baco.engine.session import Engines, Seat
    from baco.group import Sample
    from baco.methods.base import Task, Update
    from baco.pair import Pair


class Job(NamedTuple):
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

    job: Job
    sample: Sample
    last: bool


class Failed(NamedTuple):
    """The samples of a job could not be made, and why."""

    job: Job
    message: str


Pull = Callable[[int], Sequence[Job]]
"""(rows) -> jobs of about so many samples; none if there is nothing to do at present."""


@dataclass
class _Run:
    """Jobs of one cell that run together.

    Attributes:
        jobs: The jobs.
        updates: What comes out.
        seat: Its place at the shared engines; None on engines of its own.
        tasks: Number of each task's job.
        missing: What of each job is not made yet.
    """

    jobs: list[Job]
    updates: Iterator[Update]
    seat: Seat | None
    tasks: list[int]
    missing: list[set[int]] = field(default_factory=list)

    def made(self, number: int, sample: Sample) -> Made:
        """Takes note of a finished task."""
        job = self.tasks[number]
        self.missing[job].discard(sample.index)
        return Made(self.jobs[job], sample, not self.missing[job])

    @property
    def left(self) -> list[Job]:
        """What is not made yet."""
        return [
            job if job.cell.whole_group else job._replace(places=tuple(sorted(missing)))
            for job, missing in zip(self.jobs, self.missing, strict=True)
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
    from baco.engine.loop import Stats
    from baco.engine.session import EngineFault, Engines
    from baco.methods.base import Done

    engines = Engines()
    runs: list[_Run] = []
    while True:
        pending = sum(len(missing) for run in runs for missing in run.missing)
        if pending < plan.run.max_rows:
            jobs = pull(2 * plan.run.max_rows - pending)
            for _, same in itertools.groupby(jobs, key=lambda job: job.cell.key):
                runs.append(_start(pair, plan, list(same), engines))
        if not runs:
            return
        for run in list(runs):
            try:
                for update in run.updates:
                    if isinstance(update, Done):
                        yield run.made(update.task, update.sample)
                    elif isinstance(update, Stats):
                        break  # the next one's turn
                else:
                    runs.remove(run)
            except EngineFault:
                stranded, runs, engines = runs, [], Engines()
                for one in stranded:
                    yield from _by_halves(pair, plan, one.left)
                break
            except Exception:
                if run.seat:
                    run.seat.leave()
                runs.remove(run)
                yield from _by_halves(pair, plan, run.left)


def _start(pair: Pair, plan: Plan, jobs: list[Job], engines: Engines | None) -> _Run:
    """Starts a run of jobs of one cell."""
    from baco.engine.session import Seat

    cell = jobs[0].cell
    seat = Seat(engines) if engines else None
    tasks = [_task(job.record, place) for job in jobs for place in job.places]
    owners = [number for number, job in enumerate(jobs) for _ in job.places]

    def updates() -> Iterator[Update]:  # so that what fails, fails when it is run
        setting = make_bench_setting(plan, cell)
        yield from pair.run(tasks, replace(setting, seat=seat))

    return _Run(jobs, updates(), seat, owners, [set(job.places) for job in jobs])


def _task(record: Record, place: int) -> Task:
    from baco.methods.base import Task

    return Task(record.prompt, place, tuple(record.extra.get("paraphrases", ())))


def _by_halves(pair: Pair, plan: Plan, jobs: list[Job]) -> Iterator[Made | Failed]:
    """Makes jobs on engines of their own; what fails is split until it is one job that fails."""
    from baco.methods.base import Done

    if not jobs:
        return
    run = _start(pair, plan, jobs, None)
    try:
        for update in run.updates:
            if isinstance(update, Done):
                yield run.made(update.task, update.sample)
    except Exception as error:
        left = run.left
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
