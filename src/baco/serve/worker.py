"""The thread that owns a pair's session. Everything else talks to it through an inbox.

A *job* is one client's request: a run in the session (`baco.engine.session`), beside all others.
What it makes in a cycle is handed to the event loop that the job came from, once per cycle. A job
that fails, fails alone; the thread goes on whatever happens.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from baco.engine.session import Run, Session
from baco.errors import BacoError, PairError
from baco.group import Sample
from baco.methods.base import Chunk, Done, Setting, Task, Update
from baco.methods.filters import Filter
from baco.methods.run import new_session
from baco.methods.running import seated
from baco.serve.scorer import Logprob, Scorer

if TYPE_CHECKING:
    from baco.models.sides import Models

T = TypeVar("T")

log = logging.getLogger("baco.serve")


@dataclass
class News:
    """What a cycle has brought for one answer.

    Attributes:
        task: Which answer of the request.
        chunks: New tokens.
        logprobs: One for each of them, if they were asked for.
        sample: The whole answer, once it is finished.
    """

    task: int
    chunks: list[Chunk] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    sample: Sample | None = None

    @property
    def text(self) -> str:
        """New text; all of it where a filter put it in the answer's place."""
        if self.sample is not None and not self.sample.tokens:
            return self.sample.text
        return "".join(chunk.text for chunk in self.chunks)


class Listener(Protocol):
    """Called with what a run makes, on the engine's thread."""

    left: int
    """Samples that are not finished."""

    def hear(self, updates: Sequence[Update]) -> None:
        """Takes what the run has made."""
        ...

    def fail(self, error: BaseException) -> None:
        """Is told that nothing more will come."""
        ...


