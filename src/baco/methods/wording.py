"""What prompting methods say to the aligned model: all of it, in one place, in our own words.

Paper: §4 (prompting baselines); verbalized sampling: arXiv 2510.01171; string seed of thought:
arXiv 2510.21150.
"""

from __future__ import annotations

import re

from baco.errors import InputError
from baco.methods.outcome import Found
from baco.prompts import Conversation, Message

ANOTHER = "Please give me another answer, different from all the answers above."
"""The turn after each answer of an in-context dialogue."""

BE_NOVEL = "Give an answer that is unique and novel, one that few others would think of."
"""The system message of `system-prompt`."""

REWORD = """\
Put the following request into other words. Keep what it asks for, and do not answer it. Reply \
with the new wording alone, on one line.

{request}"""

VERBALIZE = """\
{request}

Give {k} different answers to this request, each with the probability that you would give it. \
Write each on its own as <answer probability="0.1">the answer</answer>, and write nothing else."""

ENUMERATE = """\
{request}

Give {n} different answers to this request, as a numbered list with one answer in each item. Write \
nothing before or after the list."""

PRIME = "Related to {noun}: {request}"
"""What `recoding` asks."""

SEED = """\
{request}

First write a string of random characters, as <string>...</string>. Then use that string to choose \
among all good answers, so that another string would have led to another answer. Write the answer \
you chose as <answer>...</answer>, and nothing after it."""

_STRING = re.compile(r"\s*<string>(.{1,500}?)</string>(.*)", re.DOTALL)
_ANSWER = re.compile(r"<answer>\s*(\S(?:.*?\S)??)\s*</answer>\s*", re.DOTALL)
_WEIGHED = re.compile(
    r"\s*<answer probability=\"([0-9]*\.?[0-9]+)\">\s*(\S(?:.*?\S)??)\s*</answer>\s*", re.DOTALL
)
_QUOTES = "\"'“”‘’"


def check_last(prompt: Conversation) -> None:
    """Raises InputError unless the user speaks last: that is what is asked in other words."""
    if prompt[-1].role != "user":
        raise InputError(
            "this method asks in its own words, and the conversation does not end with the user",
            hint="end with a user message, or use another method",
        )


def with_last(prompt: Conversation, content: str) -> Conversation:
    """Returns a prompt whose last message, the user's, says something else."""
    check_last(prompt)
    return (*prompt[:-1], Message("user", content))


def with_system(prompt: Conversation, sentence: str) -> Conversation:
    """Returns a prompt with a sentence added to its system message, or as one."""
    if prompt[0].role == "system":
        return (Message("system", f"{prompt[0].content}\n\n{sentence}"), *prompt[1:])
    return (Message("system", sentence), *prompt)


def reworded(text: str) -> Found | None:
    """Reads a paraphrase: the first line, without quotation marks around it; not an empty one."""
    stripped = text.lstrip()
    line = stripped.split("\n", 1)[0].rstrip()
    start = len(text) - len(stripped)
    if len(line) > 1 and line[0] in _QUOTES and line[-1] in _QUOTES:
        start, line = start + 1, line[1:-1]
    return Found(start, start + len(line)) if line.strip() else None


def seeded(text: str) -> Found | None:
    """Reads an answer that followed a random string; it is all there or it is not taken."""
    found = _STRING.fullmatch(text)
    if not found:
        return None
    answer = _ANSWER.search(text, found.start(2))
    if not answer or answer.end() != len(text) or "<answer>" in answer[1]:
        return None
    return Found(answer.start(1), answer.end(1), {"string": found[1]})


def weighed(text: str, k: int) -> list[tuple[float, int, int]] | None:
    """Reads k answers with their probabilities.

    Args:
        text: What the model wrote.
        k: How many answers it was asked for.

    Returns:
        (probability, start, end) of each, or None unless there are exactly k answers and nothing
        else, each with a probability in [0, 1], not all of them zero.
    """
    found, at = [], 0
    while at < len(text):
        match = _WEIGHED.match(text, at)
        if not match or "<answer" in match[2]:
            return None
        found.append((float(match[1]), match.start(2), match.end(2)))
        at = match.end()
    weights = [weight for weight, _, _ in found]
    if len(found) != k or max(weights) > 1 or not sum(weights):
        return None
    return found
