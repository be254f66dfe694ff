"""The whole analysis of some points: every dataset, with intervals where there are prompts."""

from __future__ import annotations

from collections.abc import Sequence

from baco.errors import InputError
from baco.tradeoff.analysis import Analysis, analyse_dataset
from baco.tradeoff.bootstrap import add_intervals
from baco.tradeoff.coverage import BOUNDARIES
from baco.tradeoff.points import Points, Reference


def analyse(
    points: Points,
    *,
    rule: str = "drop",
    base: str = "base",
    aligned: str = "aligned",
    n: int = 0,
    bootstrap: int = 1000,
    seed: int = 0,
    compared: Sequence[str] | None = None,
) -> list[Analysis]:
    """Computes all figures of every dataset.

    Args:
        points: The points; per-prompt values are averaged over prompts first.
        rule: Boundary rule of Coverage.
        base: Base reference as ``METHOD`` or ``METHOD@CONTROL``; without control, temperature 1.
        aligned: Aligned reference, likewise.
        n: Number of outputs in a group; 0 takes it from the points, or else 10.
        bootstrap: Number of resamples of the prompts for the intervals; 0 for none.
        seed: Seed of the resampling.
        compared: The methods that are compared, where the others only lend their references;
            None compares all.

    Returns:
        One analysis per dataset.

    Raises:
        InputError: If a reference is missing, no space is valid, or an option is wrong.
    """
    if rule not in BOUNDARIES:
        raise InputError(f"unknown boundary rule {rule!r}", hint=f"known: {', '.join(BOUNDARIES)}")
    if bootstrap < 0 or n < 0:
        raise InputError("the numbers of resamples and of outputs cannot be negative")
    references = (Reference.parse("base", base), Reference.parse("aligned", aligned))
    found = []
    for dataset in points.datasets():
        mine = [p for p in points.points if p.dataset == dataset]
        analysis = analyse_dataset(dataset, mine, points.metrics, references, rule, n, compared)
        if bootstrap and any(p.prompt for p in mine):
            analysis = add_intervals(analysis, mine, points.metrics, bootstrap, seed)
        found.append(analysis)
    return found
