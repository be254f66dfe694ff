"""The report's tables (Paper: Tables 1-4, A7-A9, and our own for §6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from baco.bench.compare import LEVELS, Chosen, Figures, normalised, own_curves
from baco.bench.findings import Finding
from baco.bench.results import Comparison, Discarded
from baco.bench.samples import EARLY, SampleLook
from baco.reporting.resampling import Floats, resampled
from baco.reporting.tables import DASH, Table, number, percent
from baco.tradeoff.analysis import Analysis, CurveSetting, Levels, combine
from baco.tradeoff.bootstrap import FigureKey, combined_intervals

ENOUGH = (0.95, 0.9, 0.8, 0.7, 0.5)
"""Shares of the aligned model's quality for which the best setting is named."""


def _title(setting: CurveSetting) -> str:
    return f"{setting[0]}@{setting[1]}" if setting[1] else setting[0]


def _best(values: Sequence[Sequence[float]], first: int) -> frozenset[tuple[int, int]]:
    """Cells that hold the largest number of their column; columns are counted from ``first``."""
    bold = set()
    for column in range(len(values[0]) if values else 0):
        known = [row[column] for row in values if math.isfinite(row[column])]
        bold |= {
            (r, column + first)
            for r, row in enumerate(values)
            if len(known) > 1 and row[column] == max(known)
        }
    return frozenset(bold)


def models(figures: Figures, seed: int) -> Table:
    """Diversity and quality of the two models alone (Paper: Table 1)."""
    comparison = figures.comparison
    rows = []
    for setting in comparison.references:
        row = [_title(setting)]
        for metric in comparison.metrics:
            value, low, high = _mean(comparison, setting, metric.name, seed)
            row.append(number(value, 2, low, high))
        rows.append(row)
    arrows = {"up": "↑", "down": "↓"}
    header = ["Model", *(f"{m.title} {arrows[m.direction]}" for m in comparison.metrics)]
    kinds = [m.kind for m in comparison.metrics]
    groups = [("", 1)]
    for kind in dict.fromkeys(kinds):
        if groups[-1][0] != kind.capitalize():
            groups.append((kind.capitalize(), kinds.count(kind)))
    ordered = [k.capitalize() for k in kinds]
    in_order = ordered == [g for g, count in groups[1:] for _ in range(count)]
    return Table(
        "models",
        "Diversity and quality of the two models alone",
        header,
        rows,
        note=f"Means over {len(comparison.records)} prompts with 95% bootstrap intervals over "
        "prompts. The arrow says which way is better, or more diverse.",
        groups=groups if in_order else (),
    )


def _mean(
    comparison: Comparison, setting: CurveSetting, metric: str, seed: int
) -> tuple[float, float, float]:
    column = comparison.values.get((setting, metric), {})
    values = np.array([v for v in column.values() if math.isfinite(v)])
    if not values.size:
        return math.nan, math.nan, math.nan
    return resampled(lambda draw: float(draw @ values / draw.sum()), values.size, seed)


def coverage(
    name: str,
    title: str,
    levels: Levels,
    intervals: Mapping[FigureKey, tuple[float, float]],
    methods: Sequence[str],
    note: str,
) -> Table:
    """Coverage and share of Dominance by class of metric (Paper: Tables 2-4, A7-A9)."""
    shown = [level for level in LEVELS if ("average", level) in levels]
    rows, values = [], []
    for method in methods:
        row, numbers = [method], []
        for level in shown:
            figures = levels["average", level][method]
            for measure, show in (("coverage", number), ("dom_share", percent)):
                ends = intervals.get(("average", level, method, measure), (math.nan, math.nan))
                value = figures[measure]
                row.append(number(value, 3, *ends) if show is number else percent(value, *ends))
                numbers.append(value)
        rows.append(row)
        values.append(numbers)
    return Table(
        name,
        title,
        ["Method", *(["Cov.", "Dom."] * len(shown))],
        rows,
        _best(values, 1),
        note,
        groups=[("", 1), *((level.capitalize(), 2) for level in shown)],
    )


NOTE = (
    "Cov.: Coverage, the area under a method's curve; a dash for a single setting, which has "
    "none. Dom.: its share of the common frontier, among the methods of this table only. "
    "Brackets: 95% bootstrap interval over prompts. Overall: mean of lexical and semantic."
)


