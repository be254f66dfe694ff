"""The exact judge: reads an answer with the grammar and says how good it is and what it says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from baco.tiny.grammar import PatternReader, mentions, variables
from baco.tiny.world import Question, choices, understand

_SENTENCE = re.compile(r"(?<=[.?!])\s+")
_DOUBLED = re.compile(r"\b(\w+) \1\b", re.IGNORECASE)
_MAX_SENTENCES = 2

Read = Callable[[str], tuple[dict[str, str], bool, int] | None]


@dataclass(frozen=True)
class Verdict:
    """What the judge found in one answer; quality is ten times the product of the factors.

    Args:
        on_topic: Whether it says something that answers this prompt.
        well_formed: Share of its sentences that the grammar of this kind can write here.
        complete: Whether it has all its parts and ends like a sentence.
        follows: Whether it keeps to what was asked (one answer, so many sentences).
        fresh: Whether it repeats neither words nor sentences.
        coherent: Whether its sentences speak of the same thing.
        content: What it says, as far as it could be read.
    """

    on_topic: float
    well_formed: float
    complete: float
    follows: float
    fresh: float
    coherent: float
    content: tuple[str, ...]

    @property
    def quality(self) -> float:
        """Quality from 0 to 10."""
        return (
            10.0
            * self.on_topic
            * self.well_formed
            * self.complete
            * self.follows
            * self.fresh
            * self.coherent
        )


@dataclass(frozen=True)
class _Parser:
    whole: Read
    parts: tuple[Read, ...]
    needed: int
    lead: Read | None
    most: int


@lru_cache(maxsize=4096)
def _parser(prompt: str) -> tuple[Question, _Parser] | None:
    question = understand(prompt)
    if question is None:
        return None
    kind = question.kind
    values: dict[str, tuple[str, ...]] = {k: (v,) for k, v in question.slots.items()}
    notes: list[str] = []
    for name in kind.contents:
        listed = [value.partition(":") for value in choices(question, name)]
        values[name] = tuple(value for value, _, _ in listed)
        notes += [note for _, _, note in listed if note]
    if notes:
        values["note"] = tuple(notes)
    known = values.keys()
    lead = [text for text in kind.lead if variables(text) <= known]
    tails = [text for text in kind.tails if variables(text) <= known]
    if kind.roles:
        plan = [tuple(kind.roles[role]) for role in kind.plans[question.slots["count"]]]
        whole = PatternReader.join([(patterns, False) for patterns in plan], values)
        parts = tuple(PatternReader(patterns, values).reader() for patterns in plan)
        return question, _Parser(whole.reader(), parts, len(plan), None, len(plan))
    whole = PatternReader.join([(lead, False), (tails, True)], values)
    read_lead = PatternReader(lead, values).reader()
    parts = (read_lead, PatternReader(tails, values).reader())
    return question, _Parser(whole.reader(), parts, 1, read_lead, _MAX_SENTENCES)


def known(prompt: str) -> bool:
    """Tell whether a prompt belongs to the world.

    Args:
        prompt: What the user says.

    Returns:
        Whether some kind's grammar could have written it.
    """
    return understand(prompt) is not None


def _notes_agree(question: Question, found: dict[str, str]) -> bool:
    if "note" not in found:
        return True
    return f"{found['x']}:{found['note']}" in choices(question, "x")


def _content(question: Question, found: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}={found[name]}" for name in question.kind.contents if name in found)


@lru_cache(maxsize=65536)
def judge(prompt: str, response: str) -> Verdict:
    """Judge one answer.

    Args:
        prompt: What the user says; an unknown prompt makes every answer off topic.
        response: The answer.

    Returns:
        The verdict.
    """
    text = response.strip()
    parsed = _parser(prompt)
    if parsed is None or not text:
        return Verdict(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, ())
    question, parser = parsed
    result = parser.whole(text)
    if result is not None and result[2] == len(text):
        found, agree, _ = result
        coherent = 1.0 if agree and _notes_agree(question, found) else 0.4
        return Verdict(1.0, 1.0, 1.0, 1.0, 1.0, coherent, _content(question, found))
    return _partial(question, parser, text)


def _partial(question: Question, parser: _Parser, text: str) -> Verdict:
    found: dict[str, str] = {}
    count = len(_SENTENCE.split(text))
    if parser.lead is not None:
        head = parser.lead(text)
        fits = int(head is not None)
        if head is not None:
            found.update(head[0])
            rest = text[head[2] :].strip()
            sentences = _SENTENCE.split(rest) if rest else []
        else:
            sentences = _SENTENCE.split(text)
        used = [bool(head)]
        others = sentences
        count = len(others) + fits
    else:
        others = _SENTENCE.split(text)
        fits = 0
        used = [False] * len(parser.parts)
    for sentence in others:
        for number, read in enumerate(parser.parts):
            result = read(sentence)
            if result is not None and result[2] == len(sentence):
                fits += 1
                if number < len(used):
                    used[number] = True
                for name, value in result[0].items():
                    found.setdefault(name, value)
                break
    content = _content(question, found)
    unique = len(set(_SENTENCE.split(text))) == len(_SENTENCE.split(text))
    whole = all(used) and text[-1] in ".?!"
    return Verdict(
        on_topic=1.0 if used[0] and content else (0.5 if content else (0.2 if fits else 0.0)),
        well_formed=fits / max(count, 1),
        complete=1.0 if whole else 0.5,
        follows=1.0 if (count == parser.most if not parser.lead else count <= parser.most) else 0.5,
        fresh=1.0 if unique and not _DOUBLED.search(text) else 0.3,
        coherent=0.7,
        content=content,
    )


def quality(prompt: str, response: str) -> float:
    """Rate an answer.

    Args:
        prompt: What the user says.
        response: The answer.

    Returns:
        Quality from 0 (useless) to 10 (flawless).
    """
    return judge(prompt, response).quality


def valid(prompt: str, response: str) -> bool:
    """Tell whether an answer is flawless: the grammar could have written it for this prompt.

    Args:
        prompt: What the user says.
        response: The answer.

    Returns:
        Whether its quality is 10.
    """
    return quality(prompt, response) >= 10.0 - 1e-9


def semantic_class(prompt: str, response: str) -> str:
    """Name what an answer says, whatever its wording.

    Args:
        prompt: What the user says.
        response: The answer.

    Returns:
        Two answers to one prompt say the same thing if and only if their classes are equal. An
        answer whose content cannot be read is its own class: its text, in lower case and with
        single spaces.
    """
    content = judge(prompt, response).content
    if content:
        return "; ".join(content)
    return "text: " + " ".join(response.lower().split())


@lru_cache(maxsize=4096)
def valid_classes(prompt: str) -> int:
    """Count what can be said in answer to a prompt: the semantic classes of flawless answers.

    Args:
        prompt: What the user says.

    Returns:
        The number of classes that `semantic_class` can give to answers that are `valid`; 0 for an
        unknown prompt.
    """
    question = understand(prompt)
    if question is None:
        return 0
    kind = question.kind
    listed = {name: choices(question, name) for name in kind.contents}
    plain = {name: {v.partition(":")[0] for v in values} for name, values in listed.items()}
    noted = {
        name: {v.partition(":")[0] for v in values if ":" in v} for name, values in listed.items()
    }
    if kind.roles:
        parts = [kind.roles[role] for role in kind.plans[question.slots["count"]]]
    else:
        parts = [kind.lead, ("", *kind.tails)]
    known = {*question.slots, *kind.contents, *(("note",) if any(noted.values()) else ())}
    told: set[frozenset[str]] = {frozenset()}
    for patterns in parts:
        uses = {use for text in patterns if variables(text) <= known for use in mentions(text)}
        told = {before | use for before in told for use in uses}
    counts: dict[frozenset[str], int] = {}
    for said in told:
        free = frozenset(said & kind.contents.keys())
        sizes = [len((noted if "note" in said and name == "x" else plain)[name]) for name in free]
        counts[free] = max(counts.get(free, 0), math.prod(sizes))
    return sum(counts.values())
