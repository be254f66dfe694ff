"""Request bodies in which a key is given twice are refused: of the two, JSON readers keep one."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from baco.errors import clipped


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        again = next(key for key in found if keys.count(key) > 1)
        raise json.JSONDecodeError(f"it gives {clipped(again)!r} twice", "", 0)
    return found


class StrictRequest(Request):
    """A request whose body is read strictly."""

    async def json(self) -> Any:
        """Reads the body.

        Raises:
            JSONDecodeError: If it is no JSON, or gives a key twice.
        """
        return json.loads(await self.body(), object_pairs_hook=_unique)


class StrictRoute(APIRoute):
    """A route that takes such requests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns what answers a request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
