"""What judge models are asked: every rubric in one place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

Messages = list[dict[str, str]]

REWARD = """\
You grade how well a response answers a request. Judge this response on its own: whether it does \
what was asked, whether it is right, whether it is clear and well made. Length alone is worth \
nothing, and an unusual answer is as good as a usual one if it fits the request.

Marks:
1  empty, unreadable, or nothing to do with the request
3  touches the request, but fails it in the main
5  partly does what was asked, with clear faults
7  does what was asked, with small faults
9  does what was asked and does it well
10 could hardly be better

Use the whole numbers between as well. Reply with JSON alone: {"mark": <whole number, 1 to 10>}"""

TURNING_POINTS = (
    "opportunity",
    "change_of_plans",
    "point_of_no_return",
    "major_setback",
    "climax",
)

_EXAMPLE = (
    "Ines mends clocks in a harbour town that nobody visits.",
    "Her days are quiet, and she likes them so.",
    "One morning a stranger brings a clock that runs backwards.",
    "He offers her a year's pay to find out why.",
    "She takes it apart and finds a map under the dial.",
    "Her brother begs her to hand it back and forget it.",
    "Instead she closes the shop and follows the map along the coast.",
    "In a chapel she finds a second clock and a letter with her mother's name.",
    "She burns the bridge behind her when the stranger's men come after her.",
    "For weeks she hides among shepherds and learns to read the letter.",
    "The men catch her brother and set fire to the shop.",
    "Ines sits in the ashes and thinks of giving up.",
    "Then she sees that both clocks stop at the same hour.",
    "At that hour she faces the stranger on the lighthouse stairs and sets the clocks against each "
    "other.",
    "The light goes out, the stranger lets the map fall, and her brother is free.",
    "In spring she opens the shop again, and all its clocks run forward.",
)
_EXAMPLE_POINTS = (3, 7, 9, 11, 14)

_TURNING = """\
Stories of many kinds turn at five points:
- opportunity: the event, after the scene is set, that starts the story proper
- change_of_plans: the event that gives the main character the goal of the story
- point_of_no_return: the event that commits the main character to this goal for good
- major_setback: the event in which everything seems lost
- climax: the peak of the conflict, where it is decided

You are given a story as numbered sentences. For each of the five, name the one sentence in which \
it happens. All five must be named, and their numbers must not decrease in this order. Reply with \
JSON alone, the five names as keys and the sentence numbers as values."""

_AROUSAL = """\
You are given sentences from a story, in order. For each, say how much excitement its events and \
feelings carry, from 0 (calm, sleepy) to 1 (frantic, thrilling), whether pleasant or not. Reply \
with JSON alone: {"arousal": [one number for each sentence, in order]}"""


def version() -> str:
    """Digest of all rubrics: answers to old ones are never taken for answers to new ones."""
    text = json.dumps([REWARD, _TURNING, _EXAMPLE, _EXAMPLE_POINTS, _AROUSAL])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _numbered(parts: Sequence[str]) -> str:
    return "\n".join(f"{i}. {' '.join(part.split())}" for i, part in enumerate(parts, 1))


def reward(prompt: str, output: str) -> Messages:
    """Asks for the mark of an output, 1 to 10."""
    task = f"Request:\n<<<\n{prompt}\n>>>\n\nResponse:\n<<<\n{output}\n>>>"
    return [{"role": "system", "content": REWARD}, {"role": "user", "content": task}]


def turning_points(parts: Sequence[str]) -> Messages:
    """Asks for the five turning points of a story, with one worked example."""
    answer = dict(zip(TURNING_POINTS, _EXAMPLE_POINTS, strict=True))
    return [
        {"role": "system", "content": _TURNING},
        {"role": "user", "content": _numbered(_EXAMPLE)},
        {"role": "assistant", "content": json.dumps(answer)},
        {"role": "user", "content": _numbered(parts)},
    ]


def arousal(parts: Sequence[str]) -> Messages:
    """Asks for the arousal of each of some sentences, 0 to 1."""
    return [
        {"role": "system", "content": _AROUSAL},
        {"role": "user", "content": _numbered(parts)},
    ]
