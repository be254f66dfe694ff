"""All that an annotator can see and say: positions and texts, never methods, ids or others' votes.

The page and the API know a response only by its position on this annotator's screen, and a group
only by its side. Groups are named from the second step on, so that the first one judges single
responses.
"""

from __future__ import annotations

from typing import Any

from baco.errors import InputError
from baco.study.protocol import DIVERSITY, PHASES, RATINGS, SIDES, TIE
from baco.study.store import Annotator, Screen, Study, Vote


class OrderError(InputError):
    """A step was answered before the step that comes first (server: 409)."""


def overview(study: Study, annotator: Annotator) -> dict[str, Any]:
    """Where the annotator stands: wording, consent, progress and time spent."""
    screens = study.screens(annotator.id)
    votes = study.votes(annotator.id)
    return {
        "title": study.fact("title"),
        "protocol": study.fact("protocol"),
        "accepted": annotator.accepted is not None,
        "screens": [
            {"number": screen.number, **_counts(study, screen, votes)} for screen in screens
        ],
        "active_ms": study.active_ms(annotator.id),
        "comment": _comment(study, annotator, -1),
    }


def sheet(study: Study, annotator: Annotator, number: int) -> dict[str, Any]:
    """One screen: the prompt, the responses by position, and this annotator's answers so far."""
    screen = _screen(study, annotator, number)
    votes = study.votes(annotator.id, screen.prompt)
    counts = _counts(study, screen, votes)
    texts = {response.id: response for response in study.responses(screen.prompt)}
    open_now = counts["done"]["quality"] == counts["needed"]["quality"]
    return {
        "number": number,
        "prompt": study.prompts[screen.prompt],
        "responses": [texts[response].text for response in screen.positions],
        "groups": [_sides(study, screen, pair) for pair in screen.sides] if open_now else [],
        "votes": [_shown(screen, vote) for vote in votes],
        "comment": _comment(study, annotator, screen.prompt),
        **counts,
    }


def cast(
    study: Study,
    annotator: Annotator,
    *,
    click: str,
    number: int,
    question: str,
    item: int,
    value: int | str,
) -> dict[str, Any]:
    """Takes one click.

    Args:
        study: The study.
        annotator: Who clicked.
        click: Identifies the click, so that a repeated request counts once.
        number: The screen.
        question: The question.
        item: Position of the rated response, or number of the pair of groups; from 1.
        value: A rating, a side or `tie`, or a position.

    Returns:
        How much of the screen is done.

    Raises:
        InputError: If the question has no such item or answer.
        OrderError: If an earlier step is not finished.
    """
    screen = _screen(study, annotator, number)
    counts = _counts(study, screen, study.votes(annotator.id, screen.prompt))
    if question == "quality":
        places, phase = len(screen.positions), 0
        choice: int | None = value if isinstance(value, int) and value in RATINGS else -1
    elif question in DIVERSITY:
        places, phase = len(screen.sides), 1
        ties = study.fact("protocol")["ties"]
        if value == TIE and ties:
            choice = None
        elif value in SIDES and 1 <= item <= places:
            choice = screen.sides[item - 1][SIDES.index(str(value))]
        else:
            choice = -1
    elif question == "creativity":
        places, phase = 1, 2
        inside = isinstance(value, int) and 1 <= value <= len(screen.positions)
        choice = screen.positions[int(value) - 1] if inside else -1
    else:
        raise InputError(f"no question {question!r}")
    if not 1 <= item <= places or choice == -1:
        raise InputError(f"no answer {value!r} for item {item} of {question!r}")
    for earlier in PHASES[:phase]:
        if counts["done"][earlier] < counts["needed"][earlier]:
            raise OrderError(f"the step {earlier!r} comes first")
    target = screen.positions[item - 1] if phase == 0 else item - 1
    study.vote(click, Vote(annotator.id, screen.prompt, question, target, choice), str(value))
    return _counts(study, screen, study.votes(annotator.id, screen.prompt))


def note(study: Study, annotator: Annotator, number: int, text: str) -> None:
    """Stores a comment on a screen, or on the study as a whole (screen 0)."""
    prompt = _screen(study, annotator, number).prompt if number else -1
    study.comment(annotator.id, prompt, text.strip())


def spend(study: Study, annotator: Annotator, number: int, visit: str, active_ms: int) -> None:
    """Notes active time on a screen, or elsewhere (screen 0)."""
    prompt = _screen(study, annotator, number).prompt if number else -1
    study.visit(annotator.id, visit, prompt, active_ms)


def own_data(study: Study, annotator: Annotator) -> dict[str, Any]:
    """Everything stored about one annotator, as they saw it: still blind."""
    screens = {screen.prompt: screen for screen in study.screens(annotator.id)}
    return {
        "study": study.fact("title"),
        "name": annotator.name,
        "link_created": annotator.created,
        "consented": annotator.accepted,
        "active_ms": study.active_ms(annotator.id),
        "screens": [sheet(study, annotator, screen.number) for screen in screens.values()],
        "clicks": [
            {
                "screen": screens[prompt].number,
                "question": question,
                "item": _place(screens[prompt], question, item),
                "value": shown,
                "at": at,
            }
            for _, prompt, question, item, shown, at in study.clicks(annotator.id)
        ],
        "comments": [
            {"screen": screens[prompt].number if prompt >= 0 else 0, "text": text}
            for _, prompt, text in study.comments(annotator.id)
        ],
    }


def _screen(study: Study, annotator: Annotator, number: int) -> Screen:
    screen = study.screen(annotator.id, number)
    if screen is None:
        raise InputError(f"no screen {number}")
    return screen


def _comment(study: Study, annotator: Annotator, prompt: int) -> str:
    return next((t for _, at, t in study.comments(annotator.id) if at == prompt), "")


def _counts(study: Study, screen: Screen, votes: list[Vote]) -> dict[str, dict[str, int]]:
    given = [vote.question for vote in votes if vote.prompt == screen.prompt]
    done = {
        "quality": given.count("quality"),
        "diversity": sum(given.count(question) for question in DIVERSITY),
        "creativity": given.count("creativity"),
    }
    needed = {
        "quality": len(screen.positions),
        "diversity": len(DIVERSITY) * len(screen.sides),
        "creativity": 1,
    }
    return {"done": done, "needed": needed}


def _sides(study: Study, screen: Screen, pair: list[int]) -> dict[str, list[int]]:
    method = {response.id: response.method for response in study.responses(screen.prompt)}
    return {
        side: [at for at, r in enumerate(screen.positions, 1) if method[r] == shown]
        for side, shown in zip(SIDES, pair, strict=True)
    }


def _place(screen: Screen, question: str, item: int) -> int:
    return (screen.positions.index(item) if question == "quality" else item) + 1


def _shown(screen: Screen, vote: Vote) -> dict[str, Any]:
    """A stored answer in the annotator's own positions and sides."""
    value: int | str | None = vote.choice
    if vote.question in DIVERSITY:
        sides = screen.sides[vote.item]
        value = TIE if vote.choice is None else SIDES[sides.index(vote.choice)]
    elif vote.question == "creativity" and vote.choice is not None:
        value = screen.positions.index(vote.choice) + 1
    return {
        "question": vote.question,
        "item": _place(screen, vote.question, vote.item),
        "value": value,
    }
