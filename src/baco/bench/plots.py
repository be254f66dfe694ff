"""The report's plots: spaces, positions, lengths, cost, long form (Paper: Figures 3 and 4, §6)."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from baco.bench.compare import Figures, normalised
from baco.bench.results import Comparison
from baco.bench.samples import TENTHS, SampleLook
from baco.reporting.drawing import INK, as_svg, new_figure, quiet, trimmed
from baco.reporting.resampling import Floats
from baco.tradeoff import plots
from baco.tradeoff.analysis import Analysis, CurveSetting
from baco.tradeoff.space import Space

AT_LEAST = 0.2
"""Positions are drawn as far as so large a share of the samples reaches."""

LEGIBLE = 8
"""Curves in a plot of routers."""

SHOWN = ("semantic_entropy", "nb_distinct", "vendi_emb", "emb_cos")
"""Diversity metrics by which the space of the main plot is chosen; the paper's is the first."""


def places(figures: Figures) -> dict[str, int]:
    """The place of every curve in the palette, so that it looks the same in all plots.

    Those of the main plot come first, whose colours differ. "BaCo (best)" is the curve that was
    chosen.
    """
    comparison = figures.comparison
    best = {f"{c.family} (best)": c.curve for c in figures.chosen}
    shown = [best.get(name, name) for name in figures.drawn.methods] if figures.drawn else []
    first = [setting[0] for setting in comparison.references]
    order = {
        name: at for at, name in enumerate(dict.fromkeys([*first, *shown, *comparison.curves]))
    }
    return order | {name: order[curve] for name, curve in best.items()}


