"""Lays out each annotator's screens: random order, balanced positions and sides.

Within a block of prompts, and within a block of annotators, the methods' labels rotate through
the positions of one random pattern. So every annotator sees each method equally often at each
position and on each side (up to one), and so does every prompt over the annotators.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class PlannedScreen:
    """One prompt as one annotator sees it.

    Attributes:
        prompt: Index of the prompt in the design.
        positions: The responses in the order shown, each as (method index, response index).
        sides: For each pair of methods, the method indices shown as group A and group B.
    """

    prompt: int
    positions: tuple[tuple[int, int], ...]
    sides: tuple[tuple[int, int], ...]


def screens(
    annotator: int, *, prompts: int, methods: int, responses: int, seed: int
) -> list[PlannedScreen]:
    """The screens of one annotator, in the order shown.

    Args:
        annotator: Running number of the annotator, from 0.
        prompts: Prompts in the study.
        methods: Methods compared.
        responses: Responses per method and prompt.
        seed: The study's seed.

    Returns:
        One screen per prompt. A further annotator's screens do not depend on how many there are.
    """
    turn, block = annotator % methods, annotator // methods
    labels = _rotated(
        Random(f"{seed}/positions/{block}"), prompts, methods, turn, _pattern(methods, responses)
    )
    pairs = list(itertools.combinations(range(methods), 2))
    left = [
        _rotated(Random(f"{seed}/sides/{annotator // 2}/{pair}"), prompts, 2, annotator % 2, [0])
        for pair in pairs
    ]
    own = Random(f"{seed}/annotator/{annotator}")
    result = []
    for prompt in range(prompts):
        waiting = [own.sample(range(responses), responses) for _ in range(methods)]
        result.append(
            PlannedScreen(
                prompt,
                tuple((method, waiting[method].pop()) for method in labels[prompt]),
                tuple(
                    (pair[first[prompt][0]], pair[1 - first[prompt][0]])
                    for pair, first in zip(pairs, left, strict=True)
                ),
            )
        )
    own.shuffle(result)
    return result


def _pattern(methods: int, responses: int) -> list[int]:
    return [method for method in range(methods) for _ in range(responses)]


def _rotated(
    rng: Random, prompts: int, period: int, turn: int, pattern: Sequence[int]
) -> list[list[int]]:
    """For each prompt, a random pattern of labels, rotated along its block and by the turn."""
    order = rng.sample(range(prompts), prompts)
    result: list[list[int]] = [[] for _ in range(prompts)]
    for start in range(0, prompts, period):
        shuffled = rng.sample(pattern, len(pattern))
        offset = rng.randrange(period)
        for step, prompt in enumerate(order[start : start + period]):
            result[prompt] = [(label + offset + step + turn) % period for label in shuffled]
    return result
