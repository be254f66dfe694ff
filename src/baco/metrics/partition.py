"""Classes of equivalent outputs, first come first served, and NoveltyBench's utility."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Sequence

from baco.metrics.words import split_unspaced

SHORT = 5
"""Up to so many words on both sides, words alone decide (NoveltyBench)."""

PATIENCE = 0.8
"""Chance that a user looks at one more output (NoveltyBench)."""

THRESHOLDS = (-7.71875, -6.28125, -6.0, -5.71875, -5.5, -5.0, -4.375, -3.4375, -2.046875)
"""Raw scores of Skywork-Reward-Gemma-2-27B-v0.2 above which the mark goes up by one."""

AskedPairs = list[tuple[int, int]]
Answers = Sequence[bool]


def first_come(n: int) -> Generator[AskedPairs, Answers, list[int]]:
    """Partitions n outputs by comparing them with the first member of each class.

    The first output not yet placed opens a class; every later one not yet placed is compared with
    it alone and joins if the two are equivalent. An output stays where it was put first. A
    generator, so that the comparisons of many groups can be answered in one batch.

    Args:
        n: Number of outputs.

    Yields:
        The pairs (first member, other) to compare now; send back one answer each.

    Returns:
        The class of each output, numbered from 0 in order of their first members.
    """
    classes = [-1] * n
    found = 0
    for first in range(n):
        if classes[first] >= 0:
            continue
        classes[first] = found
        later = [i for i in range(first + 1, n) if classes[i] < 0]
        if later:
            answers = yield [(first, i) for i in later]
            for i, same in zip(later, answers, strict=True):
                if same:
                    classes[i] = found
        found += 1
    return classes


def short_rule(a: str, b: str) -> bool | None:
    """NoveltyBench's rule for short answers: do they share at least half their words?

    Words are what stands between spaces; in scripts without spaces, what Unicode calls a word.

    Args:
        a: One output.
        b: The other.

    Returns:
        Whether they are equivalent; None if either has more than five words.
    """
    left, right = (split_unspaced(text.strip().lower().split()) for text in (a, b))
    longest = max(len(left), len(right))
    if longest > SHORT:
        return None
    return 2 * len(set(left) & set(right)) >= longest


def utility(classes: Sequence[int], scores: Sequence[float], patience: float = PATIENCE) -> float:
    """NoveltyBench's utility: marks of new outputs, weighted by the chance to be read.

    Args:
        classes: Class of each output, in the order shown.
        scores: Mark of each output, 1 to 10; those of repeated classes count 0.
        patience: Chance that one more output is read.

    Returns:
        A weighted mean in (0, 10]; up is better.
    """
    seen: set[int] = set()
    total = weight = 0.0
    for i, (kind, mark) in enumerate(zip(classes, scores, strict=True)):
        total += patience**i * (0.0 if kind in seen else mark)
        weight += patience**i
        seen.add(kind)
    return total / weight


def effective_classes(classes: Sequence[int], scores: Sequence[float], bar: float) -> float:
    """Effective semantic diversity: classes among good outputs, over all outputs.

    Source: arXiv 2504.12522, the measure for a fixed number of outputs: what is not good enough
    adds nothing, and what was said before adds nothing.

    Args:
        classes: Class of each output.
        scores: Quality of each output.
        bar: Least quality of a good output.

    Returns:
        A share in [0, 1]; up is more diverse. NaN if a quality is missing.
    """
    if any(score != score for score in scores):
        return float("nan")
    return len({c for c, s in zip(classes, scores, strict=True) if s >= bar}) / len(classes)


def mark(raw: float) -> int:
    """Maps a raw score of Skywork-Reward-Gemma-2-27B-v0.2 to 1..10; a tie gets the lower mark."""
    return 1 + bisect_left(THRESHOLDS, raw)
