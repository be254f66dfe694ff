"""Flaws of outputs that can be seen without a model, and whether they keep to the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from baco.metrics.groups import Generations
from baco.metrics.passes import NotComputable, Passes
from baco.metrics.semantic import embeddings
from baco.metrics.spec import METRICS, Metric

REPEATS, LONG = 3, 8
"""A loop says the same words at least so many times in a row, and is at least so many words long:
"no, no, no" is none."""

PERIOD = 40
"""The longest run of words that is looked for again right after itself."""

_TURN = re.compile(
    r"\n\s*(?:Question|Answer|Q|A|User|Human|Assistant|AI|System|Instruction|Response|Prompt)\s*:"
)


def loops(text: str) -> bool:
    """Whether a text says the same few words over and over, without anything between."""
    words = text.lower().split()
    for period in range(1, min(PERIOD, len(words) // REPEATS) + 1):
        run = 0  # words that equal the one a period before them
        for i in range(period, len(words)):
            run = run + 1 if words[i] == words[i - period] else 0
            if run + period >= max(REPEATS * period, LONG):
                return True
    return False


def runs_on(text: str) -> bool:
    """Whether a text goes on with another turn, as a base model does that was not stopped."""
    return bool(_TURN.search(text))


def _share(flaw: Callable[[Generations, int], bool]) -> Callable[..., list[float]]:
    def compute(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
        return [
            sum(flaw(group, i) for i in range(len(group.generations))) / len(group.generations)
            for group in groups
        ]

    return compute


def _loop(group: Generations, i: int) -> bool:
    return loops(group.generations[i])


def _run_on(group: Generations, i: int) -> bool:
    return runs_on(group.generations[i])


def _cut_off(group: Generations, i: int) -> bool:
    if not group.finish_reasons:
        raise NotComputable("it needs the finish_reasons of the outputs")
    return group.hit_limit(i)


def _broken(group: Generations, i: int) -> bool:
    text = group.generations[i]
    return not text.strip() or loops(text) or runs_on(text)


def relevance(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Mean cosine of the outputs' embeddings and the prompt's."""
    answers = embeddings(groups, passes, metric)
    asked = [replace(g, generations=(g.question,)) for g in groups]
    questions = embeddings(asked, passes, metric)
    return [
        mean_cosine(np.asarray(vectors), np.asarray(question)[0])
        for vectors, question in zip(answers, questions, strict=True)
    ]


def mean_cosine(vectors: np.ndarray, other: np.ndarray) -> float:
    """Mean cosine of some vectors [n, d] with another [d]; NaN where one has no direction."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(other)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.mean(vectors @ other / lengths))


_FLAW = Metric(
    name="broken",
    kind="quality",
    direction="down",
    range="[0, 1]",
    theory="",
    theory_end=None,
    model="-",
    source="this project: share of outputs that are empty, loop or run on",
    compute=_share(_broken),
    pairwise=False,
)
_SHARES = (
    _FLAW,
    replace(
        _FLAW,
        name="looping",
        source="this project: share of outputs that say the same words three times in a row",
        compute=_share(_loop),
    ),
    replace(
        _FLAW,
        name="running_on",
        source="this project: share of outputs that go on with another turn",
        compute=_share(_run_on),
    ),
    replace(
        _FLAW,
        name="cut_off",
        source="this project: share of outputs that ended at the limit of tokens",
        compute=_share(_cut_off),
    ),
    replace(
        _FLAW,
        name="relevance",
        direction="up",
        range="[-1, 1]",
        model="sentence encoder",
        source="cosine of prompt and output; Reimers & Gurevych 2019",
        compute=relevance,
        role="encoder",
    ),
)
for _metric in _SHARES:
    METRICS.add(_metric.name, _metric)
