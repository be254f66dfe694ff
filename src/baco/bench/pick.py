"""Names the setting to use: the most diverse one that is good enough, cheap enough, or base enough.

Paper: §4.1 ("how one might select methods for deployment").
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baco.bench.cells import Cell
from baco.bench.compare import (
    ReportOptions,
    analyse_curves,
    averaged_spaces,
    own_curves,
    router_curves,
)
from baco.bench.plan import SamplingPlan
from baco.bench.results import Comparison
from baco.bench.samples import SampleLook
from baco.errors import InputError, UnknownNameError
from baco.metrics.spec import Metric
from baco.reporting.resampling import INTERVAL, Floats, draws
from baco.reporting.tables import DASH, Table
from baco.tradeoff.analysis import Analysis, CurveSetting

RESAMPLES = 1000
NEAR = 0.05
"""A base share counts as the wanted one if it is so near."""

SHOWN = 6


@dataclass(frozen=True)
class Wish:
    """What is asked of a setting.

    Attributes:
        min_quality: The least mean of the quality metric, in its own units (for one that is better
            low: the most); None asks nothing.
        quality: The quality metric; empty for the plan's first.
        max_cost: The most forward passes per token; None asks nothing.
        base_share: The base share to come near to; None asks nothing.
    """

    min_quality: float | None = None
    quality: str = ""
    max_cost: float | None = None
    base_share: float | None = None


@dataclass(frozen=True)
class Candidate:
    """One setting with what counts.

    Attributes:
        setting: Curve and control.
        quality: Mean of the quality metric, and its 95 % interval over prompts.
        diversity: Mean normalised diversity, and its interval.
        worth: What is made as large as possible.
        cost: Forward passes per token; NaN if they were not counted.
        base_share: Mean base share.
        fits: Whether it is all that is asked.
        wins: Share of resamples of the prompts in which it is the one to pick.
    """

    setting: CurveSetting
    quality: tuple[float, float, float]
    diversity: tuple[float, float, float]
    worth: float
    cost: float
    base_share: float
    fits: bool
    wins: float


@dataclass(frozen=True)
class Pick:
    """The setting to use, and why.

    Attributes:
        metric: The quality metric.
        best: The setting.
        ranked: All settings that fit, the best first.
        others: How many do not fit.
        half: What the first half of the prompts alone would pick, with its quality and diversity
            on the other half; None if nothing fits there.
        command: A command that uses it.
        rule: What was asked and made large, in words.
    """

    metric: Metric
    best: Candidate
    ranked: Sequence[Candidate]
    others: int
    half: tuple[CurveSetting, float, float] | None
    command: str
    rule: str


def pick(
    comparison: Comparison, looks: Mapping[CurveSetting, SampleLook], wish: Wish, seed: int = 0
) -> Pick:
    """Picks a setting of the main pair.

    Where a least quality is asked for, the most diverse setting that has it is picked; otherwise
    the one with the largest product of normalised quality and diversity.

    Args:
        comparison: What was measured.
        looks: What the samples look like.
        wish: What is asked.
        seed: Decides the resampling of prompts.

    Returns:
        The setting and the evidence.

    Raises:
        InputError: If nothing fits, or what is asked cannot be judged from this run.
    """
    metric = _metric(comparison, wish.quality)
    curves = own_curves(comparison) if wish.base_share is None else router_curves(comparison)
    settings = [s for curve in curves for s in comparison.curves[curve]]
    analysis = analyse_curves(comparison, ReportOptions(bootstrap=0))
    quality, goodness, diversity = _tables(comparison, analysis, metric, settings)
    settings = [s for s in settings if s in quality]
    if not settings:
        raise InputError(f"no setting has values of {metric.name}", hint="baco bench score")
    cost = np.array([looks[s].passes_per_token for s in settings])
    share = np.array([looks[s].share for s in settings])
    if wish.max_cost is not None and np.isnan(cost).all():
        raise InputError("this run did not count forward passes", hint="leave --max-cost out")
    q, g, d = (np.array([table[s] for s in settings]) for table in (quality, goodness, diversity))
    prompts = q.shape[1]

    def choose(draw: Floats) -> tuple[int | None, Floats, NDArray[np.bool_]]:
        """The best setting of resampled prompts; what it maximises; what fits."""
        mean_q, mean_g, mean_d = (_mean(table, draw) for table in (q, g, d))
        fits = np.isfinite(mean_d) & np.isfinite(mean_q)
        if wish.min_quality is not None:
            sign = 1 if metric.direction == "up" else -1
            fits &= sign * mean_q >= sign * wish.min_quality
        if wish.max_cost is not None:
            fits &= cost <= wish.max_cost
        if wish.base_share is not None:
            away = np.abs(share - wish.base_share)
            fits &= away <= max(NEAR, float(away.min()))
        worth = mean_d if wish.min_quality is not None else np.maximum(mean_g, 0) * mean_d
        at = int(np.where(fits, worth, -np.inf).argmax()) if fits.any() else None
        return at, worth, fits

    best, worth, fits = choose(np.ones(prompts))
    if best is None:
        raise InputError(f"no setting fits: {_why(wish, metric, q, cost)}")
    drawn = draws(np.random.default_rng(seed), prompts, RESAMPLES)
    winners = [choose(draw)[0] for draw in drawn]
    qualities, diversities = _intervals(q, drawn), _intervals(d, drawn)
    candidates = [
        Candidate(
            setting,
            qualities[i],
            diversities[i],
            float(worth[i]),
            float(cost[i]),
            float(share[i]),
            bool(fits[i]),
            winners.count(i) / RESAMPLES,
        )
        for i, setting in enumerate(settings)
    ]
    ranked = sorted((c for c in candidates if c.fits), key=lambda c: -c.worth)
    return Pick(
        metric,
        candidates[best],
        ranked,
        len(candidates) - len(ranked),
        _half(comparison, settings, choose, q, d),
        command(comparison, settings[best]),
        _rule(wish, metric),
    )


def _metric(comparison: Comparison, wanted: str) -> Metric:
    found = [m for m in comparison.metrics if not m.is_diversity]
    if not found:
        raise InputError("no quality metric has values", hint="baco bench score computes them")
    for metric in found:
        if wanted in ("", metric.name, metric.base_name):
            return metric
    raise UnknownNameError("quality metric", wanted, [m.name for m in found])


def _tables(
    comparison: Comparison, analysis: Analysis, metric: Metric, settings: Sequence[CurveSetting]
) -> tuple[dict[CurveSetting, Floats], dict[CurveSetting, Floats], dict[CurveSetting, Floats]]:
    """Per prompt: the quality metric, and mean normalised quality and diversity."""
    names = [r.id for r in comparison.records]
    xs = {s.quality.name: s.x for s in averaged_spaces(analysis) if s.x}
    ys = {s.diversity.name: s.y for s in averaged_spaces(analysis) if s.y}
    quality: dict[CurveSetting, Floats] = {}
    good: dict[CurveSetting, Floats] = {}
    diverse: dict[CurveSetting, Floats] = {}

    def column(setting: CurveSetting, name: str) -> Floats:
        values = comparison.values.get((setting, name), {})
        return np.array([values.get(record, math.nan) for record in names])

    for setting in settings:
        mine = column(setting, metric.name)
        if not np.isfinite(mine).any():
            continue
        quality[setting] = mine
        for table, axes in ((good, xs), (diverse, ys)):
            scaled = [
                (column(setting, name) - axis.at_zero) / (axis.at_one - axis.at_zero)
                for name, axis in axes.items()
            ]
            table[setting] = np.mean(scaled, axis=0)
    return quality, good, diverse


def _mean(table: Floats, draw: Floats) -> Floats:
    there = np.isfinite(table)
    with np.errstate(invalid="ignore"):
        mean: Floats = (np.where(there, table, 0) @ draw) / (there @ draw)
    return mean


def _intervals(values: Floats, drawn: Floats) -> list[tuple[float, float, float]]:
    """Mean of each setting over prompts, with its interval."""
    means = _mean(values, np.ones(values.shape[1]))
    if values.shape[1] < 2:
        return [(float(mean), math.nan, math.nan) for mean in means]
    low, high = np.nanquantile(_mean(values, drawn.T), INTERVAL, axis=1)
    return [(float(m), float(a), float(b)) for m, a, b in zip(means, low, high, strict=True)]


def _half(
    comparison: Comparison, settings: Sequence[CurveSetting], choose: object, q: Floats, d: Floats
) -> tuple[CurveSetting, float, float] | None:
    """What one half of the prompts picks, and how it does on the other."""
    assert callable(choose)
    first = {r.id for r in comparison.halves()[0]}
    inside = np.array([float(r.id in first) for r in comparison.records])
    if not 0 < inside.sum() < inside.size:
        return None
    at, _, _ = choose(inside)
    if at is None:
        return None
    return settings[at], float(_mean(q, 1 - inside)[at]), float(_mean(d, 1 - inside)[at])


def _why(wish: Wish, metric: Metric, q: Floats, cost: Floats) -> str:
    means = _mean(q, np.ones(q.shape[1]))
    best = np.nanmax(means) if metric.direction == "up" else np.nanmin(means)
    parts = []
    if wish.min_quality is not None:
        parts.append(f"the best {metric.name} is {best:.3g}")
    if wish.max_cost is not None:
        parts.append(f"the cheapest costs {np.nanmin(cost):.3g} passes per token")
    return ", ".join(parts) or "no setting has all values"


def _rule(wish: Wish, metric: Metric) -> str:
    asked = []
    if wish.min_quality is not None:
        word = "at least" if metric.direction == "up" else "at most"
        asked.append(f"{metric.name} {word} {wish.min_quality:g}")
    if wish.max_cost is not None:
        asked.append(f"at most {wish.max_cost:g} passes per token")
    if wish.base_share is not None:
        asked.append(f"a base share near {wish.base_share:g}")
    large = (
        "the most diverse setting"
        if wish.min_quality is not None
        else "the largest product of normalised quality and diversity"
    )
    return f"{large} with {', '.join(asked)}" if asked else large


def command(comparison: Comparison, setting: CurveSetting) -> str:
    """A command that answers a prompt with a setting."""
    cell = comparison.cells[setting]
    parts = ["baco generate PROMPT", f"-n {cell.n}", f"--pair {cell.pair}"]
    if cell.method != "baco":
        parts.append(f"--method {cell.method}")
    if cell.router:
        parts.append(f"--router {shlex.quote(cell.router)}")
    if cell.control is not None:
        parts.append(f"{_flag(cell.method)} {setting[1]}")
    return " ".join([*parts, *_sampling(cell)])


def _sampling(cell: Cell) -> list[str]:
    """The options for all sampling that is not the default, and for the seed."""
    given = {**cell.sampling, "seed": cell.seed}
    parts = []
    from baco.methods.settings import PENALTIES

    usually = {name: field.default for name, field in SamplingPlan.model_fields.items()}
    for name, usual in {**usually, "seed": 0}.items():
        value, flag = given.get(name, usual), f"--{name.replace('_', '-')}"
        if value == usual or flag == _flag(cell.method):
            continue
        if name in PENALTIES:
            if isinstance(value, dict):
                value = ",".join(f"{token}:{bias}" for token, bias in value.items())
            parts.append(f"--penalty {name}={value}")
        elif isinstance(value, bool):
            parts.append(flag if value else f"--no-{flag[2:]}")
        else:
            texts = value if isinstance(value, list) else [f"{value}"]
            parts += [f"{flag} {shlex.quote(text)}" for text in texts]
    return parts


def _flag(method: str) -> str:
    """The option that sets a method's control."""
    from baco.methods import METHODS

    if METHODS[method].takes_router:
        return "--gamma"
    alias = getattr(METHODS[method], "alias", "temperature")
    return f"--{alias.replace('_', '-')}" if alias else "--control"


def title(setting: CurveSetting) -> str:
    """Curve and control, for people."""
    return f"{setting[0]}@{setting[1]}" if setting[1] else setting[0]


def table(picked: Pick) -> Table:
    """The best settings beside the one that was picked."""

    def cell(value: tuple[float, float, float], digits: int) -> str:
        middle, low, high = value
        return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    rows = [
        [
            title(c.setting),
            cell(c.quality, 2),
            cell(c.diversity, 3),
            f"{c.cost:.2f}" if math.isfinite(c.cost) else DASH,
            f"{100 * c.base_share:.1f}%",
            f"{100 * c.wins:.1f}%",
        ]
        for c in picked.ranked[:SHOWN]
    ]
    more = len(picked.ranked) - len(rows)
    note = f"{more} more fit, " if more else ""
    return Table(
        "pick",
        f"Picked by: {picked.rule}",
        ["Setting", picked.metric.name, "Diversity", "Passes/token", "Base share", "Picked"],
        rows,
        note=f"{note}{picked.others} do not. Diversity: mean of the normalised axes (0: the "
        "aligned model at T = 1, 1: the theory end). Brackets: 95% bootstrap interval over "
        "prompts. Picked: how often resampled prompts pick it.",
    )
