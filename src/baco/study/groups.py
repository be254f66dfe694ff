"""Reads groups of responses from JSONL: one row a group, or one row a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from baco.bench.store import is_store
from baco.errors import InputError, UnknownNameError
from baco.prompts import Conversation
from baco.reading import as_object, read_rows

QUALITY = "quality"
"""Name of the automatic quality among a response's scores."""


@dataclass(frozen=True)
class Response:
    """One response with the automatic scores that came along."""

    text: str
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyGroup:
    """What one method, at one setting, wrote for one prompt.

    Attributes:
        method: Name of the method.
        setting: Its control value as text; empty if the file names none.
        prompt: The prompt.
        responses: The responses, in the file's order.
        scores: Automatic scores of the group as a whole.
    """

    method: str
    setting: str
    prompt: str
    responses: tuple[Response, ...]
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def quality(self) -> float:
        """Mean automatic quality of the responses, else that of the group, else NaN."""
        return mean_quality(self.responses, self.scores)


def mean_quality(responses: Sequence[Response], group: Mapping[str, float]) -> float:
    """Mean automatic quality of responses; the group's own where not every response has one."""
    if all(QUALITY in response.scores for response in responses):
        return sum(response.scores[QUALITY] for response in responses) / len(responses)
    return group.get(QUALITY, math.nan)


def read_groups(path: Path, *, name: str = "", quality: str = QUALITY) -> list[StudyGroup]:
    """Reads one file of groups or samples.

    Args:
        path: A store of `baco bench run`, or JSONL. A row with ``generations`` is a group; a row
            with ``text`` is one sample, as `baco generate --json` and the bench's JSONL export
            write it. The quality field and the values of an optional ``scores`` object are
            numbers, or lists with one number per
            generation.
        name: The method's name; by default the row's ``method``, else the file's stem. Of a store
            the one curve to take; by default all.
        quality: The field that holds automatic quality; of a store the metric, by default the
            first quality metric of its plan.

    Returns:
        The groups, in the file's order.

    Raises:
        InputError: If a row is malformed, or a group or sample occurs twice.
    """
    if is_store(path):
        return _from_store(path, name, quality)
    found: dict[tuple[str, str, str], tuple[dict[int, Response], dict[str, float]]] = {}
    for read in read_rows(path):
        where, row = read.where, as_object(read)
        prompt = row.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(f"{where}: 'prompt' must be a text that is not empty")
        method = name or str(row.get("method") or path.stem)
        key = (method, _setting(row), prompt)
        known = found.setdefault(key, ({}, {}))
        responses, scores = _group(row, where, quality)
        for index, response in responses.items():
            if index in known[0]:
                raise InputError(
                    f"{where}: a second response {index} of {method!r} for the same prompt",
                    hint="one group row, or one row per sample index, for each prompt",
                )
            known[0][index] = response
        known[1].update(scores)
    if not found:
        raise InputError(f"{path} holds no rows")
    return [
        StudyGroup(*key, tuple(responses[index] for index in sorted(responses)), scores)
        for key, (responses, scores) in found.items()
    ]


def _from_store(path: Path, name: str, quality: str) -> list[StudyGroup]:
    """Reads the groups of a bench run: a method is a curve, its setting the control."""
    from baco.bench.store import Store

    groups = []
    with Store(path) as store:
        metric = store.plan.metrics.quality[0] if quality == QUALITY else quality
        cells = store.cells()
        curves = dict.fromkeys(cell.curve for cell in cells)
        if name and name not in curves:
            raise UnknownNameError("method", name, curves)
        for cell in cells:
            if name and cell.curve != name:
                continue
            scores: dict[str, dict[str, float]] = {}
            for score in store.scores(cell):
                if math.isfinite(score.value):
                    scores.setdefault(score.record, {})[score.metric] = score.value
            for record, samples in store.groups(cell):
                values = scores.get(record.id, {})
                if metric in values:
                    values[QUALITY] = values[metric]
                groups.append(
                    StudyGroup(
                        cell.curve,
                        "" if cell.control is None else f"{cell.control}",
                        _words(record.prompt),
                        tuple(Response(sample["text"]) for sample in samples),
                        values,
                    )
                )
    if not groups:
        raise InputError(f"{path} holds no complete group yet", hint="baco bench run fills it")
    return groups


