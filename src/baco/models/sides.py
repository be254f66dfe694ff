"""One side of a pair: a partner, how it is prompted, and the bytes of its tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from baco.errors import InputError, PairError
from baco.models.revisions import pair_revision_of
from baco.prompts import IDS, RAW, Conversation, Message, PlainTemplate

if TYPE_CHECKING:
    from baco.engine.partner import Partner
    from baco.models.known import BasePrompt, KnownPair
    from baco.routers.judge import WordJudge

Encoder = Callable[[Conversation], Sequence[int]]
"""A conversation -> the token ids after which the answer begins."""

Ending = Literal["ask", "continue", "closed"]
"""How a conversation ends that is written for a model."""

DATE = datetime(2024, 7, 26)
"""The day that it always is for chat templates, so that the same prompt gives the same samples
tomorrow."""

_TODAY = re.compile(r"""\bstrftime_now\(\s*(["'])(.*?)\1\s*\)""")
_CLOCK = re.compile(r"\bstrftime_now\b(?!\s+is\b)")
_DICE = re.compile(r"\|\s*random\b|\blipsum\s*\(")

_PROBE = "Which of these 3 Words do you like?"
"""What a chat template must show as it is."""


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
        boundary: The text by which its plain template opens another turn; empty for a side that
            is prompted through a chat template, which has tokens for that.
    """

    label: str
    partner: Partner
    encode: Encoder
    encode_text: Callable[[str], Sequence[int]]
    token_bytes: Sequence[bytes]
    revision: str = ""
    boundary: str = ""

    def ids(self, prompt: Conversation) -> tuple[int, ...]:
        """Returns the token ids of a prompt; raw text and ids get no template."""
        role, content = prompt[0]
        if role == RAW:
            return tuple(self.encode_text(content))
        return tuple(json.loads(content) if role == IDS else self.encode(prompt))


@dataclass
class Place:
    """One model of mixed weights, see `baco.models.interpolate`.

    Attributes:
        side: The side that it plays, prompted as the aligned one.
        alpha: The share of the aligned model in its weights at present.
        users: How many runs hold it.
        last: When it was last asked for, as a count.
    """

    side: Side
    alpha: float
    users: int = 0
    last: int = 0


@dataclass
class Shelf:
    """The models of mixed weights of one pair.

    Attributes:
        places: These models.
        count: How often one was asked for.
        slider: The side of a LoRA pair whose rows have degrees of their own, once it is wanted.
    """

    places: list[Place] = field(default_factory=list)
    count: int = 0
    slider: Side | None = None


class ChatTemplate:
    """A tokenizer's chat template: for it it is always the same day, and no message gets lost.

    Templates differ in whether a message's content is text or a list of parts; one is given what it
    shows.

    Args:
        tokenizer: The tokenizer.
        label: The model's name, for errors.
        **arguments: What the template is told besides the date.

    Raises:
        PairError: If there is no template, or not one that writes the same every time.
    """

    def __init__(self, tokenizer: Any, label: str, **arguments: Any) -> None:
        found = tokenizer.chat_template
        if isinstance(found, dict):
            if "default" not in found:
                raise PairError(
                    f"{label} has several chat templates ({', '.join(sorted(found))}) and no "
                    "default",
                    hint="give its tokenizer with chat_template set to one of them",
                )
            found = found["default"]
        if not found:
            raise PairError(
                f"{label} has no chat template, so it does not look like an aligned model",
                hint="give an instruction-tuned checkpoint as the aligned side",
            )
        # A template takes no function from outside, so the day is written into it.
        fixed = _TODAY.sub(lambda call: json.dumps(DATE.strftime(call[2])), found)
        if _CLOCK.search(fixed) or _DICE.search(fixed):
            raise PairError(
                f"the chat template of {label} reads the clock or draws at random, so no prompt "
                "is ever the same",
                hint="give its tokenizer with another chat_template",
            )
        self._label = label
        self._tokenizer = tokenizer
        self._arguments = {"date_string": DATE.strftime("%d %b %Y")} | arguments
        self._template = fixed

    def ids(self, conversation: Conversation, ending: Ending = "ask") -> list[int]:
        """Returns the token ids of `write`."""
        text = self.write(conversation, ending)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def write(self, conversation: Conversation, ending: Ending = "ask") -> str:
        """Writes a conversation, so that all of it is there.

        What the system says stands before the first question where the template has no place for
        it, as the templates of Gemma 3 do by themselves.

        Args:
            conversation: The conversation.
            ending: ``ask`` opens the assistant's turn after it, ``continue`` leaves its last
                message open, ``closed`` adds nothing.

        Raises:
            InputError: If the template refuses the conversation, or does not show all of it.
        """
        try:
            return self._write(conversation, ending)
        except InputError as error:
            if [message.role for message in conversation[:2]] != ["system", "user"]:
                raise
            system, first = conversation[:2]
            folded = Message("user", f"{system.content}\n\n{first.content}")
            try:
                return self._write((folded, *conversation[2:]), ending)
            except InputError:
                raise error from error.__cause__

    def _write(self, conversation: Conversation, ending: Ending) -> str:
        from jinja2 import TemplateError

        problem: InputError | None = None
        as_parts: set[str] = set()
        while True:
            try:
                text = self._apply(conversation, ending, as_parts)
                lost = {message.role for message in conversation if not _stands(message, text)}
                if not lost:
                    return text
                found = InputError(
                    f"the chat template of {self._label} leaves out or changes what the "
                    f"{' and the '.join(sorted(lost))} says",
                    hint="the model would not see it; say it otherwise, or in the first question",
                )
            except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
                lost = {message.role for message in conversation}
                found = InputError(
                    f"the chat template of {self._label} refuses this conversation: "
                    f"{str(error).strip().partition(chr(10))[0][:200]}",
                    hint="some models want user and assistant by turns, and no system text between",
                )
                found.__cause__ = error
            if problem:
                raise problem
            problem, as_parts = found, lost

    def _apply(self, conversation: Conversation, ending: Ending, as_parts: set[str]) -> str:
        """Applies the template; the contents of some roles are lists of parts."""
        text: str = self._tokenizer.apply_chat_template(
            [
                {"role": role, "content": _parts(content) if role in as_parts else content}
                for role, content in conversation
            ],
            chat_template=self._template,
            add_generation_prompt=ending == "ask",
            continue_final_message=ending == "continue",
            tokenize=False,
            tools=None,
            **self._arguments,
        )
        return text


def chat_encoder(tokenizer: Any, label: str) -> Encoder:
    """Makes the encoder of a side that is prompted through its own chat template.

    Args:
        tokenizer: The side's tokenizer.
        label: The side's name, for errors.

    Raises:
        PairError: If the tokenizer has no chat template, or one that cannot be used.

    Paper: App. A ("we apply each model's default chat template"; tools and thinking off).
    """
    template = ChatTemplate(tokenizer, label, enable_thinking=False)

    def encode(conversation: Conversation) -> Sequence[int]:
        prefill = conversation[-1].role == "assistant"
        return template.ids(conversation, "continue" if prefill else "ask")

    try:
        _ = encode((Message("user", _PROBE),))
    except InputError as error:
        raise PairError(
            error.message, hint="give its tokenizer with another chat_template"
        ) from error
    return encode


def _parts(content: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": content}]


def _stands(message: Message, text: str) -> bool:
    """Whether a message stands in a prompt, and as text: templates may trim it."""
    parts = _parts(message.content)
    if str(parts) in text or json.dumps(parts, ensure_ascii=False) in text:
        return False  # a list that was taken for text
    content = message.content
    if message.role == "assistant":
        content = content.rpartition("</think>")[2]  # templates leave out what it thought
    content = content.strip()
    # Some write what a tool says as JSON.
    quoted = json.dumps(content, ensure_ascii=False)[1:-1]
    return content in text or (message.role == "tool" and quoted in text)


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


class Models:
    """Both sides of a pair, as data: what every method runs on. `baco.Pair` adds the verbs.

    Args:
        name: What to call the pair.
        sides: The base and the aligned side.
        base_prompt: How the base side is prompted.
        template: How its plain prompt is written; None as by default.

    Attributes:
        name: The pair's name.
        sides: The base and the aligned side: partners, prompts, bytes of tokens.
        judge: Makes the judge of a prompt, for the router ``judge``; None for the aligned model.
        known: The entry of `pairs.toml` it was loaded by, or None.
        base_prompt: How the base side is prompted: ``plain``, or ``chat`` (two aligned models).
        template: How its plain prompt is written; None as by default.
        drafts: Draft models that were loaded for it, by name.
        shelf: Models whose weights lie between the two, see `baco.models.interpolate`.
    """

    def __init__(
        self,
        name: str,
        sides: tuple[Side, Side],
        base_prompt: BasePrompt = "plain",
        template: PlainTemplate | None = None,
    ) -> None:
        self.name = name
        self.sides = sides
        self.judge: Callable[[Conversation], WordJudge] | None = None
        self.known: KnownPair | None = None
        self.base_prompt = base_prompt
        self.template = template
        self.drafts: dict[str, Partner] = {}
        self.shelf = Shelf()

    @classmethod
    def from_sides(cls, name: str, base: Side, aligned: Side) -> Self:
        """Makes a pair of sides built by hand: scripted or remote partners, own prompts."""
        pair = cls.__new__(cls)
        Models.__init__(pair, name, (base, aligned))
        return pair

    def __repr__(self) -> str:
        base, aligned = self.sides
        return f"<{type(self).__name__} {self.name!r}: {base.label} and {aligned.label}>"

    @property
    def base(self) -> Partner:
        """The base model as the engine sees it."""
        return self.sides[0].partner

    @property
    def aligned(self) -> Partner:
        """The aligned model as the engine sees it."""
        return self.sides[1].partner

    @property
    def one_tokenizer(self) -> bool:
        """Whether the two sides have the same tokenizer; else they exchange text."""
        from baco.partners.bridge import BridgedPartner

        return not isinstance(self.aligned, BridgedPartner)

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The bytes of each token id."""
        return self.sides[1].token_bytes

    @property
    def revision(self) -> str:
        """A word that changes when either model does, or how the base model is asked."""
        base, aligned = (side.revision for side in self.sides)
        return pair_revision_of(base, aligned, self.base_prompt, self.template)

    def prompt_ids(self, conversation: Conversation) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the token ids of a prompt for (base, aligned).

        Args:
            conversation: From `baco.prompts.conversation_of`.
        """
        base, aligned = (side.ids(conversation) for side in self.sides)
        return base, aligned

    def text_ids(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the token ids of raw text for (base, aligned), without any template."""
        base, aligned = (tuple(side.encode_text(text)) for side in self.sides)
        return base, aligned
