"""Groups of outputs, and how to read them from files of many tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from baco.errors import InputError
from baco.prompts import Message, question_of
from baco.reading import (
    PROMPT_FIELDS,
    answers_of,
    as_object,
    messages_of,
    prompt_of,
    read_rows,
    without_answer,
)

SAMPLE_KEYS = (
    "prompt",
    "model",
    "method",
    "router",
    "gamma",
    "control",
    "diversity",
    "seed",
    "pair",
    "dataset",
    "cell",
)
"""Fields of a sample row that say which group it belongs to."""

_PER_SAMPLE = frozenset(
    {
        "index",
        "text",
        "finish_reason",
        "token_ids",
        "tokens",
        "sources",
        "base_share",
        "switches",
        "attempts",
        "details",
    }
)


ANNOTATIONS = ("partition", "generation_scores", "turning_points", "sentences", "arousal")
"""Fields that hold one value for each output."""

SYSTEM = ("dataset", "pair", "model", "method", "router", "control", "gamma")
"""Fields that say which system wrote a group; groups that differ in them are never averaged."""

_ANSWERS = ("generations", "responses", "choices", "response", "input", "output")
"""Fields of rows of other tools that are read here and do not pass through."""


@dataclass(frozen=True)
class Generations:
    """The outputs for one prompt.

    Args:
        prompt: The prompt: a text, or a conversation as JSON holds it (a list of messages).
        generations: The outputs, in order; an empty text is an output too.
        finish_reasons: Why each output ended (``stop``, ``length``, ...); empty if unknown.
        extra: All other fields of the row, passed through.
        where: Where it was read, for messages, such as ``line 3``.
    """

    prompt: str | list[dict[str, str]]
    generations: tuple[str, ...]
    finish_reasons: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @property
    def question(self) -> str:
        """The prompt as one text: of a conversation, what the user asked last."""
        if isinstance(self.prompt, str):
            return self.prompt
        return question_of(tuple(Message(m["role"], m["content"]) for m in self.prompt))

    @property
    def conversation(self) -> str:
        """The prompt as a conversation, in JSON."""
        if isinstance(self.prompt, str):
            return json.dumps([{"role": "user", "content": self.prompt}])
        return json.dumps(self.prompt)

    @property
    def empty(self) -> int:
        """How many outputs are empty: nothing, or white space only."""
        return sum(not text.strip() for text in self.generations)

    def written(self) -> Generations:
        """The group without its empty outputs, and without what fields say of them."""
        kept = [i for i, text in enumerate(self.generations) if text.strip()]

        def of(values: Any) -> Any:
            fits = isinstance(values, list | tuple) and len(values) == len(self.generations)
            return [values[i] for i in kept] if fits else values

        return Generations(
            self.prompt,
            tuple(self.generations[i] for i in kept),
            tuple(of(self.finish_reasons)),
            {k: of(v) if k in ANNOTATIONS else v for k, v in self.extra.items()},
            self.where,
        )

    def hit_limit(self, index: int) -> bool:
        """Whether an output was cut at the length limit."""
        return bool(self.finish_reasons) and self.finish_reasons[index] == "length"


def as_groups(items: Iterable[object]) -> list[Generations]:
    """Takes groups in any of the forms that BaCo and others have them in.

    Args:
        items: `Generations`, mappings with ``prompt`` and ``generations``, or objects with
            ``prompt`` and ``texts`` such as the groups that a pair generates.

    Returns:
        The groups, in order.

    Raises:
        InputError: If an item is none of these, or there is no item.
    """
    found = []
    for number, item in enumerate(items, 1):
        where = f"group {number}"
        if isinstance(item, Generations):
            found.append(item)
        elif isinstance(item, Mapping):
            found.append(from_mapping(item, where))
        elif hasattr(item, "prompt") and hasattr(item, "texts"):
            reasons = [getattr(sample, "finish_reason", None) for sample in _samples(item)]
            row: dict[str, Any] = {"prompt": item.prompt, "generations": list(item.texts)}
            if reasons and all(isinstance(r, str) for r in reasons):
                row["finish_reasons"] = reasons
            found.append(from_mapping(row, where))
        else:
            raise InputError(
                f"{where} is a {type(item).__name__}, not a group",
                hint="a group has a prompt and generations",
            )
    if not found:
        raise InputError("there is no group to score")
    return found


def _samples(item: object) -> list[object]:
    samples = getattr(item, "samples", None)
    return list(samples) if isinstance(samples, Sequence) else []


def from_mapping(row: Mapping[str, Any], where: str) -> Generations:
    """Checks one row and makes a group of it.

    Args:
        row: Fields; ``generations`` is required, ``prompt`` may be missing only if no metric needs
            it and is then empty.
        where: Where the row stands, for messages.

    Returns:
        The group.

    Raises:
        InputError: If a field is missing or has the wrong type.
    """
    texts = row.get("generations")
    if texts is None or texts == []:
        have = ", ".join(map(str, row)) or "nothing"
        raise InputError(f"{where}: the group has no generations", hint=f"it has {have}")
    if not isinstance(texts, list | tuple):
        raise InputError(f"{where}: generations is a {type(texts).__name__}, not a list of texts")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"{where}: generation {index} is a {type(text).__name__}, not a text",
                hint="an output that failed can be given as an empty text",
            )
        _check_unicode(text, f"{where}: generation {index}")
    prompt = messages_of(row.get("prompt", ""))
    if not isinstance(prompt, str) and not _is_conversation(prompt):
        raise InputError(
            f"{where}: the prompt is a {type(prompt).__name__}, not a text",
            hint="a conversation is a list of messages with role and content",
        )
    reasons = row.get("finish_reasons") or ()
    if reasons and (not isinstance(reasons, list | tuple) or len(reasons) != len(texts)):
        raise InputError(f"{where}: there must be one finish reason for each generation")
    known = ("prompt", "generations", "finish_reasons")
    extra = {str(k): v for k, v in row.items() if k not in known}
    return Generations(
        prompt, tuple(texts), tuple(str(r or "unknown") for r in reasons), extra, where
    )


def _check_unicode(text: str, what: str) -> None:
    """Refuses halves of surrogate pairs, which no tokenizer and no file takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{what} is not valid Unicode (half of a surrogate pair)", hint="repair the text"
        ) from None


