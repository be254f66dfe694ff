"""The report as one HTML page: no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from baco.reporting.pages import document
from baco.reporting.tables import to_html
from baco.study import plots
from baco.study.analysis import Report
from baco.study.tables import headline, tables


def page(reports: Sequence[Report]) -> str:
    """Renders the reports as one self-contained page."""
    title = " and ".join(report.title for report in reports)
    body = [f"<h1>{escape(title)}</h1>", f'<p class="soft">{escape(_summary(reports))}</p>']
    if any(report.simulated for report in reports):
        body.append(
            '<p class="warn" role="note">Simulated annotators: no human judged anything here.</p>'
        )
    body.append(to_html(headline(reports)))
    for report in reports:
        body += _study(report, several=len(reports) > 1)
    return document(title, "".join(body))


def _summary(reports: Sequence[Report]) -> str:
    parts = []
    for report in reports:
        raters = sum(worker.votes > 0 for worker in report.workers)
        parts.append(
            f"{report.prompts} prompts, {report.responses} responses per method, "
            f"{raters} annotators"
        )
    return "; ".join(dict.fromkeys(parts)) + "."


def _study(report: Report, *, several: bool) -> list[str]:
    parts = {table.name: table for table in tables([report])}
    unfinished = [worker for worker in report.workers if worker.votes < worker.expected]
    body = [f"<h2>{escape(report.title)}</h2>"] if several else []
    if unfinished:
        names = ", ".join(worker.label for worker in unfinished)
        body.append(f'<p class="warn" role="note">Unfinished: {escape(names)}.</p>')
    body += [
        "<h2>Quality</h2>",
        _plot(plots.ratings(report), "How often each method got each rating."),
        to_html(parts["quality"]),
        "<h2>Win rates</h2>",
        _plot(plots.wins(report), "Win rates with bootstrap intervals."),
        to_html(parts["wins"]),
        "<h2>Agreement between annotators</h2>",
        to_html(parts["agreement"]),
        "<h2>Automatic metrics</h2>",
        _plot(plots.correlations(report), "Correlation of metrics with human votes."),
        to_html(parts["metrics"]),
        "<h2>Annotators</h2>",
        to_html(parts["annotators"]),
        "<h2>How it was set up</h2>",
        _design(report.design),
    ]
    if report.comments:
        body.append("<h2>Comments</h2>")
        body += [
            f"<blockquote><p>{escape(c['text'])}</p><p class=soft>{escape(c['annotator'])}, on: "
            f"{escape(c['prompt'])}</p></blockquote>"
            for c in report.comments
        ]
    return body


def _plot(svg: str, text: str) -> str:
    return f'<figure role="img" aria-label="{escape(text)}">{svg}</figure>'


def _design(design: dict[str, Any]) -> str:
    facts = {**design["options"], **{f"setting of {m}": s for m, s in design["settings"].items()}}
    matching = design["matching"]
    facts["matching"] = matching["how"]
    for name, mean in (matching.get("mean_quality") or {}).items():
        facts[f"mean automatic quality of {name}"] = f"{mean:.3f}"
    items = ""
    for name, value in facts.items():
        shown = "–" if value in (None, "") else str(value)
        items += f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(shown)}</dd>"
    return f"<dl>{items}</dl>"