def _words(prompt: Conversation) -> str:
    """A prompt as annotators read it."""
    if len(prompt) == 1:
        return prompt[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def read_scores(path: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Reads automatic scores of whole groups, to be compared with human votes.

    Args:
        path: JSONL; rows of ``prompt``, ``method`` and ``scores``, an object of numbers, as
            `baco metrics score --output` writes them. What is null or not finite is left out.

    Returns:
        The scores by (prompt, method).

    Raises:
        InputError: If a row is malformed.
    """
    result: dict[tuple[str, str], dict[str, float]] = {}
    for read in read_rows(path):
        where, row = read.where, as_object(read)
        prompt, method, scores = row.get("prompt"), row.get("method"), row.get("scores")
        if not isinstance(prompt, str) or not isinstance(method, str):
            raise InputError(f"{where}: a row needs the texts 'prompt' and 'method'")
        if not isinstance(scores, dict):
            raise InputError(f"{where}: 'scores' must be an object of numbers")
        known = {
            name: value
            for name, value in scores.items()
            if not (isinstance(value, float) and not math.isfinite(value))
        }
        result.setdefault((prompt, method), {}).update(_numbers(known, where))
    return result


def with_scores(
    groups: Sequence[StudyGroup],
    scores: Mapping[tuple[str, str], Mapping[str, float]],
    quality: str,
) -> list[StudyGroup]:
    """Adds scores of whole groups, by (prompt, method), to groups.

    Args:
        groups: The groups.
        scores: What `read_scores` returns.
        quality: The score that is the automatic quality.

    Returns:
        The groups with their scores.

    Raises:
        InputError: If a method has several settings, which these scores cannot tell apart, or if
            no group has such a score.
    """
    settings: dict[str, str] = {}
    result, found = [], 0
    for group in groups:
        if settings.setdefault(group.method, group.setting) != group.setting:
            raise InputError(
                f"scores by method do not fit {group.method!r}, which has several settings",
                hint="give one setting per file, or put the scores into its rows",
            )
        extra = dict(scores.get((group.prompt, group.method), {}))
        found += bool(extra)
        if quality in extra:
            extra[QUALITY] = extra[quality]
        result.append(replace(group, scores={**group.scores, **extra}))
    if not found:
        raise InputError("no scored prompt and method is among the groups")
    return result


def _setting(row: Mapping[str, Any]) -> str:
    if "setting" in row:
        return str(row["setting"])
    router, gamma = row.get("router"), row.get("gamma")
    if router and gamma is not None and "@" not in str(router):
        return f"{router}@{gamma}"
    return str(router or "")


def _group(
    row: Mapping[str, Any], where: str, quality: str
) -> tuple[dict[int, Response], dict[str, float]]:
    scores = row.get("scores") or {}
    if not isinstance(scores, dict):
        raise InputError(f"{where}: 'scores' must be an object of numbers")
    scores = dict(scores)
    if (given := row.get(quality, scores.get(quality))) is not None:
        scores[QUALITY] = given
    if "generations" in row:
        texts = row["generations"]
        if not isinstance(texts, list) or not texts:
            raise InputError(f"{where}: 'generations' must be a list of texts")
        each, whole = _split(scores, len(texts), where)
        first = 0
    elif "text" in row:
        texts, each, whole = [row["text"]], [_numbers(scores, where)], {}
        first = row.get("index", 0)
        if not isinstance(first, int):
            raise InputError(f"{where}: 'index' must be a whole number")
    else:
        raise InputError(
            f"{where}: no 'generations' and no 'text'",
            hint="a row is {'prompt', 'generations': [...]} or {'prompt', 'index', 'text'}",
        )
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: every response must be a text")
    return {
        first + offset: Response(text, each[offset]) for offset, text in enumerate(texts)
    }, whole


def _split(
    scores: Mapping[str, Any], count: int, where: str
) -> tuple[list[dict[str, float]], dict[str, float]]:
    lists = {name: value for name, value in scores.items() if isinstance(value, list)}
    for name, values in lists.items():
        if len(values) != count:
            raise InputError(f"{where}: {name!r} has {len(values)} values for {count} responses")
    each = [
        _numbers({name: values[index] for name, values in lists.items()}, where)
        for index in range(count)
    ]
    return each, _numbers({n: v for n, v in scores.items() if n not in lists}, where)


def _numbers(scores: Mapping[str, Any], where: str) -> dict[str, float]:
    numbers = {}
    for name, value in scores.items():
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise InputError(f"{where}: {name!r} must be a finite number, not {value!r}")
        numbers[name] = float(value)
    return numbers