def analysis_table(name: str, title: str, analysis: Analysis, note: str = "") -> Table:
    """Coverage and Dominance of one analysis."""
    return coverage(
        name,
        title,
        analysis.levels,
        analysis.intervals,
        analysis.methods,
        f"{note} {NOTE}".strip(),
    )


def combined(analyses: Sequence[Analysis]) -> Table | None:
    """The mean over datasets and pairs of the headline figures (Paper: Table 2); None for one."""
    shared = [m for m in analyses[0].methods if all(m in a.methods for a in analyses)]
    if len(analyses) < 2 or not shared:
        return None
    levels = combine(analyses)
    note = f"Plain mean over {len(analyses)} datasets or pairs, held-out half of the prompts."
    intervals = combined_intervals(analyses, levels)
    title = "All methods, averaged over datasets"
    return coverage("headline", title, levels, intervals, shared, f"{note} {NOTE}")


def choices(chosen: Sequence[Chosen]) -> Table:
    """Which curve of each family was chosen, and from what."""
    words = {"coverage": "Coverage", "dom_share": "Dominance"}
    rows = []
    for c in chosen:
        ranked = sorted(c.among, key=lambda n: -c.among[n] if math.isfinite(c.among[n]) else 1)
        listed = ", ".join(f"{n} {number(c.among[n])}" for n in ranked)
        rows.append([c.family, c.curve, words[c.measure], listed])
    return Table(
        "choices",
        "The best of each family, chosen on the first half of the prompts",
        ["Family", "Chosen", "By", "All of it, on that half"],
        rows,
        note="The tables of all methods then show the other half, which had no say in the choice.",
        texts=4,
    )


def by_metric(analysis: Analysis, measure: str) -> Table:
    """Routers on each diversity metric (Paper: §5.2)."""
    names = {s.diversity.name: s.diversity.title for s in analysis.spaces}
    rows, values = [], []
    for method in analysis.methods:
        numbers = [analysis.levels["metric", n][method][measure] for n in names]
        row = [method]
        for name, value in zip(names, numbers, strict=True):
            key = ("metric", name, method, measure)
            ends = analysis.intervals.get(key, (math.nan, math.nan))
            text = number(value, 3, *ends) if measure == "coverage" else percent(value, *ends)
            row.append(text)
        rows.append(row)
        values.append(numbers)
    word = "Coverage" if measure == "coverage" else "Share of Dominance"
    return Table(
        f"routers-{measure.replace('_', '-')}-by-metric",
        f"{word} of routers on each diversity metric",
        ["Router", *names.values()],
        rows,
        _best(values, 1),
        "Mean over the quality metrics. Brackets: 95% bootstrap interval over prompts.",
    )


def by_category(figures: Figures, level: str) -> Table | None:
    """Coverage of every curve on the prompts of each category."""
    columns = {c: a for c, a in figures.categories.items() if ("average", level) in a.levels}
    if not columns:
        return None
    rows, values = [], []
    for curve in own_curves(figures.comparison):
        row, numbers = [curve], []
        for analysis in columns.values():
            value = analysis.levels["average", level][curve]["coverage"]
            key = ("average", level, curve, "coverage")
            ends = analysis.intervals.get(key, (math.nan, math.nan))
            row.append(number(value, 3, *ends))
            numbers.append(value)
        if any(map(math.isfinite, numbers)):
            rows.append(row)
            values.append(numbers)
    counts = {c: sum(r.category == c for r in figures.comparison.records) for c in columns}
    return Table(
        f"categories-{level}",
        f"Coverage by category, {level}",
        ["Method", *(f"{c} ({counts[c]})" for c in columns)],
        rows,
        _best(values, 1),
        "The axes are normalised within each category; its number of prompts is in brackets. "
        "Brackets behind values: 95% bootstrap interval over prompts.",
    )


