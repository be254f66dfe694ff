"""Answers to look at: who wrote what, the same prompt along γ (Paper: Tables A12, A13)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from baco.bench.compare import Figures, normalised, router_curves
from baco.bench.records import Record
from baco.bench.results import Comparison
from baco.bench.samples import stops_early
from baco.bench.store import Store
from baco.prompts import question_of
from baco.tradeoff.analysis import CurveSetting

PROMPTS, ANSWERS = 3, 6
GOOD = 0.8
"""The setting that is shown in groups is the most diverse one of at least such quality."""

STYLE = """
.answer{white-space:pre-wrap;margin:.35rem 0;padding:.35rem .6rem;border-left:3px solid var(--line)}
.base{background:#f6c98f;color:#23282f;border-radius:3px}.early{color:var(--warn);font-weight:600}
"""


def examples(
    store: Store, figures: Figures, usual: Mapping[str, float]
) -> list[tuple[str, list[str]]]:
    """Answers as HTML, under headings.

    Args:
        store: The store.
        figures: The figures of a comparison.
        usual: Usual lengths of answers, by prompt.

    Returns:
        Headings and the HTML of what stands below each.
    """
    comparison = figures.comparison
    setting = shown_setting(figures)
    wanted = _prompts(comparison)
    found = []
    if setting is not None:
        base, aligned = comparison.references
        for record in wanted:
            parts = []
            for s in (aligned, setting, base):
                parts.append(f"<h4>{escape(_title(s))}</h4>")
                group = groups_of(store, comparison, s, [record])[0][1]
                parts += [_answer(x, usual.get(record.id, 0)) for x in group[:ANSWERS]]
            found.append((_question(record), parts))
    along = _along(store, comparison, setting, wanted[:1], usual)
    return [*found, *along]


def shown_setting(figures: Figures) -> CurveSetting | None:
    """A router's setting for examples: the most diverse one of good quality, if there is any."""
    routers = set(router_curves(figures.comparison))
    analysis = figures.everything
    if analysis is None or not routers:
        return None
    where = {s: xy for s, xy in normalised(analysis).items() if s[0] in routers}
    good = {s: xy for s, xy in where.items() if xy[0] >= GOOD} or where
    return max(good, key=lambda s: good[s][1]) if good else None


def groups_of(
    store: Store, comparison: Comparison, setting: CurveSetting, records: Sequence[Record]
) -> list[tuple[Record, list[dict[str, Any]]]]:
    """The groups of a setting for some prompts, in the order of the prompts."""
    names = [r.id for r in records]
    found = {r.id: (r, s) for r, s in store.groups(comparison.cells[setting]) if r.id in names}
    return [found[name] for name in names]


def _prompts(comparison: Comparison) -> list[Record]:
    """One prompt of each category, as many as are shown."""
    first: dict[str | None, Record] = {}
    for record in comparison.records:
        first.setdefault(record.category, record)
    return [*first.values(), *comparison.records[1:]][:PROMPTS]


def _along(
    store: Store,
    comparison: Comparison,
    setting: CurveSetting | None,
    records: Sequence[Record],
    usual: Mapping[str, float],
) -> list[tuple[str, list[str]]]:
    """The first answer to one prompt at every threshold of a router."""
    if setting is None or not records:
        return []
    parts = []
    for each in comparison.curves[setting[0]]:
        sample = groups_of(store, comparison, each, records)[0][1][0]
        size = len(sample["token_ids"])
        parts.append(f"<h4>{escape(_title(each))}, {size} tokens</h4>")
        parts.append(_answer(sample, usual.get(records[0].id, 0)))
    return [(f"The same along the threshold: {_question(records[0])}", parts)]


def _question(record: Record) -> str:
    text = " ".join(question_of(record.prompt).split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _title(setting: CurveSetting) -> str:
    return f"{setting[0]}@{setting[1]}" if setting[1] else setting[0]


def _answer(sample: Mapping[str, Any], usual: float) -> str:
    """One answer; what the base model wrote is marked."""
    pieces = []
    pairs = zip(sample["tokens"], sample["sources"], strict=True)
    for source, run in itertools.groupby(pairs, key=lambda p: p[1]):
        text = escape("".join(token for token, _ in run))
        pieces.append(f'<span class="base">{text}</span>' if source == "base" else text)
    ending = {"length": " (cut at the limit)", "failed": " (no answer)"}.get(
        sample["finish_reason"], ""
    )
    if stops_early(sample, usual):
        ending = " (stopped early)"
    note = f'<span class="early">{ending}</span>' if ending else ""
    return f'<div class="answer">{"".join(pieces).strip() or "(empty)"}{note}</div>'
