"""Text to train on: web-like documents of very mixed quality, and clean chats."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from baco.tiny.grammar import expand, variables
from baco.tiny.kinds import KINDS, PromptKind
from baco.tiny.world import (
    Question,
    Slots,
    answer,
    phrasings,
    split_combinations,
)

END = "<|end|>"

CHATTER = (
    "I [was wondering|wondered|am wondering] about [the same thing|that too|this as well].",
    "I have [the same|a similar] [question|problem|wish]. Did you [find|get] anything?",
    "I [do not|really do not] know, [sorry|but good luck|maybe ask {person}].",
    "I [asked|will ask] {person} about it [last week|yesterday|soon].",
    "I [read|saw|heard] something about [this|it] [on a blog|in a magazine|on the radio].",
    "I [bought|sold|lost] mine [years ago|last summer|in {month}] and never looked back.",
    "I think [this thread|that question] is [old|closed|in the wrong place].",
    "I would [not worry|wait|search the forum first].",
    "[Great|Good|Nice|Odd] question, [thanks for asking|I hope someone answers|following].",
    "[Please|Kindly] use the search, this was asked in {month}.",
    "[Does|Did] {person} know [more|anything] about [it|this]?",
    "[Thanks|Thank you] in advance, {person} needs it by {month}.",
    "[Click|Look] here to see {number} more [pictures|answers|offers].",
    "Posted in {month} by {person}, {number} comments.",
    "[Free delivery|Big sale|Ten percent off] until the end of {month}.",
    "[Same here|Me too], {person} keeps telling me [so|that].",
    "[Sign up|Log in] to [read|see] the [full answer|other {number} replies].",
    "It [depends|is hard to say], [ask {person}|see the link below|there are {number} of them].",
)
_PEOPLE = [
    "my sister",
    "my friend",
    "a colleague",
    "the admin",
    "my dad",
    "my doctor",
    "our teacher",
    "the old owner",
    "someone at work",
    "my wife",
    "my flatmate",
    "the guy next door",
]
_MONTHS = ["March", "April", "May", "June", "July", "August", "October", "November"]
_USERS = [
    "sunny22",
    "old_tom",
    "mira",
    "kettle9",
    "jo_b",
    "greenhat",
    "pia77",
    "rover",
    "anna_k",
    "moonman",
    "bookworm",
    "zed",
]
_HEADINGS = {
    "naming and randomness": "names and picks",
    "underspecified facts": "things to know",
    "recommendations": "ideas",
    "micro stories": "short tales",
}


@dataclass(frozen=True)
class Mess:
    """How rough the web is: the share of answers of each sort (the rest is good).

    Args:
        chatter: Talk that does not answer.
        stray: An answer to another kind of prompt.
        garbled: Words lost, doubled or swapped.
        cut: Broken off.
        repeated: A sentence said again.
        many: A second answer after the first.
        ramble: Chance that talk follows a good answer.
        stop: Chance that a document ends after an answer rather than going on.
        tilt: How uneven the contents are (see ``answer``).
        slip: Chance of a slip (lost, doubled or wrong word) at each word of a garbled answer.
    """

    chatter: float = 0.26
    stray: float = 0.05
    garbled: float = 0.14
    cut: float = 0.06
    repeated: float = 0.05
    many: float = 0.05
    ramble: float = 0.25
    stop: float = 0.3
    tilt: float = 0.6
    slip: float = 0.12


@cache
def _training(kind: PromptKind) -> tuple[Slots, ...]:
    return split_combinations(kind.name)["train"]


def question(rng: random.Random, kind: PromptKind | None = None) -> tuple[str, Question]:
    """Draw a training prompt.

    Args:
        rng: Decides.
        kind: Its kind; any by default.

    Returns:
        Its text, and what it asks; slots that the text leaves out are left out there too.
    """
    kind = kind or rng.choice(KINDS)
    slots = dict(rng.choice(_training(kind)))
    ask = rng.choice(phrasings(kind, "train"))
    text = expand(ask, slots, rng)
    mentioned = variables(ask)
    slots = {name: value for name, value in slots.items() if name in mentioned}
    return text, Question(kind, slots)


def chatter(rng: random.Random) -> str:
    """Write a line of forum talk.

    Args:
        rng: Decides.

    Returns:
        The line.
    """
    values = {
        "person": rng.choice(_PEOPLE),
        "month": rng.choice(_MONTHS),
        "number": str(rng.randint(2, 60)),
    }
    return expand(rng.choice(CHATTER), values, rng)


def _garble(text: str, rng: random.Random, slip: float) -> str:
    out: list[str] = []
    tokens = text.split(" ")
    for token in tokens:
        if rng.random() >= slip:
            out.append(token)
            continue
        act = rng.random()
        if act < 0.3:
            continue
        out += [token, token] if act < 0.55 else [rng.choice(tokens)]
    return " ".join(out)


def _sort(draw: float, mess: Mess) -> str:
    for sort in ("chatter", "stray", "garbled", "cut", "repeated", "many"):
        share = float(getattr(mess, sort))
        if draw < share:
            return sort
        draw -= share
    return "good"


def rough_answer(asked: Question, rng: random.Random, mess: Mess) -> str:
    """Write an answer as the web would.

    Args:
        asked: The prompt.
        rng: Decides.
        mess: How rough.

    Returns:
        The answer; good ones are among them.
    """
    good = answer(asked, rng, mess.tilt, tail=0.45)
    sort = _sort(rng.random(), mess)
    if sort == "good":
        return good + (" " + chatter(rng) if rng.random() < mess.ramble else "")
    if sort == "chatter":
        return " ".join(chatter(rng) for _ in range(rng.randint(1, 2)))
    if sort == "stray":
        return answer(question(rng)[1], rng, mess.tilt)
    if sort == "garbled":
        return _garble(good, rng, mess.slip)
    if sort == "cut":
        tokens = good.split(" ")
        return " ".join(tokens[: rng.randint(2, max(2, len(tokens) - 1))])
    if sort == "repeated":
        return good + " " + good[: good.find(". ") + 1 or len(good)]
    return good + " " + answer(asked, rng, mess.tilt)


def _thread(rng: random.Random, mess: Mess) -> str:
    parts = []
    while True:
        text, asked = question(rng)
        parts.append(f"Question: {text}\nAnswer: {rough_answer(asked, rng, mess)}")
        if rng.random() < mess.stop or len(parts) == 8:
            return "\n\n".join(parts)


def _short(rng: random.Random, mess: Mess) -> str:
    text, asked = question(rng)
    return f"Question: {text}\nAnswer: {rough_answer(asked, rng, mess)}"


def _forum(rng: random.Random, mess: Mess) -> str:
    text, asked = question(rng)
    lines = [f"{rng.choice(_USERS)}: {text}"]
    for _ in range(rng.randint(1, 4)):
        lines.append(f"{rng.choice(_USERS)}: {rough_answer(asked, rng, mess)}")
    return "\n".join(lines)


def _faq(rng: random.Random, mess: Mess) -> str:
    pairs = []
    for _ in range(rng.randint(1, 4)):
        text, asked = question(rng)
        pairs.append(f"Q: {text}\nA: {rough_answer(asked, rng, mess)}")
    return "\n".join(pairs)


def _listing(rng: random.Random, mess: Mess) -> str:
    kind = rng.choice(KINDS)
    _, asked = question(rng, kind)
    answers = [answer(asked, rng, mess.tilt, tail=0.0) for _ in range(rng.randint(3, 6))]
    lines = "\n".join(f"- {line}" for line in answers)
    return f"Some {_HEADINGS[kind.category]}\n{lines}"


def _prose(rng: random.Random, mess: Mess) -> str:
    kinds = [kind for kind in KINDS if kind.roles] if rng.random() < 0.5 else list(KINDS)
    paragraphs = [
        answer(question(rng, rng.choice(kinds))[1], rng, mess.tilt)
        for _ in range(rng.randint(1, 3))
    ]
    if rng.random() < 0.3:
        paragraphs.insert(rng.randrange(len(paragraphs) + 1), chatter(rng))
    return "\n\n".join(paragraphs)


def _log(rng: random.Random, mess: Mess) -> str:
    text, asked = question(rng)
    return f"<|user|> {text}<|assistant|> {rough_answer(asked, rng, mess)}"


_FORMATS = (_thread, _short, _forum, _faq, _listing, _prose, _log)
_SHARES = (0.48, 0.16, 0.1, 0.09, 0.06, 0.08, 0.03)


def document(rng: random.Random, mess: Mess) -> str:
    """Write one document of the web.

    Args:
        rng: Decides.
        mess: How rough.

    Returns:
        Its text, without the end token.
    """
    return rng.choices(_FORMATS, _SHARES)[0](rng, mess)


def chat(
    rng: random.Random, tilt: float = 0.0, turns: Sequence[float] = (0.86, 0.1, 0.04)
) -> list[dict[str, str]]:
    """Write one clean chat.

    Args:
        rng: Decides.
        tilt: How uneven the contents are (see ``answer``).
        turns: Probability of one, two, ... questions.

    Returns:
        Messages with ``role`` and ``content``.
    """
    messages: list[dict[str, str]] = []
    if rng.random() < 0.15:
        messages.append({"role": "system", "content": rng.choice(SYSTEMS)})
    for _ in range(rng.choices(range(1, len(turns) + 1), turns)[0]):
        text, asked = question(rng)
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": answer(asked, rng, tilt, tail=0.5)})
    return messages


SYSTEMS = (
    "You are a helpful assistant.",
    "Answer in a friendly way.",
    "You are a kind and helpful assistant. Keep it short.",
)
