"""Runs a plan into a store: finds out what is missing, shares it among processes, makes it."""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from baco.bench.beside import beside
from baco.bench.cells import Cell, cells_of, make_bench_setting, pair_revision
from baco.bench.datasets import load_dataset
from baco.bench.generate import Failed, GroupJob, Made, Pull, cost_of, make
from baco.bench.plan import Plan
from baco.bench.records import Dataset, Record
from baco.bench.store import SampleKey, Span, Store
from baco.errors import BacoError, UnknownNameError
from baco.methods.needs import check_tokenizers
from baco.models.known import known_pairs, split_weights

if TYPE_CHECKING:
    from baco.pair import Pair

LEASE = 60.0
"""Seconds after which a claim of a process that has fallen silent no longer counts."""

FLUSH_SECONDS, FLUSH_SAMPLES = 1.0, 256
"""A killed run loses at most what it made in this time, or so many samples."""

POLL_SECONDS = 1.0


class Maker(Protocol):
    """What makes the samples of one pair.

    Attributes:
        revision: The pair's revision.
    """

    revision: str

    def make(self, pull: Pull) -> Iterator[Made | Failed]:
        """Makes samples for as long as there are jobs, as `baco.bench.generate.make`."""


class Local:
    """Makes samples in this process.

    Args:
        pair: The pair.
        plan: Says how models run.
    """

    def __init__(self, pair: Pair, plan: Plan) -> None:
        self.revision = pair.revision
        self._pair = pair
        self._plan = plan

    def make(self, pull: Pull) -> Iterator[Made | Failed]:
        """Makes samples for as long as there are jobs."""
        return make(self._pair, self._plan, pull)


class Failure(NamedTuple):
    """A group that could not be made."""

    cell: Cell
    record: str
    message: str


_NOT_FOR_PLANS = {
    "name",
    "adapter",
    "base_tokenizer",
    "aligned_tokenizer",
    "template",
    "shapes_only",
    "suits",
}
"""Arguments of `baco.Pair` that the pair's name decides, or that no TOML can hold."""


def load_pair(name: str, plan: Plan) -> Pair:
    """Loads a pair as a plan says.

    Raises:
        UnknownNameError: If the engine has no such option.
        PairError: If the pair cannot be had.
    """
    from baco.models.engines import ENGINES, use_threads
    from baco.pair import load

    _check_options(plan)
    options: dict[str, Any] = {
        "dtype": plan.run.dtype,
        "engine": plan.run.engine,
        **plan.run.engine_options,
    }
    if plan.run.device != "auto":
        options["device"] = plan.run.device
    pair = load(name, **options)
    if ENGINES[plan.run.engine].in_process and pair.known and pair.known.bundled:
        use_threads(1)  # on models this small, threads only wait for each other
    return pair


def _check_options(plan: Plan) -> None:
    """Checks the options of an engine that names them all, as ours; others check their own."""
    from baco.models.engines import ENGINES

    parameters = inspect.signature(ENGINES[plan.run.engine].load).parameters.values()
    if any(each.kind == each.VAR_KEYWORD for each in parameters):
        return
    known = {each.name for each in parameters if each.kind == each.KEYWORD_ONLY} - _NOT_FOR_PLANS
    for option in plan.run.engine_options:
        if option not in known:
            raise UnknownNameError(f"option of the engine {plan.run.engine}", option, known)


def load_local(name: str, plan: Plan) -> Maker:
    """Loads a pair into this process."""
    return Local(load_pair(name, plan), plan)


def prepare(plan: Plan, path: Path, revision: Callable[[str], str] = pair_revision) -> None:
    """Reads the datasets, finds out the revisions, and tells the store what the plan asks for.

    Args:
        plan: The plan.
        path: The store; it is made where it is missing, once the rest has been read.
        revision: Says the revision of a pair.

    Raises:
        InputError: If a dataset cannot be read.
        PairError: If a pair cannot be had.
    """
    cells, datasets = _work_of(plan, revision)
    with Store(path, create=True) as store:
        store.set_plan(plan, cells, datasets)


def known_samples(plan: Plan, store: Store, revision: Callable[[str], str] = pair_revision) -> int:
    """Says how many of a plan's samples a store has already, whatever plan made them.

    Args:
        plan: The plan; the store need not know it.
        store: The store; it is only read.
        revision: Says the revision of a pair.

    Raises:
        InputError: If a dataset cannot be read.
        PairError: If a pair cannot be had.
    """
    cells, datasets = _work_of(plan, revision)
    chosen = {entry.title: datasets[entry.title].limited(entry.limit) for entry in plan.datasets}
    counts = store.counts()
    return sum(
        min(counts.get((cell.key, record.id), 0), cell.n)
        for cell in cells
        for record in chosen[cell.dataset]
    )


