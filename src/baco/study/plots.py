"""Plots as SVG text: win rates, ratings, metrics, power; colours that colour-blind readers tell.

Colours: Okabe and Ito's set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from baco.reporting.drawing import INK, as_svg, new_figure, quiet
from baco.study.analysis import Report
from baco.study.protocol import DIVERSITY, SCALE, WORDING
from baco.study.simulate import Power
from baco.study.tables import overall

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
RATING_COLOURS = ("#B35806", "#FDB863", "#D9D9D9", "#92C5DE", "#2166AC")


def _legend(figure: Any, **options: Any) -> None:
    if any(axes.get_legend_handles_labels()[1] for axes in figure.axes):
        figure.legend(loc="outside upper left", frameon=False, **options)


def wins(report: Report) -> str:
    """Win rate of each method per question, with intervals and the chance line."""
    questions = [*DIVERSITY, "creativity"]
    count = len(report.methods)
    figure = new_figure(7.2, 0.9 + 0.3 * len(questions) * count)
    axes = figure.subplots()
    for at, question in enumerate(questions):
        for m, method in enumerate(report.methods):
            record = overall(report, question, method)
            share, y = record.share, -(at + (m - (count - 1) / 2) * 0.7 / count)
            if not math.isfinite(share.value):
                continue
            axes.barh(
                y,
                100 * share.value,
                height=0.6 / count,
                color=COLOURS[m % len(COLOURS)],
                label=method if at == 0 else None,
            )
            if math.isfinite(share.low):
                axes.plot([100 * share.low, 100 * share.high], [y, y], color=INK, linewidth=1.4)
            axes.text(101, y, f"{100 * share.value:.1f}%", va="center", fontsize=8.5, color=INK)
        for chance in {overall(report, question, method).chance for method in report.methods}:
            axes.plot([100 * chance] * 2, [-at - 0.45, -at + 0.45], color=INK, ls=":", lw=1)
    axes.set_yticks([-at for at in range(len(questions))], [WORDING[q]["title"] for q in questions])
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("Win rate in %, ties counting half (dotted: chance)", color=INK)
    quiet(axes)
    _legend(figure, ncols=count)
    return as_svg(figure)


def ratings(report: Report) -> str:
    """How often each method got each rating."""
    figure = new_figure(7.2, 1.2 + 0.5 * len(report.quality))
    axes = figure.subplots()
    for at, quality in enumerate(report.quality):
        total = sum(quality.counts.values()) or 1
        left = 0.0
        for rating, colour in zip(SCALE, RATING_COLOURS, strict=True):
            width = 100 * quality.counts[rating] / total
            label = f"{rating} {SCALE[rating]}" if at == 0 else None
            axes.barh(-at, width, left=left, height=0.6, color=colour, label=label)
            if width > 6:
                ink = "white" if rating in (1, 5) else INK
                axes.text(
                    left + width / 2,
                    -at,
                    f"{width:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color=ink,
                )
            left += width
    axes.set_yticks(
        [-at for at in range(len(report.quality))], [quality.method for quality in report.quality]
    )
    axes.set_xlim(0, 100)
    axes.set_xlabel("Share of ratings in %", color=INK)
    quiet(axes)
    _legend(figure, ncols=5, fontsize=8.5)
    return as_svg(figure)


def correlations(report: Report) -> str:
    """Spearman's correlation of each metric with each question."""
    questions = list(dict.fromkeys(c.question for c in report.correlations))
    metrics = list(dict.fromkeys(c.metric for c in report.correlations))
    figure = new_figure(7.2, 1.1 + 0.28 * len(metrics) * 1.6)
    axes = figure.subplots()
    for at, question in enumerate(questions):
        points = [
            (c.spearman, -metrics.index(c.metric) + (at - 2) * 0.13)
            for c in report.correlations
            if c.question == question and math.isfinite(c.spearman)
        ]
        if points:
            axes.scatter(
                *zip(*points, strict=True),
                s=34,
                color=COLOURS[at],
                marker="osD^v"[at],
                label=WORDING[question]["title"],
            )
    axes.axvline(0, color=INK, lw=1, ls=":")
    axes.set_yticks([-at for at in range(len(metrics))], metrics)
    axes.set_xlim(-1.05, 1.05)
    axes.set_xlabel("Spearman correlation with human votes", color=INK)
    quiet(axes)
    _legend(figure, ncols=5, fontsize=8.5)
    return as_svg(figure)


def power(rows: Sequence[Power]) -> str:
    """Power of the win rate against the number of prompts, one line per number of raters."""
    figure = new_figure(7.2, 3.6)
    axes = figure.subplots()
    for at, raters in enumerate(sorted({row.raters for row in rows})):
        line = sorted((r.prompts, 100 * r.diversity) for r in rows if r.raters == raters)
        axes.plot(
            *zip(*line, strict=True),
            "osD^v"[at % 5] + "-",
            color=COLOURS[at % 7],
            label=f"{raters} raters",
        )
    axes.axhline(80, color=INK, lw=1, ls=":")
    axes.set_ylim(0, 103)
    axes.set_xlabel("Prompts", color=INK)
    axes.set_ylabel("SIMULATED power for the win rate, %", color=INK)
    quiet(axes)
    _legend(figure, ncols=4)
    return as_svg(figure)
