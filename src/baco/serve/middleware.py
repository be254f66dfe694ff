"""What stands before the routes: the key, the size of bodies, and the browser's guard rails.

Plain ASGI, so that streams pass through untouched and disconnects are seen.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from baco.serve.errors import ApiError
from baco.serve.telemetry import Telemetry

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = ("/", "/health", "/openapi.json", "/favicon.ico")

_PATIENCE = 8
"""Bodies up to so many times the limit are heard out before they are refused."""

_GUARD = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
        b"form-action 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


class RequireKey:
    """Lets only requests with the key reach what costs something.

    Args:
        app: The next app.
        key: The key.
    """

    def __init__(self, app: App, key: str) -> None:
        self.app = app
        self.key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks `Authorization: Bearer KEY`."""
        path = scope.get("path", "")
        preflight = scope.get("method") == "OPTIONS"
        if scope["type"] == "http" and not preflight and not self._is_open(path):
            scheme, _, given = _headers(scope).get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(given.strip(), self.key)
            if scheme.lower() != b"bearer" or not right:
                error = ApiError(
                    401,
                    "the API key is missing or wrong; send Authorization: Bearer KEY",
                    code="invalid_api_key",
                )
                await error.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)

    @staticmethod
    def _is_open(path: str) -> bool:
        return path in _OPEN or path.startswith("/static/")


class LimitBody:
    """Refuses bodies that are too large, or too slow to come.

    Args:
        app: The next app.
        most: The size in bytes.
        seconds: Time in which the whole body must have come.
    """

    def __init__(self, app: App, most: int, seconds: float) -> None:
        self.app = app
        self.most = most
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the whole body first, as far as it is allowed to be long."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self.seconds)
        except TimeoutError:
            body = ApiError(
                408,
                f"the request body did not arrive within {self.seconds:g} seconds",
                code="request_too_slow",
            )
        if isinstance(body, ApiError):
            response = body.response()
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
        elif body is not None:
            waiting = [{"type": "http.request", "body": body, "more_body": False}]

            async def replay() -> Message:
                return waiting.pop() if waiting else await receive()

            await self.app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | ApiError | None:
        """Returns the body, why it is refused, or None if the client has left.

        A body that is too large is read on for a while and thrown away: most clients read no
        answer before they have sent all.
        """
        announced = _headers(scope).get(b"content-length", b"0")
        size = int(announced) if announced.isdigit() else 0
        body, read, more = b"", 0, True
        while more and max(size, read) <= _PATIENCE * self.most:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            read += len(part)
            body = body + part if read <= self.most else b""
            more = message.get("more_body", False)
        if max(size, read) <= self.most:
            return body
        return ApiError(
            413,
            f"the request body is larger than {self.most} bytes; send less text",
            code="request_too_large",
        )


class Observe:
    """Counts requests and adds the guard headers.

    Args:
        app: The next app.
        telemetry: Where to count.
    """

    def __init__(self, app: App, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watches one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 499
        started = time.monotonic()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *_GUARD]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.telemetry.requests.labels(route, str(status)).inc()
            self.telemetry.seconds.labels(route).observe(time.monotonic() - started)
