"""Diversity of long stories: where they turn, and how they excite (Paper: §5.4, App. D)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from types import UnionType

import numpy as np

from baco.metrics import rubrics
from baco.metrics.groups import Generations
from baco.metrics.passes import NotComputable, Passes, Values
from baco.metrics.spec import METRICS, Item, Metric
from baco.metrics.words import sentences

TURNING_POINTS = 5
SAMPLED = 20
"""At most so many evenly spaced sentences of a story are scored for arousal."""

DEGREE = 5
GRID = 50
FLOOR = 1e-3
"""Least height of an arousal curve, so that a divergence exists."""


def tp_div(places: Sequence[Sequence[float]]) -> float:
    """TP-Div: mean distance of the turning points of two stories, over pairs.

    Args:
        places: For each story the places of its turning points, sentence number over number of
            sentences, in (0, 1].

    Returns:
        A number in [0, floor(n^2 / 4) / (n choose 2)]; up is more diverse. NaN for one story.
    """
    if len(places) < 2:
        return math.nan
    table = np.asarray(places, dtype=np.float64)
    return float(np.mean([np.abs(a - b).mean() for a, b in combinations(table, 2)]))


def most_tp_div(n: int) -> float:
    """Theory end of TP-Div for n stories."""
    return (n * n // 4) / math.comb(n, 2) if n > 1 else math.nan


def arousal_curve(scores: Sequence[float]) -> Values:
    """Smooths the arousal scores of a story and makes a distribution of them.

    Args:
        scores: Scores in [0, 1] at evenly spaced sentences.

    Returns:
        A polynomial of degree 5 (less for few scores) at 50 points, at least 0.001 high, divided by
        its sum.
    """
    places = np.linspace(0.0, 1.0, len(scores))
    degree = min(DEGREE, len(scores) - 1)
    fitted = np.polynomial.Polynomial.fit(places, np.asarray(scores, dtype=np.float64), degree)
    heights = np.maximum(fitted(np.linspace(0.0, 1.0, GRID)), FLOOR)
    curve: Values = heights / heights.sum()
    return curve


def arousal_div(stories: Sequence[Sequence[float]], *, symmetric: bool = True) -> float:
    """Arousal-Div: mean divergence of the stories' arousal curves, over pairs.

    Args:
        stories: Arousal scores of each story.
        symmetric: Whether to average the two directions of the Kullback-Leibler divergence; the
            paper's one direction (False) depends on the order of the stories.

    Returns:
        Nats, in [0, inf); up is more diverse. NaN for one story.
    """
    if len(stories) < 2:
        return math.nan
    values = []
    for p, q in combinations([arousal_curve(s) for s in stories], 2):
        forth = float((p * np.log(p / q)).sum())
        back = float((q * np.log(q / p)).sum())
        values.append((forth + back) / 2 if symmetric else forth)
    return math.fsum(values) / len(values)


def check_turning_points(
    points: object, length: int, kinds: type[int] | UnionType = int
) -> list[float] | None:
    """Takes five sentence numbers, in order, within the story; None for anything else.

    Args:
        points: What was given.
        length: Number of sentences of the story.
        kinds: Types of numbers; a mean over raters is a float.
    """
    if not isinstance(points, list) or len(points) != TURNING_POINTS:
        return None
    if not all(isinstance(p, kinds) and not isinstance(p, bool) for p in points):
        return None
    if points != sorted(points) or not 1 <= points[0] <= points[-1] <= length:
        return None
    return points


def story(group: Generations, index: int) -> list[str]:
    """Sentences of a whole story: the field ``prefix`` (the sketch), if any, and the output."""
    prefix = group.extra.get("prefix", "")
    text = group.generations[index]
    return sentences(f"{prefix} {text}" if prefix else text)


def sampled_sentences(number: int) -> list[int]:
    """Indices of at most twenty evenly spaced sentences of a story with so many."""
    m = min(number, SAMPLED)
    return [round(float(i)) for i in np.linspace(0, number - 1, m)] if m else []


def tp_scores(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """TP-Div with turning points from the input or from a judge."""
    if metric.variant == "file":
        passes.made_by[metric.name] = "turning points given in the input"
        return [tp_div(_given_places(group)) for group in groups]
    judge = passes.judge()
    passes.made_by[metric.name] = judge.label
    stories = [story(g, i) for g in groups for i in range(len(g.generations))]
    items: list[Item] = [tuple(s) for s in stories]

    def one(parts: Item) -> list[float]:
        if not parts:
            return [math.nan] * TURNING_POINTS
        made = judge.ask_for(
            rubrics.turning_points(parts), lambda reply: _read_points(reply, len(parts))
        )
        return [math.nan] * TURNING_POINTS if made is None else [p / len(parts) for p in made]

    found = iter(
        passes.run(
            f"turning points|{judge.name}|{rubrics.version()}",
            items,
            lambda missing: judge.over(one, missing),
        )
    )
    return [tp_div([next(found).tolist() for _ in g.generations]) for g in groups]


def _read_points(reply: object, length: int) -> list[float] | None:
    if not isinstance(reply, dict):
        return None
    return check_turning_points([reply.get(name) for name in rubrics.TURNING_POINTS], length)


def _given_places(group: Generations) -> list[list[float]]:
    given = group.extra.get("turning_points")
    if not isinstance(given, list) or len(given) != len(group.generations):
        raise NotComputable(
            f"{group.where}: the field 'turning_points' must hold a list of five sentence numbers "
            "for each generation"
        )
    lengths = group.extra.get("sentences")
    if lengths is None:
        lengths = [len(story(group, i)) for i in range(len(given))]
    if not isinstance(lengths, list) or len(lengths) != len(given):
        raise NotComputable(f"{group.where}: the field 'sentences' must hold one number each")
    places = []
    for index, (points, length) in enumerate(zip(given, lengths, strict=True)):
        checked = check_turning_points(points, length, int | float)
        if checked is None:
            raise NotComputable(
                f"{group.where}: the turning points of generation {index} are not five "
                f"numbers from 1 to {length} in order"
            )
        places.append([p / length for p in checked])
    return places


def arousal_scores(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Arousal-Div with scores from the input or from a judge."""
    if metric.variant == "file":
        passes.made_by[metric.name] = "arousal scores given in the input"
        return [arousal_div(_given_arousal(group)) for group in groups]
    judge = passes.judge()
    passes.made_by[metric.name] = judge.label
    items: list[Item] = []
    for group in groups:
        for i in range(len(group.generations)):
            parts = story(group, i)
            items.append(tuple(parts[k] for k in sampled_sentences(len(parts))))

    def one(parts: Item) -> list[float]:
        if not parts:
            return [math.nan]
        made = judge.ask_for(rubrics.arousal(parts), lambda reply: _read_arousal(reply, len(parts)))
        return made or [math.nan] * len(parts)

    found = iter(
        passes.run(
            f"arousal|{judge.name}|{rubrics.version()}",
            items,
            lambda missing: judge.over(one, missing),
        )
    )
    values = []
    for group in groups:
        stories = [next(found).tolist() for _ in group.generations]
        broken = any(math.isnan(v) for s in stories for v in s)
        values.append(math.nan if broken else arousal_div(stories))
    return values


