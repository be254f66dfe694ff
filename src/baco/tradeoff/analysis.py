"""From points to figures: every space, every metric, and the averages (Paper: App. C.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np

from baco.errors import InputError, UnknownNameError
from baco.metrics.spec import Metric
from baco.tradeoff.coverage import XY, coverage, hypervolume
from baco.tradeoff.dominance import FrontierPoint, c_metric, dominance, frontier
from baco.tradeoff.points import Point, Reference
from baco.tradeoff.space import Space, make_space

MEASURES = ("coverage", "dom_d", "dom_q", "dom", "dom_share", "hv")
"""What is measured per method; NaN stands for 'not defined'."""

DEFAULT_N = 10
"""Number of outputs in a group where the points do not say (Paper: §4.1)."""

CurveSetting = tuple[str, str]
Means = Mapping[CurveSetting, Mapping[str, float]]
Levels = dict[tuple[str, str], dict[str, dict[str, float]]]
"""(level, name) -> method -> measure -> value; the levels are space, metric and average."""

GRID_RATIO = 2.0
"""Grids count as very different when one has at least so many times the settings of another."""

OUTLIER_RATIO = 10.0
"""A mean over prompts counts as ruled by outliers from so many times the median on."""


@dataclass(frozen=True)
class Analysis:
    """All figures of one dataset and model pair.

    Args:
        dataset: Its name; empty if the points name none.
        rule: Boundary rule of Coverage.
        n: Number of outputs in a group.
        grids: Settings of each compared method: Dominance holds for this set only.
        references: The settings used as base and aligned reference.
        spaces: Valid spaces.
        skipped: Invalid spaces; each says why.
        levels: The figures.
        warnings: What a reader of the figures should know.
        outliers: Those of them that make figures of a whole axis worthless.
        intervals: 95 % bootstrap intervals, keyed like ``levels``; empty without per-prompt values.
        replicates: The bootstrap's own values, kept so that datasets can be averaged.
    """

    dataset: str
    rule: str
    n: int
    grids: Mapping[str, tuple[str, ...]]
    references: tuple[CurveSetting, CurveSetting]
    spaces: tuple[Space, ...]
    skipped: tuple[Space, ...]
    levels: Levels
    warnings: tuple[str, ...] = ()
    outliers: tuple[str, ...] = ()
    intervals: Mapping[tuple[str, str, str, str], tuple[float, float]] = field(default_factory=dict)
    replicates: tuple[Levels, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The compared methods."""
        return tuple(self.grids)

    def frontier(self, space: Space) -> list[FrontierPoint]:
        """Common Pareto frontier in a space."""
        return frontier({m: space.kept(m) for m in self.methods})

    def c_metrics(self, space: Space) -> dict[tuple[str, str], float]:
        """Zitzler's C-metric of every ordered pair of methods; pairs without points are left out.

        Args:
            space: A valid space.

        Returns:
            (a, b) -> share of b's kept points that some point of a weakly dominates.
        """
        kept = {m: space.kept(m) for m in self.methods}
        return {
            (a, b): c_metric(kept[a], kept[b])
            for a in self.methods
            for b in self.methods
            if a != b and kept[b]
        }


def analyse_dataset(
    dataset: str,
    points: Sequence[Point],
    metrics: Sequence[Metric],
    references: tuple[Reference, Reference],
    rule: str,
    n: int,
    compared: Sequence[str] | None,
) -> Analysis:
    """Computes all figures of one dataset, without intervals; arguments as of `analyse`."""
    where = f" in dataset {dataset!r}" if dataset else ""
    means = mean_values(points, metrics, where)
    grids: dict[str, list[str]] = {}
    for method, control in means:
        grids.setdefault(method, []).append(control)
    base, aligned = (r.find(list(means), where) for r in references)
    if base == aligned:
        raise InputError(f"the base and the aligned reference{where} are the same row")
    counts = {p.n for p in points if p.n}
    if not n and len(counts) > 1:
        raise InputError(
            f"groups{where} have different numbers of outputs: {sorted(counts)}",
            hint="theory ends depend on it: fix it with --n, or compare groups of one size",
        )
    n = n or (counts.pop() if counts else DEFAULT_N)
    spaces = build_spaces(means, metrics, (base, aligned), n)
    valid = tuple(s for s in spaces if not s.problem)
    skipped = tuple(s for s in spaces if s.problem)
    if not valid:
        reasons = dict.fromkeys(s.problem for s in skipped)
        raise InputError(f"no valid space{where}: {'; '.join(reasons)}")
    for method in compared or ():
        if method not in grids:
            raise UnknownNameError("method", method, grids)
    sizes = {m: tuple(grids[m]) for m in (grids if compared is None else compared)}
    outliers = _outliers(valid, (base, aligned), points)
    return Analysis(
        dataset,
        rule,
        n,
        sizes,
        (base, aligned),
        valid,
        skipped,
        measure(valid, sizes, rule, averaged_metrics(valid)),
        (*outliers, *_warnings(valid, sizes, points)),
        outliers,
    )