def spaces(analysis: Analysis, chosen: Sequence[Space], places: Mapping[str, int]) -> str:
    """Spaces side by side as SVG (Paper: Figure 3)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spaces.svg"
        plots.plot(analysis, chosen, path, places=places)
        return trimmed(path.read_text(encoding="utf-8"))


def strongest(analysis: Analysis, level: str = "overall") -> Analysis:
    """The analysis with the few curves of the largest Coverage, so that a plot is legible."""
    table = analysis.levels.get(("average", level), {})
    known = {m: table[m]["coverage"] for m in analysis.methods if m in table}
    ranked = sorted(
        (m for m in known if math.isfinite(known[m])), key=lambda m: known[m], reverse=True
    )
    best = ranked[:LEGIBLE] or list(analysis.methods)[:LEGIBLE]
    return replace(analysis, grids={m: g for m, g in analysis.grids.items() if m in best})


def main_space(analysis: Analysis) -> Space:
    """The space of the main plot: reward against semantic entropy, or what comes next to it."""

    def rank(space: Space) -> tuple[int, int]:
        name = space.diversity.base_name
        place = SHOWN.index(name) if name in SHOWN else len(SHOWN)
        return place, space.quality.base_name != "reward"

    return min(analysis.spaces, key=rank)


def positions(
    comparison: Comparison, curve: str, looks: Mapping[CurveSetting, SampleLook]
) -> str | None:
    """Base share and switching of a curve by position, a line for each control (Paper: §6.1)."""
    mine = [s for s in comparison.curves[curve] if s in looks and looks[s].share > 0]
    if not mine:
        return None
    figure = new_figure(9.6, 6.4)
    axes = figure.subplots(2, 2, sharey="row")
    for row, what in enumerate(("base", "switch")):
        for index, setting in enumerate(mine):
            seen = looks[setting]
            colour, marker = _shade(index, len(mine)), plots.MARKERS[index % len(plots.MARKERS)]
            total = getattr(seen, f"{what}_at").sum(0)
            alive = seen.alive_at.sum(0)
            reach = int((alive >= AT_LEAST * alive[0]).sum())
            with np.errstate(invalid="ignore"):
                parts = getattr(seen, f"{what}_in").sum(0) / seen.alive_in.sum(0)
            look = {"color": colour, "linewidth": 1.4}
            axes[row, 0].plot(np.arange(1, reach + 1), 100 * _smooth(total, alive, reach), **look)
            axes[row, 1].plot(
                10 * np.arange(TENTHS) + 5,
                100 * parts,
                marker=marker,
                markersize=4,
                **look,
                label=setting[1] if row == 0 else None,
            )
        axes[row, 0].set_ylabel(
            "base model's tokens, %" if what == "base" else "changes of source, % of tokens"
        )
        for panel in axes[row]:
            quiet(panel)
            panel.set_ylim(bottom=0)
            panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    for panel in axes[:, 0]:
        panel.xaxis.get_major_locator().set_params(integer=True)
    axes[1, 0].set_xlabel(f"token (while {AT_LEAST:.0%} of the answers go on)")
    axes[1, 1].set_xlabel("place in the answer, % (first token left out)")
    figure.legend(loc="outside upper center", ncols=8, title=f"{curve}: control", frameon=False)
    return as_svg(figure, "none", transparent=False)


def _shade(index: int, count: int) -> Any:
    """Colour of one of a curve's controls: a ramp, so that it is not taken for a method's."""
    import matplotlib as mpl

    return mpl.colormaps["viridis"](0.9 * index / max(1, count - 1))


def _smooth(total: Floats, alive: Floats, reach: int) -> Floats:
    """Share at each position, averaged over three neighbours; the first is left alone."""
    found = total[:reach] / alive[:reach]
    smooth = found.copy()
    for i in range(1, reach):
        part = slice(max(1, i - 1), min(reach, i + 2))
        smooth[i] = total[part].sum() / alive[part].sum()
    return smooth


def lengths(
    comparison: Comparison,
    looks: Mapping[CurveSetting, SampleLook],
    shown: Sequence[str],
    places: Mapping[str, int],
) -> str | None:
    """Length, early stops and loops: against γ, and against the base share (Paper: §6.2).

    Only thresholds from 0 to 1 share an axis; base shares are comparable for all routers.
    """
    curves = {}
    for curve in shown:
        found = [s for s in comparison.curves[curve] if s in looks and _finite(s[1])]
        if len(found) > 1:
            curves[curve] = sorted(found, key=lambda s: float(s[1]))
    if not curves:
        return None
    figure = new_figure(12.0, 7.0)
    axes = figure.subplots(2, 4, sharey="col")
    panels = (
        ("length", 1.0, "tokens"),
        ("early", 100.0, "early stops, %"),
        ("repetition", 100.0, "repeated 4-grams, %"),
        ("loops", 100.0, "ending in a loop, %"),
    )
    for curve, settings in curves.items():
        colour, marker, line, _ = plots.style(places[curve])
        style = {"color": colour, "marker": marker, "linestyle": line}
        shares = {s: looks[s].share for s in settings}
        by_share = sorted(settings, key=lambda s: shares[s])
        bounded = all(0 <= float(s[1]) <= 1 for s in settings)
        for column, (what, scale, _) in enumerate(panels):
            height = {s: scale * float(getattr(looks[s], what).mean()) for s in settings}
            name = curve if column == 0 else None
            if bounded:
                axes[0, column].plot(
                    [float(s[1]) for s in settings],
                    [height[s] for s in settings],
                    markersize=4,
                    linewidth=1.3,
                    **style,
                )
            axes[1, column].plot(
                [100 * shares[s] for s in by_share],
                [height[s] for s in by_share],
                markersize=4,
                linewidth=1.3,
                label=name,
                **style,
            )
    for column, (_, _, text) in enumerate(panels):
        axes[0, column].set_xlabel("threshold γ")
        axes[1, column].set_xlabel("base share, %")
        for row in range(2):
            axes[row, column].set_ylabel(text)
            axes[row, column].set_ylim(bottom=0)
            quiet(axes[row, column])
    figure.legend(loc="outside upper center", ncols=6, frameon=False, fontsize=9)
    return as_svg(figure, "none", transparent=False)


def cost(
    figures: Figures, looks: Mapping[CurveSetting, SampleLook], places: Mapping[str, int]
) -> str | None:
    """Mean normalised quality and diversity of the main plot's curves, coloured by their cost."""
    if figures.everything is None or figures.drawn is None:
        return None
    where = normalised(figures.everything)
    best = {c.curve: f"{c.family} (best)" for c in figures.chosen}
    points = [
        (*where[s], looks[s].passes_per_token, s)
        for s in where
        if best.get(s[0], s[0]) in figures.drawn.methods
        and s in looks
        and math.isfinite(looks[s].passes_per_token)
        and all(map(math.isfinite, where[s]))
    ]
    if not points:
        return None
    figure = new_figure(7.6, 5.4)
    axes = figure.subplots()
    labels = []
    for curve, mine in itertools.groupby(points, key=lambda p: p[3][0]):
        rows = list(mine)
        colour, marker, line, _ = plots.style(places[curve])
        name = best.get(curve, curve)
        look = {"color": colour, "linestyle": line, "marker": marker}
        axes.plot([p[0] for p in rows], [p[1] for p in rows], linewidth=1, label=name, **look)
        drawn = axes.scatter(
            [p[0] for p in rows],
            [p[1] for p in rows],
            c=[p[2] for p in rows],
            marker=marker,
            vmin=min(p[2] for p in points),
            vmax=max(p[2] for p in points),
            cmap="viridis",
            s=38,
            edgecolors=colour,
            linewidths=0.8,
            zorder=3,
        )
        labels += [
            plots.Label(p[3][1], (p[0], p[1]), colour, p in (rows[0], rows[-1]))
            for p in rows
            if -0.3 <= p[0] <= 1.3 and -0.3 <= p[1] <= 1.1
        ]
    figure.colorbar(drawn, ax=axes, label="forward passes per token")
    axes.set_xlabel("quality, mean of the normalised axes")
    axes.set_ylabel("diversity, mean of the normalised axes")
    axes.set_xlim(-0.3, 1.3)
    axes.set_ylim(-0.3, 1.1)
    quiet(axes)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.draw_without_rendering()
    plots.place_labels(axes, labels)
    return as_svg(figure, "none", transparent=False)


