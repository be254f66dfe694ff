"""The tables of a study; the first one is like the paper's Table 5."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace

from baco.reporting.tables import DASH, Table, inert, number, percent
from baco.study.analysis import Preference, Report
from baco.study.protocol import DIVERSITY, WORDING
from baco.study.simulate import Power

SIMULATED = "SIMULATED annotators, no human data."


def tables(reports: Sequence[Report]) -> list[Table]:
    """All tables of one or more studies."""
    result = [headline(reports)]
    for report in reports:
        tag = f", {report.title}" if len(reports) > 1 else ""
        parts = [_differences, _preferences, _agreement, _correlations, _workers]
        for table in (part(report, tag) for part in parts):
            note = f"{SIMULATED} {table.note}" if report.simulated else table.note
            result.append(replace(table, note=note))
    return result


def headline(reports: Sequence[Report]) -> Table:
    """Quality, diversity and creativity of every method: the form of the paper's Table 5."""
    columns = [(report, method) for report in reports for method in report.methods]
    several = len(reports) > 1
    header = ["", *(f"{r.title}: {m}" if several else m for r, m in columns)]
    rows = [["Quality (1-5)"]]
    values: list[list[float]] = [[]]
    for report, method in columns:
        mean = next(quality.mean for quality in report.quality if quality.method == method)
        rows[0].append(number(mean.value, 2, mean.low, mean.high))
        values[0].append(mean.value)
    for question in (*DIVERSITY, "creativity"):
        name = WORDING[question]["title"]
        rows.append([f"Diversity: {name.lower()}" if question in DIVERSITY else name])
        values.append([])
        for report, method in columns:
            share = overall(report, question, method).share
            rows[-1].append(percent(*share))
            values[-1].append(share.value)
    bold, start = set(), 0
    for report in reports:
        stop = start + len(report.methods)
        for at, row in enumerate(values):
            part = row[start:stop]
            if all(map(math.isfinite, part)) and len(set(part)) > 1:
                bold |= {(at, start + 1 + c) for c, v in enumerate(part) if v == max(part)}
        start = stop
    first = reports[0]
    note = (
        f"Quality: mean rating. Others: win rate, a tie counting half. Brackets: "
        f"{100 * first.level:g}% bootstrap interval over {first.resampled}."
    )
    if any(report.simulated for report in reports):
        note = f"{SIMULATED} {note}"
    return Table("results", "Human evaluation", header, rows, frozenset(bold), note)


def overall(report: Report, question: str, method: str) -> Preference:
    """A method's record on a question against all other methods."""
    return next(p for p in report.preferences if p.question == question and p.method == method)


def _differences(report: Report, tag: str) -> Table:
    rows = [
        [
            f"{d.second} − {d.first}",
            number(d.difference.value, 2, d.difference.low, d.difference.high),
            percent(*d.relative),
        ]
        for d in report.differences
    ]
    return Table(
        "quality",
        f"Difference in mean quality{tag}",
        ["Methods", "Difference", "Relative"],
        rows,
        note=f"Bootstrap intervals over {report.resampled}.",
    )


def _preferences(report: Report, tag: str) -> Table:
    two = len(report.methods) == 2
    first, last = report.methods[0], report.methods[-1]
    rows = [
        [
            WORDING[p.question]["title"],
            *([] if two else [p.method, p.against]),
            f"{p.wins}",
            f"{p.ties}",
            f"{p.losses}",
            percent(*p.share),
            percent(*p.exact),
            f"{p.p:.2g}" if math.isfinite(p.p) else DASH,
        ]
        for p in report.preferences
        if not two or p.method == last
    ]
    many = (
        ""
        if two
        else " Creativity: one vote among all methods, tested against an equal share for each."
    )
    names = [] if two else ["Method", "Against"]
    return Table(
        "wins",
        f"Wins of {last} against {first}{tag}" if two else f"Wins{tag}",
        ["Question", *names, "Wins", "Ties", "Losses", "Win rate", "Decided", "p"],
        rows,
        note=f"Win rate: ties count half; bootstrap over {report.resampled}, to be trusted first. "
        "Decided: ties left out; exact binomial interval and two-sided p, which take votes as "
        "independent, and so are too sure of themselves where votes on one prompt resemble each "
        f"other.{many}",
    )


