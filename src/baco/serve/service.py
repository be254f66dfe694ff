"""From a request to its answer: checks, plans, admission, and the run itself."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from baco.calibration import QUICK, CalibrationInfo, Effort
from baco.engine import Lookahead
from baco.engine.loop import cannot_look_ahead
from baco.engine.router import Router
from baco.errors import InputError
from baco.methods.base import COLDEST, Setting, Task
from baco.methods.distinct import check as check_meaning
from baco.methods.filters import Filter
from baco.methods.needs import check
from baco.methods.settings import PENALTIES, make_setting
from baco.prompts import Conversation, conversation_of, raw_prompt
from baco.serve.calibrator import Calibrator
from baco.serve.errors import ApiError, refuse_local
from baco.serve.pairs import Model, check_pairs, model_named
from baco.serve.quality import world_ends
from baco.serve.schemas import ChatRequest, CompletionRequest
from baco.serve.scorer import SCORED
from baco.serve.settings import Settings
from baco.serve.telemetry import Telemetry
from baco.serve.worker import Job, News, Worker

if TYPE_CHECKING:
    from baco.pair import Pair


_CONTROLS = (
    *PENALTIES, "ban", "distinct", "gamma", "diversity", "router", "temperature", "control",
    "method",
)  # fmt: skip
"""Fields that decide a setting, as errors about it name them."""


class Host:
    """One served pair: its engines' thread, its curves, and how busy it is.

    Args:
        pair: The pair.
        settings: The server's limits.
        effort: How carefully missing curves are measured.
    """

    def __init__(self, pair: Pair, settings: Settings, effort: Effort = QUICK) -> None:
        self.pair = pair
        self.revision = pair.revision
        self.token_bytes = pair.token_bytes
        self.worker = Worker(pair, max_rows=settings.max_rows)
        self.calibrator = Calibrator(pair, self.worker, effort)
        self.open_rows = 0


@dataclass
class Prepared:
    """A checked request, ready to run.

    Attributes:
        host: Who answers.
        model: The model asked for.
        tasks: The answers to make, prompt by prompt.
        setting: How.
        alternatives: As `Job`.
        info: How a diversity was understood, or None.
        prompt_tokens: Tokens of the prompts, as the side that leads reads them.
        created: Unix time.
        id: Random part of the answer's id.
    """

    host: Host
    model: Model
    tasks: Sequence[Task]
    setting: Setting
    alternatives: int | None
    info: CalibrationInfo | None
    prompt_tokens: int
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    def about(self) -> dict[str, Any]:
        """The `baco` part of an answer that is known before it starts."""
        router = self.setting.router
        out: dict[str, Any] = {
            "pair": self.model.pair,
            "method": self.setting.method.name,
            "router": router and router.name,
            "gamma": router and finite(router.gamma),
            "seed": self.setting.sampling.seed,
        }
        if any(world_ends(self.host.pair, task.prompt) for task in self.tasks[:1]):
            out["note"] = (
                f"{self.model.pair} is a toy that knows its own small world only, and this is "
                "outside it: do not expect sense"
            )
        if self.info is not None:
            out["diversity"] = {
                "asked": self.info.diversity,
                "expected": self.info.expected,
                "clamped": self.info.clamped,
                "note": self.info.note or None,
            }
        return out


def finite(value: float | None) -> float | str | None:
    """JSON has no infinity."""
    return "inf" if value == float("inf") else value


class Service:
    """Answers requests with the pairs of one server.

    Args:
        pairs: The pairs by name.
        settings: Limits.
        effort: How carefully missing curves are measured.
        lookahead: As `Engine`'s.
        keep: A moderation filter, which every answer passes before anything of it is shown.
    """

    def __init__(
        self,
        pairs: Mapping[str, Pair],
        settings: Settings,
        effort: Effort = QUICK,
        lookahead: Lookahead = "auto",
        keep: Filter | None = None,
    ) -> None:
        check_pairs(pairs)
        for pair in pairs.values():
            able = [side.partner.abilities.rewinds for side in pair.sides]
            if isinstance(lookahead, int) and not all(able):
                raise cannot_look_ahead()
        self.pairs = dict(pairs)
        self.settings = settings
        self.lookahead = lookahead
        self.keep = keep
        self.hosts = {name: Host(pair, settings, effort) for name, pair in pairs.items()}
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
        return self._prepare(request, model, [conversation])

    def prepare_completion(self, request: CompletionRequest) -> Prepared:
        """Checks a completion request. Raises as `prepare_chat`."""
        model = model_named(request.model, self.pairs)
        size = min(len(side.token_bytes) for side in self.hosts[model.pair].pair.sides)
        for prompt in request.prompts:
            if not isinstance(prompt, str) and any(i >= size for i in prompt):
                raise ApiError(
                    400, f"a token id is not below {size}, the vocabulary's size", param="prompt"
                )
        return self._prepare(request, model, [raw_prompt(prompt) for prompt in request.prompts])

    def _prepare(
        self,
        request: ChatRequest | CompletionRequest,
        model: Model,
        prompts: Sequence[Conversation],
    ) -> Prepared:
        host = self.hosts[model.pair]
        limit = self._limit(request, len(prompts))
        setting, info = self._setting(request, model, host, limit)
        tasks = [Task(prompt, index) for prompt in prompts for index in range(request.n)]
        check(host.pair, setting, tasks)
        check_meaning(host.pair, setting, tasks)
        if request.alternatives is not None and setting.method.name not in SCORED:
            raise ApiError(
                400,
                f"log-probabilities are told of the methods {', '.join(SCORED)}, not of "
                f"{setting.method.name!r}; leave out logprobs",
                param="logprobs",
                code="unsupported",
            )
        lead = 0 if setting.method.name == "base" else 1
        tokens = 0
        for prompt in prompts:
            lengths = [len(ids) for ids in host.pair.prompt_ids(prompt)]
            tokens += lengths[lead]
            for length, partner in zip(lengths, (host.pair.base, host.pair.aligned), strict=True):
                if length >= partner.context_window:
                    raise ApiError(
                        400,
                        f"the prompt has {length} tokens, and the model's context window "
                        f"is {partner.context_window}; shorten the prompt",
                        code="context_length_exceeded",
                        param="messages" if isinstance(request, ChatRequest) else "prompt",
                    )
        return Prepared(host, model, tasks, setting, request.alternatives, info, tokens)

    def _limit(self, request: ChatRequest | CompletionRequest, prompts: int) -> int:
        """Checks a request's size; returns the limit of new tokens."""
        settings = self.settings
        rows = request.n * prompts
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
        return limit

    def _setting(
        self, request: ChatRequest | CompletionRequest, model: Model, host: Host, limit: int
    ) -> tuple[Setting, CalibrationInfo | None]:
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
        if request.router is not None:
            refuse_local(request.router)
        temperature = request.temperature
        if temperature is not None and 0 < temperature < COLDEST:
            raise ApiError(
                400,
                f"temperature {temperature:g} is too small; use 0 (greedy) or at least {COLDEST:g}",
                param="temperature",
            )
        info: CalibrationInfo | None = None

        def calibrated(router: str, wanted: float) -> Router | float:
            nonlocal info
            bound, info = host.calibrator.resolve(router, wanted)
            return bound

        try:
            setting = make_setting(
                method=request.method or "baco",
                router=request.router,
                gamma=request.gamma,
                diversity=diversity,
                control=request.control,
                temperature=temperature,
                top_p=request.top_p,
                top_k=request.top_k or 0,
                min_p=request.min_p,
                **request.penalties,
                max_new_tokens=limit,
                seed=secrets.randbits(31) if request.seed is None else request.seed,
                stop=request.stops,
                ban=request.ban,
                restart_shorter_than=min(request.restart_shorter_than or 0, limit),
                lookahead=self.lookahead,
                max_rows=self.settings.max_rows,
                distinct=request.distinct,
                n=request.n,
                calibration=calibrated,
            )
        except InputError as error:
            words = re.findall(r"[a-z_]+", error.message)
            field = next((name for name in _CONTROLS if name in words), None)
            if request.control is not None and "out of range for the method" in error.message:
                field = "control"
            raise ApiError(400, str(error), param=field) from None
        if setting.router and setting.router.needs_text:
            raise ApiError(
                400,
                f"router {setting.router.name!r} asks a judge and is not served; use p-punc",
                param="router",
                code="unsupported",
            )
        return setting, info

    def start(self, prepared: Prepared, client: str = "") -> Running:
        """Lets a request of a client in.

        Raises:
            ApiError: If the server is stopping, or its engine has failed (503).
        """
        host = prepared.host
        if self.draining:
            self.telemetry.refused.labels("stopping").inc()
            raise ApiError(503, "the server is stopping", code="stopping", retry_after=10)
        if not host.worker.alive:
            self.telemetry.refused.labels("failed").inc()
            raise ApiError(503, "the engine has failed; restart the server", code="engine_failed")
        return Running(self, prepared, client)


