"""Which answers of a group are distinct, and figures of how different they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from baco.group import normalised
from baco.models.function_words import FUNCTION_WORDS
from baco.models.meaning import encode

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SAME = 0.7
"""Answers whose content words overlap at least this much (Jaccard) count as the same."""
_FRAME = frozenset(
    [
        "answer",
        "call",
        "choice",
        "choose",
        "fact",
        "favourite",
        "fine",
        "go",
        "good",
        "great",
        "idea",
        "know",
        "let",
        "like",
        "love",
        "maybe",
        "name",
        "nice",
        "one",
        "perhaps",
        "pick",
        "recommend",
        "say",
        "suggest",
        "sure",
        "take",
        "tell",
        "think",
        "thing",
        "try",
        "want",
    ]
)
"""Words by which an answer is introduced, whatever it says."""


def describe(texts: Sequence[str], prompt: str = "", meaning: bool = False) -> dict[str, Any]:
    """Compares answers to one prompt.

    Args:
        texts: The answers.
        prompt: What was asked; its words say nothing about how answers differ.
        meaning: Whether to compare meanings too, if a sentence encoder is installed.

    Returns:
        ``groups``: the group number of each answer, 0 for the first; ``figures``: what to show,
        each with a name, a value in [0, 1] or a count, and an explanation in plain words.
    """
    asked = _content(prompt)
    words = [_content(text) - asked for text in texts]
    groups = _groups(texts, words)
    figures: list[dict[str, Any]] = []
    if len(texts) > 1:
        figures = [
            {
                "name": "Different answers",
                "value": len(set(groups)),
                "of": len(texts),
                "about": "Answers that share most of their words count as one.",
            },
            {
                "name": "Fresh wording",
                "value": _fresh_pairs(texts),
                "about": "Share of word pairs that are not a repetition of an earlier one.",
            },
            {
                "name": "Different words",
                "value": _mean_distance(words),
                "about": "How little the words of two answers overlap, on average.",
            },
        ]
        distance = _meaning(texts) if meaning else None
        if distance is not None:
            figures.append(
                {
                    "name": "Different meaning",
                    "value": distance,
                    "about": "How far apart answers are in meaning, as a language model sees it.",
                }
            )
    return {"groups": groups, "figures": figures}


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _content(text: str) -> set[str]:
    """The words of a text that carry meaning."""
    return {word for word in _words(text) if word not in FUNCTION_WORDS} - _FRAME


def _groups(texts: Sequence[str], words: Sequence[set[str]]) -> list[int]:
    """Gives each answer the number of the first group whose founder says the same."""
    founders: list[int] = []
    out: list[int] = []
    plain = [normalised(text) for text in texts]
    for i in range(len(texts)):
        for number, founder in enumerate(founders):
            if plain[i] == plain[founder] or _alike(words[i], words[founder]):
                out.append(number)
                break
        else:
            out.append(len(founders))
            founders.append(i)
    return out


def _alike(one: set[str], other: set[str]) -> bool:
    union = one | other
    return bool(union) and len(one & other) / len(union) >= _SAME


def _fresh_pairs(texts: Sequence[str]) -> float:
    """Distinct word pairs / word pairs, over all answers."""
    pairs = [pair for text in texts for pair in pairwise(_words(text))]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def _mean_distance(words: Sequence[set[str]]) -> float:
    """Mean Jaccard distance over all pairs of answers."""
    total = count = 0.0
    for i, one in enumerate(words):
        for other in words[:i]:
            union = one | other
            total += 1 - len(one & other) / len(union) if union else 0.0
            count += 1
    return total / count if count else 0.0


def relevance(prompt: str, texts: Sequence[str]) -> list[float] | None:
    """Cosine similarity of each answer's meaning to the prompt's; None without an encoder."""
    vectors = encode([prompt, *texts])
    return None if vectors is None else [float(value) for value in vectors[1:] @ vectors[0]]


def _meaning(texts: Sequence[str]) -> float | None:
    """Mean cosine distance of the answers' embeddings; None without an encoder."""
    vectors = encode(texts)
    if vectors is None:
        return None
    n = len(texts)
    total = float((vectors @ vectors.T).sum()) - n
    return max(0.0, 1 - total / (n * (n - 1)))
