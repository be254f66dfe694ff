"""The web app: static page plus a small JSON API, one secret token per annotator.

The personal link carries the token behind a `#`, so it reaches neither access logs nor other
sites; the page sends it as a bearer token. Handlers are plain functions run in threads; the
study serialises their writes.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field

from baco.errors import InputError
from baco.study import blind
from baco.study.store import Annotator, Study

STATIC = Path(__file__).parent / "static"
MAX_BODY = 64 * 1024
MAX_COMMENT = 4000
DAY_MS = 24 * 60 * 60 * 1000

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

Identifier = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Consent(_Body):
    """The annotator confirms having read the instructions, and consents."""

    read: bool
    consent: bool


class Click(_Body):
    """One click on one answer."""

    click: Identifier
    screen: int
    question: str = Field(max_length=16)
    item: int
    value: int | Annotated[str, Field(max_length=8)]


class Comment(_Body):
    """A comment; screen 0 is the study as a whole."""

    screen: int
    text: str = Field(max_length=MAX_COMMENT)


class Visit(_Body):
    """Active time of one visit to a screen, in milliseconds since the visit began."""

    visit: Identifier
    screen: int
    active_ms: int = Field(ge=0, le=DAY_MS)


class Rates:
    """How often each client may ask: so many requests at once, and so many a second after that.

    Args:
        burst: Requests at once.
        refill: Requests a second.
        clock: Tells the time in seconds.
        clients: Clients that are remembered; the one not seen for longest is forgotten.
    """

    def __init__(
        self,
        burst: int = 300,
        refill: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
        clients: int = 10_000,
    ) -> None:
        self._burst, self._refill, self._clock, self._clients = burst, refill, clock, clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> bool:
        """Whether a client may ask once more now."""
        now = self._clock()
        left, then = self._left.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._refill)
        self._left[client] = (max(left - 1, 0), now) if left >= 1 else (left, now)
        if len(self._left) > self._clients:
            self._left.popitem(last=False)
        return left >= 1


def create_app(study: Study, rates: Rates | None = None) -> FastAPI:
    """Builds the app of one study.

    Args:
        study: The open study.
        rates: How often an address may ask.

    Returns:
        The application; no schema or documentation pages, which would load outside scripts.
    """
    rates = rates or Rates()
    app = FastAPI(title="Study", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    def known(request: Request) -> Annotator:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        annotator = study.annotator(token) if kind.lower() == "bearer" and token else None
        if annotator is None:
            raise HTTPException(401, "This link is not valid.")
        return annotator

    def ready(annotator: Annotated[Annotator, Depends(known)]) -> Annotator:
        if annotator.accepted is None:
            raise HTTPException(403, "Please read the instructions first.")
        return annotator

    Known = Annotated[Annotator, Depends(known)]
    Ready = Annotated[Annotator, Depends(ready)]

    @app.middleware("http")
    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        length = request.headers.get("content-length", "")
        if not rates.take(request.client.host if request.client else ""):
            response: Response = JSONResponse(
                {"detail": "Too many requests."}, 429, {"Retry-After": "1"}
            )
        elif request.method in ("POST", "PUT") and not length.isdecimal():
            response = JSONResponse({"detail": "Length required."}, 411)
        elif length.isdecimal() and int(length) > MAX_BODY:
            response = JSONResponse({"detail": "Too large."}, 413)
        else:
            response = await call_next(request)
        response.headers.update(HEADERS)
        api = request.url.path.startswith("/api/")
        response.headers["Cache-Control"] = "no-store" if api else "no-cache"
        return response

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        # Without the input, which the framework would repeat: it need not even be encodable.
        return JSONResponse({"detail": "Malformed request."}, 422)

    @app.exception_handler(InputError)
    def refused(request: Request, error: InputError) -> JSONResponse:
        status = 409 if isinstance(error, blind.OrderError) else 400
        return JSONResponse({"detail": error.message}, status)

    @app.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/api/me")
    def me(annotator: Known) -> dict[str, Any]:
        return blind.overview(study, annotator)

    @app.post("/api/consent")
    def consent(body: Consent, annotator: Known) -> dict[str, Any]:
        if not (body.read and body.consent):
            raise HTTPException(400, "Both boxes are needed to take part.")
        study.accept(annotator.id)
        return {"accepted": True}

    @app.get("/api/screens/{number}")
    def screen(number: int, annotator: Ready) -> dict[str, Any]:
        return blind.sheet(study, annotator, number)

    @app.put("/api/votes")
    def vote(body: Click, annotator: Ready) -> dict[str, Any]:
        return blind.cast(
            study,
            annotator,
            click=body.click,
            number=body.screen,
            question=body.question,
            item=body.item,
            value=body.value,
        )

    @app.put("/api/comments")
    def comment(body: Comment, annotator: Ready) -> dict[str, Any]:
        blind.note(study, annotator, body.screen, body.text)
        return {"saved": True}

    @app.put("/api/visits")
    def visit(body: Visit, annotator: Ready) -> dict[str, Any]:
        blind.spend(study, annotator, body.screen, body.visit, body.active_ms)
        return {"saved": True}

    @app.get("/api/data")
    def data(annotator: Known) -> dict[str, Any]:
        return blind.own_data(study, annotator)

    @app.delete("/api/data")
    def forget(annotator: Known) -> dict[str, Any]:
        study.forget(annotator.id)
        return {"deleted": True}

    return app