def _agreement(report: Report, tag: str) -> Table:
    rows = [
        [
            WORDING[a.question]["title"],
            f"{a.raters}",
            f"{a.complete} of {a.items}",
            number(a.pearson, 3),
            number(a.icc, 3),
            number(a.kappa, 3),
            number(a.alpha, 3),
        ]
        for a in report.agreement
    ]
    return Table(
        "agreement",
        f"Agreement{tag}",
        [
            "Question",
            "Raters",
            "Judged by all",
            "Pearson",
            "ICC(2,k)",
            "Fleiss κ",
            "Krippendorff α",
        ],
        rows,
        note="Pearson: mean over rater pairs. ICC and κ use what all raters judged. α: ordinal for "
        "quality, else nominal. A dash: does not apply or cannot be computed.",
    )


def _correlations(report: Report, tag: str) -> Table:
    rows = [
        [
            WORDING[c.question]["title"],
            c.metric,
            f"{c.units}",
            number(c.pearson, 3),
            number(c.spearman, 3),
        ]
        for c in report.correlations
    ]
    return Table(
        "metrics",
        f"Human votes and automatic metrics{tag}",
        ["Question", "Metric", "Units", "Pearson", "Spearman"],
        rows,
        note="Quality: mean rating against score, per response. Others: net share of votes "
        "against the difference of the two groups' scores, per pair of groups.",
    )


def _workers(report: Report, tag: str) -> Table:
    rows = [
        [
            w.label + (" (simulated)" if w.simulated else ""),
            f"{w.votes} of {w.expected}",
            number(w.minutes, 0),
            number(w.mean_rating, 2),
            percent(w.left_share),
            f"{w.changed}",
        ]
        for w in report.workers
    ]
    return Table(
        "annotators",
        f"Annotators{tag}",
        ["Annotator", "Answers", "Minutes", "Mean rating", "Chose left", "Changed"],
        rows,
        note=f"Withdrawn: {report.withdrawn}. Chose left: share of decided comparisons won by the "
        "group shown as A; far from half hints at a side habit.",
    )


def power_table(rows: Sequence[Power]) -> Table:
    """The power of simulated studies of several sizes."""
    return Table(
        "power",
        "SIMULATED power: how often such a study finds the planted effect",
        [
            "Prompts",
            "Raters",
            "Hours each",
            "Quality",
            "Win rate",
            "Exact test",
            "± win rate",
            "Covered",
        ],
        [
            [
                f"{p.prompts}",
                f"{p.raters}",
                number(p.hours, 1),
                percent(p.quality),
                percent(p.diversity),
                percent(p.exact),
                percent(p.width),
                percent(p.covered),
            ]
            for p in rows
        ],
        note="Simulated, no human data. Quality and win rate: the bootstrap interval over prompts "
        "excludes no effect. Exact test: binomial p below the level, votes taken as independent. "
        "Covered: intervals that contain the planted win rate. Hours: a guess.",
    )


def values_csv(reports: Sequence[Report]) -> str:
    """Every number of the reports, unrounded, one a row: study, table, what, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["study", "simulated", "part", "what", "field", "value"])
    for report in reports:
        plain = report.plain()
        for part in (
            "quality",
            "differences",
            "preferences",
            "agreement",
            "correlations",
            "workers",
        ):
            for row in plain[part]:
                texts = [str(v) for v in row.values() if isinstance(v, str)]
                for key, value in row.items():
                    if isinstance(value, dict):
                        cells = {f"{key}.{name}": v for name, v in value.items()}
                    else:
                        cells = {key: value}
                    for name, cell in cells.items():
                        if not isinstance(cell, str):
                            said = "" if cell is None else json.dumps(cell)
                            what = [report.title, report.simulated, part, " / ".join(texts)]
                            writer.writerow(inert([*what, name, said]))
    return out.getvalue()
