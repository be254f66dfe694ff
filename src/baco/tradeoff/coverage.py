"""Coverage: the area under a method's trade-off curve in normalised space (Paper: App. C.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from baco.errors import InputError

Boundary = Literal["drop", "none", "ramp", "corner", "zero_left"]
"""How a curve is joined to the edges of the box.

- ``drop``: level to the left edge, straight down after the last point (the default).
- ``none``: nothing is added.
- ``ramp``: level to the left edge, a straight line from the last point to (1, 0).
- ``corner``: from (0, 1) to the first point, from the last point to (1, 0).
- ``zero_left``: from (0, 0) to the first point, straight down after the last point.
"""

BOUNDARIES: tuple[str, ...] = get_args(Boundary)

XY = tuple[float, float]


def coverage(points: Sequence[XY], rule: str = "drop") -> float:
    """Area under the piecewise-linear curve through points inside the unit box.

    Every point counts, dominated ones too. Points with equal quality are taken from high to low
    diversity. Unlike a hypervolume, it may fall when a point is added, unless that point
    dominates all others.

    Args:
        points: Normalised (quality, diversity), each in [0, 1], in any order.
        rule: One of `BOUNDARIES`.

    Returns:
        An area in [0, 1]; 0 without points.

    Raises:
        InputError: If the rule is unknown or a point lies outside the box.
    """
    path = outline(points, rule)
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(path))


def outline(points: Sequence[XY], rule: str = "drop") -> list[XY]:
    """The line whose area is Coverage: the curve, joined to the edges of the box.

    Args:
        points: Normalised (quality, diversity), each in [0, 1], in any order.
        rule: One of `BOUNDARIES`.

    Returns:
        Its corners from left to right; none without points.

    Raises:
        InputError: If the rule is unknown or a point lies outside the box.
    """
    if rule not in BOUNDARIES:
        raise InputError(f"unknown boundary rule {rule!r}", hint=f"known: {', '.join(BOUNDARIES)}")
    for x, y in points:
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise InputError(f"the point ({x:g}, {y:g}) lies outside the unit box")
    if not points:
        return []
    curve = sorted(points, key=lambda p: (p[0], -p[1]))
    first, last = curve[0], curve[-1]
    left = {"drop": (0.0, first[1]), "ramp": (0.0, first[1]), "corner": (0.0, 1.0)}.get(rule)
    if rule == "zero_left":
        left = (0.0, 0.0)
    right: list[XY] = []
    if rule in ("drop", "zero_left"):
        right = [(last[0], 0.0), (1.0, 0.0)]
    elif rule in ("ramp", "corner"):
        right = [(1.0, 0.0)]
    return ([left] if left else []) + curve + right


def hypervolume(points: Sequence[XY]) -> float:
    """Area of the box that is weakly dominated by at least one point; reference point (0, 0).

    Args:
        points: Normalised (quality, diversity), each in [0, 1].

    Returns:
        An area in [0, 1]; never more than a staircase through the best points.
    """
    area = 0.0
    reach = 0.0
    for x, y in sorted(points, key=lambda p: (-p[0], -p[1])):
        if y > reach:
            area += x * (y - reach)
            reach = y
    return area
