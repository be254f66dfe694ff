"""From comparisons to the figures of the paper's tables: who is compared with whom, on what.

Paper: §5.1 (Tables 2, A7-A9), §5.2 (Table 3), §5.3 (Table 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from baco.bench.cells import Cell
from baco.bench.records import Record
from baco.bench.results import Comparison, Discarded
from baco.errors import InputError
from baco.tradeoff.analyse import analyse
from baco.tradeoff.analysis import Analysis, CurveSetting, averaged_metrics
from baco.tradeoff.space import Space

LEVELS = ("lexical", "semantic", "overall")


@dataclass(frozen=True)
class ReportOptions:
    """How figures are computed.

    Attributes:
        bootstrap: Resamples of the prompts for intervals; 0 for none.
        seed: Decides the resampling.
        rule: Boundary rule of Coverage.
    """

    bootstrap: int = 300
    seed: int = 0
    rule: str = "drop"


@dataclass(frozen=True)
class Chosen:
    """The best curve of a family, chosen on one half of the prompts.

    Attributes:
        family: The family.
        curve: The curve.
        measure: What decided: ``coverage``, or ``dom_share`` where no curve has a Coverage.
        value: Its value on the half that decided.
        among: All curves of the family with their values there.
    """

    family: str
    curve: str
    measure: str
    value: float
    among: Mapping[str, float]


@dataclass(frozen=True)
class Figures:
    """Everything that is computed of one comparison; None where it cannot be.

    Attributes:
        comparison: The comparison.
        everything: All curves of the main pair, on all prompts.
        chosen: The best curve of each family, chosen on the first half of the prompts.
        headline: References, single curves and chosen ones, on the other half (Table 2).
        drawn: The same curves on all prompts, for plots (Figure 3).
        routers: The routers of `baco` among themselves (Table 3).
        others: Each other pair beside the same router on the main pair (Table 4).
        categories: All curves of the main pair, by category.
        problems: What could not be computed, and why.
    """

    comparison: Comparison
    everything: Analysis | None
    chosen: tuple[Chosen, ...]
    headline: Analysis | None
    drawn: Analysis | None
    routers: Analysis | None
    others: Analysis | None
    categories: Mapping[str, Analysis]
    problems: tuple[Discarded, ...]


def compare(
    comparison: Comparison, best_of: Sequence[str], options: ReportOptions | None = None
) -> Figures:
    """Computes all figures of a comparison.

    Args:
        comparison: The comparison.
        best_of: Families of which one curve is chosen.
        options: How.

    Returns:
        The figures.
    """
    options = options or ReportOptions()
    problems: list[Discarded] = []

    def attempt(
        what: str,
        curves: Mapping[str, str],
        records: Sequence[Record] | None = None,
        compared: Sequence[str] | None = None,
        bootstrap: int = options.bootstrap,
    ) -> Analysis | None:
        try:
            return _analyse(comparison, curves, records, compared, options, bootstrap)
        except InputError as error:
            problems.append(Discarded(what, error.message))
            return None

    own = own_curves(comparison)
    same = {c: c for c in own}
    everything = attempt("all curves", same)
    first, second = comparison.halves()
    chosen: list[Chosen] = []
    headline = None
    if first and second:
        deciding = attempt("the choice of the best of a family", same, first, bootstrap=0)
        if deciding:
            chosen = [
                _choose(deciding, family, [c for c in curves if c in own])
                for family, curves in comparison.families.items()
                if family in best_of and any(c in own for c in curves)
            ]
            headline = attempt("the headline table", _headline(comparison, chosen), second)
    elif best_of:
        problems.append(Discarded("the best of a family", "one prompt cannot be halved"))
    routers = router_curves(comparison)
    categories = {}
    for category in comparison.categories if len(comparison.categories) > 1 else ():
        mine = [r for r in comparison.records if r.category == category]
        found = attempt(f"the category {category}", same, mine)
        if found:
            categories[category] = found
    return Figures(
        comparison,
        everything,
        tuple(chosen),
        headline,
        attempt("the plots", _headline(comparison, chosen), bootstrap=0),
        attempt("the routers", _with_references(comparison, routers), compared=routers)
        if len(routers) > 1
        else None,
        _others(comparison, attempt),
        categories,
        tuple(problems),
    )


def own_curves(comparison: Comparison) -> list[str]:
    """Curves of the main pair; those whose short stops are drawn again stand apart."""
    usual = comparison.cells[comparison.references[1]]
    return [
        curve
        for curve, settings in comparison.curves.items()
        if (cell := comparison.cells[settings[0]]).pair == comparison.pair
        and _restart(cell) == _restart(usual)
    ]


def _restart(cell: Cell) -> object:
    return cell.sampling.get("restart_shorter_than", 0)


def router_curves(comparison: Comparison) -> list[str]:
    """Curves of the method `baco` among `own_curves`."""
    return [
        curve
        for curve in own_curves(comparison)
        if comparison.cells[comparison.curves[curve][0]].method == "baco"
    ]


def other_pairs(comparison: Comparison) -> dict[str, str | None]:
    """Curves of other pairs, each with the curve of the main pair that has the same router.

    AACO is BaCo with two aligned models, so its twin is BaCo.
    """
    found: dict[str, str | None] = {}
    for curve, settings in comparison.curves.items():
        cell = comparison.cells[settings[0]]
        if cell.pair != comparison.pair:
            method = "baco" if cell.method == "aaco" else cell.method
            twins = [
                name
                for name in own_curves(comparison)
                if (other := comparison.cells[comparison.curves[name][0]]).method == method
                and other.router == cell.router
                and other.sampling == cell.sampling
            ]
            found[curve] = twins[0] if twins else None
    return found


def _others(comparison: Comparison, attempt: object) -> Analysis | None:
    others = other_pairs(comparison)
    if not others:
        return None
    twins = [t for t in dict.fromkeys(others.values()) if t]
    curves = _with_references(comparison, [*others, *twins])
    assert callable(attempt)
    found: Analysis | None = attempt("the other pairs", curves)
    return found


def _with_references(comparison: Comparison, curves: Sequence[str]) -> dict[str, str]:
    names = [setting[0] for setting in comparison.references]
    return {c: c for c in [*names, *curves]}


def _headline(comparison: Comparison, chosen: Sequence[Chosen]) -> dict[str, str]:
    """Curve -> name in the headline table: one curve of each chosen family, all others."""
    families = {c.family: c for c in chosen}
    names = {}
    for family, curves in comparison.families.items():
        if family in families:
            names[families[family].curve] = f"{family} (best)"
        else:
            names.update({c: c for c in curves if c in own_curves(comparison)})
    return {**_with_references(comparison, []), **names}


def _analyse(
    comparison: Comparison,
    curves: Mapping[str, str],
    records: Sequence[Record] | None,
    compared: Sequence[str] | None,
    options: ReportOptions,
    bootstrap: int,
) -> Analysis:
    points = comparison.points(curves, records)
    if not any(m.is_diversity for m in points.metrics) or all(
        m.is_diversity for m in points.metrics
    ):
        raise InputError("there is no space: a diversity and a quality metric need values")
    base, aligned = (
        f"{curves.get(name, name)}@{control}" if control else curves.get(name, name)
        for name, control in comparison.references
    )
    (found,) = analyse(
        points,
        rule=options.rule,
        base=base,
        aligned=aligned,
        n=comparison.n,
        bootstrap=bootstrap,
        seed=options.seed,
        compared=compared,
    )
    return found


def _choose(analysis: Analysis, family: str, curves: Sequence[str]) -> Chosen:
    """The curve with the largest overall Coverage, or share of Dominance where none has one."""
    level = analysis.levels["average", "overall"]
    coverages = {c: level[c]["coverage"] for c in curves}
    measure = "coverage" if any(map(math.isfinite, coverages.values())) else "dom_share"
    among = {c: level[c][measure] for c in curves}
    best = max(among, key=lambda c: -math.inf if math.isnan(among[c]) else among[c])
    return Chosen(family, best, measure, among[best], among)


def averaged_spaces(analysis: Analysis) -> list[Space]:
    """The spaces that make the averages."""
    names = averaged_metrics(analysis.spaces)
    return [s for s in analysis.spaces if {s.diversity.name, s.quality.name} <= names]


def analyse_curves(comparison: Comparison, options: ReportOptions) -> Analysis:
    """Analyses all curves of the main pair on all prompts.

    Raises:
        InputError: If there is no valid space.
    """
    same = {c: c for c in own_curves(comparison)}
    return _analyse(comparison, same, None, None, options, options.bootstrap)


def normalised(analysis: Analysis) -> dict[CurveSetting, tuple[float, float]]:
    """Mean normalised (quality, diversity) of each setting; points outside the box count too.

    Quality is the mean over the quality axes, diversity the mean over the diversity axes, of the
    metrics that make the averages.

    Args:
        analysis: An analysis.

    Returns:
        Setting -> (quality, diversity), NaN where a metric has no value.
    """
    xs: dict[CurveSetting, dict[str, float]] = {}
    ys: dict[CurveSetting, dict[str, float]] = {}
    for space in averaged_spaces(analysis):
        for curve, placed in space.curves.items():
            for point in placed:
                setting = (curve, point.control)
                xs.setdefault(setting, {})[space.quality.name] = point.xy[0]
                ys.setdefault(setting, {})[space.diversity.name] = point.xy[1]
    return {s: (sum(xs[s].values()) / len(xs[s]), sum(ys[s].values()) / len(ys[s])) for s in xs}
