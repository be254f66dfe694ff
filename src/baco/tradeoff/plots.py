"""Plots of spaces: curves, frontier and Coverage, like Figures 2 and 3 of the paper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baco.errors import InputError, UnknownNameError, missing_extra
from baco.tradeoff.analysis import Analysis
from baco.tradeoff.coverage import outline
from baco.tradeoff.space import Space

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8B6B00",
)
"""Okabe and Ito's palette, which the colour-blind tell apart; the order varies the lightness."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: tuple[Any, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1)),
    (0, (3, 1, 1, 1)),
    (0, (1, 1)),
    (0, (8, 2, 1, 2)),
)

HATCHES = ("//", "\\\\", "||", "xx", "--", "++", "///", "\\\\\\")

MARGIN = 0.24
"""How far outside the unit box points are still drawn at their place; others sit at the rim."""

SUFFIXES = (".svg", ".png", ".pdf")


def find_space(analysis: Analysis, wanted: str) -> Space:
    """Finds a space by its two metrics.

    Args:
        analysis: The analysis.
        wanted: ``DIVERSITY,QUALITY`` in either order.

    Returns:
        The space; it may be an invalid one, which is drawn in raw values.

    Raises:
        InputError: If the analysis has no such space.
    """
    names = {name.strip() for name in wanted.split(",")}
    spaces = [*analysis.spaces, *analysis.skipped]
    for space in spaces:
        if names == {space.diversity.name, space.quality.name}:
            return space
    known = [f"{s.diversity.name},{s.quality.name}" for s in spaces]
    raise UnknownNameError("space", wanted, known)


def plot(
    analysis: Analysis, spaces: Sequence[Space], path: Path, *, shade: Sequence[str] = ()
) -> None:
    """Draws spaces, one panel each.

    Args:
        analysis: Where they come from.
        spaces: The spaces; invalid ones are drawn in raw values, without Coverage.
        path: File ending in one of `SUFFIXES`.
        shade: Methods whose Coverage is shaded; by default the one with the largest.

    Raises:
        InputError: If the format is unknown, a method is unknown, or the file cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"cannot tell the format of {path}", hint=f"the name ends in {', '.join(SUFFIXES)}"
        )
    if not spaces:
        raise InputError("there is no space to plot")
    for method in shade:
        if method not in analysis.methods:
            raise UnknownNameError("method", method, analysis.methods)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "metrics") from error
    import matplotlib as mpl

    columns = math.ceil(math.sqrt(len(spaces)))
    rows = math.ceil(len(spaces) / columns)
    with mpl.rc_context({"svg.hashsalt": "baco", "svg.fonttype": "none", "hatch.linewidth": 0.4}):
        figure = Figure(
            figsize=(max(6.4, 4.6 * columns), (5.6 if rows == 1 else 4.2 * rows) + 0.7),
            layout="constrained",
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, space in zip(axes, spaces, strict=False):
            _draw(panel, analysis, space, shade)
        for panel in axes[len(spaces) :]:
            panel.set_axis_off()
        handles = [_legend_handle(i, m) for i, m in enumerate(analysis.methods)]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(4 if columns > 1 else 3, len(handles)),
        )
        try:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=150, metadata=metadata)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def style(index: int) -> tuple[str, str, Any, str]:
    """Colour, marker, line and hatch of a method by its place; the first sixteen differ."""
    return (
        COLOURS[index % len(COLOURS)],
        MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
        LINES[index % len(LINES)],
        HATCHES[index % len(HATCHES)],
    )


def _legend_handle(index: int, method: str) -> Any:
    from matplotlib.lines import Line2D

    colour, marker, line, _ = style(index)
    return Line2D([], [], color=colour, marker=marker, linestyle=line, label=method)


def _draw(panel: Any, analysis: Analysis, space: Space, shade: Sequence[str]) -> None:
    arrow = {"up": "higher is better", "down": "lower is better"}
    if space.problem:
        panel.set_title(f"{space.name}\n(raw values: not scored)", fontsize=9)
        panel.set_xlabel(f"{space.quality.name} ({arrow[space.quality.direction]})")
        panel.set_ylabel(f"{space.diversity.name} ({arrow[space.diversity.direction]})")
        for index, method in enumerate(space.curves):
            _raw_curve(panel, space, index, method)
        return
    panel.set_title(space.name, fontsize=9)
    panel.set_xlabel(f"quality: {space.quality.name}, normalised")
    panel.set_ylabel(f"diversity: {space.diversity.name}, normalised")
    panel.set_xlim(-MARGIN - 0.04, 1 + MARGIN + 0.04)
    panel.set_ylim(-MARGIN - 0.04, 1 + MARGIN + 0.04)
    panel.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color="#777777", linewidth=0.8, zorder=1)
    figures = analysis.levels["space", space.name]
    largest = max(
        analysis.methods,
        key=lambda m: -1.0 if math.isnan(figures[m]["coverage"]) else figures[m]["coverage"],
    )
    for index, method in enumerate(analysis.methods):
        if method in (shade or (largest,)):
            _shade(panel, space.kept(method), index, analysis.rule)
    _frontier(panel, analysis, space)
    for index, method in enumerate(analysis.methods):
        _curve(panel, space, index, method)


def _shade(panel: Any, kept: Sequence[tuple[float, float]], index: int, rule: str) -> None:
    """Shades the area that Coverage measures."""
    top = outline(kept, rule)
    if not top:
        return
    path = [(top[0][0], 0.0), *top, (top[-1][0], 0.0)]
    colour, _, _, hatch = style(index)
    looks = (
        {"facecolor": colour, "alpha": 0.13},
        {"facecolor": "none", "edgecolor": colour, "hatch": hatch, "alpha": 0.25},
    )
    for look in looks:
        panel.fill(*zip(*path, strict=True), linewidth=0, zorder=0, **look)


def _frontier(panel: Any, analysis: Analysis, space: Space) -> None:
    """Draws the frontier as a broad band; each half of a segment has its owner's colour."""
    points = analysis.frontier(space)
    for a, b in itertools.pairwise(points):
        middle = ((a.x + b.x) / 2, (a.y + b.y) / 2)
        for end, owner in ((a, a.owners[0]), (b, b.owners[0])):
            colour = style(analysis.methods.index(owner))[0]
            panel.plot(
                [end.x, middle[0]],
                [end.y, middle[1]],
                color=colour,
                linewidth=7,
                alpha=0.35,
                solid_capstyle="butt",
                zorder=2,
            )
    for point in points:
        panel.plot(
            point.x,
            point.y,
            marker="o",
            markersize=12,
            markerfacecolor="none",
            markeredgecolor="#444444",
            markeredgewidth=0.8,
            zorder=3,
        )


