"""A judge behind an OpenAI-compatible HTTP interface."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from baco.errors import BacoError, InputError
from baco.metrics import rubrics
from baco.metrics.judge import Judge
from baco.metrics.spec import Item
from baco.models.client import Client, check_url

T = TypeVar("T")


class ChatJudge(Judge):
    """Asks a chat model, several questions at a time, and counts what it costs.

    Args:
        url: Base address of the interface, such as ``http://localhost:8000/v1``.
        model: Name of the model there.
        key_env: Environment variable that holds the key; none is sent if it is not set.
        retries: How often a failed request, or one with a reply of the wrong form, is repeated.
        workers: Requests under way at once.
        timeout: Seconds to wait for a reply.
        price_in: Price of a million prompt tokens, in any currency; None if unknown.
        price_out: Price of a million reply tokens.
        pause: Seconds before the first repetition; doubled each time.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_env: str = "OPENAI_API_KEY",
        retries: int = 4,
        workers: int = 8,
        timeout: float = 120.0,
        price_in: float | None = None,
        price_out: float | None = None,
        pause: float = 1.0,
    ) -> None:
        check_url(url, "the judge's address")
        if not model:
            raise InputError("the judge has no model name", hint="--judge-model names it")
        if retries < 0 or workers < 1:
            raise InputError("the judge needs at least one worker and no negative retries")
        self.url = url.rstrip("/")
        super().__init__(f"{model} at {self.url}", retries)
        self.tokens_in = self.tokens_out = 0
        self._model = model
        self._prices = (price_in, price_out)
        self._lock = threading.Lock()
        self._client = Client(
            "the judge",
            self.url,
            key_env=key_env,
            retries=retries,
            workers=workers,
            timeout=timeout,
            pause=pause,
            advice="what it answered before is kept: run again to go on",
        )

    @property
    def cost(self) -> str:
        """What was used so far: requests, tokens, and money if prices are known."""
        text = (
            f"{self._client.requests} requests, {self.tokens_in} prompt tokens, "
            f"{self.tokens_out} reply tokens"
        )
        if None in self._prices:
            return f"{text}, price unknown"
        price_in, price_out = (price or 0.0 for price in self._prices)
        return f"{text}, cost {(self.tokens_in * price_in + self.tokens_out * price_out) / 1e6:.4f}"

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def over(self, function: Callable[[Item], T], items: Sequence[Item]) -> Iterator[T]:
        """Applies a function to items in several threads; yields in order."""
        yield from self._client.over(function, items)

    def _reply(self, messages: rubrics.Messages, *, turn: int) -> str:
        """One reply; drawn at temperature 0, or 1 after a reply of the wrong form."""
        body = {"model": self._model, "messages": messages, "temperature": float(turn > 0)}
        made = self._client.post("chat/completions", body)
        try:
            text = made["choices"][0]["message"]["content"]
        except (LookupError, TypeError) as error:
            raise BacoError(f"the judge at {self.url} does not speak the OpenAI format") from error
        usage = made.get("usage") or {}
        with self._lock:
            self.tokens_in += int(usage.get("prompt_tokens") or 0)
            self.tokens_out += int(usage.get("completion_tokens") or 0)
        return str(text or "")