def mean_values(
    points: Sequence[Point], metrics: Sequence[Metric], where: str = ""
) -> dict[CurveSetting, dict[str, float]]:
    """Averages each setting over its prompts; missing values are left out of the mean.

    Args:
        points: Points of one dataset.
        metrics: The metrics to average.
        where: What they are points of, for the message.

    Returns:
        Setting -> metric -> mean; NaN if there is no value at all.

    Raises:
        InputError: If a setting occurs twice although the rows are not per-prompt values.
    """
    rows: dict[CurveSetting, list[Point]] = {}
    for point in points:
        rows.setdefault((point.method, point.control), []).append(point)
    for (method, control), mine in rows.items():
        if len(mine) > 1 and not all(p.prompt for p in mine):
            raise InputError(
                f"method {method!r} with control {control!r} occurs {len(mine)} times{where}",
                hint="rows of the same setting need a column 'prompt' (per-prompt values)",
            )
    return {
        setting: {m.name: _mean(_by_prompt(mine, m.name)) for m in metrics}
        for setting, mine in rows.items()
    }


def _by_prompt(points: Sequence[Point], name: str) -> list[float]:
    """One value a prompt: the mean of its rows."""
    rows: dict[str, list[float]] = {}
    for point in points:
        rows.setdefault(point.prompt, []).append(point.values[name])
    return [_mean(values) for values in rows.values()]


def _mean(values: Sequence[float]) -> float:
    present = [v for v in values if not math.isnan(v)]
    return sum(present) / len(present) if present else math.nan


def build_spaces(
    means: Means, metrics: Sequence[Metric], references: tuple[CurveSetting, CurveSetting], n: int
) -> list[Space]:
    """Every diversity metric against every quality metric, normalised by the references.

    Args:
        means: Value of each metric at each setting.
        metrics: The metrics.
        references: Base and aligned setting.
        n: Number of outputs in a group.

    Returns:
        The spaces, valid or not.
    """
    base, aligned = (means[r] for r in references)
    spaces = []
    for diversity in (m for m in metrics if m.is_diversity):
        for quality in (m for m in metrics if not m.is_diversity):
            x, y = quality.name, diversity.name
            raw: dict[str, list[tuple[str, XY]]] = {}
            for (method, control), values in means.items():
                raw.setdefault(method, []).append((control, (values[x], values[y])))
            ends = ((base[x], base[y]), (aligned[x], aligned[y]))
            spaces.append(make_space(quality, diversity, raw, *ends, n))
    return spaces


def measure(
    spaces: Sequence[Space],
    grids: Mapping[str, Sequence[str]],
    rule: str,
    averaged: AbstractSet[str],
) -> Levels:
    """Measures every method in every space, and averages.

    ``overall`` is the mean of the lexical and the semantic average, or of what classes there are,
    ``overall_flat`` the mean over spaces. A method with a single setting has no curve and so no
    Coverage. What was not measured in a space has no figures there.

    Args:
        spaces: Valid spaces.
        grids: Settings of each method.
        rule: Boundary rule of Coverage.
        averaged: Names of the metrics whose spaces make the averages.

    Returns:
        The figures at the levels ``space``, ``metric`` and ``average``.
    """
    levels: Levels = {}
    for space in spaces:
        kept = {m: space.kept(m) for m in grids}
        shares = dominance(kept)
        levels["space", space.name] = {
            m: {
                "coverage": coverage(kept[m], rule) if len(space.curves[m]) > 1 else math.nan,
                "dom_d": shares[m].dom_d,
                "dom_q": shares[m].dom_q,
                "dom": shares[m].dom,
                "dom_share": shares[m].dom_share,
                "hv": hypervolume(kept[m]),
            }
            if space.curves[m]
            else dict.fromkeys(MEASURES, math.nan)
            for m in grids
        }
    cells = [(s, levels["space", s.name]) for s in spaces]
    for metric in dict.fromkeys(m for s in spaces for m in (s.diversity, s.quality)):
        levels["metric", metric.name] = average(
            [c for s, c in cells if metric in (s.diversity, s.quality)]
        )
    inside = [(s, c) for s, c in cells if {s.diversity.name, s.quality.name} <= averaged]
    kinds = sorted({s.diversity.kind for s, _ in inside})
    for kind in kinds:
        levels["average", kind] = average([c for s, c in inside if s.diversity.kind == kind])
    if inside:
        levels["average", "overall"] = average([levels["average", kind] for kind in kinds])
        levels["average", "overall_flat"] = average([c for _, c in inside])
    return levels


