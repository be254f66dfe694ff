"""`enumerate`: one response lists the group's answers, and each answer is read out of it.

The reader takes lists as models write them: numbers or bullets of any kind, bold or not, blank
lines between, JSON, words before and after the list, points below a point, an item cut off by the
limit. It says where items stand, so that samples keep the tokens that spell them.

Source: arXiv 2509.17570 (enumeration against iteration); the words and the reader are ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from baco.group import Sample
from baco.methods import wording
from baco.methods.accounting import Account, shares, tell
from baco.methods.base import HOTTEST, Method, Setting, Task, Update
from baco.methods.models import run_alone
from baco.methods.outcome import Found, cut, failed

if TYPE_CHECKING:
    from baco.models.sides import Models

ROOM = 12
"""Tokens for an item's number and line break, beside the answer."""

_NUMBER = (
    r"(?:(?:Answer|Choice|Idea|Item|Option|Response|Suggestion)[ \t]+(?=\d))?"
    r"(?:[(（\[]|\#(?=\d))?\d{1,3}(?:\\?[.):\]、．）：]+(?!\d)|[ \t]+[-–—](?=[ \t]))"
    r"|\(?[A-Za-z]\)(?=[ \t])|[①-⑳]"
)
_BULLET = r"[-*+•‣◦–—](?=[ \t])(?:[ \t]+\[[ xX]?\](?=[ \t]))?"
_MARK = re.compile(
    rf"(?P<indent>[ \t]*)(?:>[ \t]*)?(?:\#{{1,6}}[ \t]+)?(?P<bold>\*\*|__)?"
    rf"(?:(?P<number>{_NUMBER})|(?P<bullet>{_BULLET}))(?P<end>\*\*|__)?[ \t]*"
)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_THOUGHT = "</think>"
_WRAPS = ("**", "__", "`", '"', "'", "“”", "‘’")


class ListItem(NamedTuple):
    """One answer of a list: where it stands, and what it says where that is spelled otherwise.

    Attributes:
        start: Its first character.
        end: The character after its last.
        said: Its text where the list escapes it (JSON); None for the characters themselves.
    """

    start: int
    end: int
    said: str | None = None


class _Line(NamedTuple):
    start: int
    end: int
    indent: int
    text: int
    kind: str


def listed(text: str, *, cut_off: bool = False) -> list[ListItem]:
    """Reads a list.

    Args:
        text: What a model wrote.
        cut_off: Whether it ended at its limit: the last item is then left out, as it may be half.

    Returns:
        The answers in their order; a text without any list is one answer for each line. What a
        model thought before is no part of it.
    """
    thought = text.rfind(_THOUGHT) + len(_THOUGHT) if _THOUGHT in text else 0
    text = "\n" * thought + text[thought:]
    found = _json(text)
    if found is not None:
        return found  # strings that are not closed are not among them
    lines = list(_lines(text))
    marked = [line for line in lines if line.kind in ("number", "bullet")]
    if not marked:
        spans = _plain(text, [line for line in lines if line.kind == "text"])
    else:
        # Numbers lead, and bullets below them belong to their points.
        kind = "number" if any(line.kind == "number" for line in marked) else "bullet"
        level = min(line.indent for line in marked if line.kind == kind)
        heads = [line for line in marked if line.kind == kind and line.indent <= level + 1]
        spans = list(_marked(text, lines, heads))
        if len(heads) == 1 and kind == "number":
            spans = _inline(text, spans)
    items = [item for span in spans if (item := _stripped(text, *span))]
    return items[:-1] if cut_off else items


def _whole(said: str) -> str:
    """A string of JSON as text: half of a surrogate pair is none."""
    return said.encode(errors="replace").decode()


def _json(text: str) -> list[ListItem] | None:
    """The strings of a JSON list, perhaps of one that is cut off, or the values of an object.

    None where there is neither.
    """
    opened = re.search(r"\[\s*(?:\{[^{}\[\]\"]*)?\"", text) or re.search(r"\{\s*\"", text)
    if opened is None:
        return None
    start = opened.start()
    if any(line.kind in ("number", "bullet") for line in _lines(text[:start])):
        return None  # a quotation in brackets, in a list of another kind
    try:
        value, size = json.JSONDecoder().raw_decode(text[start:])
        end = start + size
    except json.JSONDecodeError:
        value, end = None, len(text)
    if text[start] == "{" and not (
        isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    ):
        return None  # no numbered answers
    items = []
    for match in _STRING.finditer(text, start, end):
        if text[match.end() : end].lstrip()[:1] == ":":
            continue  # the name of a field
        try:
            said = json.loads(match[0], strict=False)
        except json.JSONDecodeError:
            continue
        said = _whole(said)
        items.append(ListItem(*match.span(1), None if said == match[1] else said))
    if value is not None and all(isinstance(one, dict) for one in value):
        # Of objects the first text of each is the answer, what follows describes it.
        first = [next((v for v in one.values() if isinstance(v, str)), None) for one in value]
        picked: list[ListItem] = []
        rest = iter(items)
        for wanted in (_whole(v) for v in first if v is not None):
            picked.append(next(i for i in rest if (i.said or text[i.start : i.end]) == wanted))
        items = picked
    return [item for item in items if (item.said or text[item.start : item.end]).strip()]