def long_form(
    comparison: Comparison, curves: Sequence[str], places: Mapping[str, int]
) -> str | None:
    """TP-Div and Arousal-Div against perplexity, in raw values (Paper: Figure 4)."""
    metrics = [m for m in comparison.metrics if m.kind == "discourse"]
    quality = next((m for m in comparison.metrics if m.base_name == "ppl"), None)
    if not metrics or quality is None:
        return None
    figure = new_figure(5.2 * len(metrics), 4.6)
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    wanted: list[list[plots.Label]] = []
    for panel, metric in zip(axes, metrics, strict=True):
        labels: list[plots.Label] = []
        for curve in curves:
            points = [
                (comparison.mean(s, quality.name), comparison.mean(s, metric.name), s[1])
                for s in comparison.curves[curve]
            ]
            points = sorted(p for p in points if math.isfinite(p[0]) and math.isfinite(p[1]))
            if not points:
                continue
            colour, marker, line, _ = plots.style(places[curve])
            panel.plot(
                [p[0] for p in points],
                [p[1] for p in points],
                color=colour,
                marker=marker,
                linestyle=line,
                markersize=5,
                linewidth=1.4,
                label=curve if panel is axes[0] else None,
            )
            labels += [
                plots.Label(text, (x, y), colour, (x, y, text) in (points[0], points[-1]))
                for x, y, text in points
            ]
        wanted.append(labels)
        panel.set_xlabel(f"{quality.title} (lower is better)", color=INK)
        panel.set_ylabel(f"{metric.title} (higher is more diverse)", color=INK)
        quiet(panel)
    if not axes[0].lines:
        return None
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    figure.draw_without_rendering()
    for panel, labels in zip(axes, wanted, strict=True):
        plots.place_labels(panel, labels)
    return as_svg(figure, "none", transparent=False)


def agreement(by_position: Mapping[CurveSetting, Floats], places: Mapping[str, int]) -> str | None:
    """How often both models hold the same token for the likeliest, by position (Paper: §6.1)."""
    if not by_position:
        return None
    figure = new_figure(7.6, 3.9)
    axes = figure.subplots()
    for setting, shares in by_position.items():
        colour, marker, line, _ = plots.style(places[setting[0]])
        axes.plot(
            10 * np.arange(shares.size) + 5,
            100 * shares,
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=4,
            label=f"along {'@'.join(filter(None, setting))}",
        )
    axes.set_ylim(0, 100)
    axes.set_xlabel("place in the answer, %")
    axes.set_ylabel("same likeliest token, %")
    quiet(axes)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    return as_svg(figure, "none", transparent=False)


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