def _work_of(plan: Plan, revision: Callable[[str], str]) -> tuple[list[Cell], dict[str, Dataset]]:
    """The cells of a plan, and its datasets by what it calls them."""
    datasets = {entry.title: load_dataset(entry.where) for entry in plan.datasets}
    revisions = {name: revision(name) for name in plan.all_pairs}
    cells = cells_of(plan, revisions, {k: d.fingerprint for k, d in datasets.items()})
    known = known_pairs()  # of which the user's own are in a file
    for cell in cells:
        pair = known.get(split_weights(cell.pair)[0])
        if pair and not pair.one_tokenizer:
            check_tokenizers(cell.pair, False, make_bench_setting(plan, cell))
    return cells, datasets


class Part(NamedTuple):
    """A part of a plan's groups: every `of`-th one, from the `first`-th on, which is below `of`."""

    first: int
    of: int


WHOLE = Part(0, 1)
"""All groups."""


def groups_of(store: Store, part: Part = WHOLE) -> list[tuple[Cell, Record]]:
    """Returns the groups that a store's plan asks for, or a part of them, in order."""
    cells = store.cells()
    records = {cell.fingerprint: store.records(cell) for cell in cells}
    every = [(cell, record) for cell in cells for record in records[cell.fingerprint]]
    return every[part.first :: part.of]


def incomplete(store: Store, part: Part = WHOLE) -> list[tuple[Cell, Record]]:
    """Returns the groups that lack samples."""
    done = store.counts()
    return [
        (cell, record)
        for cell, record in groups_of(store, part)
        if done.get((cell.key, record.id), 0) < cell.n
    ]


def unmade(store: Store, part: Part = WHOLE) -> list[tuple[Cell, Record]]:
    """Returns the groups that lack samples, but for those that could not be made."""
    failed = store.failures()
    return [
        (cell, record)
        for cell, record in incomplete(store, part)
        if (cell.key, record.id) not in failed
    ]


