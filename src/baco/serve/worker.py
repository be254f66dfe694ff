"""The thread that owns a pair's engines. Everything else talks to it through an inbox.

Requests of all clients share the engines' batches. A *job* is one client's request; its rows join
at once and leave one by one. The thread turns the engine's events into updates (text, finish
reasons) and hands them to the event loop that the job came from, once per engine cycle.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from baco.engine import Event, Lookahead, Request
from baco.engine.opening import Decoder, open_engine
from baco.engine.partner import Partner
from baco.errors import BacoError
from baco.serve.samples import Method, Plan, Sample, Update
from baco.serve.scorer import Scorer

T = TypeVar("T")

log = logging.getLogger("baco.serve")

Rows = list[tuple[list[int], list[bool]]]
"""Sources and unit beginnings of finished rows."""


class Job:
    """One request's samples, as the event loop sees them.

    Args:
        plans: One per prompt.
        token_bytes: The bytes of each token id.
    """

    def __init__(self, plans: Sequence[Plan], token_bytes: Sequence[bytes]) -> None:
        self.plans = tuple(plans)
        numbers = [(plan, number) for plan in plans for number in range(plan.n)]
        self.samples = [
            Sample(plan, number, index, token_bytes) for index, (plan, number) in enumerate(numbers)
        ]
        self.left = len(self.samples)
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self.scorers: dict[int, Scorer] = {}
        self._news: list[Update] = []
        self._wake = asyncio.Event()
        self._error: BaseException | None = None

    def tell(self, updates: Sequence[Update]) -> None:
        """Takes news from the engine's thread; runs on the event loop.

        What piles up here is bounded by the tokens that the request may produce.
        """
        if not self.closed:
            self._news += updates
            self._wake.set()

    def fail(self, error: BaseException) -> None:
        """Ends the job with an error; runs on the event loop."""
        self._error = self._error or error
        self._wake.set()

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Yields news until every sample has finished.

        Raises:
            BaseException: What `fail` was called with.
        """
        left = len(self.samples)
        while left:
            await self._wake.wait()
            self._wake.clear()
            if self._error is not None:
                raise self._error
            news, self._news = self._news, []
            left -= sum(update.finish is not None for update in news)
            if news:
                yield news


