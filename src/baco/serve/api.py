"""The routes: OpenAI's, health and metrics, and the few that the playground needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from baco import __version__
from baco.calibration import prior, prompts_for, spread
from baco.errors import BacoError, clipped
from baco.prompts import conversation_of, question_of
from baco.routers import CASCADES, ROUTERS, parse
from baco.serve.admission import Aside, QueuePlace, Turns
from baco.serve.errors import ApiError, api_error, refuse_local
from baco.serve.groups import relevance
from baco.serve.openai import ChatFormat, CompletionFormat, Format, collect, stream
from baco.serve.pairs import DEFAULT_ROUTER, PRESETS, model_named
from baco.serve.quality import fault, judged, surprise, world_ends
from baco.serve.schemas import (
    Bool,
    ChatMessage,
    ChatRequest,
    CompletionRequest,
    ModelName,
    TokenizeRequest,
)
from baco.serve.scoring import Echo, Score, read
from baco.serve.service import Host, Prepared, Running, Service, finite
from baco.serve.strict import StrictRoute

T = TypeVar("T")

log = logging.getLogger("baco.serve")

routes = APIRouter(route_class=StrictRoute)


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
        403: "The server does not go by this name, or another site's page calls it.",
        404: "There is no such model.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        429: "Too much is waiting; Retry-After says when to try again.",
        500: "A model fails in its pass; it would fail again.",
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

    def __init__(self, running: Running, place: QueuePlace, events: AsyncIterator[str]) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )
        self._running = running
        self._place = place

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Sends the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.leave()
            if self._running.close():
                scope["app"].state.service.telemetry.disconnects.inc()


async def _gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _LeftError(Exception):
    """The client has left."""


async def _unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Waits for something, and drops it when the client leaves.

    Raises:
        _LeftError: If it has left.
    """
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise _LeftError
    finally:
        task.cancel()
        left.cancel()


def _client(request: Request) -> str:
    """Who asks: by key where there are several, else by address."""
    address = request.client.host if request.client else ""
    return str(request.scope.get("baco.client", address))


def _warnings(service: Service, unmet: Sequence[str]) -> list[str]:
    """What is not honoured of a request.

    Raises:
        ApiError: 400 unless the server is lenient.
    """
    if unmet and not service.settings.lenient:
        raise ApiError(
            400,
            f"{unmet[0]!r} is not a field that this server honours; leave it out or mend its "
            "spelling (baco serve --lenient answers with a warning)",
            param=unmet[0],
            code="unknown_field",
        )
    if unmet:
        log.warning("not honoured: %s", ", ".join(sorted(unmet)[:20]))
    return [f"{name!r} is not honoured" for name in unmet[:20]]


def _refuse_long(
    body: ChatRequest | CompletionRequest | TokenizeRequest, host: Host, most: int
) -> None:
    """Raises ApiError (400) for text that no tokenizer could bring into the context window."""
    if body.longest_text > most:
        window = max(host.pair.base.context_window, host.pair.aligned.context_window)
        raise ApiError(
            400,
            f"the prompt has {body.longest_text} bytes, more than the model's context window of "
            f"{window} tokens can hold; shorten the prompt",
            code="context_length_exceeded",
            param="messages" if isinstance(body, ChatRequest) else "prompt",
        )


async def _answer(
    request: Request,
    body: ChatRequest | CompletionRequest,
    prepare: Callable[[Any], Prepared],
    shape: Callable[[Sequence[bytes], bool], Format],
) -> Response:
    service = _service(request)
    warnings = _warnings(service, body.unmet)
    pair = model_named(body.model, service.pairs).pair
    _refuse_long(body, service.hosts[pair], request.app.state.most_text[pair])
    turns: Turns = request.app.state.turns[pair]
    reading: Aside = request.app.state.reading
    running: Running | None = None
    place: QueuePlace | None = None
    try:
        prepared = await _unless_gone(request, reading.run(prepare, body))
        client = _client(request)
        place = turns.take(client, body.answers)
        await _unless_gone(request, _in_time(place.turn(), service.settings.timeout))
        form = shape(prepared.host.token_bytes, body.alternatives is not None)
        running = service.start(prepared, client)
        if body.stream:
            options = body.stream_options
            usage = options is not None and bool(options.include_usage)
            events = stream(running, form, place, warnings, include_usage=usage)
            response = EventStream(running, place, events)
            running = place = None  # are its own now
            return response
        whole = await _unless_gone(request, collect(running, form, place, warnings))
        if isinstance(body, CompletionRequest):
            await _unless_gone(request, _score(body, prepared.host, whole))
        return JSONResponse(whole)
    except _LeftError:
        service.telemetry.disconnects.inc()
        return Response(status_code=499)
    except Exception as error:
        if isinstance(error, ApiError) and error.code == "queue_full":
            service.telemetry.refused.labels("full").inc()
        if not isinstance(error, ApiError | BacoError):
            log.error("a request failed", exc_info=error)
        raise api_error(error) from error
    finally:
        if place is not None:
            place.leave()
        if running is not None:
            running.close()