def _lines(text: str) -> Iterator[_Line]:
    """Yields the lines of a text with what begins them."""
    at = 0
    for line in text.split("\n"):
        end = at + len(line)
        mark = _MARK.match(line)
        if not line.strip() or line.strip().startswith("```"):
            yield _Line(at, end, 0, end, "blank")
        elif mark:
            # "**1. Rome**: ..." keeps its closing asterisks; the opening ones go with the number.
            indent = len(mark["indent"].expandtabs(4))
            kind = "number" if mark["number"] else "bullet"
            yield _Line(at, end, indent, at + mark.end(), kind)
        else:
            indent = len(line.expandtabs(4)) - len(line.expandtabs(4).lstrip())
            yield _Line(at, end, indent, at, "text")
        at = end + 1


def _marked(text: str, lines: Sequence[_Line], heads: Sequence[_Line]) -> Iterator[tuple[int, int]]:
    """Yields each point with the lines that belong to it: up to the next, or to what follows."""
    for place, head in enumerate(heads):
        limit = heads[place + 1].start if place + 1 < len(heads) else len(text)
        end, apart = head.end, False
        for line in lines:
            if line.start <= head.start or line.start >= limit:
                continue
            if line.kind == "blank":
                apart = True
            elif apart and line.kind == "text" and line.indent <= head.indent:
                break  # a paragraph of its own, such as words after the list
            else:
                end = line.end
        yield head.text, end


def _inline(text: str, items: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Splits "1. Rome 2. Paris 3. Oslo" that stands on one line."""
    start, end = items[0][:2]
    pieces = []
    for number in range(2, 1000):
        following = re.compile(rf"[ \t,;]\(?{number}[.)][ \t]").search(text, start, end)
        if following is None:
            break
        pieces.append((start, following.start()))
        start = following.end()
    return [*pieces, (start, end)]


def _plain(text: str, lines: Sequence[_Line]) -> list[tuple[int, int]]:
    """A text without marks: each line an answer, but for words that introduce them."""
    if len(lines) > 1 and text[lines[0].start : lines[0].end].rstrip().endswith(":"):
        lines = lines[1:]
    return [(line.start, line.end) for line in lines]


def _stripped(text: str, start: int, end: int) -> ListItem | None:
    """An item without white space and marks around it; None if nothing is left."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    body = text[start:end]
    for wrap in _WRAPS:
        left, right = (wrap[0], wrap[1]) if wrap in ("“”", "‘’") else (wrap, wrap)
        inner = body[len(left) : len(body) - len(right)]
        whole = body.startswith(left) and body.endswith(right) and inner.strip()
        if whole and left not in inner and right not in inner:
            return _stripped(text, start + len(left), end - len(right))
    if body.endswith("**") and body.count("**") % 2:  # "**1. Rome**": opened before the number
        return _stripped(text, start, end - 2)
    return ListItem(start, end) if body else None


def run_enumerate(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """One response lists n answers; each sample is the answer of its number.

    What the list lacks is empty, with the finish reason ``failed``; what it has too much is left.
    """
    assert setting.n is not None
    n, sampling = setting.n, setting.sampling
    account = Account()
    prompts = list(dict.fromkeys(task.prompt for task in tasks))
    asks = []
    for prompt in prompts:
        request = wording.ENUMERATE.format(request=prompt[-1].content, n=n)
        asks.append(Task(prompt, 0, asked=wording.with_last(prompt, request)))
    window = pair.aligned.context_window
    longest = max(len(pair.sides[1].ids(ask.asked or ask.prompt)) for ask in asks)
    room = max(1, min(n * (sampling.max_new_tokens + ROOM), window - longest))
    whole = replace(sampling, stop=(), max_new_tokens=room, restart_shorter_than=0)
    made: dict[int, Sample] = {}
    run = run_alone(pair, "aligned", asks, replace(setting, sampling=whole))
    yield from account.collect(run, made)
    for number, prompt in enumerate(prompts):
        group = separated(made[number], n, setting)
        for i, task in enumerate(tasks):
            if task.prompt == prompt:
                yield from tell(i, group[task.index])
    yield account.stats


def separated(response: Sample, n: int, setting: Setting) -> list[Sample]:
    """Makes the samples of a group out of the response that lists them."""
    items = listed(response.text, cut_off=response.finish_reason == "length")
    group = []
    for i, cost in enumerate(shares(response.cost, n)):
        if i >= len(items):
            sample = replace(failed(response), details={"listed": len(items)})
        else:
            start, end, said = items[i]
            found = Found(start, end, {"listed": len(items)})
            own = replace(response, finish_reason="stop")
            sample = cut(own, found, setting.sampling.stop, setting.sampling.max_new_tokens)
            if said is not None and sample.text == response.text[start:end]:
                tokens = (said, *[""] * (len(sample.tokens) - 1))
                sample = replace(sample, text=said, tokens=tokens)
        group.append(replace(sample, index=i, cost=cost))
    return group


METHODS = (
    Method(
        "enumerate",
        "prompting",
        "temperature",
        "arXiv 2509.17570",
        run_enumerate,
        default=1.0,
        low=0.0,
        high=HOTTEST,
        alias="temperature",
        needs=frozenset({"aligned logits"}),
        rewords=True,
        whole_group=True,
        restarts=False,
    ),
)
