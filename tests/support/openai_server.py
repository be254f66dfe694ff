"""An OpenAI-compatible server in this process: a partner behind `/completions`, no network."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import torch

from baco.engine.partner import Partner
from baco.models.endpoint import Endpoint

Answer = tuple[int, dict[str, Any]] | Exception


@dataclass
class FakeServer:
    """Serves one partner under the name ``m``.

    Attributes:
        partner: The model.
        names: What tokens are called where ids are not asked for or not given.
        shape: ``ids`` as vLLM, ``content`` as llama.cpp, ``text`` as servers that name tokens.
        most: The most log-probabilities that it gives.
        models: The names it lists; None if it lists none.
        before: Answers given first, one a request; for trying errors.
        strict: Whether fields it does not know are refused.
        requests: The bodies of what it was asked.
        keys: The keys it was shown.
    """

    partner: Partner
    names: Sequence[str] = ()
    shape: str = "ids"
    most: int = 1 << 20
    models: list[str] | None = field(default_factory=lambda: ["m"])
    before: list[Answer] = field(default_factory=list)
    strict: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    listed: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def endpoint(self, **options: Any) -> Endpoint:
        """Where it is."""
        settings = {"pause": 0.001, "top_logprobs": self.partner.vocabulary.size, **options}
        return Endpoint("http://fake/v1", "m", transport=httpx.MockTransport(self), **settings)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answers one request."""
        with self._lock:
            self.keys.append(request.headers.get("authorization"))
            if request.url.path == "/v1/models":
                self.listed += 1
                if self.models is None:
                    return httpx.Response(404, json={"detail": "Not Found"})
                data = [{"id": name, "max_model_len": 400} for name in self.models]
                return httpx.Response(200, json={"data": data})
            body = json.loads(request.content)
            self.requests.append(body)
            if self.before:
                answer = self.before.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return httpx.Response(answer[0], content=json.dumps(answer[1]))  # NaN too
            return self._completion(body)

    def _completion(self, body: dict[str, Any]) -> httpx.Response:
        unknown = "return_tokens_as_token_ids"
        if self.strict and unknown in body:
            message = f"Unrecognized request argument supplied: {unknown}"
            return httpx.Response(400, json={"error": {"message": message}})
        if body["logprobs"] > self.most:
            message = f"Requested logprobs of {body['logprobs']}, max allowed: {self.most}"
            return httpx.Response(400, json={"error": {"message": message}})
        with torch.inference_mode():
            logs = torch.log_softmax(self.partner.logits(body["prompt"]), -1)
        values, ids = logs.topk(min(body["logprobs"], len(logs)))
        top = list(zip(ids.tolist(), values.tolist(), strict=True))
        return httpx.Response(200, json={"choices": [{"text": "", "logprobs": self._top(top)}]})

    def _top(self, top: list[tuple[int, float]]) -> dict[str, Any]:
        logs = [(i, max(log, -9999.0)) for i, log in top]
        if self.shape == "ids":
            return {"top_logprobs": [{f"token_id:{i}": log for i, log in logs}]}
        if self.shape == "text":
            return {"top_logprobs": [{self.names[i]: log for i, log in logs}]}
        entries = [{"id": i, "token": "?", "logprob": log} for i, log in logs]
        return {"content": [{"top_logprobs": entries}]}


Make = Callable[..., FakeServer]
