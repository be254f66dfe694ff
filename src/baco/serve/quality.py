"""How good single answers are: what is broken, what the toy's judge says, how likely they read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from baco.errors import BacoError
from baco.models.sides import Side, answer_ids
from baco.prompts import Conversation, question_of
from baco.serve.scoring import Asks, read

if TYPE_CHECKING:
    from baco.pair import Pair

_NEXT_TURN = re.compile(r"\n\s*(?:question|answer|user|human|assistant)\b\s*:", re.IGNORECASE)
_WORD = re.compile(r"\w+|[^\w\s]")
_ROUND = 3
"""A stretch of words that comes so often in a row is a loop; single words twice as often."""


def fault(text: str) -> str | None:
    """Says in plain words what is broken about an answer; None for nothing that shows."""
    if not text.strip():
        return "says nothing"
    if _NEXT_TURN.search(text):
        return "runs on into another question"
    words = [word.lower() for word in _WORD.findall(text)]
    for size in range(1, 13):
        needed = size * (_ROUND - 1) if size > 1 else 2 * _ROUND - 1
        same = 0
        for at in range(size, len(words)):
            same = same + 1 if words[at] == words[at - size] else 0
            if same >= needed:
                return "goes round in circles"
    return None


def world_ends(pair: Pair, conversation: Conversation) -> bool:
    """Whether a pair is a toy and a conversation lies outside its small world."""
    if pair.known is None or not pair.known.bundled:
        return False
    from baco.tiny.judge import known

    asked = conversation[:-1] if conversation[-1].role == "assistant" else conversation
    return len(asked) != 1 or not known(question_of(asked))


def judged(prompt: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """What the toy's exact judge says of answers to a prompt that it knows."""
    from baco.tiny.judge import quality

    out = []
    for text in texts:
        value = quality(prompt, text) / 10
        words = "right" if value > 1 - 1e-9 else "nearly right" if value >= 0.5 else "not right"
        out.append({"quality": value, "words": words})
    return out


async def surprise(
    engines: Asks, side: Side, conversation: Conversation, text: str
) -> float | None:
    """Perplexity of an answer under the aligned model; None where it cannot be told.

    Args:
        engines: Where forward passes are made.
        side: The aligned side.
        conversation: What was asked.
        text: The answer.
    """
    prompt = tuple(side.ids(conversation))
    ids = prompt + tuple(answer_ids(side, text))
    if len(ids) == len(prompt) or len(ids) > side.partner.context_window:
        return None
    try:
        scores, _ = await read(engines, side.partner, ids, 0)
    except BacoError:
        return None
    told = [score.logprob for score in scores[len(prompt) :] if score.logprob is not None]
    return math.exp(-mean(told)) if told else None