async def _score(body: CompletionRequest, host: Host, whole: dict[str, Any]) -> None:
    """Adds the prompts, and what a model thinks of them, to an answer."""
    if not body.echo and body.scored is None:
        return
    leads = "base" if body.method == "base" else "aligned"
    side = host.pair.sides[("base", "aligned").index(body.score_side or leads)]
    choices = whole["choices"]
    for number, prompt in enumerate(body.prompts):
        ids = tuple(side.encode_text(prompt)) if isinstance(prompt, str) else tuple(prompt)
        if body.scored is None:
            echo = Echo(side, prompt, [Score(token, None, 0, []) for token in ids])
        else:
            told = await read(host.worker, side.partner, ids, body.scored)
            echo = Echo(side, prompt, *told)
        for choice in choices[number * body.n : (number + 1) * body.n]:
            if body.max_tokens == 0:
                choice |= {"text": "", "finish_reason": "length", "baco": {}}
                choice["logprobs"] = None
            if body.echo:
                echo.put_before(choice, logprobs=body.logprobs is not None)
            if body.prompt_logprobs is not None:
                choice["prompt_logprobs"] = echo.prompt_logprobs()
    if body.max_tokens == 0:
        usage = whole["usage"]
        whole["usage"] = usage | {"completion_tokens": 0, "total_tokens": usage["prompt_tokens"]}


async def _in_time(turn: Awaitable[None], seconds: float) -> None:
    """Waits for a turn. Raises ApiError (503) if it does not come."""
    try:
        await asyncio.wait_for(turn, seconds)
    except TimeoutError:
        raise ApiError(
            503,
            f"the answer took longer than {seconds:g} seconds",
            code="timeout",
            retry_after=10,
        ) from None


@routes.post("/v1/chat/completions", responses=_ANSWERS, response_model=None, tags=["OpenAI"])
async def chat_completions(request: Request, body: ChatRequest) -> Response:
    """Answers a conversation, `n` times."""
    return await _answer(request, body, _service(request).prepare_chat, ChatFormat)


@routes.post("/v1/completions", responses=_ANSWERS, response_model=None, tags=["OpenAI"])
async def completions(request: Request, body: CompletionRequest) -> Response:
    """Continues raw text, without a chat template, `n` times per prompt."""
    return await _answer(request, body, _service(request).prepare_completion, CompletionFormat)


@routes.post(
    "/tokenize", responses={k: _ERRORS[k] for k in (400, 401, 404, 429)}, tags=["operation"]
)
async def tokenize(request: Request, body: TokenizeRequest) -> Response:
    """Tells the token ids of a text, or of a conversation's prompt."""
    service = _service(request)
    pair = model_named(body.model, service.pairs).pair
    host = service.hosts[pair]
    _refuse_long(body, host, request.app.state.most_text[pair])
    side = host.pair.sides[("base", "aligned").index(body.side)]
    reading: Aside = request.app.state.reading

    def ids() -> list[int]:
        if body.messages is None:
            return list(side.encode_text(body.prompt or ""))
        return list(side.ids(conversation_of([m.model_dump() for m in body.messages])))

    try:
        tokens = await _unless_gone(request, reading.run(ids))
    except _LeftError:
        return Response(status_code=499)
    window = side.partner.context_window
    return JSONResponse({"count": len(tokens), "max_model_len": window, "tokens": tokens})


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


