"""The tiny pair's world: its prompts, how they are split, and the grammar that answers them."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, NamedTuple

from baco.tiny.grammar import PatternReader, expand, variables
from baco.tiny.kinds import KINDS, PromptKind

Split = Literal["train", "calibration", "heldout"]
Slots = tuple[tuple[str, str], ...]


class WorldPrompt(NamedTuple):
    """A prompt of the world.

    Args:
        id: Stable name, unique within its split.
        category: The category of its kind.
        kind: Name of its kind.
        text: What the user says.
    """

    id: str
    category: str
    kind: str
    text: str


@dataclass(frozen=True)
class Question:
    """A prompt that was read back: its kind and the values of its slots."""

    kind: PromptKind
    slots: Mapping[str, str]


def _rank(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _combinations(kind: PromptKind) -> list[Slots]:
    names = list(kind.slots)
    return [
        tuple(zip(names, values, strict=True)) for values in itertools.product(*kind.slots.values())
    ]


@cache
def split_combinations(kind_name: str) -> dict[Split, tuple[Slots, ...]]:
    """Split the slot combinations of a kind; every slot value stays in training.

    Args:
        kind_name: Name of the kind.

    Returns:
        The combinations of each split: two for calibration, two held out, the rest for training.
    """
    kind = KIND[kind_name]
    order = sorted(_combinations(kind), key=lambda slots: _rank(kind.name, *map(str, slots)))
    taken: list[Slots] = []
    for slots in order:
        rest = [other for other in order if other != slots and other not in taken]
        covered = all(any(pair in other for other in rest) for pair in slots)
        fresh = not any(pair in other for other in taken for pair in slots[:1])
        if covered and (fresh or len(kind.slots[slots[0][0]]) < 4):
            taken.append(slots)
        if len(taken) == 4:
            break
    return {
        "heldout": tuple(taken[:2]),
        "calibration": tuple(taken[2:]),
        "train": tuple(slots for slots in order if slots not in taken),
    }


KIND: dict[str, PromptKind] = {kind.name: kind for kind in KINDS}


def phrasings(kind: PromptKind, split: Split) -> tuple[str, ...]:
    """List the phrasings of a split; those that leave out a slot are for training only.

    Args:
        kind: The kind.
        split: The split.

    Returns:
        Patterns; the kind's last phrasing is only ever used for held-out prompts.
    """
    if split == "train":
        return tuple(kind.ask[:-1])
    full = [ask for ask in kind.ask if variables(ask) == set(kind.slots)]
    return tuple(full if split == "heldout" else full[:-1])


@cache
def prompts(split: Split) -> tuple[WorldPrompt, ...]:
    """List the prompts of a split, always the same ones.

    Args:
        split: ``"train"``, ``"calibration"`` or ``"heldout"``.

    Returns:
        The prompts. No slot combination occurs in two splits. Of the held-out prompts, every
        fourth uses a phrasing that training never shows.
    """
    found: list[WorldPrompt] = []
    for number, kind in enumerate(KINDS):
        rng = random.Random(_rank(split, kind.name))
        asks = phrasings(kind, split)
        for index, slots in enumerate(split_combinations(kind.name)[split]):
            if split == "train":
                texts = [expand(ask, dict(slots), rng) for ask in asks]
            elif split == "heldout":
                unseen = index == 1 and number % 2 == 0
                texts = [expand(asks[-1] if unseen else rng.choice(asks[:-1]), dict(slots), rng)]
            elif index == 0 or number % 3 == 0:
                texts = [expand(rng.choice(asks), dict(slots), rng)]
            else:
                texts = []
            for text in texts:
                name = f"{split}-{kind.name.replace(' ', '-')}-{len(found)}"
                found.append(WorldPrompt(name, kind.category, kind.name, text))
    unique: dict[str, WorldPrompt] = {}
    for prompt in found:
        unique.setdefault(prompt.text, prompt)
    return tuple(unique.values())


@lru_cache(maxsize=1)
def _askers() -> list[tuple[PromptKind, object]]:
    return [(kind, PatternReader(tuple(kind.ask), kind.slots).reader()) for kind in KINDS]


@lru_cache(maxsize=65536)
def understand(text: str) -> Question | None:
    """Read a prompt back.

    Args:
        text: What the user says.

    Returns:
        Its kind and slots, or None if the world does not know it.
    """
    text = text.strip()
    for kind, read in _askers():
        result = read(text)  # type: ignore[operator]
        if result is not None and result[2] == len(text):
            return Question(kind, result[0])
    return None


def choices(question: Question, name: str) -> Sequence[str]:
    """List what a content variable may be, given the prompt.

    Args:
        question: The prompt.
        name: The content variable.

    Returns:
        Its values, with remarks after ``:`` where it has any.
    """
    values = question.kind.contents[name]
    if isinstance(values, Mapping):
        return values[question.slots[question.kind.key]]
    if any("{" in value for value in values):
        return [value.format(**question.slots) for value in values]
    return values


def answer(question: Question, rng: random.Random, tilt: float = 0.0, tail: float = 0.5) -> str:
    """Write one good answer.

    Args:
        question: The prompt.
        rng: Decides everything.
        tilt: Content number r is chosen with weight ``(r + 1) ** -tilt``.
        tail: Probability of a second sentence.

    Returns:
        The answer.
    """
    kind = question.kind
    values = dict(question.slots)
    for name in kind.contents:
        options = choices(question, name)
        if tilt:
            weights = [(rank + 1.0) ** -tilt for rank in range(len(options))]
            value = rng.choices(options, weights)[0]
        else:
            value = rng.choice(options)
        values[name], _, note = value.partition(":")
        if note:
            values["note"] = note
    if kind.roles:
        sentences = [
            expand(rng.choice(kind.roles[role]), values, rng)
            for role in kind.plans[values["count"]]
        ]
    else:
        leads = [lead for lead in kind.lead if variables(lead) <= values.keys()]
        sentences = [expand(rng.choice(leads), values, rng)]
        if rng.random() < tail:
            tails = [text for text in kind.tails if variables(text) <= values.keys()]
            sentences.append(expand(rng.choice(tails), values, rng))
    return " ".join(sentences)
