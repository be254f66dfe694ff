"""The paper's findings, looked for in a run: measured, and confirmed or not by the numbers alone.

Paper: §5.1, §5.2, §5.3, §6.1, §6.2, §6.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from baco.bench.compare import LEVELS, Figures, normalised, other_pairs, router_curves
from baco.bench.samples import SampleLook
from baco.errors import BacoError
from baco.models.known import known_pair
from baco.reporting.resampling import Floats, ends, resampled
from baco.reporting.tables import number
from baco.tradeoff.analysis import Analysis, CurveSetting

FindingVerdict = Literal["confirmed", "not confirmed", "cannot be told"]


FEWEST = 4
"""With fewer prompts nothing can be told."""


@dataclass(frozen=True)
class Finding:
    """One claim of the paper, or one part of it.

    Attributes:
        claim: What the paper found, in our words.
        place: Where.
        measured: What was measured here, with its interval.
        verdict: ``confirmed`` if the 95 % interval lies wholly on the claim's side.
    """

    claim: str
    place: str
    measured: str
    verdict: FindingVerdict


def findings(
    figures: Figures, looks: Mapping[CurveSetting, SampleLook], seed: int = 0
) -> list[Finding]:
    """Looks for the paper's findings in a comparison.

    Args:
        figures: Its figures.
        looks: What the samples of its settings look like.
        seed: Decides the resampling of prompts.

    Returns:
        The findings, in the paper's order. What the run has no data for cannot be told.
    """
    found = [
        *_coverage(figures),
        *_routers(figures),
        *_aligned_pairs(figures),
        *_partial(figures),
        *_positions(figures, looks, seed),
        *_early_stops(figures, looks, seed),
    ]
    if len(figures.comparison.records) < FEWEST:
        return [replace(finding, verdict="cannot be told") for finding in found]
    return found


# -- figures of curves --------------------------------------------------------------------------


def difference(
    analysis: Analysis, level: str, measure: str, a: str, b: str, factor: float = 1.0
) -> tuple[float, float, float]:
    """How much more of a measure one curve has than another, on the same resampled prompts.

    Args:
        analysis: Their analysis.
        level: Name of an average.
        measure: The measure.
        a: The one curve.
        b: The other.
        factor: What the other's value is multiplied by first.

    Returns:
        The difference and its 95 % interval; NaN where there is none.
    """

    def value(levels: Mapping[tuple[str, str], Mapping[str, Mapping[str, float]]]) -> float:
        table = levels.get(("average", level), {})
        nothing: dict[str, float] = {}
        first = table.get(a, nothing).get(measure, math.nan)
        return first - factor * table.get(b, nothing).get(measure, math.nan)

    return value(analysis.levels), *ends(np.array([value(r) for r in analysis.replicates]))


def _judge(found: tuple[float, float, float]) -> FindingVerdict:
    """Confirmed if a difference is positive with its whole interval; without one, who knows."""
    value, low, _ = found
    if math.isnan(value) or math.isnan(low):
        return "cannot be told"
    return "confirmed" if low > 0 else "not confirmed"


def _show(found: tuple[float, float, float], scale: float = 1, digits: int = 3) -> str:
    value, low, high = (scale * v for v in found)
    return number(value, digits, low, high, sign="+")


def _figure(analysis: Analysis, level: str, measure: str, curve: str) -> str:
    return number(analysis.levels["average", level][curve][measure])


def _ahead(
    analysis: Analysis, level: str, measure: str, a: str, b: str, claim: str, place: str
) -> Finding:
    found = difference(analysis, level, measure, a, b)
    if ("average", level) not in analysis.levels:
        return Finding(claim, place, f"there is no {level} space", "cannot be told")
    word = {"coverage": "Coverage", "dom_share": "share of Dominance"}[measure]
    measured = (
        f"{word} of {a} {_figure(analysis, level, measure, a)}, of {b} "
        f"{_figure(analysis, level, measure, b)}"
    )
    if not math.isnan(found[0]):
        measured += f"; difference {_show(found)}"
    return Finding(claim, place, measured, _judge(found))


def _coverage(figures: Figures) -> list[Finding]:
    place = "§5.1, Table 2"
    analysis = figures.headline
    routers = set(router_curves(figures.comparison))
    best = next((c for c in figures.chosen if c.curve in routers), None)
    rivals = {"base": "base", "aligned": "aligned", "nudging": "NUDGING"}
    base, aligned = (setting[0] for setting in figures.comparison.references)
    names = {"base": base, "aligned": aligned, "nudging": _nudging(figures)}
    found = []
    for level in LEVELS:
        for role, shown in rivals.items():
            claim = f"BaCo has more Coverage than {shown} ({level})"
            rival = names[role]
            if analysis is None or best is None:
                why = "the plan chooses no best router (report.best_of)"
                found.append(Finding(claim, place, why, "cannot be told"))
            elif rival is None or rival not in analysis.methods:
                found.append(Finding(claim, place, f"{shown} was not run", "cannot be told"))
            else:
                mine = f"{best.family} (best)"
                found.append(_ahead(analysis, level, "coverage", mine, rival, claim, place))
    return found


def _nudging(figures: Figures) -> str | None:
    comparison = figures.comparison
    for (curve, _), cell in comparison.cells.items():
        if cell.method == "nudging" and cell.pair == comparison.pair:
            return curve
    return None


def _by_router(figures: Figures, router: str) -> str | None:
    comparison = figures.comparison
    for curve in router_curves(comparison):
        if comparison.cells[comparison.curves[curve][0]].router == router:
            return curve
    return None


def _routers(figures: Figures) -> list[Finding]:
    place = "§5.2, Table 3"
    punc, rand = _by_router(figures, "p-punc"), _by_router(figures, "rand")
    found = []
    for measure, word in (("coverage", "Coverage"), ("dom_share", "Dominance")):
        claim = f"p-punc has more {word} than rand on semantic spaces"
        if figures.routers is None or punc is None or rand is None:
            found.append(Finding(claim, place, "p-punc or rand was not run", "cannot be told"))
        else:
            found.append(_ahead(figures.routers, "semantic", measure, punc, rand, claim, place))
    return found


def _two_aligned(pair: str) -> bool:
    """Whether a pair is one of two aligned models; only pairs that BaCo knows say so."""
    try:
        return known_pair(pair).base_prompt == "chat"
    except BacoError:
        return False


def _other_curves(figures: Figures, *, aligned: bool) -> dict[str, str | None]:
    """Curves of other pairs: those of two aligned models, or the others.

    Two checkpoints of one alignment run are both prompted as chats too: where the plan calls
    curves AACO, only these are of two aligned models.
    """
    comparison = figures.comparison
    others = other_pairs(comparison)
    two = {
        curve
        for curve in others
        if _two_aligned(comparison.cells[comparison.curves[curve][0]].pair)
    }
    named = {curve for curve in two if "aaco" in curve.lower()}
    return {c: twin for c, twin in others.items() if (c in (named or two)) == aligned}


def _aligned_pairs(figures: Figures) -> list[Finding]:
    place = "§5.3, Table 4"
    claim = "two aligned models (AACO) have less than half of BaCo's Coverage"
    analysis = figures.others
    pairs = [(a, b) for a, b in _other_curves(figures, aligned=True).items() if b]
    if analysis is None or not pairs:
        return [Finding(claim, place, "no pair of aligned models was run", "cannot be told")]
    found = []
    for curve, twin in pairs:
        for level in LEVELS:
            name = f"{claim} ({level})"
            if ("average", level) not in analysis.levels:
                found.append(Finding(name, place, f"there is no {level} space", "cannot be told"))
                continue
            # Half of BaCo's minus AACO's: positive if AACO has less than half.
            value, low, high = difference(analysis, level, "coverage", curve, str(twin), 0.5)
            turned = (-value, -high, -low)
            measured = (
                f"Coverage of {curve} {_figure(analysis, level, 'coverage', curve)}, of {twin} "
                f"{_figure(analysis, level, 'coverage', str(twin))}; half of the latter minus the "
                f"former {_show(turned)}"
            )
            found.append(Finding(name, place, measured, _judge(turned)))
    return found


def _partial(figures: Figures) -> list[Finding]:
    """A partly aligned checkpoint: alone between the models; with the base between the pairs."""
    place = "§6.4"
    claim = "a partly aligned checkpoint lies in between"
    comparison, analysis = figures.comparison, figures.others
    curves = _other_curves(figures, aligned=False)
    if analysis is None or not curves:
        return [Finding(claim, place, "no partly aligned checkpoint was run", "cannot be told")]
    found = []
    where = normalised(analysis)
    base, aligned = comparison.references
    alone = [
        setting
        for setting, cell in comparison.cells.items()
        if setting[0] in curves and cell.method == "aligned" and setting[1] in ("", "1")
    ]
    for setting in alone:
        if not all(s in where for s in (setting, base, aligned)):
            continue
        (x, y), (bx, by), (ax, ay) = where[setting], where[base], where[aligned]
        inside = min(ax, bx) < x < max(ax, bx) and min(ay, by) < y < max(ay, by)
        measured = (
            f"normalised (quality, diversity): base ({bx:.2f}, {by:.2f}), {setting[0]} "
            f"({x:.2f}, {y:.2f}), aligned ({ax:.2f}, {ay:.2f})"
        )
        found.append(
            Finding(
                f"{claim}: alone at T = 1, in quality and diversity",
                place,
                measured,
                "confirmed" if inside else "not confirmed",
            )
        )
    lower = next(iter(_other_curves(figures, aligned=True)), aligned[0])
    for curve, twin in curves.items():
        collaborates = comparison.cells[comparison.curves[curve][0]].method == "baco"
        if twin is None or not collaborates or ("average", "overall") not in analysis.levels:
            continue
        above = difference(analysis, "overall", "coverage", curve, lower)
        below = difference(analysis, "overall", "coverage", twin, curve)
        measured = (
            f"overall Coverage of {lower} {_figure(analysis, 'overall', 'coverage', lower)}, "
            f"{curve} {_figure(analysis, 'overall', 'coverage', curve)}, {twin} "
            f"{_figure(analysis, 'overall', 'coverage', twin)}; above the first by {_show(above)}, "
            f"below the last by {_show(below)}"
        )
        verdicts = {_judge(above), _judge(below)}
        verdict: FindingVerdict = "confirmed" if verdicts == {"confirmed"} else "not confirmed"
        if "cannot be told" in verdicts:
            verdict = "cannot be told"
        text = f"{claim}: with the base, more Coverage than {lower}, less than {twin}"
        found.append(Finding(text, place, measured, verdict))
    return found or [Finding(claim, place, "no curve to compare it with", "cannot be told")]


# -- figures of samples -------------------------------------------------------------------------


def fall(looks: Sequence[SampleLook], what: str) -> Callable[[Floats], float]:
    """How much a quantity falls from the first to the last third of the samples.

    Args:
        looks: Settings whose samples are taken together; all on the same prompts.
        what: ``base`` or ``switch``.

    Returns:
        A statistic of how often each prompt is drawn.
    """
    total = np.sum([getattr(look, f"{what}_in") for look in looks], axis=0)
    alive = np.sum([look.alive_in for look in looks], axis=0)

    def statistic(draw: Floats) -> float:
        with np.errstate(invalid="ignore"):
            curve = (draw @ total) / (draw @ alive)
        return float(np.nanmean(curve[:3]) - np.nanmean(curve[-3:]))

    return statistic


def _best_router(figures: Figures) -> str | None:
    """p-punc, the paper's best router, or else the best one here."""
    routers = set(router_curves(figures.comparison))
    best = next((c.curve for c in figures.chosen if c.curve in routers), None)
    return _by_router(figures, "p-punc") or best


