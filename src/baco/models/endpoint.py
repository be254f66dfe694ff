"""Where a remote model is: an OpenAI-compatible server and the model's name there."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from baco.errors import InputError, PairError, UnknownNameError
from baco.models.client import Client, Refusal, check_url

PREFIX = "remote:"
"""How a spec of a remote model begins: ``remote:URL#MODEL?tokenizer=FOLDER``."""

_NUMBERS = {
    "top_logprobs": int,
    "context_window": int,
    "workers": int,
    "retries": int,
    "timeout": float,
    "requests_per_second": float,
}


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible server.

    Attributes:
        url: The server's base address, such as ``http://localhost:8000/v1``.
        model: The model's name there.
        tokenizer: The model's tokenizer, a folder or Hub id. With it token ids are exchanged;
            without it text, which is all that the routers `punc` and `fc` need.
        top_logprobs: How many of the likeliest tokens to ask for; as many as the server allows.
        key_env: Environment variable that holds the key; none is sent if it is not set.
        context_window: The longest text in tokens; None to ask the server.
        workers: Requests under way at once.
        retries: How often a failed request is repeated, with doubled pauses.
        timeout: Seconds to wait for a reply.
        requests_per_second: Requests that may begin in a second; None for no limit.
        pause: Seconds before the first repetition.
        transport: A transport of httpx, for proxies; None for the usual one.

    Raises:
        InputError: If a value is out of range.
    """

    url: str
    model: str
    tokenizer: str = ""
    top_logprobs: int = 20
    key_env: str = "OPENAI_API_KEY"
    context_window: int | None = None
    workers: int = 16
    retries: int = 4
    timeout: float = 120.0
    requests_per_second: float | None = None
    pause: float = field(default=1.0, repr=False)
    transport: Any = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_url(self.url, "the server's address")
        if not self.model:
            raise InputError(
                f"the server {self.url} has no model name", hint=f"{PREFIX}URL#MODEL names it"
            )
        least = {"top_logprobs": 2, "context_window": 2, "workers": 1, "retries": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} {value} is out of range", hint=f"use at least {low}")
        for name in ("timeout", "requests_per_second"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} {value:g} is out of range", hint="use a positive number")

    @classmethod
    def parse(cls, spec: str) -> Endpoint:
        """Reads ``remote:URL#MODEL``, perhaps with ``?name=value&...`` for the other attributes.

        Raises:
            InputError: If the spec is malformed.
            UnknownNameError: If a name is unknown.
        """
        url, _, rest = spec.removeprefix(PREFIX).partition("#")
        model, _, query = rest.partition("?")
        values: dict[str, Any] = {}
        for name, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
            if name not in (*_NUMBERS, "tokenizer", "key_env"):
                raise UnknownNameError(
                    "option of a remote model", name, (*_NUMBERS, "tokenizer", "key_env")
                )
            try:
                values[name] = _NUMBERS.get(name, str)(text)
            except ValueError:
                raise InputError(
                    f"{name} {text!r} of a remote model is not a number", hint="give a number"
                ) from None
        return cls(url.strip(), urllib.parse.unquote(model.strip()), **values)

    @property
    def label(self) -> str:
        """How to name it."""
        return f"{self.model} at {self.url}"

    def client(self) -> Client:
        """Makes what asks the server; nothing is asked yet."""
        return Client(
            f"the server of {self.model}",
            self.url,
            key_env=self.key_env,
            retries=self.retries,
            workers=self.workers,
            timeout=self.timeout,
            pause=self.pause,
            per_second=self.requests_per_second,
            transport=self.transport,
        )

    def window(self, client: Client) -> int:
        """Asks the server for the model: whether it is there, and how long texts may be.

        Returns:
            The longest text in tokens; a very large number if the server does not tell.

        Raises:
            PairError: If the server has no such model; those that it has are named.
            BacoError: If it cannot be reached.
        """
        unknown = 1 << 30
        try:
            made = client.get("models")
        except Refusal as error:
            if error.status not in (404, 405):
                raise
            return self.context_window or unknown  # not every server lists its models
        models = made.get("data") or []
        found = next((m for m in models if m.get("id") == self.model), None)
        if models and found is None:
            names = ", ".join(str(m.get("id")) for m in models)
            raise PairError(
                f"the server {self.url} has no model {self.model!r}", hint=f"it has: {names}"
            )
        return self.context_window or (found or {}).get("max_model_len") or unknown
