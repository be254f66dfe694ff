"""From a request to its answer: checks, plans, admission, and the run itself."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baco.calibration import QUICK, CalibrationInfo, Effort
from baco.engine import Lookahead, Warp
from baco.errors import InputError
from baco.methods import METHODS
from baco.methods.base import COLDEST
from baco.prompts import conversation_of, identity
from baco.routers import Router, parse
from baco.serve.calibrator import Calibrator
from baco.serve.errors import ApiError, refuse_files
from baco.serve.pairs import DEFAULT_ROUTER, Model, check_pairs, model_named
from baco.serve.samples import SERVED, Method, Plan, Tally, Update
from baco.serve.schemas import ChatRequest, CompletionRequest
from baco.serve.settings import Settings
from baco.serve.telemetry import Telemetry
from baco.serve.worker import Job, Worker

if TYPE_CHECKING:
    from baco.pair import Pair


class Host:
    """One served pair: its engines' thread, its curves, and how busy it is.

    Args:
        pair: The pair.
        settings: The server's limits.
        effort: How carefully missing curves are measured.
        lookahead: As `Engine`'s.
    """

    def __init__(
        self,
        pair: Pair,
        settings: Settings,
        effort: Effort = QUICK,
        lookahead: Lookahead = "auto",
    ) -> None:
        self.pair = pair
        self.revision = pair.revision
        self.token_bytes = pair.token_bytes
        self.worker = Worker(
            pair.base,
            pair.aligned,
            self.token_bytes,
            max_rows=settings.max_rows,
            lookahead=lookahead,
        )
        self.calibrator = Calibrator(pair, self.worker, effort)
        self.open_rows = 0


@dataclass
class Prepared:
    """A checked request, ready to run.

    Attributes:
        host: Who answers.
        model: The model asked for.
        plans: One per prompt.
        info: How a diversity was understood, or None.
        created: Unix time.
        id: Random part of the answer's id.
    """

    host: Host
    model: Model
    plans: list[Plan]
    info: CalibrationInfo | None
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts, as the side that leads reads them."""
        return sum(
            len(p.base_prompt if p.method == "base" else p.aligned_prompt) for p in self.plans
        )

    def about(self) -> dict[str, Any]:
        """The `baco` part of an answer that is known before it starts."""
        plan = self.plans[0]
        both = plan.method == "baco"
        out: dict[str, Any] = {
            "pair": self.model.pair,
            "method": plan.method,
            "router": plan.router.name if both else None,
            "gamma": _finite(plan.router.gamma) if both else None,
            "seed": plan.seed,
        }
        if self.info is not None:
            out["diversity"] = {
                "asked": self.info.diversity,
                "expected": self.info.expected,
                "clamped": self.info.clamped,
                "note": self.info.note or None,
            }
        return out


def _method(name: str | None) -> Method:
    """Finds a method by name.

    Raises:
        UnknownNameError: If there is no such method.
        ApiError: If it is none of those that a server can run.
    """
    if name is None:
        return "baco"
    _ = METHODS[name]
    if name not in SERVED:
        raise ApiError(
            400,
            f"method {name!r} is not served, only {', '.join(SERVED)} are; "
            f"on the command line: baco generate --method {name}",
            param="method",
            code="unsupported",
        )
    return SERVED[name]


def _finite(value: float | None) -> float | str | None:
    """JSON has no infinity."""
    return "inf" if value == float("inf") else value


