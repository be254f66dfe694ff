"""One side of a pair: a partner, how it is prompted, and the bytes of its tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from baco.errors import InputError, PairError
from baco.prompts import IDS, RAW, Conversation, PlainTemplate

if TYPE_CHECKING:
    from baco.engine.partner import Partner

Encoder = Callable[[Conversation], Sequence[int]]
"""A conversation -> the token ids after which the answer begins."""

TEMPLATE_ARGUMENTS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""What chat templates are told: no thinking (App. A), and always the same date, so that the same
prompt gives the same samples tomorrow. Templates that ask for neither ignore it."""


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two models, with its tokenizer's work.

    Attributes:
        label: Where it was loaded from.
        partner: The model as the engine sees it.
        encode: Turns a conversation into its prompt.
        encode_text: Turns raw text into token ids, without any template.
        token_bytes: The bytes of each token id.
        revision: A word that changes when the model does; empty if nothing is known of that.
    """

    label: str
    partner: Partner
    encode: Encoder
    encode_text: Callable[[str], Sequence[int]]
    token_bytes: Sequence[bytes]
    revision: str = ""

    def ids(self, prompt: Conversation) -> tuple[int, ...]:
        """Returns the token ids of a prompt; raw text and ids get no template."""
        role, content = prompt[0]
        if role == RAW:
            return tuple(self.encode_text(content))
        return tuple(json.loads(content) if role == IDS else self.encode(prompt))


def chat_encoder(tokenizer: Any, label: str) -> Encoder:
    """Makes the encoder of a side that is prompted through its own chat template.

    Args:
        tokenizer: The side's tokenizer.
        label: The side's name, for errors.

    Raises:
        PairError: If the tokenizer has no chat template.

    Paper: App. A ("we apply each model's default chat template"; tools and thinking off).
    """
    if not tokenizer.chat_template:
        raise PairError(
            f"{label} has no chat template, so it does not look like an aligned model",
            hint="give an instruction-tuned checkpoint as the aligned side",
        )

    def encode(conversation: Conversation) -> Sequence[int]:
        from jinja2 import TemplateError

        try:
            encoded = tokenizer.apply_chat_template(
                [message._asdict() for message in conversation],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                tools=None,
                **TEMPLATE_ARGUMENTS,
            )
        except TemplateError as error:
            raise InputError(
                f"the chat template of {label} refuses this conversation: {error}",
                hint="some models take no system prompt: put it into the first question",
            ) from error
        ids: list[int] = encoded["input_ids"]
        return ids

    return encode


def text_encoder(tokenizer: Any, ends: set[int]) -> Callable[[str], Sequence[int]]:
    """Makes the function from raw text to the ids that a model continues.

    Args:
        tokenizer: The side's tokenizer.
        ends: End tokens; one that the tokenizer puts after every text is left out.
    """

    def encode(text: str) -> Sequence[int]:
        ids: list[int] = tokenizer(text, verbose=False)["input_ids"]
        while ids and ids[-1] in ends:
            ids.pop()
        return ids

    return encode


def answer_ids(side: Side, text: str) -> tuple[int, ...]:
    """Returns the ids of an answer that stands after a side's prompt.

    Tokenizers that put a token or a space before every text are seen through: what they add is
    taken off again.

    Args:
        side: The side.
        text: The answer so far; may be empty.

    Raises:
        PairError: If the side's tokenizer cannot write the text.
    """
    if not text:
        return ()
    data = text.encode()
    lead = len(side.encode_text(""))
    for added in ("", "\n"):
        ids = tuple(side.encode_text(added + text))[lead:]
        size, start = 0, len(ids)
        while start and size < len(data):
            start -= 1
            size += len(side.token_bytes[ids[start]])
        if b"".join(side.token_bytes[i] for i in ids[start:]) == data:
            return ids[start:]
    raise PairError(
        f"the tokenizer of {side.label} cannot write {text!r}",
        hint="use a pair whose tokenizers cover all text",
    )


def plain_encoder(encode_text: Callable[[str], Sequence[int]], template: PlainTemplate) -> Encoder:
    """Makes the encoder of a side that continues plain text.

    Args:
        encode_text: From `text_encoder`.
        template: How conversations are written.

    Paper: App. A ("for base models, we apply a plain shifting template").
    """
    return lambda conversation: encode_text(template.write(conversation))
