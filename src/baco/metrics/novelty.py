"""A NoveltyBench submission: what its leaderboard takes for one subset, in four files.

The arithmetic is the published evaluator's: the first answer of a class keeps its mark and later
ones count 0; utility is their mean weighted by 0.8^i; the summary holds means over prompts.

Source: arXiv 2504.05228, and the scores published for Gemini 1.5 Pro.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from baco.errors import BacoError, InputError
from baco.metrics.cache import Cache
from baco.metrics.groups import SYSTEM, Generations, as_groups
from baco.metrics.partition import utility
from baco.metrics.passes import Passes, ScoringOptions
from baco.metrics.quality import HIGHEST, classes_and_scores
from baco.metrics.score import named_after_model
from baco.metrics.spec import resolve
from baco.models.folders import cache_folder

PER_PROMPT = 10
"""Answers that the benchmark asks of each prompt."""


def rows(
    groups: Sequence[Generations], options: ScoringOptions, metric: str = "nb_utility"
) -> list[dict[str, Any]]:
    """Returns the rows of ``scores.jsonl``.

    Args:
        groups: One subset's groups, each with the prompt's ``id``.
        options: How to score: which classifier, which reward model.
        metric: ``nb_utility``, or ``nb_utility@tiny`` or ``nb_utility@file``.

    Raises:
        InputError: If a group has no id, not ten answers, or an id comes twice; if groups are of
            several systems; if a mark is missing or above ten.
        BacoError: If the models cannot be had.
    """
    for field in SYSTEM:
        named = sorted({str(g.extra[field]) for g in groups if g.extra.get(field) is not None})
        if len(named) > 1:
            raise InputError(
                f"{field} is {named[0]} and {named[1]}: a submission holds one system",
                hint="export each method or setting by itself",
            )
    seen: list[str] = []
    for number, group in enumerate(groups, 1):
        name = str(group.extra.get("id", "") or group.extra.get("record", ""))
        if not name:
            raise InputError(
                f"group {number} has no id, by which NoveltyBench knows its prompts",
                hint='give rows with "id": curated-0, ...',
            )
        if name in seen:
            raise InputError(
                f"the id {name!r} comes twice: a submission holds one system",
                hint="export each method or setting by itself",
            )
        seen.append(name)
        if len(group.generations) != PER_PROMPT:
            raise InputError(
                f"{name} has {len(group.generations)} answers",
                hint=f"the benchmark takes {PER_PROMPT}",
            )
    found = named_after_model(resolve(metric), options)
    store = Cache(cache_folder())
    try:
        passes = Passes(options, store)
        classes, marks = classes_and_scores(groups, passes, found)
    finally:
        store.close()
    for name, row in zip(seen, marks, strict=True):
        if not all(0 <= mark <= HIGHEST for mark in row):
            raise InputError(
                f"the marks of {name} are not all from 0 to {HIGHEST}",
                hint="give each answer its mark, or score again",
            )
    return [scored(*each) for each in zip(groups, classes, marks, strict=True)]


def scored(
    group: Generations, classes: Sequence[int], marks: Sequence[float]
) -> dict[str, Any]:  # fmt: skip
    """Returns one row: classes, marks of first answers, and the utility."""
    first = [classes.index(kind) == i for i, kind in enumerate(classes)]
    kept = [mark if new else 0 for mark, new in zip(marks, first, strict=True)]
    return {
        "id": str(group.extra.get("id", "") or group.extra.get("record", "")),
        "prompt": group.question,
        "model": str(group.extra.get("model", "")),
        "generations": list(group.generations),
        "partition": list(classes),
        "distinct": max(classes),  # as the published rows have it: one less than the classes
        "generation_scores": kept,
        "partition_scores": [mark for mark, new in zip(marks, first, strict=True) if new],
        "utility": utility(classes, kept),
    }


def summary(scores: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns what ``summary.json`` holds: means over prompts."""
    return {
        "mean_distinct": fmean(len(row["partition_scores"]) for row in scores),
        "mean_utility": fmean(row["utility"] for row in scores),
    }


def write_submission(
    groups: Iterable[object],
    folder: Path,
    *,
    model: str,
    metric: str = "nb_utility",
    options: ScoringOptions | None = None,
) -> dict[str, float]:
    """Writes the four files of one subset.

    Args:
        groups: The subset's groups, as `baco.metrics.score` takes them, with ids.
        folder: Where; it is made, and must not hold these files.
        model: What to call the system.
        metric: As `rows`.
        options: As `rows`.

    Returns:
        The summary.

    Raises:
        InputError: As `rows`, or if there is a file already.
    """
    taken = as_groups(groups)
    if not taken:
        raise InputError("there is no group", hint="name a file of generations")
    names = ("generations.jsonl", "partitions.jsonl", "scores.jsonl", "summary.json")
    for name in names:
        if (folder / name).exists():
            raise InputError(f"{folder / name} is there already", hint="name a new folder")
    found = [{**row, "model": model} for row in rows(taken, options or ScoringOptions(), metric)]
    plain = ("id", "prompt", "model", "generations")
    lines = (
        [{name: row[name] for name in plain} for row in found],
        [{name: row[name] for name in (*plain, "partition")} for row in found],
        found,
    )
    told = summary(found)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, some in zip(names, lines, strict=False):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / names[-1]).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BacoError(f"cannot write {folder}: {error.strerror}", hint="make room") from error
    return told
