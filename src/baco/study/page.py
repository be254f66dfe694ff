"""The report as one HTML page: no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from baco.study import plots
from baco.study.analysis import Report
from baco.study.tables import headline, tables
from baco.tables import to_html

STYLE = """
:root{color-scheme:light dark;--ink:#23282f;--soft:#5c6670;--line:#dcdfe3;--paper:#fbfaf7;
--card:#fff;--warn:#8a3b00;--warnbg:#fff1e0}
@media(prefers-color-scheme:dark){:root{--ink:#e8e6e1;--soft:#a7adb5;--line:#3a4048;--paper:#16191d;
--card:#1e2227;--warn:#ffb870;--warnbg:#3a2a15}figure svg{background:#f4f2ee;border-radius:8px}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.6 system-ui,sans-serif}main{max-width:60rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem}h2{font-size:1.25rem;margin:2.6rem 0 .6rem}
p{margin:.4rem 0}.soft,caption,figcaption{color:var(--soft);font-size:.92rem}
.warn{background:var(--warnbg);color:var(--warn);border-radius:8px;padding:.7rem 1rem;margin:1rem 0;
font-weight:600}.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:.4rem 1rem}table{border-collapse:collapse;width:100%;
font-variant-numeric:tabular-nums}caption{text-align:left;caption-side:bottom;padding:.6rem 0}
th,td{padding:.45rem .7rem .45rem 0;text-align:right;border-bottom:1px solid var(--line);
white-space:nowrap}th:first-child,td:first-child{text-align:left}thead th{color:var(--soft);
font-weight:600;font-size:.9rem}figure{margin:1rem 0}figure svg{max-width:100%;height:auto}
blockquote{margin:.8rem 0;padding-left:1rem;border-left:3px solid var(--line)}
details{margin:.6rem 0}summary{cursor:pointer}dl{display:grid;grid-template-columns:max-content 1fr;
gap:.2rem 1.2rem}dt{color:var(--soft)}dd{margin:0}
"""


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
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


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
