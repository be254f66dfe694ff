"""Prompts: what users may pass, and the text that each side of a pair is given for it.

The aligned side reads a conversation through its own chat template. The base side reads it as
plain text that a model which never saw a chat would continue: App. A's "plain shifting template".

Paper: App. A ("Models").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from baco.errors import InputError

Prompt = str | Sequence[Mapping[str, Any]]
"""A question, or a conversation: messages with ``role`` and ``content``, as OpenAI takes them."""

ROLES = ("system", "user", "assistant", "tool")

_UNREAD = ("name", "tool_call_id", "annotations", "reasoning_content")
"""Fields of a message that clients send along and that prompts do not show."""


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str


Conversation = tuple[Message, ...]
"""A checked conversation, in any order of roles; one that ends with the assistant is a prefill:
the answer goes on from there. Which orders a model takes is up to its own chat template."""


def conversation_of(prompt: Prompt, system: str | None = None) -> Conversation:
    """Checks a prompt and brings it into one shape.

    Args:
        prompt: A question or a conversation. The content of a message is text, or a list of text
            parts; an assistant's may be missing. Tool calls become text, ``name(arguments)``.
            The role ``developer`` means ``system``. Where the last message is the assistant's, the
            answer continues it; a blank one there says nothing and is left out.
        system: A system prompt, for a prompt that does not begin with one.

    Returns:
        The conversation. Text is kept as it is, white space included.

    Raises:
        InputError: If the prompt is empty, or a message is malformed or holds more than text.
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
    while messages and messages[-1].role == "assistant" and not messages[-1].content.strip():
        messages.pop()
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
    return tuple(messages)


def _message(entry: object) -> Message:
    if isinstance(entry, Message):
        return entry
    if not isinstance(entry, Mapping) or "role" not in entry:
        raise InputError(
            f"a message must have role and content, not {_shown(entry)}",
            hint='write {"role": "user", "content": "..."}',
        )
    fields = {key: value for key, value in entry.items() if value is not None and value != []}
    role = "system" if fields.get("role") == "developer" else fields.get("role")
    if role not in ROLES:
        raise InputError(
            f"unknown role {_shown(entry['role'])}", hint=f"use one of {', '.join(ROLES)}"
        )
    known = {"role", "content", *_UNREAD}
    said = [_text(fields["content"])] if "content" in fields else []
    if role == "assistant":
        known |= {"refusal", "tool_calls", "function_call"}
        calls = fields.get("tool_calls", [])
        calls = [*calls] if isinstance(calls, list) else [calls]
        calls += [{"function": fields["function_call"]}] if "function_call" in fields else []
        said += [_text(fields["refusal"])] if "refusal" in fields else []
        said += [_call(call) for call in calls]
    elif entry.get("content") is None:
        raise InputError(
            f"a message must have role and content, not {_shown(entry)}",
            hint='write {"role": "user", "content": "..."}; only an assistant may say nothing',
        )
    if unknown := sorted(set(fields) - known, key=str):
        raise InputError(
            f"a message by {role!r} cannot have {_shown(unknown[0])}",
            hint="leave it out: prompts are role and content",
        )
    return Message(role, "\n".join(text for text in said if text))


def _text(content: object) -> str:
    """Reads what a message says: text, or a list of text parts."""
    if isinstance(content, str):
        return content
    said = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else 0
        if not isinstance(text, str):
            raise InputError(
                f"the content of a message must be text, not {_shown(part)}",
                hint="images, sounds and files are not supported",
            )
        said.append(text)
    return "".join(said)


def _call(call: object) -> str:
    """Writes a tool call as text."""
    asked = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(asked, Mapping) or not isinstance(asked.get("name"), str):
        raise InputError(
            f"a tool call must have a function with a name, not {_shown(call)}",
            hint='write {"function": {"name": "f", "arguments": "{}"}}',
        )
    arguments = asked.get("arguments", "")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, default=str)
    return f"{asked['name']}({arguments})"


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
    if _is_question(conversation):
        return conversation[0].content
    return json.dumps([message._asdict() for message in conversation], sort_keys=True)


def _is_question(conversation: Conversation) -> bool:
    """Whether a conversation is one question and nothing else."""
    return len(conversation) == 1 and conversation[0].role == "user"


def question_of(conversation: Conversation) -> str:
    """Returns what the user asked last, or the last message where no user says anything."""
    asked = [message.content for message in conversation if message.role == "user"]
    return asked[-1] if asked else conversation[-1].content


def in_short(conversation: Conversation) -> str:
    """Returns the last question in at most 40 characters, to name a prompt in messages."""
    words = " ".join(question_of(conversation).split())
    return words if len(words) <= 40 else f"{words[:37]}..."


def as_json(conversation: Conversation) -> str | list[dict[str, str]]:
    """Returns the prompt as it stands in JSON: a string, or a list of messages."""
    if _is_question(conversation) or is_raw(conversation):
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

    @property
    def boundary(self) -> str:
        """What follows an answer where another turn begins, up to the next question.

        A base model that has finished its answer goes on with this text. Empty if the template
        puts nothing there that could be told from an answer.
        """
        before, _, rest = self.turn.format(user="\0", assistant="\1").partition("\0")
        boundary = rest.partition("\1")[2] + before
        return boundary.rstrip() if boundary.strip() and "\1" not in boundary else ""

    @property
    def opening(self) -> str:
        """What stands between an open question and its answer, up to the last word.

        An answer is set off from it by a space. Empty if the template puts nothing there, or ends
        in white space itself.
        """
        opening = self.last.format(user="\0").rpartition("\0")[2]
        return "" if opening[-1:].isspace() else opening

    def write(self, conversation: Conversation) -> str:
        """Writes a conversation as plain text that a base model continues with the answer.

        System messages stand where they came, before the question that is open there. What users
        and tools say one after the other is one question; an answer to nothing has no question.
        """
        text = ""
        asked: list[str] = []
        for message in conversation[:-1]:
            if message.role == "system":
                text += self.system.format(system=message.content)
            elif message.role != "assistant":
                asked.append(message.content)
            elif message.content:
                text += self._filled(self.turn, asked, assistant=message.content)
                asked = []
        last = conversation[-1]
        if last.role == "system":
            text += self.system.format(system=last.content)
        elif last.role != "assistant":
            asked.append(last.content)
        text += self._filled(self.last, asked)
        return continued(text, last.content) if last.role == "assistant" else text

    @staticmethod
    def _filled(part: str, asked: Sequence[str], **answer: str) -> str:
        """Fills in a part; without a question, only what comes after its place if that is all."""
        mark = "\x00user\x00"
        after = part.format(user=mark, **answer).rpartition(mark)[2].lstrip()
        if asked or not all(text in after for text in answer.values()):
            return part.format(user="\n".join(asked), **answer)
        return after


def continued(text: str, answer: str) -> str:
    """Returns a plain prompt and the beginning of its answer, with a space between."""
    return text + ("" if not answer or answer[0].isspace() else " ") + answer