def _read_arousal(reply: object, number: int) -> list[float] | None:
    scores = reply.get("arousal") if isinstance(reply, dict) else None
    return _unit_numbers(scores, number)


def _unit_numbers(scores: object, number: int = 0) -> list[float] | None:
    if not isinstance(scores, list) or not scores or (number and len(scores) != number):
        return None
    if not all(isinstance(s, int | float) and 0 <= s <= 1 for s in scores):
        return None
    return [float(s) for s in scores]


def _given_arousal(group: Generations) -> list[list[float]]:
    given = group.extra.get("arousal")
    if not isinstance(given, list) or len(given) != len(group.generations):
        given = [None]
    checked = [_unit_numbers(scores) for scores in given]
    found = [scores for scores in checked if scores is not None]
    if len(found) < len(group.generations):
        raise NotComputable(
            f"{group.where}: the field 'arousal' must hold a list of numbers from 0 to 1 for each "
            "generation"
        )
    return found


METRICS.add(
    "tp_div",
    Metric(
        name="tp_div",
        kind="discourse",
        direction="up",
        range="[0, floor(n²/4)/C(n,2)]",
        theory="floor(n²/4)/C(n,2)",
        theory_end=most_tp_div,
        model="judge, or annotations",
        source="Paper: App. D; Tian et al. 2024",
        compute=tp_scores,
        stand_ins=("file",),
        on_request=True,
    ),
)
METRICS.add(
    "arousal_div",
    Metric(
        name="arousal_div",
        kind="discourse",
        direction="up",
        range="[0, inf) nats",
        theory="",
        theory_end=None,
        model="judge, or annotations",
        source="Paper: App. D; Tian et al. 2024",
        compute=arousal_scores,
        stand_ins=("file",),
        on_request=True,
    ),
)
