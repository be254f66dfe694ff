"""Plots of spaces: curves, frontier and Coverage, like Figures 2 and 3 of the paper."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    analysis: Analysis,
    spaces: Sequence[Space],
    path: Path,
    *,
    shade: Sequence[str] = (),
    places: Mapping[str, int] | None = None,
) -> None:
    """Draws spaces, one panel each.

    Args:
        analysis: Where they come from.
        spaces: The spaces; invalid ones are drawn in raw values, without Coverage.
        path: File ending in one of `SUFFIXES`.
        shade: Methods whose Coverage is shaded; by default the one with the largest.
        places: Each method's place in the palette (`style`), so that it looks the same in every
            figure of a report; by default the order of the analysis.

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

    places = places or {m: i for i, m in enumerate(analysis.methods)}
    columns = math.ceil(math.sqrt(len(spaces)))
    rows = math.ceil(len(spaces) / columns)
    with mpl.rc_context({"svg.hashsalt": "baco", "svg.fonttype": "none", "hatch.linewidth": 0.4}):
        figure = Figure(
            figsize=(max(6.4, 4.6 * columns), (5.6 if rows == 1 else 4.2 * rows) + 0.7),
            layout="constrained",
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        labels = [
            _draw(panel, analysis, space, shade, places)
            for panel, space in zip(axes, spaces, strict=False)
        ]
        for panel in axes[len(spaces) :]:
            panel.set_axis_off()
        handles = [_legend_handle(places[m], m) for m in analysis.methods]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(4 if columns > 1 else 3, len(handles)),
        )
        if len(spaces) <= LABELLED:
            figure.draw_without_rendering()  # only now is it known where points lie
            for panel, wanted in zip(axes, labels, strict=False):
                place_labels(panel, wanted)
        else:
            for panel, space in zip(axes, spaces, strict=False):
                if not space.problem:
                    panel.set_xticks([0, 1])
                    panel.set_yticks([0, 1])
        try:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=150, metadata=metadata)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def style(index: int) -> tuple[str, str, Any, str]:
    """Colour, marker, line and hatch of a method by its place; pairs of colour and line differ."""
    turn = index // len(COLOURS)
    return (
        COLOURS[index % len(COLOURS)],
        MARKERS[(index + turn) % len(MARKERS)],
        LINES[(index + turn) % len(LINES)],
        HATCHES[index % len(HATCHES)],
    )


def _legend_handle(index: int, method: str) -> Any:
    from matplotlib.lines import Line2D

    colour, marker, line, _ = style(index)
    return Line2D([], [], color=colour, marker=marker, linestyle=line, label=method)


@dataclass(frozen=True)
class Label:
    """A control's value beside its point.

    Attributes:
        text: The value.
        at: The point, in the panel's own units.
        colour: Its curve's colour.
        end: Whether the point is an end of its curve; ends are labelled first.
    """

    text: str
    at: tuple[float, float]
    colour: str
    end: bool


def _draw(
    panel: Any, analysis: Analysis, space: Space, shade: Sequence[str], places: Mapping[str, int]
) -> list[Label]:
    """Draws a space; returns the labels that its points would have."""
    arrow = {"up": "higher is better", "down": "lower is better"}
    quality, diversity = space.quality, space.diversity
    if space.problem:
        panel.set_title(f"{space.title}\n(raw values: not scored)", fontsize=9)
        panel.set_xlabel(f"{quality.title} ({arrow[quality.direction]})")
        panel.set_ylabel(f"{diversity.title} ({arrow[diversity.direction]})")
        return [
            label
            for index, method in enumerate(space.curves)
            for label in _raw_curve(panel, space, places.get(method, index), method)
        ]
    panel.set_title(space.title, fontsize=9)
    panel.set_xlabel(f"quality: {quality.title}, normalised")
    panel.set_ylabel(f"diversity: {diversity.title}, normalised")
    panel.set_xlim(-MARGIN - 0.04, 1 + MARGIN + 0.04)
    panel.set_ylim(-MARGIN - 0.04, 1 + MARGIN + 0.04)
    panel.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color="#777777", linewidth=0.8, zorder=1)
    figures = analysis.levels["space", space.name]
    largest = max(
        analysis.methods,
        key=lambda m: -1.0 if math.isnan(figures[m]["coverage"]) else figures[m]["coverage"],
    )
    for method in analysis.methods:
        if method in (shade or (largest,)):
            _shade(panel, space.kept(method), places[method], analysis.rule)
    _frontier(panel, analysis, space, places)
    return [
        label
        for method in analysis.methods
        for label in _curve(panel, space, places[method], method)
    ]


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


