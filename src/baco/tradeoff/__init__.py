"""Trade-off of diversity and quality: Coverage and Dominance of methods (Paper: App. C.2).

>>> from baco.tradeoff import coverage
>>> round(coverage([(0.2, 0.8), (0.5, 0.6), (0.9, 0.1)]), 6)
0.51
"""

from __future__ import annotations

from baco.tradeoff.analyse import analyse
from baco.tradeoff.analysis import Analysis, combine
from baco.tradeoff.coverage import BOUNDARIES, coverage, hypervolume
from baco.tradeoff.dominance import Dominance, FrontierPoint, c_metric, dominance, frontier
from baco.tradeoff.points import Point, Points, read_points
from baco.tradeoff.space import Axis, Placed, Space, make_space

__all__ = [
    "BOUNDARIES",
    "Analysis",
    "Axis",
    "Dominance",
    "FrontierPoint",
    "Placed",
    "Point",
    "Points",
    "Space",
    "analyse",
    "c_metric",
    "combine",
    "coverage",
    "dominance",
    "frontier",
    "hypervolume",
    "make_space",
    "read_points",
]