class Running:
    """A request that is being answered; `close` frees its rows, whatever happened.

    Args:
        service: The service.
        prepared: The request.
        client: Whose it is.
    """

    def __init__(self, service: Service, prepared: Prepared, client: str = "") -> None:
        self.prepared = prepared
        self._service = service
        self._host = prepared.host
        self._job = Job(
            prepared.tasks,
            prepared.setting,
            keep=service.keep,
            alternatives=prepared.alternatives,
            client=client,
        )
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()
        self._timer = self._loop.call_later(service.settings.timeout, self._expire)
        self._open = True
        self._finished = False
        self._host.open_rows += len(self._job.tasks)
        self._host.worker.submit(self._job)

    async def updates(self) -> AsyncIterator[list[News]]:
        """Yields news until every sample has finished.

        Raises:
            ApiError: If it takes too long (503).
            BacoError: If the engine cannot go on.
        """
        telemetry = self._service.telemetry
        counter = telemetry.tokens.labels(
            self.prepared.model.pair, self.prepared.setting.method.name
        )
        first = True
        try:
            async for news in self._job.updates():
                if first:
                    telemetry.first.observe(self._loop.time() - self._started)
                    first = False
                counter.inc(sum(len(one.chunks) for one in news))
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
            self._host.open_rows -= len(self._job.tasks)
        return not self._finished

    def _expire(self) -> None:
        """Gives the request up; its rows are free even if the client does not read."""
        settings = self._service.settings
        self._service.telemetry.refused.labels("timeout").inc()
        self._host.worker.cancel(self._job)
        self._job.end(
            ApiError(
                503,
                f"the answer took longer than {settings.timeout:g} seconds",
                code="timeout",
                retry_after=10,
            )
        )