class BenchWorker:
    """One process's part in a run.

    Args:
        plan: The plan.
        path: The store; it knows the plan already (`prepare`).
        load: Makes the maker of a pair.
        part: The part of the plan that is to be made.
        peers: How many processes share it: towards the end none takes more than its share.
    """

    def __init__(
        self,
        plan: Plan,
        path: Path,
        load: Callable[[str, Plan], Maker] = load_local,
        *,
        part: Part = WHOLE,
        peers: int = 1,
    ) -> None:
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.failures: list[Failure] = []
        self._plan = plan
        self._path = path
        self._load = load
        self._todo: deque[tuple[Cell, Record]] = deque()
        self._held: deque[tuple[Cell, Record]] = deque()
        self._asked = 0.0
        self._part = part
        self._peers = peers
        self._mine = 0
        self._wanted: Sequence[tuple[Cell, Record]] = ()
        self._share = (0.0, 0)

    def run(self) -> list[Failure]:
        """Makes what is missing, pair by pair.

        Returns:
            What could not be made.

        Raises:
            BacoError: If a pair cannot be had, or the store cannot be written.
        """
        with Store(self._path) as store:
            self._store = store
            groups = groups_of(store, self._part)
            with self._heartbeat():
                for name in dict.fromkeys(cell.pair for cell, _ in groups):
                    self._run_pair(name, [group for group in groups if group[0].pair == name])
        return self.failures

    @contextlib.contextmanager
    def _heartbeat(self) -> Iterator[None]:
        """Keeps this process's claims alive, and gives them back in the end."""
        try:
            with beside(self._beat):
                yield
        finally:
            with contextlib.suppress(BacoError):
                self._store.release(self.owner)

    def _beat(self, over: threading.Event) -> None:
        with Store(self._path) as store:
            while not over.wait(LEASE / 4):
                with contextlib.suppress(BacoError):  # the next beat may succeed
                    store.renew(self.owner, LEASE)

    def _run_pair(self, name: str, groups: Sequence[tuple[Cell, Record]]) -> None:
        done = self._store.counts()
        self._held = deque()
        self._mine, self._share = 0, (0.0, 0)
        self._wanted = groups
        self._todo = deque(
            (cell, record) for cell, record in groups if done.get((cell.key, record.id), 0) < cell.n
        )
        if not self._todo:
            return
        maker = self._load(name, self._plan)
        if maker.revision != groups[0][0].revision:
            raise BacoError(
                f"the pair {name!r} changed while the run began", hint="run the same command again"
            )
        started, tally = time.time(), [0, 0]
        try:
            while self._todo or self._held:
                self._make(maker, tally)
                if self._held and not self._todo:
                    time.sleep(POLL_SECONDS)  # others work on the rest
        finally:
            if tally[0]:
                seconds = time.time() - started
                with contextlib.suppress(BacoError):
                    self._store.add_span(Span(self.owner, name, started, seconds, *tally))

    def _make(self, maker: Maker, tally: list[int]) -> None:
        """Makes what can be claimed."""
        buffer: list[Made] = []
        flushed = time.monotonic()
        for made in maker.make(self._pull):
            if isinstance(made, Failed):
                self._fail(made)
                continue
            buffer.append(made)
            self._mine -= 1
            tally[0] += 1
            tally[1] += len(made.sample.token_ids)
            late = time.monotonic() - flushed > FLUSH_SECONDS
            if late or len(buffer) >= FLUSH_SAMPLES:
                self._flush(buffer)
                buffer, flushed = [], time.monotonic()
        self._flush(buffer)

    def _flush(self, buffer: Sequence[Made]) -> None:
        """Writes samples, then gives back the claims on what is complete."""
        if not buffer:
            return
        self._store.add(rows_of(buffer))
        over = [(m.job.cell.key, m.job.record.id) for m in buffer if m.last]
        self._store.release(self.owner, over)

    def _fail(self, failed: Failed) -> None:
        job = failed.job
        self._mine -= len(job.places)
        self.failures.append(Failure(job.cell, job.record.id, failed.message))
        self._store.fail(job.cell.key, job.record.id, failed.message)
        self._store.release(self.owner, [(job.cell.key, job.record.id)])

    def _pull(self, rows: int) -> list[GroupJob]:
        """Claims groups of about so many samples that nobody else works on."""
        jobs: list[GroupJob] = []
        if self._peers > 1 and (rows := min(rows, self._fair_share() - self._mine)) <= 0:
            if self._mine > 0:
                return jobs
            rows = 1
        if not self._todo and time.monotonic() - self._asked > POLL_SECONDS:
            self._asked = time.monotonic()
            self._todo, self._held = self._held, self._todo
            return self._claim(len(self._todo), rows, jobs)
        while rows > 0 and self._todo:
            count = max(1, min(len(self._todo), rows // self._plan.n))
            before = len(jobs)
            self._claim(count, rows, jobs)
            rows -= sum(len(job.places) for job in jobs[before:])
        return jobs

    def _fair_share(self) -> int:
        """How many samples one of those that share the rest may hold."""
        now = time.monotonic()
        if not self._share[1] or now - self._share[0] > POLL_SECONDS:
            made = self._store.counts()
            left = sum(
                max(0, cell.n - made.get((cell.key, record.id), 0)) for cell, record in self._wanted
            )
            # Looking at a large store takes a while: never more than a tenth of the time.
            seen = time.monotonic()
            self._share = (seen + 9 * (seen - now), max(1, -(-left // self._peers)))
        return self._share[1]

    def _claim(self, count: int, rows: int, jobs: list[GroupJob]) -> list[GroupJob]:
        """Claims from the next `count` groups; others' go to those that are held by others."""
        asked = [self._todo.popleft() for _ in range(count)]
        keys = [(cell.key, record.id) for cell, record in asked]
        got = set(self._store.claim(keys, self.owner, LEASE, self._dead()))
        done = []
        for (cell, record), key in zip(asked, keys, strict=True):
            missing = self._store.missing(*key, cell.n)
            if not missing:
                done.append(key)
            elif key not in got:
                self._held.append((cell, record))
            elif rows > 0:
                places = range(cell.n) if cell.whole_group else missing
                jobs.append(GroupJob(cell, record, tuple(places)))
                rows -= len(jobs[-1].places)
                self._mine += len(jobs[-1].places)
            else:
                done.append(key)  # there is no room for it now
                self._todo.append((cell, record))
        if done:
            self._store.release(self.owner, done)
        return jobs

    def _dead(self) -> list[str]:
        """Processes of this machine that hold claims and are no more."""
        host = socket.gethostname()
        return [
            owner
            for owner in self._store.owners()
            if owner != self.owner and owner.split(":")[0] == host and not _alive(owner)
        ]


def _alive(owner: str) -> bool:
    """Whether a process of this machine lives; True where that cannot be known."""
    if os.name != "posix":
        return True
    try:
        os.kill(int(owner.split(":")[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def rows_of(buffer: Sequence[Made]) -> Iterator[tuple[SampleKey, Mapping[str, Any], Any]]:
    """Turns finished samples into what the store takes."""
    for job, sample, _ in buffer:
        key = SampleKey(job.cell.key, job.record.id, sample.index)
        yield key, sample.as_dict(), cost_of(sample)
