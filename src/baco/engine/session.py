"""One engine for many runs: all that makes samples does so in a session.

A *run* is an iterator. It submits rows through its seat, yields what comes out, and yields `TURN`
where it waits for an engine, or before a forward pass of its own. `Session.cycle` runs every
engine once and lets the runs read what happened to their rows. As a row never depends on its
neighbours, no sample changes.

A failure ends one run alone. Where an engine fails, a fresh one takes its place; the rows that it
held are tried in halves, down to single ones, until it is known which of them it fails on. The
others go on where they were.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from baco.engine.drafts import Draft
from baco.engine.loop import Stats
from baco.engine.opening import Decoder, open_engine
from baco.engine.partner import Lookahead
from baco.engine.request import Begun, Cost
from baco.errors import PairError

if TYPE_CHECKING:
    from baco.engine.partner import Partner
    from baco.engine.request import Event, Request

NOTHING = Stats(0, 0, 0, 0, 0)


class Turn(Enum):
    """What a run yields where others may go on."""

    TURN = "turn"


TURN = Turn.TURN

T = TypeVar("T")
R = TypeVar("R")


def finish(steps: Generator[object, None, R]) -> R:
    """Runs steps to their end where nobody takes turns; returns what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: R = end.value
            return result


class EngineKey(NamedTuple):
    """An engine that runs may share."""

    base: Partner
    aligned: Partner
    lookahead: Lookahead = "auto"
    draft: Draft = None


class RowLimits(Protocol):
    """Bounds the rows of a session's engines; see `baco.models.memory.Memory`."""

    def rows(
        self, sides: tuple[Partner, Partner], jobs: Sequence[Any], limit: int, *, busy: bool = ...
    ) -> int:
        """Returns how many rows an engine may decode at a time."""
        ...

    def leave(self, sides: tuple[Partner, Partner]) -> None:
        """Says that an engine has nothing to do."""
        ...


@dataclass(eq=False)
class SessionRow:
    """One row of a run.

    Attributes:
        number: Its number, by which events name it.
        port: Whose it is.
        request: What to decode.
        begun: What events have told of it.
        inside: Its number in the engine; None while it waits.
        spent: What it has cost in engines that failed; None if that is not known.
    """

    number: int
    port: Port
    request: Request
    begun: Begun = field(default_factory=lambda: Begun([], [], []))
    inside: int | None = None
    spent: Cost | None = field(default_factory=Cost)