def settings(figures: Figures, looks: Mapping[CurveSetting, SampleLook]) -> Table:
    """Every setting: quality and diversity, cost, and what its samples look like."""
    comparison = figures.comparison
    analysis = figures.everything
    where = normalised(analysis) if analysis else {}
    rows: list[list[str]] = []
    rules, before = set(), ""
    for setting in comparison.cells:
        if before and setting[0] != before:
            rules.add(len(rows))
        before = setting[0]
        seen = looks.get(setting)
        quality, diversity = where.get(setting, (math.nan, math.nan))
        rows.append(
            [
                *setting,
                number(quality, 2),
                number(diversity, 2),
                *(number(comparison.mean(setting, m.name), 2) for m in comparison.shown),
                *(
                    [DASH] * 9
                    if seen is None
                    else [
                        percent(seen.share),
                        number(float(seen.switches.mean()), 1),
                        number(float(seen.length.mean()), 1),
                        percent(float(seen.early.mean())),
                        percent(float(seen.limit.mean())),
                        percent(float(seen.empty.mean())),
                        percent(float(seen.repetition.mean())),
                        percent(float(seen.loops.mean())),
                        number(seen.passes_per_token, 2),
                    ]
                ),
            ]
        )
    return Table(
        "settings",
        "Every setting: quality, diversity, cost and looks",
        [
            "Curve",
            "Control",
            "Quality",
            "Diversity",
            *(m.title for m in comparison.shown),
            "Base share",
            "Switches",
            "Tokens",
            "Early stops",
            "At limit",
            "Empty",
            "Repeated",
            "Loops",
            "Passes/token",
        ],
        rows,
        note="Quality and diversity: mean of the normalised axes (0 and 1 in quality: the base and "
        "the aligned reference; 0 in diversity: the aligned reference, 1: the theory end). "
        f"Early stops: ended by themselves before {EARLY:g} of the median length of the aligned "
        "reference on the same prompt. Empty: no text, or white space only; such samples have no "
        "base share and are left out of its mean. Repeated: 4-grams of tokens that occurred before "
        "in the sample. Loops: end in the same tokens three times over. Passes: forward passes of "
        "both models that served a sample.",
        texts=2,
        rules=frozenset(rules),
    )


def best_at(figures: Figures, looks: Mapping[CurveSetting, SampleLook]) -> Table | None:
    """The setting that is most diverse among those of at least a given quality."""
    if figures.everything is None:
        return None
    where = normalised(figures.everything)
    rows = []
    for share in ENOUGH:
        able = {s: xy for s, xy in where.items() if xy[0] >= share and math.isfinite(xy[1])}
        ranked = sorted(able, key=lambda s: -able[s][1])
        row = [percent(share)]
        for setting in ranked[:1]:
            seen = looks.get(setting)
            row += [
                _title(setting),
                number(able[setting][0], 2),
                number(able[setting][1], 2),
                number(seen.passes_per_token, 2) if seen else DASH,
            ]
        second = next((s for s in ranked if s[0] != ranked[0][0]), None)
        row += [DASH] * (5 - len(row))
        row.append(f"{_title(second)} ({able[second][1]:.2f})" if second else DASH)
        rows.append(row)
    return Table(
        "best-at-quality",
        "The most diverse setting of at least a given quality",
        ["Quality at least", "Setting", "Quality", "Diversity", "Passes/token", "Next curve"],
        rows,
        note="On the normalised axes: 100% is the aligned reference, 0% the base one. Next: the "
        "most diverse setting of another curve. Chosen and shown on the same prompts.",
        texts=2,
    )


def lengths(comparison: Comparison, looks: Mapping[CurveSetting, SampleLook], seed: int) -> Table:
    """Length, early stops, repetition and loops against the control (Paper: §6.2)."""
    rows: list[list[str]] = []
    rules, before = set(), ""
    for setting, cell in comparison.cells.items():
        if cell.method not in ("baco", "base", "aligned") or setting not in looks:
            continue
        seen = looks[setting]
        if before and setting[0] != before:
            rules.add(len(rows))
        before = setting[0]
        length, low, high = _over_prompts(seen.length, seed)
        rows.append(
            [
                *setting,
                number(length, 1, low, high),
                *(
                    percent(*_over_prompts(values, seed))
                    for values in (seen.early, seen.repetition, seen.loops, seen.limit)
                ),
            ]
        )
    return Table(
        "lengths",
        "Length, early stops, repetition and loops against the control",
        ["Curve", "Control", "Tokens", "Early stops", "Repeated", "Loops", "At limit"],
        rows,
        note="Means over prompts with 95% bootstrap intervals over prompts; the terms as in the "
        "table of all settings.",
        texts=2,
        rules=frozenset(rules),
    )


def _over_prompts(values: Floats, seed: int) -> tuple[float, float, float]:
    return resampled(lambda draw: float(draw @ values / draw.sum()), values.size, seed)