def _is_conversation(prompt: object) -> bool:
    return (
        isinstance(prompt, list)
        and bool(prompt)
        and all(
            isinstance(m, dict)
            and isinstance(m.get("role"), str)
            and isinstance(m.get("content"), str)
            for m in prompt
        )
    )


def read_groups(path: str | Path, by: Sequence[str] = ()) -> list[Generations]:
    """Reads groups from a file.

    Args:
        path: A file in any shape that `baco.reading` knows. A row is a group with ``prompt`` and
            ``generations``, as NoveltyBench writes them too, or one sample with ``prompt`` and
            ``text``, as ``baco generate --json`` writes them, or an example of a training file;
            samples of one prompt and setting make a group.
        by: More fields that tell samples of different groups apart.

    Returns:
        The groups, in order of first appearance.

    Raises:
        InputError: If the file cannot be read or a row is wrong; the message names the line.
    """
    rows = [(row.where, _as_ours(as_object(row), row.where)) for row in read_rows(path)]
    return _from_rows(rows, str(path), by)


def _as_ours(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A row of anybody's as one with ``prompt`` and ``generations``, or with ``text``."""
    if "text" in row and "generations" not in row:
        return row if "index" not in row else {**row, "index": _index(row["index"])}
    answers = answers_of(row)
    if answers is None or ("prompt" in row and "generations" in row):
        return row
    try:
        prompt = prompt_of(row) if set(PROMPT_FIELDS) & row.keys() else ""
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from None
    rest = {k: v for k, v in row.items() if k not in (*PROMPT_FIELDS, *_ANSWERS)}
    if "generations" in row or "responses" in row or "choices" in row:
        return {**rest, "prompt": prompt, "generations": answers}
    if len(answers) == 1:
        return {**rest, "prompt": without_answer(prompt), "text": answers[0]}
    return {**rest, "prompt": prompt, "generations": answers}


def _index(value: Any) -> Any:
    """The number of a sample, which tables hold as a decimal or as text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _from_rows(
    rows: Sequence[tuple[str, Mapping[str, Any]]], name: str, by: Sequence[str]
) -> list[Generations]:
    if not rows:
        raise InputError(f"{name} holds no group")
    groups: list[Generations | list[tuple[str, Mapping[str, Any]]]] = []
    samples: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for where, row in rows:
        if "generations" in row or "text" not in row:
            groups.append(from_mapping(row, where))
            continue
        key = json.dumps([row.get(k) for k in (*SAMPLE_KEYS, *by)], default=str)
        if key not in samples:
            samples[key] = []
            groups.append(samples[key])
        samples[key].append((where, row))
    return [g if isinstance(g, Generations) else _join(g) for g in groups]


def _join(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Generations:
    """Makes a group of sample rows, in order of their index."""
    where, first = rows[0]
    indices = [row.get("index", i) for i, (_, row) in enumerate(rows)]
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in indices):
        raise InputError(f"{where}: the index of a sample is not a whole number")
    if len(set(indices)) < len(indices):
        raise InputError(f"{where}: two samples of the same group have the same index")
    ordered = [row for _, (_, row) in sorted(zip(indices, rows, strict=True), key=lambda x: x[0])]
    # What samples differ in is no field of their group.
    joined = {
        k: v
        for k, v in first.items()
        if k not in _PER_SAMPLE and all(row.get(k) == v for _, row in rows)
    }
    joined["generations"] = [row["text"] for row in ordered]
    if all("finish_reason" in row for row in ordered):
        joined["finish_reasons"] = [row["finish_reason"] for row in ordered]
    if joined.get("control") is None and first.get("gamma") is not None:
        joined["control"] = first["gamma"]
    return from_mapping(joined, where)