class Job:
    """One request, as the event loop sees it.

    Args:
        tasks: What to make.
        setting: How.
        keep: A moderation filter.
        alternatives: How many alternatives to report per token; None for no log-probabilities.
        client: Whose it is: clients are served in turn.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        setting: Setting,
        *,
        keep: Filter | None = None,
        alternatives: int | None = None,
        client: str = "",
    ) -> None:
        self.client = client
        self.tasks = tasks
        self.setting = setting
        self.keep = keep
        self.alternatives = alternatives
        self.left = len(tasks)
        self.closed = False
        self.scorer: Scorer | None = None
        self._loop = asyncio.get_running_loop()
        self._news: list[News] = []
        self._wake = asyncio.Event()
        self._error: BaseException | None = None

    # --- on the engine's thread ----------------------------------------------------------------

    def hear(self, updates: Sequence[Update]) -> None:
        """Sorts updates by answer, scores them, and hands them over."""
        news: dict[int, News] = {}
        for update in updates:
            if isinstance(update, Chunk):
                news.setdefault(update.task, News(update.task)).chunks.append(update)
            elif isinstance(update, Done):
                news.setdefault(update.task, News(update.task)).sample = update.sample
                self.left -= 1
        if self.scorer is not None:
            scored = self.scorer.push({k: one.chunks for k, one in news.items() if one.chunks})
            for task, logprobs in scored.items():
                news[task].logprobs = logprobs
        if news:
            _call(self._loop, partial(self._take, list(news.values())))

    def fail(self, error: BaseException) -> None:
        """Ends the job with an error."""
        _call(self._loop, partial(self.end, error))

    # --- on the event loop ---------------------------------------------------------------------

    def _take(self, news: Sequence[News]) -> None:
        """What piles up here is bounded by the tokens that the request may produce."""
        if not self.closed:
            self._news += news
            self._wake.set()

    def end(self, error: BaseException) -> None:
        """Ends the job with an error, what is not read included."""
        self._error = self._error or error
        self._wake.set()

    async def updates(self) -> AsyncIterator[list[News]]:
        """Yields news until every answer has finished.

        Raises:
            BaseException: What the job ended with.
        """
        left = len(self.tasks)
        while left:
            await self._wake.wait()
            self._wake.clear()
            if self._error is not None:
                raise self._error
            news, self._news = self._news, []
            left -= sum(one.sample is not None for one in news)
            if news:
                yield news


class _Batch:
    """Runs that were asked for together, without a client: their samples come as a whole.

    Args:
        count: Tasks of each run.
        told: Called whenever a sample is made.
    """

    def __init__(self, count: Sequence[int], told: Callable[[], None]) -> None:
        self.future: Future[list[list[Sample]]] = Future()
        self.told = told
        self.left = sum(count)
        self.made: list[dict[int, Sample]] = [{} for _ in count]

    def fail(self, error: BaseException) -> None:
        """Ends all of them."""
        if not self.future.done():
            self.future.set_exception(error)


class _Part:
    """One run of a batch."""

    def __init__(self, batch: _Batch, place: int, count: int) -> None:
        self._batch = batch
        self._made = batch.made[place]
        self.left = count
        self.fail = batch.fail

    def hear(self, updates: Sequence[Update]) -> None:
        """Keeps its samples."""
        batch = self._batch
        for update in updates:
            if isinstance(update, Done):
                self._made[update.task] = update.sample
                self.left -= 1
                batch.left -= 1
                batch.told()
        if not batch.left and not batch.future.done():
            batch.future.set_result([[m[i] for i in sorted(m)] for m in batch.made])


class Worker:
    """Owns the session of one pair on one thread.

    Args:
        pair: The pair.
        max_rows: Rows decoded at the same time, by each of its engines.
    """

    def __init__(self, pair: Models, *, max_rows: int = 64) -> None:
        self.max_rows = max_rows
        self._pair = pair
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._session: Session[Update] = new_session(max_rows)
        self._past = (0, 0, 0)
        self._runs: dict[Run[Update], Listener] = {}
        self._stopping = False
        self._since: float | None = None
        self._thread = threading.Thread(target=self._run, name="baco-engine", daemon=True)
        self._thread.start()

    # --- called from elsewhere -----------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Starts a job."""
        self._inbox.put(lambda: self._start(job))

    def cancel(self, job: Job) -> None:
        """Frees a job's rows; nothing more is told of it."""
        if not job.closed:
            job.closed = True
            self._inbox.put(lambda: self._drop(job))

    def make(
        self,
        runs: Sequence[tuple[Sequence[Task], Setting]],
        told: Callable[[], None] = lambda: None,
    ) -> Future[list[list[Sample]]]:
        """Makes samples beside the clients', a few at a time, so that these need not wait long.

        Args:
            runs: (tasks, setting) of each run.
            told: Called on the engine's thread whenever a sample is made.

        Returns:
            The samples of each run, in the order of its tasks.
        """
        batch = _Batch([len(tasks) for tasks, _ in runs], told)
        rows = max(1, self.max_rows // 4 // len(runs))

        def start() -> None:
            for place, (tasks, setting) in enumerate(runs):
                part = _Part(batch, place, len(tasks))
                self._begin(part, tasks, replace(setting, max_rows=rows), None)

        self._inbox.put(start)
        return batch.future

    def ask(self, function: Callable[[Worker], T]) -> Future[T]:
        """Runs a function on the thread, between two cycles."""
        future: Future[T] = Future()

        def answer() -> None:
            try:
                future.set_result(function(self))
            except Exception as error:
                future.set_exception(error)

        self._inbox.put(answer)
        return future

    @property
    def live(self) -> int:
        """Samples of clients that are not finished, those that wait included."""
        return sum(one.left for one in tuple(self._runs.values()) if isinstance(one, Job))

    @property
    def totals(self) -> tuple[int, int, int]:
        """(base passes, aligned passes, tokens) of the engines so far."""
        base, aligned, tokens = self._past
        for wanted, stats in self._session.stats():
            both = ((wanted.base, stats.base_passes), (wanted.aligned, stats.aligned_passes))
            base += sum(passes for partner, passes in both if partner is self._pair.base)
            aligned += sum(passes for partner, passes in both if partner is not self._pair.base)
            tokens += stats.tokens
        return base, aligned, tokens

    @property
    def alive(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    def works(self, limit: float) -> bool:
        """Whether the thread is there, and no cycle has taken longer than so many seconds."""
        since = self._since
        stuck = since is not None and time.monotonic() - since > limit
        return self.alive and not stuck

    def close(self, timeout: float = 10.0) -> None:
        """Drops all rows and ends the thread."""
        self._inbox.put(None)
        self._thread.join(timeout)

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._read_inbox()
                self._cycle()
            except BaseException as error:
                log.exception("the engine's thread failed; its requests are given up")
                self._give_up(error)
        self._give_up(BacoError("the server is stopping"))

    def _read_inbox(self) -> None:
        """Obeys what has come in; waits if there is nothing to decode."""
        block = self._session.idle
        while True:
            self._since = None if block else time.monotonic()
            try:
                command = self._inbox.get(block)
            except queue.Empty:
                return
            self._since = time.monotonic()
            if command is None:
                self._stopping = True
                return
            command()
            block = False

    def _start(self, job: Job) -> None:
        if job.closed:
            return
        try:
            if job.alternatives is not None:
                name = job.setting.method.name
                job.scorer = Scorer(self._pair, job.tasks, name, job.alternatives)
        except Exception as error:
            job.fail(error)
        else:
            self._begin(job, job.tasks, job.setting, job.keep, job.client)

    def _begin(
        self,
        listener: Listener,
        tasks: Sequence[Task],
        setting: Setting,
        keep: Filter | None,
        owner: str | None = None,
    ) -> None:
        """Starts a run."""
        try:
            run = self._session.start(seated(self._pair, tasks, setting, keep), owner)
        except Exception as error:
            listener.fail(error)
        else:
            self._runs[run] = listener

    def _drop(self, job: Job) -> None:
        for run in [run for run, listener in self._runs.items() if listener is job]:
            del self._runs[run]
            self._session.cancel(run)
        job.scorer = None

    def _cycle(self) -> None:
        """Lets the session do a cycle; what its runs have made goes to those who wait for it."""
        for run, updates in self._session.cycle():
            listener = self._runs.get(run)
            if listener is None:
                continue
            error = run.error
            try:
                listener.hear(updates)
            except Exception as found:
                error = error or found
            if run.over and not error and listener.left:
                error = BacoError("the method ended before all answers were made")
            if run.over or error:
                del self._runs[run]
                self._session.cancel(run)
            if error is not None:
                if not isinstance(error, BacoError):
                    log.error("a request failed", exc_info=error)
                elif isinstance(error, PairError):
                    log.error("a request failed: %s", error)
                listener.fail(error)

    def _give_up(self, error: BaseException) -> None:
        """Ends all runs; the next one gets fresh engines."""
        if not isinstance(error, Exception):  # such as SystemExit: it would end the event loop
            error = BacoError("the engine was interrupted", hint="ask again")
        listeners = list(self._runs.values())
        self._runs.clear()
        self._past = self.totals
        self._session = new_session(self.max_rows)
        for listener in listeners:
            listener.fail(error)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Runs a function on an event loop that may have been closed meanwhile."""
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:
            log.debug("an event loop was closed while news was on its way")