class Worker:
    """Owns the engines of one pair on one thread.

    Args:
        base: The base partner.
        aligned: The aligned partner.
        token_bytes: The bytes of each token id.
        max_rows: Rows decoded at the same time.
        lookahead: As `Engine`'s.
    """

    def __init__(
        self,
        base: Partner,
        aligned: Partner,
        token_bytes: Sequence[bytes],
        *,
        max_rows: int = 64,
        lookahead: Lookahead = "auto",
    ) -> None:
        self.base = base
        self.aligned = aligned
        self.token_bytes = token_bytes
        self.max_rows = max_rows
        self._lookahead = lookahead
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._engines: dict[Method, Decoder] = {}
        self._rows: dict[tuple[Method, int], tuple[Job, Sample]] = {}
        self._bulk: dict[tuple[Method, int], tuple[_Bulk, int]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="baco-engine", daemon=True)
        self._thread.start()

    # --- called from the event loop ------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Starts a job."""
        self._inbox.put(lambda: self._start(job))

    def cancel(self, job: Job) -> None:
        """Frees a job's rows; nothing more is told of it."""
        if not job.closed:
            job.closed = True
            self._inbox.put(lambda: self._drop(job))

    def decode(
        self, requests: Sequence[Request], told: Callable[[], None] = lambda: None
    ) -> Future[Rows]:
        """Decodes rows beside the clients' (calibration uses it).

        Args:
            requests: The rows.
            told: Called on the engine's thread whenever a row has finished.
        """
        future: Future[Rows] = Future()
        self._inbox.put(lambda: self._start_bulk(_Bulk(future, requests, told)))
        return future

    def ask(self, function: Callable[[Worker], T]) -> Future[T]:
        """Runs a function on the thread, between two cycles."""
        future: Future[T] = Future()
        self._inbox.put(lambda: future.set_result(function(self)))
        return future

    @property
    def live(self) -> int:
        """Rows of clients in the engines, those that wait included."""
        return len(self._rows)

    @property
    def totals(self) -> tuple[int, int, int]:
        """(base passes, aligned passes, tokens) so far."""
        base = aligned = tokens = 0
        for method, engine in tuple(self._engines.items()):
            stats = engine.stats
            both = stats.base_passes + stats.aligned_passes
            base += {"baco": stats.base_passes, "base": both, "aligned": 0}[method]
            aligned += {"baco": stats.aligned_passes, "base": 0, "aligned": both}[method]
            tokens += stats.tokens
        return base, aligned, tokens

    def close(self, timeout: float = 10.0) -> None:
        """Drops all rows and ends the thread."""
        self._inbox.put(None)
        self._thread.join(timeout)

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._read_inbox()
            for method, engine in tuple(self._engines.items()):
                if not engine.idle:
                    self._cycle(method, engine)
        for job in {id(job): job for job, _ in self._rows.values()}.values():
            self._post(job, partial(job.fail, BacoError("the server is stopping")))
        for bulk in {id(b): b for b, _ in self._bulk.values()}.values():
            bulk.future.cancel()

    def _read_inbox(self) -> None:
        """Obeys what has come in; waits if there is nothing to decode."""
        block = all(engine.idle for engine in self._engines.values())
        while True:
            try:
                command = self._inbox.get(block)
            except queue.Empty:
                return
            if command is None:
                self._stopping = True
                return
            command()
            block = False

    def _engine(self, method: Method) -> Decoder:
        if method not in self._engines:
            sides = {
                "baco": (self.base, self.aligned),
                "base": (self.base, self.base),
                "aligned": (self.aligned, self.aligned),
            }[method]
            self._engines[method] = open_engine(
                *sides, lookahead=self._lookahead, max_rows=self.max_rows
            )
        return self._engines[method]

    def _start(self, job: Job) -> None:
        if job.closed:
            return
        try:
            for number, plan in enumerate(job.plans):
                if plan.top_logprobs is not None:
                    job.scorers[number] = Scorer(self.base, self.aligned, plan)
            for sample in job.samples:
                self._enter(job, sample)
        except Exception as error:
            self._fail(job, error)

    def _enter(self, job: Job, sample: Sample) -> None:
        method = sample.plan.method
        row = self._engine(method).submit(sample.request)
        self._rows[method, row] = (job, sample)

    def _drop(self, job: Job) -> None:
        for (method, row), (owner, _) in list(self._rows.items()):
            if owner is job:
                self._engines[method].cancel(row)
                del self._rows[method, row]
        job.scorers.clear()

    def _fail(self, job: Job, error: Exception) -> None:
        self._drop(job)
        self._post(job, partial(job.fail, error))

    def _cycle(self, method: Method, engine: Decoder) -> None:
        try:
            events = engine.step()
        except Exception as error:
            log.exception("the engine failed; its requests are given up")
            self._abandon(method, error)
            return
        news: dict[int, tuple[Job, list[Update]]] = {}
        for event in events:
            if (method, event.row) in self._bulk:
                self._read_bulk(method, event)
                continue
            owner = self._rows.get((method, event.row))
            if owner is None:
                continue
            job, sample = owner
            update, again = sample.take(event)
            if again:
                del self._rows[method, event.row]
                self._enter(job, sample)
            if update is None:
                continue
            if update.finish:
                del self._rows[method, event.row]
                if event.finish is None:
                    sample.pay(engine.cancel(event.row))
            news.setdefault(id(job), (job, []))[1].append(update)
        for job, updates in news.values():
            if job.scorers:
                self._score(job, updates)
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, list[Update]]]] = {}
        for job, updates in news.values():
            by_loop.setdefault(job.loop, []).append((job, updates))
        for loop, told in by_loop.items():
            _call(loop, partial(_tell_all, told))

    def _score(self, job: Job, updates: Sequence[Update]) -> None:
        """Adds log-probabilities to a job's updates."""
        for number, scorer in job.scorers.items():
            mine = {
                job.samples[u.index].number: u
                for u in updates
                if job.samples[u.index].plan is job.plans[number]
            }
            pieces = {k: u.pieces for k, u in mine.items() if u.pieces}
            scored = scorer.push(pieces) if pieces else {}
            for k, update in mine.items():
                update.logprobs = scored.get(k, [])

    def _abandon(self, method: Method, error: Exception) -> None:
        """Gives up all rows of an engine; the next request gets a fresh one."""
        jobs = {id(job): job for (m, _), (job, _) in self._rows.items() if m == method}
        for job in jobs.values():
            self._fail(job, error)
        for key in [key for key in self._bulk if key[0] == method]:
            bulk, _ = self._bulk.pop(key)
            if not bulk.future.done():
                bulk.future.set_exception(error)
        self._engines.pop(method, None)

    # --- rows without clients ------------------------------------------------------------------

    def _start_bulk(self, bulk: _Bulk) -> None:
        for _ in range(max(1, self.max_rows // 4)):
            self._feed_bulk(bulk)

    def _feed_bulk(self, bulk: _Bulk) -> None:
        """Adds one more row; a few at a time, so that clients need not wait behind all."""
        if not bulk.waiting:
            return
        place = bulk.waiting.popleft()
        try:
            row = self._engine("baco").submit(bulk.requests[place])
        except BacoError as error:
            bulk.waiting.clear()
            if not bulk.future.done():
                bulk.future.set_exception(error)
            return
        self._bulk["baco", row] = (bulk, place)

    def _read_bulk(self, method: Method, event: Event) -> None:
        bulk, place = self._bulk[method, event.row]
        sources, begins = bulk.rows[place]
        sources += event.sources
        begins += event.begins
        if event.finish:
            del self._bulk[method, event.row]
            bulk.left -= 1
            bulk.told()
            self._feed_bulk(bulk)
            if not bulk.left and not bulk.future.done():
                bulk.future.set_result(bulk.rows)

    def _post(self, job: Job, function: Callable[[], None]) -> None:
        _call(job.loop, function)


class _Bulk:
    """Rows that were asked for together, without a client."""

    def __init__(
        self, future: Future[Rows], requests: Sequence[Request], told: Callable[[], None]
    ) -> None:
        self.future = future
        self.told = told
        self.requests = requests
        self.rows: Rows = [([], []) for _ in requests]
        self.waiting = deque(range(len(requests)))
        self.left = len(requests)


def _tell_all(told: Sequence[tuple[Job, list[Update]]]) -> None:
    for job, updates in told:
        job.tell(updates)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Runs a function on an event loop that may have been closed meanwhile."""
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:
            log.debug("an event loop was closed while news was on its way")
