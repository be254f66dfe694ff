"""Connections: how many there may be, and how long one may take to say what it wants.

This is below ASGI, so it holds where `baco serve` runs the app; any other server needs bounds of
its own.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from baco.serve.errors import ApiError
from baco.serve.openai import dumps

RESERVED = 96
"""Open files that are not connections: models, the store, libraries."""

_FULL = ApiError(
    503, "the server has no connection to spare; try again soon", code="too_many", retry_after=5
)


def most_connections(wanted: int) -> int:
    """Returns how many connections the limit of open files allows, at most those wanted."""
    try:
        import resource
    except ImportError:  # not on Windows
        return wanted
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(8, min(wanted, files - RESERVED))


def bounded(most: int, *, seconds: float = 20.0, stalled: float = 60.0) -> type[H11Protocol]:
    """Makes uvicorn's protocol for HTTP with bounds; for one server.

    Args:
        most: Connections at a time. Beyond it the one that has sent an incomplete request, or
            none, for longest makes room; where all have asked, the newcomer is answered 503.
        seconds: Time in which a request's head must have come.
        stalled: Time in which a client must take something of its answer.

    Returns:
        A class for `uvicorn.Config(http=...)`.
    """
    asking: dict[H11Protocol, None] = {}  # whose request is not complete, the oldest first

    class Bounded(H11Protocol):
        """One connection."""

        _timer: asyncio.TimerHandle | None = None
        _stall: asyncio.TimerHandle | None = None
        _full = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > most:
                oldest = next(iter(asking), None)
                if oldest is None:
                    self._full = True
                else:
                    asking.pop(oldest)
                    oldest.transport.abort()
            self._ask()

        def _ask(self) -> None:
            """Waits for the next request."""
            asking[self] = None
            self._cancel()
            self._timer = self.loop.call_later(seconds, self.transport.abort)

        def _cancel(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def data_received(self, data: bytes) -> None:
            if self._full:
                self._refuse()
                return
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._cancel()  # the head is there; of the body there is `LimitBody`
            if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
                asking.pop(self, None)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self._ask()

        def connection_lost(self, exc: Exception | None) -> None:
            asking.pop(self, None)
            self._cancel()
            self.resume_writing()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stall = self.loop.call_later(stalled, self.transport.abort)

        def resume_writing(self) -> None:
            if self._stall is not None:
                self._stall.cancel()
                self._stall = None
            super().resume_writing()

        def _refuse(self) -> None:
            body = dumps(_FULL.body).encode()
            head = (
                "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                f"Retry-After: {_FULL.retry_after}\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
            self.transport.close()

    return Bounded
