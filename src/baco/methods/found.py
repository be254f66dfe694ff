"""Answers inside what a model wrote: found, cut out, and given back as samples of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from baco.group import Sample


class Found(NamedTuple):
    """Where an answer stands in a text.

    Attributes:
        start: Its first character.
        end: The character after its last.
        details: What else was found, ready for JSON, or None.
    """

    start: int
    end: int
    details: dict[str, Any] | None = None


Find = Callable[[str], Found | None]
"""What a model wrote -> where the answer is in it, or None if there is none."""


def cut(sample: Sample, found: Found, stop: Sequence[str], limit: int) -> Sample:
    """Cuts a sample down to the answer in it.

    Args:
        sample: What a model wrote.
        found: Where the answer is in its text.
        stop: Strings before which the answer ends.
        limit: Most tokens of the answer.

    Returns:
        The answer, with the tokens that spell it; the first and the last may be spelled in part.
    """
    start, end, finish = found.start, found.end, sample.finish_reason
    places = [sample.text.find(s, start, end) for s in stop]
    if any(at >= 0 for at in places):
        end, finish = min(at for at in places if at >= 0), "stop_string"
    ids: list[int] = []
    strings: list[str] = []
    sources: list[str] = []
    at = 0
    for token, string, source in zip(sample.token_ids, sample.tokens, sample.sources, strict=True):
        piece = string[max(0, start - at) : max(0, end - at)]
        at += len(string)
        if piece and len(ids) == limit:
            finish = "length"
            break
        if piece:
            ids.append(token)
            strings.append(piece)
            sources.append(source)
    return replace(
        sample,
        text="".join(strings),
        token_ids=tuple(ids),
        tokens=tuple(strings),
        sources=tuple(sources),
        finish_reason=finish,
        details=found.details if sample.details is None else sample.details | (found.details or {}),
    )


def failed(sample: Sample) -> Sample:
    """Returns the sample of a task for which no answer was found: an empty one that says so."""
    return replace(sample, text="", token_ids=(), tokens=(), sources=(), finish_reason="failed")
