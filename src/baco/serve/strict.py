"""Routes that refuse a body in which a key stands twice: of the two, json keeps the last."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from baco.errors import InputError, clipped
from baco.reading import unique_keys


class StrictRequest(Request):
    """A request whose body is read strictly."""

    async def json(self) -> Any:
        """Reads the body.

        Raises:
            JSONDecodeError: If it is no JSON.
            HTTPException: If a key stands in it twice.
        """
        try:
            return json.loads(await self.body(), object_pairs_hook=unique_keys)
        except InputError as error:
            told = f"the body has {clipped(error.message)}; leave one of them out"
            raise HTTPException(400, told) from None


class StrictRoute(APIRoute):
    """A route that takes such requests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns what answers a request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
