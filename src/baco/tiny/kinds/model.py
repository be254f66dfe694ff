"""What one kind of prompt is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

NAMING = "naming and randomness"
FACTS = "underspecified facts"
RECOMMENDATIONS = "recommendations"
STORIES = "micro stories"
CATEGORIES = (NAMING, FACTS, RECOMMENDATIONS, STORIES)

SlotValues = Sequence[str] | Mapping[str, Sequence[str]]


@dataclass(frozen=True, eq=False)
class PromptKind:
    """One kind of prompt: how it is asked, and the grammar of everything that answers it.

    Patterns are plain text with ``[a|b]`` for a choice and ``{name}`` for a slot or a content
    variable; ``{Name}`` starts with a capital, ``{a_name}`` and ``{A_name}`` carry an article.

    Args:
        name: Short unique name.
        category: One of ``CATEGORIES``.
        ask: Phrasings of the prompt; the last one is kept for held-out prompts.
        slots: What the prompt fixes.
        contents: What the answer is free to choose: values, or values by the value of ``key``.
            A value may carry a remark of its own after ``:``, which ``{note}`` refers to.
        lead: Patterns of the sentence that gives the answer.
        tails: Patterns of sentences that may follow it (one at most).
        key: The slot on which the contents depend.
        roles: For stories: the patterns of each sentence, by role.
        plans: For stories: which roles are told, by the value of the slot ``count``.
    """

    name: str
    category: str
    ask: Sequence[str]
    slots: Mapping[str, Sequence[str]]
    contents: Mapping[str, SlotValues]
    lead: Sequence[str] = ()
    tails: Sequence[str] = ()
    key: str = ""
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plans: Mapping[str, Sequence[str]] = field(default_factory=dict)


def words(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of values.

    Args:
        text: Values, comma-separated.

    Returns:
        The values, stripped.
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())
