"""Diversity and quality of groups of outputs: every metric of the paper (§4.1, App. C.1).

>>> import baco.metrics
>>> groups = [{"prompt": "Name a pet.", "generations": ["A cat.", "A dog.", "A cat."]}]
>>> scores = baco.metrics.score(groups, "dist_1,self_rouge_l", cache=False)
>>> round(scores.means["dist_1"], 3)
0.444
"""

from __future__ import annotations

# The modules that define the built-in metrics: each registers its own.
from baco.metrics import discourse, field, flaws, lexical, quality, semantic  # noqa: F401
from baco.metrics.groups import Generations, as_groups, read_groups
from baco.metrics.score import ScoredGroup, Scores, Summary, score
from baco.metrics.spec import METRICS, Metric, expand, resolve

__all__ = [
    "METRICS",
    "Generations",
    "Metric",
    "ScoredGroup",
    "Scores",
    "Summary",
    "as_groups",
    "expand",
    "read_groups",
    "resolve",
    "score",
]