def _curve(panel: Any, space: Space, index: int, method: str) -> None:
    colour, marker, line, _ = style(index)
    kept = sorted((p for p in space.curves[method] if p.kept), key=lambda p: (p.xy[0], -p.xy[1]))
    if kept:
        panel.plot(
            [p.xy[0] for p in kept],
            [p.xy[1] for p in kept],
            color=colour,
            linestyle=line,
            marker=marker,
            markersize=5,
            linewidth=1.4,
            zorder=4,
        )
    for point in space.curves[method]:
        at = (_inside(point.xy[0]), _inside(point.xy[1]))
        if not point.kept:
            panel.plot(
                *at,
                marker=marker,
                markersize=6,
                markerfacecolor="white",
                markeredgecolor=colour,
                linestyle="none",
                zorder=4,
            )
        _label(panel, point.control, at, colour, index)


def _inside(value: float) -> float:
    return min(max(value, -MARGIN), 1 + MARGIN)


def _label(panel: Any, text: str, at: tuple[float, float], colour: str, index: int) -> None:
    if text:
        panel.annotate(
            text,
            at,
            textcoords="offset points",
            xytext=(5, 5 if index % 2 == 0 else -10),
            fontsize=7,
            color=colour,
            zorder=5,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.4},
        )


def _raw_curve(panel: Any, space: Space, index: int, method: str) -> None:
    colour, marker, line, _ = style(index)
    points = sorted(space.curves[method], key=lambda p: p.raw)
    panel.plot(
        [p.raw[0] for p in points],
        [p.raw[1] for p in points],
        color=colour,
        linestyle=line,
        marker=marker,
        markersize=5,
        linewidth=1.4,
    )
    for point in points:
        _label(panel, point.control, point.raw, colour, index)
