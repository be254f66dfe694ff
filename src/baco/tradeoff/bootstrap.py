"""Bootstrap intervals: prompts are drawn again, the same ones for every method."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from baco.metrics.spec import Metric
from baco.reporting.resampling import draws, ends
from baco.tradeoff.analysis import (
    Analysis,
    CurveSetting,
    Levels,
    averaged_metrics,
    build_spaces,
    combine,
    measure,
)
from baco.tradeoff.points import Point

FigureKey = tuple[str, str, str, str]
"""(level, name, method, measure)."""


def add_intervals(
    analysis: Analysis,
    points: Sequence[Point],
    metrics: Sequence[Metric],
    resamples: int,
    seed: int,
) -> Analysis:
    """Adds percentile intervals; the references are drawn again together with the rest.

    Args:
        analysis: The analysis of the same points.
        points: Per-prompt values of one dataset.
        metrics: Their metrics.
        resamples: How often the prompts are drawn.
        seed: Seed of the draws.

    Returns:
        The analysis with ``intervals`` and ``replicates``.
    """
    settings, values = _table(points, metrics)
    prompts = values.shape[1]
    drawn = draws(np.random.default_rng(seed), prompts, resamples)
    present = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means = np.einsum("spk,rp->rsk", np.where(present, values, 0.0), drawn) / np.einsum(
            "spk,rp->rsk", present.astype(float), drawn
        )
    names, averaged = [m.name for m in metrics], averaged_metrics(analysis.spaces)
    replicates = []
    for table in means:
        figures = {
            s: dict(zip(names, row, strict=True))
            for s, row in zip(settings, table.tolist(), strict=True)
        }
        spaces = build_spaces(figures, metrics, analysis.references, analysis.n)
        valid = [s for s in spaces if not s.problem]
        replicates.append(measure(valid, analysis.grids, analysis.rule, averaged))
    return dataclasses.replace(
        analysis, intervals=intervals(analysis.levels, replicates), replicates=tuple(replicates)
    )


def _table(
    points: Sequence[Point], metrics: Sequence[Metric]
) -> tuple[list[CurveSetting], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Values as (setting, prompt, metric); a prompt that occurs twice counts by its mean."""
    settings = {s: i for i, s in enumerate(dict.fromkeys((p.method, p.control) for p in points))}
    prompts = {q: i for i, q in enumerate(dict.fromkeys(p.prompt for p in points))}
    shape = (len(settings), len(prompts), len(metrics))
    total, count = np.zeros(shape), np.zeros(shape)
    for point in points:
        row = np.array([point.values[m.name] for m in metrics])
        cell = settings[point.method, point.control], prompts[point.prompt]
        total[cell] += np.nan_to_num(row)
        count[cell] += ~np.isnan(row)
    with np.errstate(invalid="ignore"):
        return list(settings), total / count


def intervals(levels: Levels, replicates: Sequence[Levels]) -> dict[FigureKey, tuple[float, float]]:
    """Percentile intervals of every figure.

    Args:
        levels: The figures themselves.
        replicates: The same figures on resampled prompts; a space may be invalid in some.

    Returns:
        (level, name, method, measure) -> (low, high); figures that are NaN have none.
    """
    found: dict[FigureKey, tuple[float, float]] = {}
    for (level, name), table in levels.items():
        drawn = [r[level, name] for r in replicates if (level, name) in r]
        for method, cells in table.items():
            for measure_name in cells:
                low, high = ends(np.array([d[method][measure_name] for d in drawn]))
                if not math.isnan(low):
                    found[level, name, method, measure_name] = (low, high)
    return found


def combined_intervals(
    analyses: Sequence[Analysis], levels: Levels
) -> Mapping[FigureKey, tuple[float, float]]:
    """Intervals of means over datasets; each dataset's prompts are drawn on their own.

    Args:
        analyses: One analysis per dataset.
        levels: Their mean figures.

    Returns:
        Intervals of ``levels``; empty unless every dataset has per-prompt values.
    """
    if not all(a.replicates for a in analyses):
        return {}
    drawn = [
        combine([dataclasses.replace(a, levels=r) for a, r in zip(analyses, rs, strict=True)])
        for rs in zip(*(a.replicates for a in analyses), strict=True)
    ]
    return intervals(levels, drawn)