class Service:
    """Answers requests with the pairs of one server.

    Args:
        pairs: The pairs by name.
        settings: Limits.
        effort: How carefully missing curves are measured.
        lookahead: As `Engine`'s.
    """

    def __init__(
        self,
        pairs: Mapping[str, Pair],
        settings: Settings,
        effort: Effort = QUICK,
        lookahead: Lookahead = "auto",
    ) -> None:
        check_pairs(pairs)
        self.pairs = dict(pairs)
        self.settings = settings
        self.hosts = {name: Host(pair, settings, effort, lookahead) for name, pair in pairs.items()}
        self.telemetry = Telemetry(self.hosts)
        self.started = int(time.time())
        self.draining = False

    def close(self) -> None:
        """Drops what is left and ends the threads."""
        self.draining = True
        for host in self.hosts.values():
            host.worker.close()

    # --- from a request to plans ---------------------------------------------------------------

    def prepare_chat(self, request: ChatRequest) -> Prepared:
        """Checks a chat request.

        Raises:
            ApiError: If it cannot be served.
            InputError: If a value is wrong.
        """
        model = model_named(request.model, self.pairs)
        conversation = conversation_of([m.model_dump() for m in request.messages])
        host = self.hosts[model.pair]
        prompts = [(*host.pair.prompt_ids(conversation), identity(conversation))]
        return self._prepare(request, model, prompts, host.pair.sides[0].boundary)

    def prepare_completion(self, request: CompletionRequest) -> Prepared:
        """Checks a completion request. Raises as `prepare_chat`."""
        model = model_named(request.model, self.pairs)
        host = self.hosts[model.pair]
        prompts = []
        for prompt in request.prompts:
            if isinstance(prompt, str):
                if not prompt:
                    raise InputError("the prompt is empty", hint="write what is to be continued")
                prompts.append((*host.pair.text_ids(prompt), "raw:" + prompt))
                continue
            size = min(len(side.token_bytes) for side in host.pair.sides)
            if any(i >= size for i in prompt):
                raise ApiError(
                    400, f"a token id is not below {size}, the vocabulary's size", param="prompt"
                )
            ids = tuple(prompt)
            prompts.append((ids, ids, "ids:" + json.dumps(prompt)))
        return self._prepare(request, model, prompts)

    def _prepare(
        self,
        request: ChatRequest | CompletionRequest,
        model: Model,
        prompts: Sequence[tuple[tuple[int, ...], tuple[int, ...], str]],
        boundary: str = "",
    ) -> Prepared:
        host = self.hosts[model.pair]
        limit = self._limits(request, host, prompts)
        router, method, info = self._router(request, model, host)
        seed = secrets.randbits(31) if request.seed is None else request.seed
        warp = Warp(
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=0.9 if request.top_p is None else request.top_p,
            top_k=request.top_k or 0,
            min_p=request.min_p or 0.0,
        )
        if 0 < warp.temperature < COLDEST:
            raise ApiError(
                400,
                f"temperature {warp.temperature:g} is too small; use 0 (greedy), or at least "
                f"{COLDEST:g}",
                param="temperature",
            )
        plans = [
            Plan(
                method=method,
                base_prompt=base,
                aligned_prompt=aligned,
                identity=name,
                router=router,
                warp=warp,
                n=request.n,
                seed=seed,
                max_new_tokens=limit,
                stops=request.stops,
                restart_shorter_than=min(request.restart_shorter_than or 0, limit),
                top_logprobs=request.alternatives,
                boundary=boundary,
            )
            for base, aligned, name in prompts
        ]
        return Prepared(host, model, plans, info)

    def _limits(
        self,
        request: ChatRequest | CompletionRequest,
        host: Host,
        prompts: Sequence[tuple[tuple[int, ...], tuple[int, ...], str]],
    ) -> int:
        """Checks a request's size; returns the limit of new tokens."""
        settings = self.settings
        rows = request.n * len(prompts)
        if rows > settings.max_n:
            raise ApiError(
                400,
                f"{rows} answers are too many for one request; the limit is {settings.max_n}",
                param="n",
                code="too_many_answers",
            )
        limit = request.limit or settings.default_new_tokens
        if limit > settings.max_new_tokens:
            raise ApiError(
                400,
                f"{limit} tokens are too many; the limit is {settings.max_new_tokens}",
                param="max_tokens",
                code="too_many_tokens",
            )
        for base, aligned, _ in prompts:
            for ids, partner in ((base, host.pair.base), (aligned, host.pair.aligned)):
                if len(ids) >= partner.context_window:
                    raise ApiError(
                        400,
                        f"the prompt has {len(ids)} tokens, and the model's context window "
                        f"is {partner.context_window}; shorten the prompt",
                        code="context_length_exceeded",
                        param="messages" if isinstance(request, ChatRequest) else "prompt",
                    )
        return limit

    def _router(
        self, request: ChatRequest | CompletionRequest, model: Model, host: Host
    ) -> tuple[Router, Method, CalibrationInfo | None]:
        """Reads the controls of a request."""
        diversity = request.diversity
        if model.diversity is not None:
            if diversity is not None and diversity != model.diversity:
                raise ApiError(
                    400,
                    f"model {model.name!r} sets diversity {model.diversity:g} and the request "
                    f"{diversity:g}; use model {model.pair!r} with diversity",
                    param="diversity",
                )
            diversity = model.diversity
        controls = {"diversity": diversity, "gamma": request.gamma, "router": request.router}
        given = [name for name, value in controls.items() if value is not None]
        method = _method(request.method)
        if method != "baco":
            if given:
                raise ApiError(
                    400,
                    f"method {method!r} is one model alone, so {given[0]!r} has no "
                    "meaning; leave it out",
                    param=given[0],
                )
            return parse("rand", 0), method, None
        if diversity is not None and request.gamma is not None:
            raise ApiError(
                400, "diversity and gamma are two controls of one thing; give one", param="gamma"
            )
        spec = request.router or DEFAULT_ROUTER
        refuse_files(spec)
        if diversity is not None:
            router, info = host.calibrator.resolve(spec, diversity)
        else:
            router, info = parse(spec, request.gamma), None
        if router.needs_text:
            raise ApiError(
                400,
                f"router {router.name!r} asks a judge and is not served; use p-punc",
                param="router",
                code="unsupported",
            )
        return router, method, info

    def start(self, prepared: Prepared) -> Running:
        """Lets a request in.

        Raises:
            ApiError: If the server is full (429) or stopping (503).
        """
        host = prepared.host
        rows = sum(plan.n for plan in prepared.plans)
        if self.draining:
            self.telemetry.refused.labels("stopping").inc()
            raise ApiError(503, "the server is stopping", code="stopping", retry_after=10)
        room = self.settings.max_rows + self.settings.max_waiting
        if host.open_rows and host.open_rows + rows > room:
            self.telemetry.refused.labels("full").inc()
            raise ApiError(
                429,
                f"{host.open_rows} answers are being written or wait already; try again soon",
                code="queue_full",
                retry_after=2,
            )
        return Running(self, prepared)


