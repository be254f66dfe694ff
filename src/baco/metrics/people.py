"""How far metrics agree with people, from answers that several people judged.

Infinity-Chat (arXiv 2510.22954) publishes such judgements in two shapes: marks of single answers
(``human-absolute``) and preferences between two (``human-pairwise``, from 2, the first is much
better, to -2). Both become pairs of answers to one prompt, on which a metric and people are asked
the same question: which is the better one?
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from baco.errors import InputError, missing_extra
from baco.metrics.groups import Generations, from_mapping
from baco.metrics.score import Scores
from baco.metrics.spec import Metric
from baco.reading import parse_json
from baco.reporting.resampling import Floats, resampled

RESAMPLES = 2000

PEOPLE = "people"
"""Among the metrics: how far one half of the people agrees with the other."""

_FIELDS = "user_query, human_labels, and response, or response_1 and response_2"


@dataclass(frozen=True)
class _Pair:
    """Two answers to one prompt: their places, and by how much people prefer the first.

    Args:
        prompt: The prompt.
        first: Place of the first answer among all.
        second: Place of the second.
        people: Mean preference of all people.
        half: Mean preference of every other one of them.
        rest: Mean preference of the others.
    """

    prompt: str
    first: int
    second: int
    people: float
    half: float
    rest: float


@dataclass(frozen=True)
class Judged:
    """Answers that people judged.

    Args:
        answers: Each answer as a group of its own, so that a metric gives it a value of its own.
        marks: Mean mark of each answer, or none where people compared two answers.
        pairs: The pairs of answers to one prompt.
    """

    answers: tuple[Generations, ...]
    marks: tuple[float, ...]
    pairs: tuple[_Pair, ...]


@dataclass(frozen=True)
class HumanAgreement:
    """How far a metric orders answers as people do.

    Args:
        share: Share of the pairs on which people have a preference that the metric orders the same
            way; a pair to which it gives equal values counts half, so chance is 0.5.
        low: Lower end of its 95 % bootstrap interval over prompts.
        high: Upper end.
        spearman: Rank correlation: of values and mean marks over answers, or, for preferences, of
            the differences of values and the mean preferences over pairs.
        pairs: How many pairs the share counts.
    """

    share: float
    low: float
    high: float
    spearman: float
    pairs: int

    def to_dict(self) -> dict[str, float | None]:
        """The figures as plain data for JSON; NaN becomes None."""
        return {k: v if math.isfinite(v) else None for k, v in vars(self).items()}


def judged(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Judged:
    """Reads answers with people's judgements.

    Args:
        rows: Each row with the place where it stands; all of one shape.

    Raises:
        InputError: If a row lacks a field, has labels that are no numbers, or is of another shape
            than the first; if no prompt has two answers.
    """
    if not rows:
        raise InputError("there is no answer that people judged", hint=f"a row has {_FIELDS}")
    compared = "response_1" in rows[0][1]
    names = ("response_1", "response_2") if compared else ("response",)
    answers: list[Generations] = []
    labels: list[Floats] = []
    for where, row in rows:
        if missing := [n for n in ("user_query", *names, "human_labels") if n not in row]:
            raise InputError(
                f"{where}: no {missing[0]}", hint=f"a row has {_FIELDS}; this one {', '.join(row)}"
            )
        if not isinstance(row["user_query"], str) or not row["user_query"].strip():
            raise InputError(f"{where}: user_query is no text", hint="give the prompt there")
        labels.append(_labels(row["human_labels"], where))
        answers += [
            from_mapping({"prompt": row["user_query"], "generations": [row[name]]}, where)
            for name in names
        ]
    if compared:
        pairs = [
            _Pair(answers[2 * i].question, 2 * i, 2 * i + 1, *_means(found))
            for i, found in enumerate(labels)
        ]
        return Judged(tuple(answers), (), tuple(pairs))
    means = np.array([_means(found) for found in labels])
    places: dict[str, list[int]] = {}
    for place, answer in enumerate(answers):
        places.setdefault(answer.question, []).append(place)
    pairs = [
        _Pair(prompt, i, j, *np.round(means[i] - means[j], 12))
        for prompt, of in places.items()
        for i, j in itertools.combinations(of, 2)
    ]
    if not pairs:
        raise InputError("no prompt has two answers that people judged: nothing to compare")
    return Judged(tuple(answers), tuple(means[:, 0]), tuple(pairs))


def check_single(metrics: Sequence[Metric]) -> None:
    """Refuses metrics that have no value for one answer alone.

    Raises:
        InputError: If a metric compares outputs.
    """
    for metric in metrics:
        if metric.pairwise:
            raise InputError(
                f"{metric.name} compares several outputs, and people judged single answers",
                hint="name metrics of quality, such as ppl, reward or relevance",
            )


def agreements(found: Judged, scores: Scores) -> dict[str, HumanAgreement]:
    """The agreement of each metric with people, and of one half of the people with the other.

    Args:
        found: What people said.
        scores: The metrics' values of ``found.answers``.

    Returns:
        By metric, then under `PEOPLE` how far every other one of the people agrees with the rest.
        A metric is compared with the mean of all, which is steadier than that of the rest, so it
        can do a little better than people do there.
    """
    pairs = found.pairs
    people = np.array([pair.people for pair in pairs])
    first = [pair.first for pair in pairs]
    second = [pair.second for pair in pairs]
    result = {}
    for summary in scores.summaries:
        sign = 1 if summary.metric.direction == "up" else -1
        values = sign * np.array(scores.column(summary.metric.name))
        differences = values[first] - values[second]
        ranks = _spearman(values, found.marks) if found.marks else _spearman(differences, people)
        result[summary.metric.name] = _agreement(differences, people, pairs, ranks)
    half = np.array([pair.half for pair in pairs])
    rest = np.array([pair.rest for pair in pairs])
    result[PEOPLE] = _agreement(half, rest, pairs, _spearman(half, rest))
    return result


def _agreement(
    values: Floats, people: Floats, pairs: Sequence[_Pair], ranks: float
) -> HumanAgreement:
    counted = np.isfinite(values) & np.isfinite(people) & (people != 0)
    hits = (np.sign(values) * np.sign(people) + 1) / 2
    prompts = {name: i for i, name in enumerate(dict.fromkeys(pair.prompt for pair in pairs))}
    of = np.array([prompts[pair.prompt] for pair in pairs])[counted]
    above = np.bincount(of, hits[counted], len(prompts))
    below = np.bincount(of, minlength=len(prompts)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        share, low, high = resampled(
            lambda draw: float(np.divide(draw @ above, draw @ below)), len(prompts), 0, RESAMPLES
        )
    return HumanAgreement(share, low, high, ranks, int(counted.sum()))


def _labels(value: Any, where: str) -> Floats:
    """What people said of one answer or pair, each a finite number; of a CSV a list in JSON."""
    if isinstance(value, str):
        with contextlib.suppress(InputError):
            value = parse_json(value, where)
    if not isinstance(value, list | tuple) or not value or not all(map(_is_number, value)):
        raise InputError(
            f"{where}: human_labels is no list of numbers",
            hint="one number for each person; of two answers, positive where the first is better",
        )
    return np.array(value, dtype=np.float64)


def _is_number(label: Any) -> bool:
    return isinstance(label, int | float) and not isinstance(label, bool) and -1e300 < label < 1e300


def _means(labels: Floats) -> tuple[float, float, float]:
    """Mean of all labels, of every other one, and of the rest; NaN for none."""
    half, rest = labels[::2], labels[1::2]
    # Rounded, so that 0.1 + 0.2 - 0.3 is even and the order of people does not matter.
    return (
        round(float(labels.mean()), 12),
        round(float(half.mean()), 12) if rest.size else math.nan,
        round(float(rest.mean()), 12) if rest.size else math.nan,
    )


def _spearman(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> float:
    """Rank correlation over the places where both are numbers; NaN if one of them is constant."""
    try:
        from scipy import stats
    except ImportError as error:
        raise missing_extra("scipy", "metrics") from error
    a, b = np.asarray(first), np.asarray(second)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return math.nan
    return float(stats.spearmanr(a, b).statistic)
