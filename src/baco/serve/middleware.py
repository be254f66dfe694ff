"""What stands before the routes: names and sites, the key, sizes, the browser's guard rails.

Plain ASGI, so that streams pass through untouched and disconnects are seen.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from baco.errors import clipped
from baco.serve.errors import ApiError
from baco.serve.telemetry import Telemetry

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = ("/", "/health", "/openapi.json", "/favicon.ico")

_WITH_BODY = ("POST", "PUT", "PATCH")
_ID = re.compile(r"[!-~]{1,100}")

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
    (b"cross-origin-resource-policy", b"same-origin"),
]


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _all(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


class CheckOrigin:
    """Lets in who calls the server by a name of its own, and no page of another site.

    A page elsewhere can make a browser send requests to a server at localhost, and can make a name
    of its own point there. Addresses and ``localhost`` cannot be such a name.

    Args:
        app: The next app.
        hosts: Names that clients may use; ``*`` for any.
        origins: Web origins whose pages may call; ``*`` for any.
    """

    def __init__(self, app: App, hosts: Collection[str], origins: Collection[str]) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts}
        self.origins = set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks where a request comes from, and whom it is meant for."""
        if scope["type"] == "http" and (error := self._refusal(scope)) is not None:
            response = error.response()
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        named = _all(scope, b"host")
        for host in named:
            if not self._is_ours(host):
                return ApiError(
                    403,
                    f"this server does not go by the name {clipped(host)!r}; "
                    "baco serve --allowed-host NAME allows one",
                    code="host_not_allowed",
                )
        origins = _all(scope, b"origin")
        sites = _all(scope, b"sec-fetch-site")
        foreign = [o for o in origins if _netloc(o) not in [h.lower() for h in named]]
        if not origins and any(site not in ("same-origin", "none") for site in sites):
            foreign = ["another site"]
        for origin in foreign:
            if not self.origins & {origin, "*"}:
                return ApiError(
                    403,
                    f"pages of {clipped(origin)} may not call this server; "
                    "baco serve --cors ORIGIN allows those of one",
                    code="origin_not_allowed",
                )
        return None

    def _is_ours(self, host: str) -> bool:
        if "*" in self.hosts:
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name == "localhost" or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _netloc(origin: str) -> str | None:
    """The host and port of an origin; None for ``null`` and for what is none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _is_json(kind: str) -> bool:
    return (
        re.fullmatch(r"application/([a-z.-]{1,60}\+)?json", kind.split(";")[0].strip().lower())
        is not None
    )


class RequireKey:
    """Lets only requests with a key reach what costs something.

    Args:
        app: The next app.
        keys: The keys, each of a client of its own.
    """

    def __init__(self, app: App, keys: Sequence[str]) -> None:
        self.app = app
        self.keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks `Authorization: Bearer KEY`."""
        path = scope.get("path", "")
        preflight = scope.get("method") == "OPTIONS"
        if scope["type"] == "http" and not preflight and not self._is_open(path):
            scheme, _, given = _headers(scope).get(b"authorization", b"").partition(b" ")
            right = [hmac.compare_digest(given.strip(), key) for key in self.keys]
            if scheme.lower() != b"bearer" or not any(right):
                error = ApiError(
                    401,
                    "the API key is missing or wrong; send Authorization: Bearer KEY",
                    code="invalid_api_key",
                )
                await error.response()(scope, receive, send)
                return
            if len(self.keys) > 1:
                scope["baco.client"] = f"key {right.index(True)}"
        await self.app(scope, receive, send)

    @staticmethod
    def _is_open(path: str) -> bool:
        return path in _OPEN or path.startswith("/static/")


class LimitBody:
    """Refuses bodies that are too large, too slow to come, or not JSON.

    Browsers send JSON to another site only after asking it. No framework is relied on for that:
    FastAPI took ``text/plain`` for JSON before 0.65.2, and bodies of no type before 0.132.

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
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
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
        if isinstance(body, bytes) and not all(map(_is_json, _all(scope, b"content-type") or [""])):
            body = ApiError(
                415,
                "the body must be a JSON object, sent as Content-Type: application/json",
                code="not_json",
            )
        if isinstance(body, ApiError):
            response = body.response()
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
        elif body is not None:
            waiting = [{"type": "http.request", "body": body, "more_body": False}]

            async def replay() -> AsgiMessage:
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
    """Counts requests, and adds the guard headers and the request's id, the client's own if any.

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
        given = _all(scope, b"x-request-id")
        known = given[0] if given and _ID.fullmatch(given[0]) else f"req_{secrets.token_hex(12)}"
        started = time.monotonic()

        async def watched(message: AsgiMessage) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []), *_GUARD, (b"x-request-id", known.encode())
                ]  # fmt: skip
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.telemetry.requests.labels(route, str(status)).inc()
            self.telemetry.seconds.labels(route).observe(time.monotonic() - started)
