"""A space: one quality metric against one diversity metric, normalised by two references."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from baco.metrics.spec import Metric
from baco.tradeoff.coverage import XY

TOLERANCE = 1e-9
"""How far outside the box a normalised value may lie through rounding before it is dropped."""


@dataclass(frozen=True)
class Axis:
    """The two ends of one axis: the values that become 0 and 1.

    Args:
        name: The metric.
        at_zero: Raw value that becomes 0.
        at_one: Raw value that becomes 1; below ``at_zero`` for a metric that is better low.
    """

    name: str
    at_zero: float
    at_one: float

    def scale(self, value: float) -> float:
        """Normalises a raw value; may lie outside [0, 1]."""
        return (value - self.at_zero) / (self.at_one - self.at_zero)


@dataclass(frozen=True)
class Placed:
    """One setting of a method, placed in a space.

    Args:
        control: The setting's control value as text.
        raw: Raw (quality, diversity).
        xy: Normalised (quality, diversity), clipped to the box if ``kept``.
        kept: Whether it lies inside the box; others count for nothing.
    """

    control: str
    raw: XY
    xy: XY
    kept: bool


@dataclass(frozen=True)
class Space:
    """One space with all compared methods in it.

    Args:
        quality: Metric on the x axis.
        diversity: Metric on the y axis.
        x: Ends of the x axis, None if the space is invalid.
        y: Ends of the y axis, None if the space is invalid.
        curves: Settings of each method; settings without a value here are left out.
        problem: Why the space is invalid; empty if it is valid.
    """

    quality: Metric
    diversity: Metric
    x: Axis | None
    y: Axis | None
    curves: Mapping[str, tuple[Placed, ...]] = field(default_factory=dict)
    problem: str = ""

    @property
    def name(self) -> str:
        """Name as in tables: diversity metric, then quality metric."""
        return f"{self.diversity.name} | {self.quality.name}"

    @property
    def title(self) -> str:
        """The same for people."""
        return f"{self.diversity.title} against {self.quality.title}"

    def kept(self, method: str) -> list[XY]:
        """Normalised points of a method inside the box, in the order given."""
        return [p.xy for p in self.curves[method] if p.kept]

    def dropped(self, method: str) -> int:
        """How many points of a method lie outside the box."""
        return sum(not p.kept for p in self.curves[method])


def quality_axis(metric: Metric, base: float, aligned: float) -> Axis | str:
    """Ends of a quality axis: 0 is the base model at T = 1, 1 the aligned one.

    Args:
        metric: The quality metric.
        base: Its value for the base model alone at temperature 1.
        aligned: Its value for the aligned model alone at temperature 1.

    Returns:
        The axis, or why there is none.
    """
    if not (math.isfinite(base) and math.isfinite(aligned)):
        return f"a reference has no {metric.name} value"
    if base == aligned:
        return f"the references coincide: base and aligned both have {metric.name} = {base:g}"
    better = base > aligned if metric.direction == "up" else base < aligned
    if better:
        return f"the base model is better than the aligned one on {metric.name}"
    return Axis(metric.name, base, aligned)


def diversity_axis(metric: Metric, aligned: float, n: int) -> Axis | str:
    """Ends of a diversity axis: 0 is the aligned model at T = 1, 1 the theory end.

    Args:
        metric: The diversity metric.
        aligned: Its value for the aligned model alone at temperature 1.
        n: Number of outputs in a group.

    Returns:
        The axis, or why there is none.
    """
    if metric.theory_end is None:
        return f"{metric.name} has no theory end, so it can be plotted but not scored"
    if not math.isfinite(aligned):
        return f"the aligned reference has no {metric.name} value"
    end = metric.theory_end(n)
    room = end - aligned if metric.direction == "up" else aligned - end
    if room <= 0:
        return (
            f"no room on {metric.name}: the aligned reference ({aligned:g}) is at or beyond "
            f"the theory end ({end:g})"
        )
    return Axis(metric.name, aligned, end)


def make_space(
    quality: Metric,
    diversity: Metric,
    raw: Mapping[str, Sequence[tuple[str, XY]]],
    base: XY,
    aligned: XY,
    n: int,
) -> Space:
    """Normalises all methods in one space.

    Args:
        quality: Metric on the x axis.
        diversity: Metric on the y axis.
        raw: For each method its settings: control text and raw (quality, diversity).
        base: Raw values of the base model alone at temperature 1.
        aligned: Raw values of the aligned model alone at temperature 1.
        n: Number of outputs in a group.

    Returns:
        The space; an invalid one says why and holds the raw points.
    """
    x = quality_axis(quality, base[0], aligned[0])
    y = diversity_axis(diversity, aligned[1], n)
    if isinstance(x, Axis) and isinstance(y, Axis):
        axes: tuple[Axis, Axis] | None = (x, y)
        problem = ""
    else:
        axes = None
        problem = "; ".join(end for end in (x, y) if isinstance(end, str))
    curves = {
        method: tuple(
            _place(control, values, axes)
            for control, values in settings
            if all(map(math.isfinite, values))
        )
        for method, settings in raw.items()
    }
    return Space(
        quality,
        diversity,
        axes[0] if axes else None,
        axes[1] if axes else None,
        curves,
        problem,
    )


def _place(control: str, raw: XY, axes: tuple[Axis, Axis] | None) -> Placed:
    if axes is None:
        return Placed(control, raw, (math.nan, math.nan), kept=False)
    xy = (axes[0].scale(raw[0]), axes[1].scale(raw[1]))
    kept = all(-TOLERANCE <= v <= 1 + TOLERANCE for v in xy)
    if kept:
        xy = (min(max(xy[0], 0.0), 1.0), min(max(xy[1], 0.0), 1.0))
    return Placed(control, raw, xy, kept)
