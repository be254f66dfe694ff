"""Puts the server together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from baco import __version__
from baco.calibration import QUICK, Effort
from baco.engine import Lookahead
from baco.methods.filters import Filter
from baco.serve import errors
from baco.serve.admission import Aside, Turns
from baco.serve.api import routes
from baco.serve.middleware import CheckOrigin, LimitBody, Observe, RequireKey
from baco.serve.service import Service
from baco.serve.settings import Settings

if TYPE_CHECKING:
    from baco.pair import Pair

_STATIC = Path(str(files("baco.serve").joinpath("static")))


def create_app(
    pairs: Mapping[str, Pair],
    settings: Settings | None = None,
    *,
    effort: Effort = QUICK,
    lookahead: Lookahead = "auto",
    keep: Filter | None = None,
) -> FastAPI:
    """Makes the ASGI app of a server.

    Args:
        pairs: The pairs by the names that clients use.
        settings: Limits and doors.
        effort: How carefully missing calibration curves are measured in the background.
        lookahead: As `baco.engine.Engine`'s.
        keep: A moderation filter; nothing of an answer that it refuses is shown.

    Returns:
        The app; `app.state.service` is its `Service`. It can be run by any ASGI server.

    Raises:
        InputError: If there is no pair.
        UnsupportedError: If a pair's sides have different tokenizers.
    """
    settings = settings or Settings()
    service = Service(pairs, settings, effort, lookahead, keep)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()
        app.state.reading.close()
        app.state.comparing.close()

    app = FastAPI(
        title="BaCo",
        version=__version__,
        summary="Base-aligned model collaboration behind an OpenAI-compatible API.",
        lifespan=lifespan,
        docs_url=None,  # its page would fetch scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    app.state.turns = {
        name: Turns(settings.max_rows, settings.max_waiting) for name in service.hosts
    }
    app.state.most_text = {
        name: max(host.pair.base.context_window, host.pair.aligned.context_window)
        * max(map(len, host.token_bytes))
        for name, host in service.hosts.items()
    }
    app.state.reading = Aside(2, 256)
    app.state.comparing = Aside(1, 8)
    app.state.judging = asyncio.Semaphore(1)
    app.include_router(routes)
    errors.install(app)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def playground() -> FileResponse:
        return FileResponse(_STATIC / "index.html")

    app.mount("/static", StaticFiles(directory=_STATIC), name="static")

    # The last one added sees a request first.
    app.add_middleware(
        LimitBody, most=settings.max_body, seconds=min(settings.timeout, settings.body_timeout)
    )
    if settings.keys:
        app.add_middleware(RequireKey, keys=settings.keys)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # OpenAI's client sends many of its own
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_middleware(CheckOrigin, hosts=settings.allowed_hosts, origins=settings.cors_origins)
    app.add_middleware(Observe, telemetry=service.telemetry)
    return app