class Hub:
    """An engine, the rows in it, and those that wait.

    Args:
        wanted: The engine.
        session: Where it belongs.
        job: What it is opened for.
    """

    def __init__(self, wanted: EngineKey, session: Session[Any], job: Any) -> None:
        self._wanted = wanted
        self._session = session
        self._jobs: dict[Port, Any] = {}
        self._rows: dict[int, SessionRow] = {}
        self._inside: dict[int, SessionRow] = {}
        self._queues: dict[Hashable, deque[SessionRow]] = {}
        self._numbers = itertools.count()
        self._past = NOTHING
        self._most = session.rows(wanted, [job], busy=False)
        self._engine = self._open()
        shared = wanted.aligned.hubs
        if shared is not None:
            shared.add(self)
        self._beside = (self,) if shared is None else shared

    @property
    def idle(self) -> bool:
        """Whether nothing is left to decode."""
        return not self._rows

    @property
    def stats(self) -> Stats:
        """What was done so far, engines that failed included."""
        return self._past + self._engine.stats

    def _open(self) -> Decoder:
        return open_engine(**self._wanted._asdict(), max_rows=self._most)

    def join(self, port: Port, job: Any) -> None:
        """Takes on a run."""
        self._jobs[port] = job
        self._bound()

    def leave(self, port: Port) -> None:
        """Lets a run go."""
        del self._jobs[port]
        self._bound()

    def _bound(self) -> None:
        """Bounds the rows by the memory, as what there is to do has changed."""
        if not self._jobs:
            self._session.idle_now(self._wanted)
            return
        most = self._session.rows(self._wanted, list(self._jobs.values()), busy=not self.idle)
        if most != self._most:
            # An engine that ran out of memory has bounded itself.
            halved = self._engine.max_rows < self._most and not self.idle
            self._engine.max_rows = min(most, self._engine.max_rows) if halved else most
            self._most = most

    def submit(self, port: Port, request: Request, begun: Begun | None = None) -> int:
        """Adds a row, as `Engine.submit`."""
        request.limit_within(
            (self._wanted.base.context_window, self._wanted.aligned.context_window)
        )
        row = SessionRow(next(self._numbers), port, request)
        if begun is not None:
            row.begun = begun
        self._rows[row.number] = row
        self._queues.setdefault(port.owner, deque()).append(row)
        return row.number

    def cancel(self, number: int) -> Cost | None:
        """Drops a row; returns what it has cost, if that is known."""
        row = self._rows.pop(number)
        if row.inside is None:
            self._queues[row.port.owner].remove(row)
            return row.spent
        del self._inside[row.inside]
        return _sum(row.spent, self._engine.cancel(row.inside))

    def step(self) -> None:
        """Runs one cycle; everyone's events go to their ports."""
        while len(self._inside) < self._engine.max_rows and (row := self._next()):
            try:
                row.inside = self._engine.submit(row.request, row.begun)
            except Exception as error:
                self._fail(row, error)
            else:
                self._inside[row.inside] = row
        if not self._inside:
            return
        try:
            events = self._engine.step()
        except Exception as error:
            if self._session.alone:
                raise
            self._recover(error)
            return
        for event in events:
            self._hand_on(event)

    def _hand_on(self, event: Event) -> None:
        """Tells an event to the hub that has its row: this one, or one that shares the engine."""
        for hub in tuple(self._beside):
            if (found := hub._inside.get(event.row)) is not None:
                hub._tell(found, event)

    def give_up(self, error: Exception) -> None:
        """Ends all rows with an error."""
        for row in list(self._rows.values()):
            self._fail(row, error)
        self._inside.clear()
        self._queues.clear()

    def _next(self) -> SessionRow | None:
        """Takes the next row that waits: owners in turn, the rows of each in their order."""
        for owner, queue in list(self._queues.items()):
            del self._queues[owner]
            if queue:
                row = queue.popleft()
                self._queues[owner] = queue  # the last in turn
                return row
        return None

    def _tell(self, row: SessionRow, event: Event) -> None:
        row.begun.tokens.extend(event.tokens)
        row.begun.sources.extend(event.sources)
        row.begun.begins.extend(event.begins)
        cost = event.cost
        if event.finish:
            cost = _sum(row.spent, cost)
            del self._rows[row.number]
            self._inside.pop(event.row, None)
        row.port.mail.append(event._replace(row=row.number, cost=cost))

    def _fail(self, row: SessionRow, error: Exception) -> None:
        """Ends a row, and the run that it belongs to, with an error."""
        del self._rows[row.number]
        row.port.error = row.port.error or error

    # --- after a failure -----------------------------------------------------------------------

    def _recover(self, error: Exception) -> None:
        """Opens a fresh engine and finds whose row the old one failed on."""
        rows = list(self._inside.values())
        self._inside.clear()
        self._retire(self._engine, rows)
        self._engine = self._open()
        if isinstance(error, PairError):  # a model cannot be had: that is nobody's row
            for row in rows:
                self._fail(row, error)
        else:
            self._sift(rows)
        for row in reversed(rows):
            if row.number in self._rows:
                self._queues.setdefault(row.port.owner, deque()).appendleft(row)

    def _sift(self, rows: Sequence[SessionRow]) -> None:
        """Takes rows one step further; those that an engine fails on, even alone, are ended."""
        engine = self._open()
        events: list[tuple[SessionRow, Event]] = []
        tried: dict[int, SessionRow] = {}
        try:
            for row in rows:
                row.inside = engine.submit(row.request, row.begun)
                tried[row.inside] = row
            waiting = set(tried)
            while waiting and not engine.idle:
                for event in engine.step():
                    if event.row not in tried:
                        self._hand_on(event)
                        continue
                    events.append((tried[event.row], event))
                    waiting.discard(event.row)
        except Exception as error:
            self._retire(engine, rows)
            if len(rows) == 1:
                self._fail(rows[0], error)
            else:
                self._sift(rows[: len(rows) // 2])
                self._sift(rows[len(rows) // 2 :])
            return
        for row, event in events:
            self._tell(row, event)
        self._retire(engine, [row for row in rows if row.number in self._rows])

    def _retire(self, engine: Decoder, rows: Iterable[SessionRow]) -> None:
        """Takes rows out of an engine that is given up, and keeps the account."""
        for row in rows:
            spent = None
            with contextlib.suppress(Exception):
                if row.inside is not None:
                    spent = engine.cancel(row.inside)
            row.spent = _sum(row.spent, spent and spent._replace(tokens=0))
            row.inside = None
        with contextlib.suppress(Exception):
            self._past += engine.stats


def _sum(one: Cost | None, other: Cost | None) -> Cost | None:
    return None if one is None or other is None else one + other


class Port:
    """One run's view of a shared engine.

    Args:
        hub: The shared engine.
        job: What the run has to do, as `RowLimits` knows it.
        alone: Whether the run steps the engine itself.
        owner: Whose the run is.
    """

    def __init__(self, hub: Hub, job: Any, alone: bool, owner: Hashable = None) -> None:
        self.owner = owner
        self._hub = hub
        self._alone = alone
        self._before = hub.stats
        self.closed = False
        self._open: set[int] = set()
        self.mail: list[Event] = []
        self.error: Exception | None = None
        hub.join(self, job)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to decode for this run."""
        return not self._open

    @property
    def stats(self) -> Stats:
        """What the engine has done since, for all its runs."""
        return self._hub.stats - self._before

    def submit(self, request: Request, begun: Begun | None = None) -> int:
        """Adds a row, as `Engine.submit`; a session keeps what it has begun with."""
        row = self._hub.submit(self, request, begun)
        self._open.add(row)
        return row

    def cancel(self, number: int) -> Cost | None:
        """Drops a row, as `Engine.cancel`; nothing more is told of it."""
        if number not in self._open:
            return None
        self._open.remove(number)
        return self._hub.cancel(number)

    def step(self) -> list[Event]:
        """Returns what has happened to the run's rows.

        Raises:
            Exception: What the engine failed with on one of them.
        """
        if self._alone:
            self._hub.step()
        if self.error is not None:
            raise self.error
        events, self.mail = self.mail, []
        self._open -= {event.row for event in events if event.finish}
        return events

    def close(self) -> None:
        """Drops all rows of this run."""
        if self.closed:
            return
        self.closed = True
        told = {event.row for event in self.mail if event.finish}
        for row in self._open - told:
            with contextlib.suppress(KeyError):  # it failed
                self._hub.cancel(row)
        self._open.clear()
        self._hub.leave(self)


class Seat:
    """One run's place in a session.

    Args:
        session: The session.
        owner: Whose the run is: owners are served in turn.
    """

    def __init__(self, session: Session[Any], owner: Hashable = None) -> None:
        self.owner = owner
        self._session = session
        self._ports: list[Port] = []

    def port(self, wanted: EngineKey, job: Any) -> Port:
        """Returns a port of the engine that is wanted.

        Args:
            wanted: The engine.
            job: What it is for, as the session's `RowLimits` knows it.
        """
        hub = self._session.hub(wanted, job)
        port = Port(hub, job, self._session.alone, self.owner)
        self._ports = [p for p in self._ports if not p.closed]
        self._ports.append(port)
        return port

    @property
    def busy(self) -> bool:
        """Whether the run has rows in an engine."""
        return any(not port.idle for port in self._ports)

    @property
    def ready(self) -> bool:
        """Whether there is news of them."""
        return any(port.mail or port.error for port in self._ports)

    def leave(self) -> None:
        """Drops all rows of the run that are not finished."""
        for port in self._ports:
            port.close()


class Run(Generic[T]):
    """One run in a session.

    Args:
        seat: Its place.
        updates: What it makes.

    Attributes:
        over: Whether nothing more will come.
        error: Why it ended before its end, or None.
    """

    def __init__(self, seat: Seat, updates: Iterator[T | Turn]) -> None:
        self.seat = seat
        self.over = False
        self.error: Exception | None = None
        self._updates = updates

    def advance(self) -> list[T]:
        """Lets it go on to its next turn; returns what it makes on the way."""
        news: list[T] = []
        try:
            for update in self._updates:
                if isinstance(update, Turn):
                    return news
                news.append(update)
        except Exception as error:
            self.error = error
        self.close()
        return news

    def close(self) -> None:
        """Ends it; its rows are dropped."""
        self.over = True
        try:
            if close := getattr(self._updates, "close", None):
                close()
        finally:
            self.seat.leave()


class Session(Generic[T]):
    """Engines, one for each two partners and way of running them, and the runs that share them.

    It belongs to one thread.

    Args:
        max_rows: Rows that each engine decodes at the same time.
        memory: Bounds them further; None for no bound.
        alone: Whether a single run steps its engines itself, and `cycle` is not called.
    """

    def __init__(
        self, max_rows: int, memory: RowLimits | None = None, *, alone: bool = False
    ) -> None:
        self.alone = alone
        self._max_rows = max_rows
        self._memory = memory
        self._hubs: dict[EngineKey, Hub] = {}
        self._new: list[Run[T]] = []
        self._runs: dict[Run[T], None] = {}
        self._served: dict[Hashable, int] = {}
        self._turns = itertools.count(1)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._new and not self._runs

    def stats(self) -> Iterator[tuple[EngineKey, Stats]]:
        """Yields what each engine has done so far."""
        for wanted, hub in tuple(self._hubs.items()):
            yield wanted, hub.stats

    def start(self, make: Callable[[Seat], Iterator[T | Turn]], owner: Hashable = None) -> Run[T]:
        """Takes on a run; it begins with the next cycle.

        Args:
            make: Makes its iterator, given its seat.
            owner: Whose it is. Rows wait for an engine, and runs for a pass of their own, in one
                queue for each owner; the owners are served in turn.
        """
        seat = Seat(self, owner)
        run = Run(seat, make(seat))
        self._new.append(run)
        return run

    def cancel(self, run: Run[T]) -> None:
        """Ends a run."""
        if run in self._new:
            self._new.remove(run)
        self._runs.pop(run, None)
        run.close()

    def cycle(self) -> Iterator[tuple[Run[T], list[T]]]:
        """Runs every engine once; then runs go on that have news of their rows.

        Of the runs that make forward passes of their own one makes one, by turns, so that all of
        them together hold up the others by no more than that.

        Yields:
            Runs that have gone on, with what they have made; look whether they are `over`.
        """
        new, self._new = self._new, []
        for run in new:
            if not run.over:
                self._runs[run] = None
                yield self._advance(run)
        for hub in tuple(self._hubs.values()):
            if not hub.idle:
                try:
                    hub.step()
                except Exception as error:  # not even a fresh engine can be had
                    hub.give_up(error)
        for run in [run for run in self._runs if run.seat.ready]:
            if not run.over:
                yield self._advance(run)
        own = min(
            (run for run in self._runs if not run.seat.busy),
            key=lambda run: self._served.get(run.seat.owner, 0),  # of equals the first
            default=None,
        )
        if own is not None:
            there = {run.seat.owner for run in self._runs}
            self._served = {k: turn for k, turn in self._served.items() if k in there}
            self._served[own.seat.owner] = next(self._turns)
            del self._runs[own]
            self._runs[own] = None  # the last in turn
            yield self._advance(own)

    def _advance(self, run: Run[T]) -> tuple[Run[T], list[T]]:
        news = run.advance()
        if run.over:
            self._runs.pop(run, None)
        return run, news

    # --- for seats and hubs --------------------------------------------------------------------

    def hub(self, wanted: EngineKey, job: Any) -> Hub:
        """Returns the engine that is wanted; it is made when first asked for."""
        if wanted not in self._hubs:
            self._hubs[wanted] = Hub(wanted, self, job)
        return self._hubs[wanted]

    def rows(self, wanted: EngineKey, jobs: Sequence[Any], *, busy: bool) -> int:
        """How many rows an engine may decode at a time, for all that it has to do."""
        if self._memory is None:
            return self._max_rows
        return self._memory.rows((wanted.base, wanted.aligned), jobs, self._max_rows, busy=busy)

    def idle_now(self, wanted: EngineKey) -> None:
        """An engine has nothing to do."""
        if self._memory is not None:
            self._memory.leave((wanted.base, wanted.aligned))
