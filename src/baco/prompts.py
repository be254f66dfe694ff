"""Prompts: what users may pass, and the text that each side of a pair is given for it.

The aligned side reads a conversation through its own chat template. The base side reads it as
plain text that a model which never saw a chat would continue: App. A's "plain shifting template".

Paper: App. A ("Models").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from baco.errors import InputError

Prompt = str | Sequence[Mapping[str, str]]
"""A question, or a conversation: messages with ``role`` and ``content``, the last by the user."""

ROLES = ("system", "user", "assistant")


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str


Conversation = tuple[Message, ...]
"""A checked conversation: perhaps a system message, then user and assistant by turns."""


def conversation_of(prompt: Prompt, system: str | None = None) -> Conversation:
    """Checks a prompt and brings it into one shape.

    Args:
        prompt: A question or a conversation.
        system: A system prompt, for a prompt that has none of its own.

    Returns:
        The conversation. Text is kept as it is, white space included.

    Raises:
        InputError: If the prompt is empty, or is not a conversation that ends with the user.
    """
    given: object = prompt  # users may pass anything
    if isinstance(given, str):
        messages = [Message("user", given)]
    elif isinstance(given, Sequence) and not isinstance(given, bytes):
        messages = [_message(entry) for entry in given]
    else:
        raise InputError(
            f"a prompt cannot be {type(prompt).__name__}",
            hint="give a string or a list of messages with role and content",
        )
    if not messages or not messages[-1].content.strip():
        raise InputError("the prompt is empty", hint="write what you want answers to")
    try:
        "".join(message.content for message in messages).encode()
    except UnicodeEncodeError:
        raise InputError("the prompt is not valid text", hint="write it in UTF-8") from None
    if system is not None:
        if not system.strip():
            raise InputError("the system prompt is empty", hint="leave it out")
        if messages[0].role == "system":
            raise InputError(
                "two system prompts were given", hint="leave out one: --system or the message"
            )
        messages.insert(0, Message("system", system))
    turns = messages[1:] if messages[0].role == "system" else messages
    for i, message in enumerate(turns):
        expected = "assistant" if i % 2 else "user"
        if message.role != expected:
            raise InputError(
                f"turn {i + 1} of the conversation is by {message.role!r}, not {expected!r}",
                hint="user and assistant take turns, the user first; one system message may lead",
            )
    if not turns or turns[-1].role != "user":
        raise InputError(
            "the conversation does not end with the user", hint="end with a user message"
        )
    return tuple(messages)


def _message(entry: object) -> Message:
    if isinstance(entry, Message):
        return entry
    if not isinstance(entry, Mapping) or set(entry) != {"role", "content"}:
        raise InputError(
            f"a message must have exactly role and content, not {_shown(entry)}",
            hint='write {"role": "user", "content": "..."}',
        )
    role, content = entry["role"], entry["content"]
    if role not in ROLES:
        raise InputError(f"unknown role {role!r}", hint=f"use one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise InputError(
            f"the content of a message must be text, not {_shown(content)}",
            hint="images and tool calls are not supported",
        )
    return Message(role, content)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


RAW, IDS = "raw", "ids"
"""Roles of a prompt that models continue as it is, without any template: text, or token ids."""


def raw_prompt(prompt: str | Sequence[int]) -> Conversation:
    """Returns raw text or token ids as a prompt.

    Raises:
        InputError: If it is empty.
    """
    if not prompt:
        raise InputError("the prompt is empty", hint="write what is to be continued")
    if isinstance(prompt, str):
        return (Message(RAW, prompt),)
    return (Message(IDS, json.dumps(list(prompt))),)


def is_raw(conversation: Conversation) -> bool:
    """Whether a prompt is continued as it is."""
    return conversation[0].role in (RAW, IDS)


def identity(conversation: Conversation) -> str:
    """Returns the text that stands for a prompt in noise keys.

    Args:
        conversation: The checked prompt.

    Returns:
        The question itself where that is all there is, else canonical JSON of the messages, so
        that a question means the same as a string and as a one-message conversation.
    """
    if is_raw(conversation):
        return ":".join(conversation[0])
    if len(conversation) == 1:
        return conversation[0].content
    return json.dumps([message._asdict() for message in conversation], sort_keys=True)


def in_short(conversation: Conversation) -> str:
    """Returns the last question in at most 40 characters, to name a prompt in messages."""
    words = " ".join(conversation[-1].content.split())
    return words if len(words) <= 40 else f"{words[:37]}..."


def as_json(conversation: Conversation) -> str | list[dict[str, str]]:
    """Returns the prompt as it stands in JSON: a string, or a list of messages."""
    if len(conversation) == 1:
        return conversation[0].content
    return [message._asdict() for message in conversation]


@dataclass(frozen=True)
class PlainTemplate:
    """How a conversation is written for a base model; each part is a format string.

    Attributes:
        system: The system prompt, with ``{system}``.
        turn: A question and its answer, with ``{user}`` and ``{assistant}``.
        last: The open question at the end, with ``{user}``.

    Raises:
        InputError: If a part lacks one of its fields or names another.

    Paper: App. A.
    """

    system: str = "{system}\n\n"
    turn: str = "Question: {user}\nAnswer: {assistant}\n\n"
    last: str = "Question: {user}\nAnswer:"

    def __post_init__(self) -> None:
        fields = {"system": ("system",), "turn": ("user", "assistant"), "last": ("user",)}
        for part, names in fields.items():
            text = getattr(self, part)
            marks = {name: f"\x00{name}\x00" for name in names}
            try:
                written = text.format(**marks)
            except (KeyError, IndexError, ValueError) as error:
                raise InputError(
                    f"the template part {part!r} cannot be filled in: {text!r}",
                    hint=f"use the fields {', '.join('{' + name + '}' for name in names)}",
                ) from error
            for name, mark in marks.items():
                if mark not in written:
                    raise InputError(
                        f"the template part {part!r} lacks {{{name}}}: {text!r}",
                        hint="else the model would not see that text",
                    )

    def write(self, conversation: Conversation) -> str:
        """Writes a conversation as plain text that a base model continues with the answer."""
        text = ""
        question = ""
        for message in conversation[:-1]:
            if message.role == "system":
                text += self.system.format(system=message.content)
            elif message.role == "user":
                question = message.content
            else:
                text += self.turn.format(user=question, assistant=message.content)
        return text + self.last.format(user=conversation[-1].content)
