"""The routes: OpenAI's, health and metrics, and the few that the playground needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from baco import __version__
from baco.calibration import prompts_for, spread
from baco.routers import CASCADES, ROUTERS, parse
from baco.serve.errors import ApiError, api_error, refuse_files
from baco.serve.openai import ChatFormat, CompletionFormat, Format, collect, stream
from baco.serve.pairs import DEFAULT_ROUTER, PRESETS, model_named
from baco.serve.schemas import ChatRequest, CompletionRequest
from baco.serve.service import Prepared, Running, Service

routes = APIRouter()


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """An error, as OpenAI's clients read it."""

    error: ErrorDetail


class AnswerBody(BaseModel):
    """A whole answer; `baco` holds sources, base share, switches and cost."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, int]
    baco: dict[str, Any]


_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": words}
    for status, words in {
        400: "The request is wrong; the message says how to mend it.",
        401: "The API key is missing or wrong.",
        404: "There is no such model.",
        413: "The body is too large.",
        429: "Too much is waiting; Retry-After says when to try again.",
        503: "Stopping, out of time, or being calibrated; see Retry-After.",
    }.items()
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": AnswerBody,
        "description": "The answer, or with `stream` a series of server-sent events.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **_ERRORS,
}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


class EventStream(StreamingResponse):
    """A stream whose rows are freed however it ends."""

    def __init__(self, running: Running, events: AsyncIterator[str]) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._running = running

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Sends the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._running.close():
                scope["app"].state.service.telemetry.disconnects.inc()


async def _gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _answer(
    request: Request,
    body: ChatRequest | CompletionRequest,
    prepared: Prepared,
    shape: Callable[[Sequence[bytes], bool], Format],
) -> Response:
    service = _service(request)
    form = shape(prepared.host.token_bytes, body.alternatives is not None)
    running = service.start(prepared)
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        return EventStream(running, stream(running, form, include_usage=usage))
    work = asyncio.ensure_future(collect(running, form))
    left = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return JSONResponse(work.result())
        service.telemetry.disconnects.inc()
        return Response(status_code=499)
    except Exception as error:
        raise api_error(error) from error
    finally:
        work.cancel()
        left.cancel()
        running.close()


@routes.post("/v1/chat/completions", responses=_ANSWERS, response_model=None, tags=["OpenAI"])
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answers a conversation, `n` times."""
    return await _answer(request, body, _service(request).prepare_chat(body), ChatFormat)


@routes.post("/v1/completions", responses=_ANSWERS, response_model=None, tags=["OpenAI"])
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Continues raw text, without a chat template, `n` times per prompt."""
    prepared = _service(request).prepare_completion(body)
    return await _answer(request, body, prepared, CompletionFormat)


def _model_entry(service: Service, name: str) -> dict[str, Any]:
    model = model_named(name, service.pairs)
    return {
        "id": name,
        "object": "model",
        "created": service.started,
        "owned_by": "baco",
        "baco": {"pair": model.pair, "diversity": model.diversity},
    }


@routes.get("/v1/models", responses={401: _ERRORS[401]}, tags=["OpenAI"])
async def models(request: Request) -> dict[str, Any]:
    """Lists the pairs and their presets."""
    service = _service(request)
    names = [n for pair in service.pairs for n in (pair, *(f"{pair}:{p}" for p in PRESETS))]
    return {"object": "list", "data": [_model_entry(service, name) for name in names]}


@routes.get(
    "/v1/models/{name:path}", responses={k: _ERRORS[k] for k in (401, 404)}, tags=["OpenAI"]
)
async def model(request: Request, name: str) -> dict[str, Any]:
    """Describes a model; numbers after a colon work too, as in `tiny:0.6`."""
    return _model_entry(_service(request), name)


@routes.head("/health", include_in_schema=False)
@routes.get("/health", tags=["operation"])
async def health(request: Request) -> JSONResponse:
    """Says whether the server takes requests, and what it is busy with."""
    service = _service(request)
    works = all(host.worker.works(service.settings.timeout) for host in service.hosts.values())
    status = "stopping" if service.draining else "ok" if works else "failed"
    body = {
        "status": status,
        "version": __version__,
        "pairs": {
            name: {
                "rows": host.worker.live,
                "calibrating": {router: run.done for router, run in host.calibrator.runs.items()},
            }
            for name, host in service.hosts.items()
        },
    }
    return JSONResponse(body, 200 if status == "ok" else 503)


@routes.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={401: _ERRORS[401]},
    tags=["operation"],
)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(
        _service(request).telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


# --- for the playground -----------------------------------------------------------------------


@routes.get("/baco/info", responses={401: _ERRORS[401]}, tags=["playground"])
async def info(request: Request) -> dict[str, Any]:
    """Pairs, routers, presets and limits, as the playground shows them."""
    service = _service(request)
    described = []
    for name in (*CASCADES, *ROUTERS):
        parsed = parse(name)
        control = parsed.control
        if control is None or parsed.needs_text:
            continue
        rule = parsed.rules[control]
        described.append(
            {
                "name": name,
                "formula": "; else ".join(rule.formula for rule in reversed(parsed.rules)),
                "span": rule.span,
                "default": parsed.gamma,
            }
        )
    return {
        "version": __version__,
        "pairs": [
            {"name": name, "examples": spread(prompts_for(name), 6)} for name in service.pairs
        ],
        "presets": dict(PRESETS),
        "default_router": DEFAULT_ROUTER,
        "routers": described,
        "max_n": service.settings.max_n,
    }


@routes.get(
    "/baco/calibration",
    responses={k: _ERRORS[k] for k in (400, 401, 404)},
    tags=["playground"],
)
async def calibration(request: Request, pair: str, router: str) -> dict[str, Any]:
    """The curve of a pair and router, or how far its calibration has come (it is started)."""
    service = _service(request)
    host = service.hosts.get(pair)
    if host is None:
        raise ApiError(404, f"the pair {pair!r} is not served", param="pair")
    refuse_files(router)
    canonical = parse(router).name
    curve = host.calibrator.curve(canonical)
    if curve is None:
        run = host.calibrator.start(canonical)
        return {"ready": False, "done": run.done, "retry_after": run.retry_after}
    low, high = curve.reach
    return {"ready": True, "reach": {"low": low, "high": high}}


class Texts(BaseModel):
    """Some answers to compare."""

    model_config = ConfigDict(extra="forbid")

    texts: Annotated[list[Annotated[str, Field(max_length=20_000)]], Field(max_length=64)]
    prompt: Annotated[str, Field(max_length=20_000)] = ""
    meaning: Annotated[bool, Field(description="Also compare meanings, if a model is there.")] = (
        False
    )


@routes.post(
    "/baco/diversity", responses={k: _ERRORS[k] for k in (400, 401, 413)}, tags=["playground"]
)
async def diversity(request: Request, body: Annotated[Texts, Body()]) -> dict[str, Any]:
    """Which answers say the same, and how different they are as a group."""
    from baco.serve.groups import describe

    return await asyncio.to_thread(describe, body.texts, body.prompt, meaning=body.meaning)