def restarts(comparison: Comparison, looks: Mapping[CurveSetting, SampleLook]) -> Table | None:
    """Settings whose short stops were drawn again, beside the same without (Paper: §6.2)."""
    rows: list[list[str]] = []
    rules = set()
    for setting, cell in comparison.cells.items():
        least = cell.sampling.get("restart_shorter_than", 0)
        twin = next(
            (
                s
                for s, c in comparison.cells.items()
                if least
                and (c.method, c.router, c.control, c.pair)
                == (cell.method, cell.router, cell.control, cell.pair)
                and c.sampling == {**cell.sampling, "restart_shorter_than": 0}
            ),
            None,
        )
        if twin is None or setting not in looks or twin not in looks:
            continue
        rules.add(len(rows))
        for name, word in ((twin, "no"), (setting, f"below {least} tokens")):
            seen = looks[name]
            rows.append(
                [
                    _title(name),
                    word,
                    percent(float(seen.early.mean())),
                    number(float(seen.attempts.mean()), 2),
                    number(float(seen.length.mean()), 1),
                    percent(float(seen.loops.mean())),
                    *(number(comparison.mean(name, m.name), 2) for m in comparison.metrics),
                ]
            )
    if not rows:
        return None
    return Table(
        "restarts",
        "The effect of drawing short stops again",
        [
            "Setting",
            "Drawn again",
            "Early stops",
            "Draws",
            "Tokens",
            "Loops",
            *(m.title for m in comparison.metrics),
        ],
        rows,
        note="Draws: mean number of draws a sample, at most four.",
        texts=2,
        rules=frozenset(rules),
    )


def positions(comparison: Comparison, looks: Mapping[CurveSetting, SampleLook], what: str) -> Table:
    """Base share or switches in each tenth of the samples (Paper: §6.1, our own design)."""
    rows: list[list[str]] = []
    rules, before = set(), ""
    for setting, cell in comparison.cells.items():
        seen = looks.get(setting)
        if seen is None or cell.method in ("base", "aligned") or not seen.share:
            continue
        if before and setting[0] != before:
            rules.add(len(rows))
        before = setting[0]
        with np.errstate(invalid="ignore"):
            total = seen.base_in if what == "base" else seen.switch_in
            curve = total.sum(0) / seen.alive_in.sum(0)
        rows.append([*setting, *(percent(float(v)) for v in curve)])
    word = "Share of the base model's tokens" if what == "base" else "Tokens that change the source"
    return Table(
        f"positions-{what}",
        f"{word} in each tenth of the answers",
        ["Curve", "Control", *(f"{10 * i}-{10 * i + 10}%" for i in range(10))],
        rows,
        note="Each answer is cut into ten parts after its first token, which is the aligned "
        "model's but for routers that open; mean over answers.",
        texts=2,
        rules=frozenset(rules),
    )


def findings_table(found: Sequence[Finding]) -> Table:
    """The paper's findings and what was measured."""
    rules, before = set(), ""
    for at, finding in enumerate(found):
        if before and finding.place != before:
            rules.add(at)
        before = finding.place
    return Table(
        "findings",
        "The paper's findings, looked for here",
        ["Finding", "Paper", "Here", "Verdict"],
        [[f.claim, f.place, f.measured, f.verdict] for f in found],
        frozenset((at, 3) for at, f in enumerate(found) if f.verdict == "not confirmed"),
        "Confirmed: the 95% bootstrap interval over prompts lies wholly on the finding's side. "
        "BaCo's curve was chosen on the other half of the prompts.",
        texts=4,
        rules=frozenset(rules),
    )


def discarded(left_out: Sequence[Discarded]) -> Table:
    """What the report leaves out, and why."""
    return Table(
        "discarded",
        "What was left out, and why",
        ["What", "Why"],
        [[d.what, d.why] for d in left_out],
        texts=2,
    )


def metrics(comparison: Comparison) -> Table:
    """The metrics, and what made their numbers."""
    return Table(
        "metrics",
        "Metrics and what made their numbers",
        ["Metric", "In files", "Class", "Better", "Made by", "Source"],
        [
            [
                m.title,
                m.name,
                m.kind,
                {"up": "higher", "down": "lower"}[m.direction],
                comparison.made_by.get(m.name, DASH),
                m.source,
            ]
            for m in comparison.shown
        ],
        texts=6,
    )