def _family(router: str) -> str:
    """Which of three kinds a router is, for people: by doubt, by meaning, or by chance."""
    if router in ("rand", "pr", "hr"):
        return "chance"
    return "meaning" if "fc" in router else "doubt"


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
        rule, rough = parsed.rules[control], prior(name)
        described.append(
            {
                "name": name,
                "formula": "; else ".join(rule.formula for rule in reversed(parsed.rules)),
                "span": rule.span,
                "default": parsed.gamma,
                "family": _family(name),
                "prior": [finite(rough(i / 20)) for i in range(21)],
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


def _calibrated(request: Request, pair: str, router: str) -> tuple[Host, str]:
    """Finds a pair, and a router's name without thresholds."""
    host = _service(request).hosts.get(pair)
    if host is None:
        raise ApiError(404, f"the pair {clipped(pair)!r} is not served", param="pair")
    refuse_local(router)
    return host, parse(router).curve_name


def _curve(host: Host, router: str) -> dict[str, Any]:
    curve = host.calibrator.curve(router)
    if curve is None:
        run = host.calibrator.runs.get(router)
        if run is None or run.error is not None:
            return {"ready": False, "running": False}
        return {
            "ready": False, "running": True, "done": run.done, "retry_after": run.retry_after,
        }  # fmt: skip
    low, high = curve.reach
    return {"ready": True, "reach": {"low": low, "high": high}}


_Router = Annotated[str, Field(max_length=200)]


@routes.get(
    "/baco/calibration",
    responses={k: _ERRORS[k] for k in (400, 401, 404)},
    tags=["playground"],
)
async def calibration(
    request: Request, pair: Annotated[ModelName, Query()], router: Annotated[_Router, Query()]
) -> dict[str, Any]:
    """The curve of a pair and router, or how far its calibration has come; starts nothing."""
    return _curve(*_calibrated(request, pair, router))


class Wanted(BaseModel):
    """A curve to measure."""

    model_config = ConfigDict(extra="forbid")

    pair: ModelName
    router: _Router


@routes.post(
    "/baco/calibration",
    responses={k: _ERRORS[k] for k in (400, 401, 404, 429)},
    tags=["playground"],
)
async def calibrate(request: Request, body: Annotated[Wanted, Body()]) -> dict[str, Any]:
    """Starts to measure a curve that is missing; says what `GET` says."""
    host, router = _calibrated(request, body.pair, body.router)
    if host.calibrator.curve(router) is None:
        host.calibrator.start(router)
    return _curve(host, router)


_LONGEST_TEXTS = 200_000


class Texts(BaseModel):
    """Some answers to compare."""

    model_config = ConfigDict(extra="forbid")

    texts: Annotated[list[Annotated[str, Field(max_length=20_000)]], Field(max_length=64)]
    prompt: Annotated[str, Field(max_length=20_000)] = ""
    meaning: Annotated[Bool, Field(description="Also compare meanings, if a model is there.")] = (
        False
    )
    pair: Annotated[
        ModelName | None,
        Field(description="Also say how good each answer is, by this pair's means."),
    ] = None
    messages: Annotated[
        list[ChatMessage] | None,
        Field(min_length=1, max_length=1000, description="What was asked, where it is a talk."),
    ] = None


@routes.post(
    "/baco/diversity", responses={k: _ERRORS[k] for k in (400, 401, 413, 429)}, tags=["playground"]
)
async def diversity(request: Request, body: Annotated[Texts, Body()]) -> Response:
    """Which answers say the same, and how different they are as a group."""
    from baco.serve.groups import describe

    if sum(map(len, body.texts)) > _LONGEST_TEXTS:
        raise ApiError(
            400, f"the texts have more than {_LONGEST_TEXTS} characters; send fewer", param="texts"
        )
    comparing: Aside = request.app.state.comparing
    try:
        work = comparing.run(describe, body.texts, body.prompt, body.meaning)
        said = await _unless_gone(request, work)
        if body.pair is not None:
            said |= await _unless_gone(request, _quality(request, body))
        return JSONResponse(said)
    except _LeftError:
        return Response(status_code=499)


async def _quality(request: Request, body: Texts) -> dict[str, Any]:
    """What is broken of each answer, and how good it is: by the toy's judge, or as it reads."""
    host = _service(request).hosts.get(body.pair or "")
    if host is None:
        raise ApiError(404, f"the pair {clipped(body.pair or '')!r} is not served", param="pair")
    asked = [m.model_dump() for m in body.messages] if body.messages else body.prompt
    conversation = conversation_of(asked)
    answers: list[dict[str, Any]] = [{"fault": fault(text)} for text in body.texts]
    toy = host.pair.known is not None and host.pair.known.bundled
    if toy and not world_ends(host.pair, conversation):
        told = await asyncio.to_thread(judged, question_of(conversation), body.texts)
        right = sum(one["words"] == "right" for one in told)
        figure = {
            "name": "Right answers",
            "value": right,
            "of": len(told),
            "about": "Answers that the toy world's exact judge finds flawless.",
        }
        answers = [one | more for one, more in zip(answers, told, strict=True)]
        return {"answers": answers, "quality": figure}
    if toy:
        return {"answers": answers}
    async with request.app.state.judging:
        read = [
            await surprise(host.worker, host.pair.sides[1], conversation, text)
            for text in body.texts
        ]
    for answer, value in zip(answers, read, strict=True):
        answer["surprise"] = value
    values = sorted(value for value in read if value is not None)
    if not values:
        return {"answers": answers}
    figure = {
        "name": "Surprise",
        "value": values[len(values) // 2],
        "about": "Median perplexity under the assistant alone: larger is odder to it.",
        "kind": "number",
    }
    near = await asyncio.to_thread(relevance, question_of(conversation), body.texts)
    for answer, value in zip(answers, near or [], strict=False):
        answer["relevance"] = value
    return {"answers": answers, "quality": figure}
