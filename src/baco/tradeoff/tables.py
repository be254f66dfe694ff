"""Tables of Coverage and Dominance: rows for CSV and JSON, and a table for people."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from baco.reporting.tables import Table, inert, number
from baco.tradeoff.analysis import MEASURES, Analysis, Levels, combine
from baco.tradeoff.bootstrap import FigureKey, combined_intervals

MEAN = "mean of datasets"

COLUMNS = ("coverage", "dom_share", "dom_d", "dom_q", "dom", "hv")
"""Measures in the order of the tables."""

HEADINGS = {
    "coverage": "Coverage",
    "dom_share": "Dom share",
    "dom_d": "Dom-D",
    "dom_q": "Dom-Q",
    "dom": "Dom",
    "hv": "HV",
}

LEVELS = ("average", "metric", "space")


@dataclass(frozen=True)
class Figure:
    """One row: a method at one level.

    Args:
        dataset: The dataset, or `MEAN`.
        level: ``average``, ``metric`` or ``space``.
        name: The average, metric or space.
        method: The method.
        values: Value of each measure; NaN where it is not defined.
        intervals: Bootstrap interval of each measure that has one.
        grid: Settings of the method.
        compared: All methods of the comparison: Dominance holds among these only.
        rule: Boundary rule of Coverage.
        n: Number of outputs in a group.
    """

    dataset: str
    level: str
    name: str
    method: str
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    grid: tuple[str, ...]
    compared: tuple[str, ...]
    rule: str
    n: int


def figures(analyses: Sequence[Analysis], levels: Sequence[str] = LEVELS) -> list[Figure]:
    """All figures as rows; with several datasets their mean comes last.

    Args:
        analyses: One analysis per dataset.
        levels: Which levels to take.

    Returns:
        The rows, by dataset, level, name and method.
    """
    rows = []
    for analysis in analyses:
        rows += _rows(analysis.dataset, analysis.levels, analysis.intervals, analysis, levels)
    if len(analyses) > 1:
        mean = combine(analyses)
        rows += _rows(MEAN, mean, combined_intervals(analyses, mean), analyses[0], levels)
    return rows


def _rows(
    dataset: str,
    table: Levels,
    intervals: Mapping[FigureKey, tuple[float, float]],
    analysis: Analysis,
    levels: Sequence[str],
) -> list[Figure]:
    return [
        Figure(
            dataset,
            level,
            name,
            method,
            values,
            {
                m: intervals[level, name, method, m]
                for m in MEASURES
                if (level, name, method, m) in intervals
            },
            analysis.grids[method],
            tuple(methods),
            analysis.rule,
            analysis.n,
        )
        for wanted in levels
        for (level, name), methods in table.items()
        if level == wanted
        for method, values in methods.items()
    ]


def cell(figure: Figure, measure: str, *, percent: bool = False) -> str:
    """A cell: three decimals, or per cent with one; the interval in brackets; a dash for none."""
    scale, digits = (100, 1) if percent else (1, 3)
    ends = figure.intervals.get(measure, (math.nan, math.nan))
    value, low, high = (scale * v for v in (figure.values[measure], *ends))
    return number(value, digits, low, high, none="-")


def as_table(rows: Sequence[Figure]) -> Table:
    """A bare table for people, a block for each average, metric or space.

    The dataset is left out if there is only one; the best Coverage and share of a block are bold.
    """
    several = len({f.dataset for f in rows}) > 1
    head = [*(["dataset"] if several else []), "of", "method", *(HEADINGS[m] for m in COLUMNS)]
    body, bold, rules = [], set(), set()
    texts = len(head) - len(COLUMNS)
    for at, f in enumerate(rows):
        body.append(
            [*([f.dataset] if several else []), f.name, f.method, *(cell(f, m) for m in COLUMNS)]
        )
        if at and (f.dataset, f.name) != (rows[at - 1].dataset, rows[at - 1].name):
            rules.add(at)
        rivals = [g for g in rows if (g.dataset, g.name) == (f.dataset, f.name)]
        for column, measure in enumerate(COLUMNS, texts):
            known = [g.values[measure] for g in rivals if not math.isnan(g.values[measure])]
            if measure in ("coverage", "dom_share") and known and f.values[measure] == max(known):
                bold.add((at, column))
    return Table("tradeoff", "", head, body, frozenset(bold), texts=texts, rules=frozenset(rules))


def to_csv(rows: Sequence[Figure]) -> str:
    """All rows as CSV, in full precision, with the grid and the compared set."""
    stream = io.StringIO(newline="")
    ends = [f"{m}_{end}" for m in COLUMNS for end in ("low", "high")]
    head = ["dataset", "level", "of", "method", *COLUMNS, *ends, "grid", "compared", "rule", "n"]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    for f in rows:
        values = ["" if math.isnan(f.values[m]) else repr(float(f.values[m])) for m in COLUMNS]
        limits = [
            repr(f.intervals[m][end]) if m in f.intervals else "" for m in COLUMNS for end in (0, 1)
        ]
        tail = [" ".join(c or "-" for c in f.grid), " ".join(f.compared), f.rule, f.n]
        writer.writerow(inert([f.dataset, f.level, f.name, f.method, *values, *limits, *tail]))
    return stream.getvalue()


def to_dict(analyses: Sequence[Analysis]) -> dict[str, Any]:
    """Everything as plain data for JSON: figures, grids, anchors, points, frontiers, C-metrics."""
    return {
        "datasets": [_dataset(a) for a in analyses],
        "figures": [
            {
                "dataset": f.dataset,
                "level": f.level,
                "of": f.name,
                "method": f.method,
                **{m: None if math.isnan(v) else float(v) for m, v in f.values.items()},
                "intervals": {m: list(ends) for m, ends in f.intervals.items()},
            }
            for f in figures(analyses)
        ],
    }


def _dataset(analysis: Analysis) -> dict[str, Any]:
    return {
        "dataset": analysis.dataset,
        "rule": analysis.rule,
        "n": analysis.n,
        "grids": {m: list(g) for m, g in analysis.grids.items()},
        "references": {
            role: {"method": method, "control": control}
            for role, (method, control) in zip(
                ("base", "aligned"), analysis.references, strict=True
            )
        },
        "warnings": list(analysis.warnings),
        "skipped": {s.name: s.problem for s in analysis.skipped},
        "spaces": [
            {
                "name": space.name,
                "x": space.x and {"at_zero": space.x.at_zero, "at_one": space.x.at_one},
                "y": space.y and {"at_zero": space.y.at_zero, "at_one": space.y.at_one},
                "points": [
                    {
                        "method": method,
                        "control": p.control,
                        "raw": list(p.raw),
                        "normalised": list(p.xy),
                        "kept": p.kept,
                    }
                    for method, placed in space.curves.items()
                    for p in placed
                ],
                "frontier": [
                    {"x": p.x, "y": p.y, "owners": list(p.owners)} for p in analysis.frontier(space)
                ],
                "c_metric": [
                    {"of": a, "over": b, "value": value}
                    for (a, b), value in analysis.c_metrics(space).items()
                ],
            }
            for space in analysis.spaces
        ],
    }