def _frontier(panel: Any, analysis: Analysis, space: Space, places: Mapping[str, int]) -> None:
    """Draws the frontier as a broad band; each half of a segment has its owner's colour."""
    points = analysis.frontier(space)
    if not points:
        return
    middles = [((a.x + b.x) / 2, (a.y + b.y) / 2) for a, b in itertools.pairwise(points)]
    first, last = ((p.x, p.y) for p in (points[0], points[-1]))
    around = zip([first, *middles], points, [*middles, last], strict=True)
    for owner, run in itertools.groupby(around, key=lambda three: three[1].owners[0]):
        line = [xy for left, p, right in run for xy in (left, (p.x, p.y), right)]
        panel.plot(
            *zip(*line, strict=True),
            color=style(places[owner])[0],
            linewidth=7,
            alpha=0.35,
            solid_capstyle="butt",
            zorder=2,
        )
    panel.plot(
        [p.x for p in points],
        [p.y for p in points],
        linestyle="none",
        marker="o",
        markersize=12,
        markerfacecolor="none",
        markeredgecolor="#444444",
        markeredgewidth=0.8,
        zorder=3,
    )


def _curve(panel: Any, space: Space, index: int, method: str) -> list[Label]:
    """Draws a curve; returns the labels that its points would have."""
    labels = []
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
        end = bool(kept) and point in (kept[0], kept[-1])
        labels.append(Label(point.control, at, colour, end))
    return labels


def _inside(value: float) -> float:
    return min(max(value, -MARGIN), 1 + MARGIN)


def place_labels(panel: Any, labels: Sequence[Label]) -> None:
    """Writes labels where there is room, ends of curves first; the others are left out.

    Args:
        panel: Axes of a figure whose layout is known.
        labels: The labels.
    """
    unit = panel.figure.dpi / 72
    points = [tuple(panel.transData.transform(label.at) / unit) for label in labels]
    frame = panel.get_window_extent()
    left, low, right, high = (v / unit for v in (frame.x0, frame.y0, frame.x1, frame.y1))
    marks = [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    taken: list[tuple[float, float, float, float]] = []
    order = sorted(range(len(labels)), key=lambda i: not labels[i].end)
    for i in order:
        label, (x, y) = labels[i], points[i]
        if not label.text:
            continue
        width = LETTER * len(label.text)
        for dx, dy in (
            *((5, 4), (5, -4 - HEIGHT), (-5 - width, 4), (-5 - width, -4 - HEIGHT)),
            *((-width / 2, 6), (-width / 2, -6 - HEIGHT), (6, -HEIGHT / 2)),
            (-6 - width, -HEIGHT / 2),
        ):
            box = (x + dx, y + dy, x + dx + width, y + dy + HEIGHT)
            inside = left <= box[0] and low <= box[1] and box[2] <= right and box[3] <= high
            others = [mark for j, mark in enumerate(marks) if j != i and points[j] != points[i]]
            if inside and not any(_overlap(box, other) for other in (*taken, *others)):
                taken.append(box)
                panel.annotate(
                    label.text,
                    label.at,
                    textcoords="offset points",
                    xytext=(dx, dy),
                    fontsize=7,
                    color=label.colour,
                    zorder=5,
                )
                break


LETTER, HEIGHT = 4.4, 7.0
"""Width of a letter and height of a line of a label of 7 points, in points."""

LABELLED = 4
"""Figures with more panels than this have no labels at points: there is no room."""


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _raw_curve(panel: Any, space: Space, index: int, method: str) -> list[Label]:
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
    return [
        Label(point.control, point.raw, colour, point in (points[0], points[-1]))
        for point in points
    ]
