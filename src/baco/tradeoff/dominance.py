"""Dominance: whose points make up the common Pareto frontier, and how much (Paper: App. C.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from baco.errors import InputError
from baco.tradeoff.coverage import XY


@dataclass(frozen=True)
class FrontierPoint:
    """A point that no other point dominates.

    Args:
        x: Normalised quality.
        y: Normalised diversity.
        owners: Methods that have this very point, in the order given.
    """

    x: float
    y: float
    owners: tuple[str, ...]


@dataclass(frozen=True)
class Dominance:
    """One method's part of a frontier; every number lies in [0, 1].

    Args:
        dom_d: Share of the frontier's span of diversity.
        dom_q: Share of the frontier's span of quality.
        dom: Harmonic mean of the two, 0 if both are 0; these do not sum to 1 over methods.
        dom_share: ``dom`` divided by its sum over methods; these sum to 1.
    """

    dom_d: float
    dom_q: float
    dom: float
    dom_share: float


def frontier(curves: Mapping[str, Sequence[XY]]) -> list[FrontierPoint]:
    """Pareto frontier of all methods' points, both axes maximised.

    Args:
        curves: Normalised points of each method.

    Returns:
        The frontier from low to high quality; equal points are one point with several owners.
    """
    owners: dict[XY, list[str]] = {}
    for method, points in curves.items():
        for point in points:
            names = owners.setdefault((float(point[0]), float(point[1])), [])
            if method not in names:
                names.append(method)
    best: list[FrontierPoint] = []
    reach = float("-inf")
    for x, y in sorted(owners, key=lambda p: (-p[0], -p[1])):
        if y > reach:
            best.append(FrontierPoint(x, y, tuple(owners[x, y])))
            reach = y
    return best[::-1]


def _shares(positions: Sequence[float]) -> list[float]:
    """Share of the span that each position owns, up to the midpoints with its neighbours."""
    if len(positions) == 1:
        return [1.0]
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    ranked = [positions[i] for i in order]
    edges = [
        ranked[0],
        *((a + b) / 2 for a, b in pairwise(ranked)),
        ranked[-1],
    ]
    span = ranked[-1] - ranked[0]
    shares = [0.0] * len(positions)
    for place, index in enumerate(order):
        shares[index] = (edges[place + 1] - edges[place]) / span
    return shares


def dominance(curves: Mapping[str, Sequence[XY]]) -> dict[str, Dominance]:
    """Dominance of each method in one space; it holds for this set of methods only.

    Args:
        curves: Normalised points of each method; a method may have none.

    Returns:
        The figures of every method named in ``curves``; all 0 if there is no point at all.
    """
    front = frontier(curves)
    quality = dict.fromkeys(curves, 0.0)
    diversity = dict.fromkeys(curves, 0.0)
    if front:
        along_x = _shares([p.x for p in front])
        along_y = _shares([p.y for p in front])
        for point, share_q, share_d in zip(front, along_x, along_y, strict=True):
            for owner in point.owners:
                quality[owner] += share_q / len(point.owners)
                diversity[owner] += share_d / len(point.owners)
    means = {m: _harmonic(diversity[m], quality[m]) for m in curves}
    total = sum(means.values())
    return {
        m: Dominance(diversity[m], quality[m], means[m], means[m] / total if total else 0.0)
        for m in curves
    }


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def c_metric(a: Sequence[XY], b: Sequence[XY]) -> float:
    """Zitzler's C-metric: the share of b's points that some point of a weakly dominates.

    Args:
        a: Points of the one method.
        b: Points of the other, at least one.

    Returns:
        A share in [0, 1]; C(a, b) and C(b, a) need not sum to 1.

    Raises:
        InputError: If ``b`` is empty.
    """
    if not b:
        raise InputError("the C-metric needs at least one point to be dominated")
    beaten = sum(any(p[0] >= q[0] and p[1] >= q[1] for p in a) for q in b)
    return beaten / len(b)