def averaged_metrics(spaces: Sequence[Space]) -> set[str]:
    """Names of the metrics whose spaces make the averages.

    These are the paper's eleven and its two quality metrics; where none of these is a quality
    metric, or none a diversity metric, all of that side count. Of several variants of one metric
    (``emb_cos``, ``emb_cos@model``) only the default one counts, or else the first.

    Args:
        spaces: The spaces.

    Returns:
        The names.
    """
    names: set[str] = set()
    for side in ([s.diversity for s in spaces], [s.quality for s in spaces]):
        chosen: dict[str, str] = {}
        for metric in [m for m in side if m.default] or side:
            if metric.base_name not in chosen or not metric.variant:
                chosen[metric.base_name] = metric.name
        names.update(chosen.values())
    return names


def average(tables: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Plain mean of tables, cell by cell; NaN where any is NaN.

    Args:
        tables: Method -> measure -> value; at least one.

    Returns:
        A table of the same form.
    """
    return {
        method: {
            name: float(np.mean([t[method][name] for t in tables])) for name in tables[0][method]
        }
        for method in tables[0]
        if all(method in t for t in tables)
    }


def _outliers(
    spaces: Sequence[Space], references: Sequence[CurveSetting], points: Sequence[Point]
) -> tuple[str, ...]:
    """Says which end of an axis a few prompts made, as perplexities of empty answers do."""
    ends = {r: [p for p in points if (p.method, p.control) == r] for r in references}
    found = []
    for name in dict.fromkeys(m.name for s in spaces for m in (s.quality, s.diversity)):
        for reference, mine in ends.items():
            values = [v for v in _by_prompt(mine, name) if not math.isnan(v)]
            median = float(np.median(values))
            if median > 0 and _mean(values) >= OUTLIER_RATIO * median:
                found.append(
                    f"outliers make an end of the axis of {name}: {'@'.join(reference)} has mean "
                    f"{_mean(values):.3g} and median {median:.3g} over prompts, so figures on "
                    "this axis say little"
                    + ("; nll, the logarithm, has no such outliers" if name == "ppl" else "")
                )
    return tuple(found)


def _warnings(
    spaces: Sequence[Space], grids: Mapping[str, Sequence[str]], points: Sequence[Point]
) -> tuple[str, ...]:
    found = []
    sizes = {m: len(g) for m, g in grids.items() if len(g) > 1}
    if sizes and max(sizes.values()) >= GRID_RATIO * min(sizes.values()):
        listed = ", ".join(f"{m} {k}" for m, k in sizes.items())
        found.append(
            f"the grids have very different sizes ({listed}): Coverage and Dominance "
            "favour the method with more settings"
        )
    for method in grids:
        dropped = sum(s.dropped(method) for s in spaces)
        if dropped:
            total = sum(len(s.curves[method]) for s in spaces)
            found.append(
                f"{method}: {dropped} of {total} points lie outside the box and are left out"
            )
    averaged = averaged_metrics(spaces)
    kinds = {s.diversity.kind for s in spaces if {s.diversity.name, s.quality.name} <= averaged}
    extra = {m.name: m for s in spaces for m in (s.diversity, s.quality)}.keys() - averaged
    if extra:
        found.append(f"not in the averages: {', '.join(sorted(extra))}")
    if len(kinds) == 1:
        found.append(f"overall is the {kinds.pop()} average alone: no other class has a space")
    missing = sum(math.isnan(v) for p in points for v in p.values.values())
    if missing:
        found.append(f"{missing} values are missing and left out of the means")
    return tuple(found)


def combine(analyses: Sequence[Analysis]) -> Levels:
    """Unweighted mean over datasets of every figure that all of them have (Paper: Table 2).

    Args:
        analyses: One analysis per dataset.

    Returns:
        The mean figures.
    """
    shared = [k for k in analyses[0].levels if all(k in a.levels for a in analyses)]
    return {key: average([a.levels[key] for a in analyses]) for key in shared}
