"""A model that gives nothing but text: asked to continue an answer, through a server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from baco.engine.lazy import torch
from baco.engine.partner import Abilities, Partner, RowCache
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp
from baco.errors import InputError, PairError, UnsupportedError
from baco.models.endpoint import Endpoint
from baco.models.known import BasePrompt
from baco.models.sides import Side
from baco.prompts import Conversation, PlainTemplate, continued


class TextAsk(NamedTuple):
    """What a model is asked to continue.

    Attributes:
        prompt: The prompt.
        text: The answer so far.
        limit: Most tokens to write.
        warp: Temperature and filters, applied by the server.
        seed: For servers that take one.
    """

    prompt: Conversation
    text: str
    limit: int
    warp: Warp
    seed: int


class TextReply(NamedTuple):
    """What it wrote; `over` is whether the answer ends there."""

    text: str
    over: bool


class TextPartner(Partner):
    """One model of a server.

    Args:
        endpoint: Where it is.
        template: How its prompts are written; None for a chat model.
    """

    abilities = Abilities("text", rewinds=False)
    parameters = 1  # nobody knows
    context_window = 1 << 30  # the server says when it is full

    def __init__(self, endpoint: Endpoint, template: PlainTemplate | None) -> None:
        self.device = torch.device("cpu")
        self.endpoint = endpoint
        self.client = endpoint.client()
        self._template = template

    @property
    def vocabulary(self) -> Vocabulary:  # type: ignore[override]
        """There is none."""
        raise _no_ids(self.endpoint)

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """There are none."""
        raise _no_ids(self.endpoint)

    def new_cache(self) -> RowCache:
        """There is none."""
        raise _no_ids(self.endpoint)

    def write(self, asks: Sequence[TextAsk]) -> list[TextReply]:
        """Continues some answers, several at a time."""
        return self.client.map(self._write, asks)

    def _write(self, ask: TextAsk) -> TextReply:
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "max_tokens": ask.limit,
            "temperature": ask.warp.temperature,
            "seed": ask.seed,
        }
        if ask.warp.temperature:
            body["top_p"] = ask.warp.top_p
            body |= {"top_k": ask.warp.top_k} if ask.warp.top_k else {}
            body |= {"min_p": ask.warp.min_p} if ask.warp.min_p else {}
        prefill = ask.prompt[-1].role == "assistant"
        if self._template:
            prompt = self._template.write(ask.prompt)
            body["prompt"] = prompt + ask.text if prefill else continued(prompt, ask.text)
            made = self.client.post("completions", body)
        else:
            begun = ask.prompt[-1].content if prefill else ""
            messages = ask.prompt[:-1] if prefill else ask.prompt
            body["messages"] = [message._asdict() for message in messages]
            if begun or ask.text:
                body["messages"].append({"role": "assistant", "content": begun + ask.text})
                body |= {"add_generation_prompt": False, "continue_final_message": True}
            made = self.client.post("chat/completions", body)
        try:
            choice = made["choices"][0]
            text = choice["text"] if self._template else choice["message"]["content"]
            return TextReply(text or "", choice["finish_reason"] == "stop")
        except (LookupError, TypeError) as error:
            raise PairError(
                f"{self.client.who} does not speak the OpenAI format",
                hint="its address usually ends in /v1",
            ) from error


def text_sides(
    sources: tuple[Any, Any],
    tokenizers: tuple[Any, Any],
    base_prompt: BasePrompt,
    template: PlainTemplate,
) -> tuple[Side, Side] | None:
    """Makes the sides of a pair that exchanges text: (base, aligned).

    Returns:
        None if no side lacks a tokenizer.

    Raises:
        InputError: If one side gives text only and the other does not.
    """
    lacks = [
        isinstance(source, Endpoint) and not source.tokenizer and tokenizer is None
        for source, tokenizer in zip(sources, tokenizers, strict=True)
    ]
    if not any(lacks):
        return None
    if not all(lacks):
        raise InputError(
            f"{sources[lacks.index(True)].label} has no tokenizer, so it gives text only, and the "
            "other side does not",
            hint="name its tokenizer, ?tokenizer=FOLDER, or let both sides be remote without one",
        )
    templates = (template if base_prompt == "plain" else None, None)
    base, aligned = (_side(source, how) for source, how in zip(sources, templates, strict=True))
    return base, aligned


def _side(endpoint: Endpoint, template: PlainTemplate | None) -> Side:
    def no_ids(_: object) -> NoReturn:
        raise _no_ids(endpoint)

    state = hashlib.blake2b(endpoint.label.encode(), digest_size=6).hexdigest()
    partner = TextPartner(endpoint, template)
    boundary = template.boundary if template else ""
    return Side(endpoint.label, partner, no_ids, no_ids, (), state, boundary)


def _no_ids(endpoint: Endpoint) -> UnsupportedError:
    return UnsupportedError(
        f"{endpoint.label} gives text only, and this needs token ids",
        hint="name its tokenizer: remote:URL#MODEL?tokenizer=FOLDER",
    )
