"""The shown groups and all votes as plain rows; what `baco metrics score` takes as input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from baco.study.protocol import DIVERSITY, TIE
from baco.study.store import Study


def rows(study: Study) -> Iterator[dict[str, Any]]:
    """One row per prompt and method: the responses shown, and what annotators said of them.

    Args:
        study: The study.

    Yields:
        Rows with ``prompt``, ``method``, ``generations``, per annotator the ``ratings`` in the
        same order, per question the ``votes`` as {annotator: method or "tie"} for every other
        method, and ``simulated``. Names and links are left out.
    """
    methods, votes, responses = study.methods, study.votes(), study.responses()
    method_of = {response.id: response.method for response in responses}
    pairs = [(a, b) for a in range(len(methods)) for b in range(a + 1, len(methods))]
    simulated = any(annotator.simulated for annotator in study.annotators())
    for prompt, text in enumerate(study.prompts):
        here = [vote for vote in votes if vote.prompt == prompt]
        for method, name in enumerate(methods):
            shown = [r for r in responses if (r.prompt, r.method) == (prompt, method)]
            ratings: dict[str, list[int | None]] = {}
            for vote in here:
                if vote.question == "quality":
                    ratings.setdefault(f"A{vote.annotator + 1}", [None] * len(shown))
            places = {response.id: at for at, response in enumerate(shown)}
            said: dict[str, Any] = {}
            for vote in here:
                who = f"A{vote.annotator + 1}"
                if vote.question == "quality" and vote.item in places:
                    ratings[who][places[vote.item]] = vote.choice
                elif vote.question in DIVERSITY and method in pairs[vote.item]:
                    other = methods[sum(pairs[vote.item]) - method]
                    winner = TIE if vote.choice is None else methods[vote.choice]
                    said.setdefault(vote.question, {}).setdefault(other, {})[who] = winner
                elif vote.question == "creativity" and vote.choice is not None:
                    picked = said.setdefault("creativity", {})
                    picked[who] = methods[method_of[vote.choice]]
            yield {
                "prompt": text,
                "method": name,
                "generations": [response.text for response in shown],
                "ratings": ratings,
                "votes": said,
                "simulated": simulated,
            }