def _positions(
    figures: Figures, looks: Mapping[CurveSetting, SampleLook], seed: int
) -> list[Finding]:
    place = "§6.1"
    claims = {
        "base": "the base model's share falls as the answer goes on",
        "switch": "switching falls as the answer goes on",
    }
    curve = _best_router(figures)
    mine = [
        looks[s]
        for s in figures.comparison.curves.get(curve or "", [])
        if s in looks and looks[s].share > 0
    ]
    if not mine:
        return [Finding(c, place, "no router was run", "cannot be told") for c in claims.values()]
    found = []
    for what, claim in claims.items():
        value = resampled(fall(mine, what), len(mine[0].records), seed)
        word = "base share" if what == "base" else "switches per token"
        measured = (
            f"{word} of {curve}, all thresholds together: first third minus last third "
            f"{_show(value)}"
        )
        found.append(Finding(claim, place, measured, _judge(value)))
    return found


def _early_stops(
    figures: Figures, looks: Mapping[CurveSetting, SampleLook], seed: int
) -> list[Finding]:
    place, claim = "§6.2", "early stops become more frequent with γ"
    found = []
    for router in ("p-punc", "p"):
        curve = _by_router(figures, router)
        settings = [s for s in figures.comparison.curves.get(curve or "", []) if s in looks]
        numbers = sorted((s for s in settings if _number(s[1])), key=lambda s: float(s[1]))
        if len(numbers) < 2:
            continue
        low, high = looks[numbers[0]], looks[numbers[-1]]

        def statistic(draw: Floats, low: SampleLook = low, high: SampleLook = high) -> float:
            return float(draw @ (high.early - low.early) / draw.sum())

        value = resampled(statistic, len(low.records), seed)
        listed = ", ".join(f"{s[1]}: {100 * looks[s].early.mean():.1f} %" for s in numbers)
        measured = f"{curve} at γ = {listed}; last minus first {_show(value, 100, 1)} points"
        found.append(Finding(f"{claim} ({router})", place, measured, _judge(value)))
    if not found:
        return [Finding(claim, place, "no router was run at two thresholds", "cannot be told")]
    return found


def _number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