class Running:
    """A request that is being answered; `close` frees its rows, whatever happened.

    Args:
        service: The service.
        prepared: The request.
    """

    def __init__(self, service: Service, prepared: Prepared) -> None:
        self.prepared = prepared
        self._service = service
        self._host = prepared.host
        self._job = Job(prepared.plans, prepared.host.token_bytes)
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._timer = self._loop.call_later(service.settings.timeout, self._expire)
        self._open = True
        self._finished = False
        self._host.open_rows += len(self._job.samples)
        self._host.worker.submit(self._job)

    async def updates(self) -> AsyncIterator[list[Update]]:
        """Yields news until every sample has finished.

        Raises:
            ApiError: If it takes too long (503).
            BacoError: If the engine cannot go on.
        """
        telemetry = self._service.telemetry
        counter = telemetry.tokens.labels(self.prepared.model.pair, self.prepared.plans[0].method)
        first = True
        try:
            async for news in self._job.updates():
                if first:
                    telemetry.first.observe(self._loop.time() - self._started)
                    first = False
                counter.inc(sum(len(update.pieces) for update in news))
                yield news
        except Exception:
            self._finished = True  # with an error, which the client is told of
            raise
        self._finished = True

    def close(self) -> bool:
        """Frees the rows; safe to call twice. Returns whether the answer was unfinished."""
        if self._open:
            self._open = False
            self._timer.cancel()
            self._host.worker.cancel(self._job)
            self._host.open_rows -= len(self._job.samples)
        return not self._finished

    def _expire(self) -> None:
        """Gives the request up; its rows are free even if the client does not read."""
        settings = self._service.settings
        self._service.telemetry.refused.labels("timeout").inc()
        self._host.worker.cancel(self._job)
        self._job.fail(
            ApiError(
                503,
                f"the answer took longer than {settings.timeout:g} seconds",
                code="timeout",
                retry_after=10,
            )
        )


def summary(tallies: Sequence[Tally]) -> dict[str, Any]:
    """The `baco` part of an answer that is known at its end."""
    total = Tally()
    for tally in tallies:
        total += tally
    return {
        "base_share": sum(t.base_share for t in tallies) / max(len(tallies), 1),
        "switches": sum(t.switches for t in tallies) / max(len(tallies), 1),
        "forwards_per_token": total.forwards_per_token,
        "restarts": total.restarts,
    }
