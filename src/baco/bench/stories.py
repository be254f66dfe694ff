"""The creative-writing task: beginnings of stories, up to their first turning point.

Paper: App. D.1, Table A6; the data is Narrative-Discourse (Tian et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baco.bench.records import Record
from baco.errors import InputError
from baco.prompts import conversation_of
from baco.reading import read_json

CONTINUE = """\
Continue the story and bring it to an ending based on the title and the story sketch provided \
below. The sketch introduces the event that sets the initial stage for the narrative leads up to \
the first major turning point but does not present a full plot. Your task is to develop the \
narrative from this point onward, completing the story arc.
Title: {title}
Story Sketch: {sketch}"""
"""The prompt of the task (Paper: Table A6)."""

STORIES = "narratives.json"
TURNING_POINTS = "ground_truth_tp.json"
STORY_FIELDS = ("sentences", "synopsis", "narrative", "text", "story")
"""Where a story may stand in its object: the first of these that is there."""

HINT = f"{STORIES} and {TURNING_POINTS} come from the repository PlusLabNLP/Narrative-Discourse"


def read_stories(source: str) -> list[Record]:
    """Reads stories and makes the prompts that ask for their continuation.

    Args:
        source: The file of stories, or the folder that holds `STORIES`. A file of turning points,
            `TURNING_POINTS`, may stand beside it. A story has a ``title`` and either a ``sketch``
            or one of `STORY_FIELDS`, which is then cut after the sentence of its first turning
            point (``tp1``, numbered from 1; a mean of raters is rounded).

    Returns:
        The records; ``extra`` holds the sketch as ``prefix``, which discourse metrics put before
        each continuation.

    Raises:
        InputError: If no source is given, or it does not hold such stories.
    """
    if not source:
        raise InputError(
            "the stories of Narrative-Discourse come neither with BaCo nor from the hub",
            hint=f'source = "PATH" names the file; {HINT}',
        )
    path = Path(source).expanduser()
    file = path / STORIES if path.is_dir() else path
    points = file.parent / TURNING_POINTS
    firsts = _first_points(points) if points.is_file() else {}
    return [
        _record(name, row, firsts, f"{file}, story {name}") for name, row in _stories(file).items()
    ]


def _json(file: Path) -> object:
    try:
        found: object = read_json(file)
    except InputError as error:
        raise InputError(error.message, hint=HINT) from None
    return found


def _stories(file: Path) -> dict[str, Mapping[str, Any]]:
    """Stories by id, from an object of stories or a list of them."""
    found = _json(file)
    if isinstance(found, dict):
        return {str(k): v if isinstance(v, dict) else {"text": v} for k, v in found.items()}
    if isinstance(found, list) and all(isinstance(v, dict) for v in found):
        return {str(v.get("id", i)): v for i, v in enumerate(found)}
    raise InputError(
        f"{file} holds no stories", hint="an object of stories by id, or a list of objects"
    )


def _first_points(file: Path) -> dict[str, float]:
    """First turning point of each story, as far as it is one."""
    found = _json(file)
    if not isinstance(found, dict):
        raise InputError(f"{file} is no object of turning points by story", hint=HINT)
    firsts = {
        name: row.get("tp1") if isinstance(row, dict) else None for name, row in found.items()
    }
    return {str(n): place for n, p in firsts.items() if (place := _place(p)) is not None}


def _place(value: object) -> float | None:
    """A sentence number from 1, perhaps a mean; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value) if value >= 1 else None
    return None


def _record(name: str, row: Mapping[str, Any], firsts: Mapping[str, float], where: str) -> Record:
    sketch = row.get("sketch")
    if not isinstance(sketch, str) or not sketch.strip():
        sketch = _cut(row, firsts.get(name, row.get("tp1")), where)
    title = str(row.get("title") or row.get("name") or "Untitled").strip()
    prompt = CONTINUE.format(title=title, sketch=sketch.strip())
    arc = row.get("arc")
    return Record(
        name,
        conversation_of(prompt),
        str(arc) if arc else None,
        {"title": title, "prefix": sketch.strip()},
    )


def _cut(row: Mapping[str, Any], first: object, where: str) -> str:
    """The story's sentences up to and with its first turning point."""
    from baco.metrics.words import sentences

    field = next((f for f in STORY_FIELDS if row.get(f)), None)
    if field is None:
        raise InputError(
            f"{where} has neither a sketch nor a story",
            hint=f"looked for sketch, {', '.join(STORY_FIELDS)}; it has {', '.join(row) or 'none'}",
        )
    parts = row[field] if isinstance(row[field], list) else sentences(str(row[field]))
    place = _place(first)
    if place is None:
        raise InputError(
            f"{where}: its first turning point is not known",
            hint=f"{TURNING_POINTS} beside the stories, or a field tp1, says it",
        )
    end = math.floor(place + 0.5)
    if end > len(parts):
        raise InputError(
            f"{where}: the first turning point is sentence {end}, the story has {len(parts)}",
            hint="stories and turning points do not belong together",
        )
    return " ".join(str(part).strip() for part in parts[:end])
