"""Lets many runs, of whatever settings, share one engine, so that its batch stays full.

A run that steps the shared engine steps everybody's rows; what happens to the others' waits in
their ports until they ask. As a row never depends on its neighbours, no sample changes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from baco.engine.drafts import Draft
from baco.engine.loop import Lookahead, Stats
from baco.engine.opening import Decoder, open_engine
from baco.errors import BacoError

if TYPE_CHECKING:
    from baco.engine.partner import Partner
    from baco.engine.request import Event, Request


class Port:
    """One run's view of a shared engine; it looks like an engine of its own.

    Args:
        hub: The shared engine.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._open: set[int] = set()
        self.mail: deque[list[Event]] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to decode for this run."""
        return not self._open

    @property
    def stats(self) -> Stats:
        """What the shared engine has done so far, for all runs."""
        return self._hub.engine.stats

    def submit(self, request: Request) -> int:
        """Adds a row, as `Engine.submit`."""
        row = self._hub.engine.submit(request)
        self._open.add(row)
        self._hub.owners[row] = self
        return row

    def cancel(self, number: int) -> None:
        """Drops a row, as `Engine.cancel`."""
        self._open.discard(number)
        self._hub.owners.pop(number, None)
        self._hub.engine.cancel(number)

    def close(self) -> None:
        """Drops all rows of this run."""
        for row in list(self._open):
            self.cancel(row)

    def step(self) -> list[Event]:
        """Returns what one cycle did to this run's rows; runs it unless it was run already."""
        if not self.mail:
            self._hub.step()
        events = self.mail.popleft() if self.mail else []
        # What was cancelled after its event was sent is not told of.
        events = [event for event in events if event.row in self._open]
        self._open -= {event.row for event in events if event.finish}
        return events


class Hub:
    """An engine and the ports of its rows.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: Decoder) -> None:
        self.engine = engine
        self.owners: dict[int, Port] = {}

    def step(self) -> None:
        """Runs one cycle and sends everyone their events.

        Raises:
            EngineFault: If the engine fails; whose row is to blame is not known.
        """
        mail: dict[Port, list[Event]] = {}
        try:
            events = self.engine.step()
        except Exception as error:
            raise EngineFault(f"the shared engine failed: {error}") from error
        for event in events:
            owner = self.owners.pop(event.row) if event.finish else self.owners[event.row]
            mail.setdefault(owner, []).append(event)
        for port, sent in mail.items():
            port.mail.append(sent)


class EngineFault(BacoError):
    """A shared engine failed, and with it all that ran on it."""


class Wanted(NamedTuple):
    """An engine that runs may share: the arguments of `open_engine`."""

    base: Partner
    aligned: Partner
    lookahead: Lookahead
    max_rows: int
    draft: Draft


class Engines:
    """Shared engines, one for each two partners and way of running them."""

    def __init__(self) -> None:
        self._hubs: dict[Wanted, Hub] = {}

    def hub(self, wanted: Wanted) -> Hub:
        """Returns the engine that is wanted; it is made when first asked for."""
        if wanted not in self._hubs:
            self._hubs[wanted] = Hub(open_engine(**wanted._asdict()))
        return self._hubs[wanted]


class Seat:
    """One run's place at shared engines: what it submitted can be taken back as a whole.

    Args:
        engines: The engines.
    """

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._ports: list[Port] = []

    def port(self, wanted: Wanted) -> Port:
        """Returns a port of the engine that is wanted."""
        port = Port(self._engines.hub(wanted))
        self._ports.append(port)
        return port

    def leave(self) -> None:
        """Drops all rows of the run that are not finished."""
        for port in self._ports:
            port.close()
