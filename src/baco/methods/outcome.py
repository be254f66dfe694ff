"""What becomes of what a model wrote: another draw, its sample, or the answer found inside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from baco.engine.request import Cost
from baco.group import FinishReason, Sample, base_share, switches
from baco.methods.base import MAX_ATTEMPTS, Sampling, Setting
from baco.methods.reader import Reader
from baco.prompts import Conversation, as_json


def too_short(
    reader: Reader, finish: FinishReason | None, attempt: int, sampling: Sampling
) -> bool:
    """Whether a row stopped by itself too soon and may be drawn again.

    Args:
        reader: What was read.
        finish: Why the model stopped; None if it was made to.
        attempt: Number of the draw, from 0.
        sampling: How it was drawn.

    Paper: §6.2.
    """
    return (
        finish == "stop"
        and not reader.stopped
        and len(reader.ids) < sampling.restart_shorter_than
        and attempt < MAX_ATTEMPTS - 1
    )


def sample_of(
    reader: Reader,
    finish: FinishReason | None,
    prompt: Conversation,
    index: int,
    setting: Setting,
    *,
    cost: Cost | None,
    attempts: int = 1,
    details: dict[str, Any] | None = None,
) -> Sample:
    """Makes the sample of a finished row.

    Args:
        reader: What was read.
        finish: Why the model stopped; None if the reader stopped it.
        prompt: What was asked.
        index: The sample's place in its group.
        setting: How it was made.
        cost: As `Sample`.
        attempts: As `Sample`.
        details: As `Sample`.
    """
    if reader.stopped or finish is None:
        finish = "stop" if reader.turned else "stop_string"
    return Sample(
        prompt=as_json(prompt),
        index=index,
        text=reader.text,
        finish_reason=finish,
        seed=setting.sampling.seed,
        method=setting.method.name,
        router=setting.router_name,
        gamma=setting.gamma,
        control=setting.control,
        token_ids=tuple(reader.ids),
        tokens=tuple(reader.strings),
        sources=tuple(reader.sources),
        base_share=base_share(reader.sources, reader.begins),
        switches=switches(reader.sources, reader.begins),
        attempts=attempts,
        details=details,
        cost=cost,
    )


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
