"""The report of a run: one self-contained page, and a folder of tables and plots.

Paper: §5 (Tables 1-4, A7-A9, Figures 3 and 4), §6.1, §6.2.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from baco.bench import plots, tables
from baco.bench.compare import (
    Figures,
    ReportOptions,
    averaged_spaces,
    compare,
    own_curves,
    router_curves,
)
from baco.bench.examples import STYLE, examples, groups_of, shown_setting
from baco.bench.findings import Finding, difference, findings
from baco.bench.results import Comparison, Discarded, read_results
from baco.bench.samples import SampleLook, look, usual_lengths
from baco.bench.store import Store
from baco.errors import BacoError, InputError
from baco.metrics.cache import Cache
from baco.models.folders import cache_folder
from baco.reporting.pages import document, picture
from baco.reporting.tables import Table, inert, number, to_csv, to_html, to_latex, to_markdown
from baco.tradeoff.analysis import Analysis, CurveSetting
from baco.tradeoff.tables import LEVELS
from baco.tradeoff.tables import figures as rows_of
from baco.tradeoff.tables import to_csv as figures_csv

AGREEMENT_PROMPTS = 20
"""Prompts on which the two models' agreement is measured: it needs both models."""

PAGE_STYLE = (
    STYLE
    + """
main{max-width:76rem}h3{margin:2rem 0 .4rem}h4{margin:1rem 0 .2rem;font-size:1rem}
figure img{max-width:100%;height:auto;background:#fff;border-radius:8px}
.words{text-align:left;white-space:normal;min-width:9rem}tr.groups th{text-align:center}
tr.rule td{border-top:2px solid var(--line)}nav a{margin-right:1rem}
.lead{font-size:1.12rem;max-width:60rem}.first img{max-height:66vh;width:auto;margin:auto}
nav ul{columns:16rem 3;list-style:none;padding:.8rem 1rem;margin:1rem 0;background:var(--card);
border:1px solid var(--line);border-radius:10px}nav .h3{padding-left:1rem;font-size:.95rem}
td:first-child{white-space:normal;min-width:9rem}caption{white-space:normal}
section table{font-size:.86rem}summary{font-weight:600;margin:.8rem 0}
"""
)


LONG = 40
"""Tables with more rows are folded on the page."""


@dataclass(frozen=True)
class Section:
    """One comparison, reported.

    Attributes:
        figures: Its figures.
        looks: What the samples of its settings look like.
        findings: The paper's findings.
        tables: Its tables, in the order of the page.
        plots: File name, SVG and caption of its plots.
        examples: Headings and HTML of examples.
        discarded: What was left out.
    """

    figures: Figures
    looks: Mapping[CurveSetting, SampleLook]
    findings: Sequence[Finding]
    tables: Mapping[str, Table]
    plots: Mapping[str, tuple[str, str]]
    examples: Sequence[tuple[str, Sequence[str]]]
    discarded: Sequence[Discarded]

    @property
    def comparison(self) -> Comparison:
        """What was compared."""
        return self.figures.comparison


@dataclass(frozen=True)
class BenchReport:
    """A whole report.

    Attributes:
        title: The plan's name.
        about: What was run, line by line.
        sections: One for each comparison.
        combined: The mean over comparisons, if there are several.
        discarded: What could not become a comparison.
        notes: What a person has to add, as text.
    """

    title: str
    about: Sequence[str]
    sections: Sequence[Section]
    combined: Table | None
    discarded: Sequence[Discarded]
    notes: str = field(default="")


def make_report(
    store: Store,
    options: ReportOptions | None = None,
    *,
    with_models: bool = True,
    notes: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> BenchReport:
    """Computes everything that a report shows.

    Args:
        store: The store of a run that was scored.
        options: How figures are computed.
        with_models: Whether to load the pairs to measure how often their models agree.
        notes: What a person has to add, as text.
        say: Is told what is being done.

    Returns:
        The report. What is missing from the run is missing from it, and named.

    Raises:
        InputError: If the store holds nothing that can be compared.
    """
    options = options or ReportOptions()
    comparisons, problems = read_results(store)
    if not comparisons:
        reasons = "; ".join(f"{p.what}: {p.why}" for p in problems)
        raise InputError(
            f"there is nothing to report: {reasons}", hint="baco bench status shows what is done"
        )
    sections = []
    for comparison in comparisons:
        say(f"{comparison.title}: reading samples")
        sections.append(_section(store, comparison, options, with_models, say))
    headlines = [s.figures.headline for s in sections if s.figures.headline]
    plan = store.plan
    about = [
        f"Pairs: {', '.join(plan.pairs)}. Datasets: {', '.join(d.title for d in plan.datasets)}. "
        f"{plan.n} answers to each prompt, seed {plan.seed}.",
        "Sampling unless said otherwise: "
        + ", ".join(f"{k} {v}" for k, v in plan.sampling.model_dump().items() if v)
        + ".",
        f"Intervals: {options.bootstrap} resamples of the prompts; Coverage rule '{options.rule}'.",
    ]
    return BenchReport(
        plan.name or "Bench",
        [plan.about, *about] if plan.about else about,
        sections,
        tables.combined(headlines) if len(headlines) > 1 else None,
        problems,
        notes,
    )


def _section(
    store: Store,
    comparison: Comparison,
    options: ReportOptions,
    with_models: bool,
    say: Callable[[str], None],
) -> Section:
    looks, usual = read_looks(store, comparison)
    say(f"{comparison.title}: computing figures")
    figures = compare(comparison, store.plan.report.best_of, options)
    found = findings(figures, looks, options.seed)
    lost = [*comparison.discarded, *figures.problems]
    shares: dict[CurveSetting, Any] = {}
    if with_models:
        say(f"{comparison.title}: measuring the agreement of the models")
        try:
            shares = _agreement(store, figures)
        except BacoError as error:
            lost.append(Discarded("the agreement of the two models", str(error)))
    say(f"{comparison.title}: drawing")
    shown = {t.name: t for t in _tables(figures, looks, found, lost, options.seed)}
    return Section(
        figures,
        looks,
        found,
        shown,
        dict(_plots(figures, looks, shares)),
        examples(store, figures, usual),
        lost,
    )


def read_looks(
    store: Store, comparison: Comparison
) -> tuple[dict[CurveSetting, SampleLook], dict[str, float]]:
    """Reads all samples of a comparison once.

    Args:
        store: The store.
        comparison: The comparison.

    Returns:
        What the samples of each setting look like, and the usual length of answers by prompt.
    """
    names = {r.id for r in comparison.records}

    def groups(setting: CurveSetting) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        for record, samples in store.groups(comparison.cells[setting]):
            if record.id in names:
                yield record.id, samples

    usual = usual_lengths(groups(comparison.references[1]))
    return {s: look(groups(s), usual) for s in comparison.cells}, usual


def _agreement(store: Store, figures: Figures) -> dict[CurveSetting, Any]:
    """Agreement of the main pair's models along the references and the setting of the examples."""
    from baco.bench.agreement import agreement
    from baco.pair import load

    comparison = figures.comparison
    base, aligned = comparison.references
    shown = shown_setting(figures)
    settings = [aligned, *([shown] if shown else []), base]
    count = min(AGREEMENT_PROMPTS, len(comparison.records))
    records = [comparison.records[i * len(comparison.records) // count] for i in range(count)]
    run = store.plan.run
    pair = load(comparison.pair, device=run.device, dtype=run.dtype)
    cache = Cache(cache_folder())
    try:
        return {
            s: agreement(pair, groups_of(store, comparison, s, records), cache) for s in settings
        }
    finally:
        cache.close()


def _tables(
    figures: Figures,
    looks: Mapping[CurveSetting, SampleLook],
    found: Sequence[Finding],
    lost: Sequence[Discarded],
    seed: int,
) -> Iterator[Table]:
    comparison = figures.comparison
    yield tables.findings_table(found)
    yield tables.models(figures, seed)
    if figures.headline:
        yield tables.analysis_table(
            "methods",
            f"All methods on {comparison.title}",
            figures.headline,
            "On the half of the prompts that did not choose the best of each family.",
        )
    if figures.chosen:
        yield tables.choices(figures.chosen)
    if figures.routers:
        yield tables.analysis_table("routers", "Routers", figures.routers, "All prompts.")
        yield tables.by_metric(figures.routers, "coverage")
        yield tables.by_metric(figures.routers, "dom_share")
    if figures.others:
        title = "Other pairs beside the main pair"
        yield tables.analysis_table("pairs", title, figures.others, "All prompts.")
    if figures.everything:
        title = "Every curve of the main pair"
        yield tables.analysis_table("curves", title, figures.everything, "All prompts.")
    for level in ("overall", "semantic", "lexical"):
        by_category = tables.by_category(figures, level)
        if by_category:
            yield by_category
    for table in (
        tables.best_at(figures, looks),
        tables.lengths(comparison, looks, seed),
        tables.restarts(comparison, looks),
        tables.positions(comparison, looks, "base"),
        tables.positions(comparison, looks, "switch"),
        tables.settings(figures, looks),
    ):
        if table is not None and table.rows:
            yield table
    yield tables.metrics(comparison)
    yield tables.discarded(lost)


def _plots(
    figures: Figures, looks: Mapping[CurveSetting, SampleLook], shares: Mapping[CurveSetting, Any]
) -> Iterator[tuple[str, tuple[str, str]]]:
    comparison = figures.comparison
    places = plots.places(figures)
    few = plots.strongest(figures.routers) if figures.routers else None
    if figures.drawn:
        space = plots.main_space(figures.drawn)
        yield (
            "main",
            (
                plots.spaces(figures.drawn, [space], places),
                f"{space.title}, {comparison.title}: up is more diverse, right is better. Shaded: "
                "the largest Coverage; the band: the common frontier; hollow points lie outside "
                "the box; a number is a setting's control, where there is room.",
            ),
        )
        for each in figures.drawn.spaces:
            svg = plots.spaces(figures.drawn, [each], places)
            yield f"space-{slug(each.name)}", (svg, each.title)
        if len(figures.drawn.spaces) > 1:
            svg = plots.spaces(figures.drawn, figures.drawn.spaces, places)
            yield "spaces", (svg, "All spaces, all methods")
    if few:
        space = plots.main_space(few)
        caption = f"Routers: {space.title}; at most {plots.LEGIBLE}, those with most Coverage"
        yield "routers", (plots.spaces(few, [space], places), caption)
    best = next((c.curve for c in figures.chosen if c.curve in router_curves(comparison)), None)
    named = [c for c in router_curves(comparison) if "p-punc" in c][:1]
    for curve in dict.fromkeys([*named, *([best] if best else [])]):
        drawn = plots.positions(comparison, curve, looks)
        if drawn:
            caption = f"Who writes where: {curve}, a line for each control"
            yield f"positions-{slug(curve)}", (drawn, caption)
    for name, drawn, caption in (
        (
            "lengths",
            plots.lengths(
                comparison,
                looks,
                [c for c in router_curves(comparison) if few is None or c in few.methods],
                places,
            ),
            "Lengths, early stops, repetition, loops of the same routers",
        ),
        ("cost", plots.cost(figures, looks, places), "Quality, diversity and cost of settings"),
        (
            "agreement",
            plots.agreement(shares, places),
            "How often both models hold the same top token",
        ),
        (
            "long-form",
            plots.long_form(comparison, own_curves(comparison), places),
            "Discourse-level diversity against perplexity",
        ),
    ):
        if drawn:
            yield name, (drawn, caption)


def slug(text: str) -> str:
    """A text as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


# -- the page -----------------------------------------------------------------------------------


def page(report: BenchReport) -> str:
    """The report as one page that loads nothing from elsewhere.

    What came out and the first chart stand first, then the contents, the figures, and last what was
    run, what was left out and what a person adds.
    """
    body = [f"<h1>{escape(report.title)}</h1>"]
    for section in report.sections:
        body += [f'<p class="lead">{escape(line)}</p>' for line in headline(section)]
        if "main" in section.plots:
            svg, caption = section.plots["main"]
            body.append(f'<div class="first">{picture(svg, caption)}</div>')
    if report.combined:
        body += ['<h2 id="all">All datasets</h2>', _shown(report.combined)]
    inside = [part for section in report.sections for part in _html(section)]
    inside.append('<h2 id="about">What was run</h2>')
    inside += [f'<p class="soft">{escape(line)}</p>' for line in report.about]
    if report.discarded:
        table = tables.discarded(report.discarded)
        inside += ['<h2 id="not-reported">Not reported</h2>', to_html(table)]
    if report.notes:
        parts = [p.strip() for p in report.notes.split("\n\n") if p.strip()]
        inside += ['<h2 id="notes">Notes</h2>', *(f"<p>{escape(p)}</p>" for p in parts)]
    links = "".join(
        f'<li class="{level}"><a href="#{place}">{words}</a></li>'
        for level, place, words in re.findall(
            r'<(h[23]) id="([^"]+)">(.*?)</h[23]>', "".join(inside)
        )
    )
    body.append(f'<nav aria-label="Contents"><ul>{links}</ul></nav>')
    return document(report.title, "".join([*body, *inside]), PAGE_STYLE)


def headline(section: Section) -> list[str]:
    """What was compared, what won, by how much, and how sure that is, in sentences."""
    comparison = section.comparison
    analysis = section.figures.headline or section.figures.drawn
    if analysis is None:
        return [f"{comparison.title}: nothing could be compared; the reasons are below."]
    halved = analysis is section.figures.headline
    count = len(comparison.halves()[1] if halved else comparison.records)
    spaces = len(averaged_spaces(analysis))
    best = {f"{c.family} (best)": c.curve for c in section.figures.chosen}
    said = {m: f"{m[:-7]}'s best ({best[m]})" if m in best else m for m in analysis.methods}
    compared = (
        f"{len(analysis.methods)} methods on {comparison.title}: {comparison.n} answers to each of "
        f"{count} prompts{' that had no say in the choice of curves' if halved else ''}, judged "
        f"in {spaces} space{'s' if spaces > 1 else ''} of diversity against quality."
    )
    table = analysis.levels["average", "overall"]
    known = {m: table[m]["coverage"] for m in analysis.methods}
    ranked = sorted((m for m in known if math.isfinite(known[m])), key=lambda m: -known[m])
    if not ranked:
        return [compared, "No method has a curve, so none has a Coverage: see the tables."]
    first = ranked[0]
    ends = analysis.intervals.get(("average", "overall", first, "coverage"), (math.nan, math.nan))
    won = f"{said[first]} covers most: Coverage {number(known[first], 3, *ends)}"
    if len(ranked) < 2:
        return [compared, f"{won}; no other method has a curve to compare it with."]
    second = ranked[1]
    gap = difference(analysis, "overall", "coverage", first, second)
    if math.isnan(gap[1]):
        sure = "There are no intervals, so how sure this is cannot be told."
    elif gap[1] > 0:
        sure = "The interval of the lead lies above 0: the order of these two is clear here."
    else:
        sure = "The interval of the lead reaches below 0: these two may as well be level."
    lead = number(known[first] - known[second], 3, *gap[1:], sign="+")
    next_to_it = f"before {said[second]} with {number(known[second])} (lead {lead})"
    return [compared, f"{won}, {next_to_it}. {sure}", *(f"But {o}." for o in analysis.outliers)]


CHAPTERS: Sequence[tuple[str, Sequence[str], Sequence[str]]] = (
    ("The paper's findings", ("findings",), ()),
    ("Methods", ("models", "methods", "choices"), ("spaces",)),
    (
        "Routers",
        ("routers", *(f"routers-{m}-by-metric" for m in ("coverage", "dom-share"))),
        ("routers",),
    ),
    ("Other pairs", ("pairs",), ()),
    ("Categories", tuple(f"categories-{x}" for x in ("overall", "semantic", "lexical")), ()),
    ("Long form", (), ("long-form",)),
    ("Which setting?", ("best-at-quality",), ("cost",)),
    ("Who writes where", ("positions-base", "positions-switch"), ("positions-*", "agreement")),
    ("Lengths and early stops", ("lengths", "restarts"), ("lengths",)),
)
"""Heading, tables and plots of each part of the page."""


def _html(section: Section) -> list[str]:
    title = section.comparison.title
    place = slug(title)

    def head(words: str) -> str:
        return f'<h3 id="{place}-{slug(words)}">{escape(words)}</h3>'

    count = len(section.comparison.records)
    body = [f'<section><h2 id="{place}">{escape(title)}</h2>']
    body.append(
        f'<p class="soft">{count} prompts, {len(section.comparison.cells)} settings of '
        f"{len(section.comparison.curves)} curves.</p>"
    )
    for heading, names, drawings in CHAPTERS:
        parts = [_shown(section.tables[n]) for n in names if n in section.tables]
        for pattern in drawings:
            parts += [
                picture(svg, caption)
                for name, (svg, caption) in section.plots.items()
                if re.fullmatch(pattern.replace("*", ".*"), name)
            ]
        if parts:
            body += [head(heading), *parts]
    if section.examples:
        body.append(
            head("Examples") + '<p class="soft">What the base model wrote is '
            '<span class="base">marked</span>. Taken by rule, not by taste: the first prompt of '
            "each category, the first answers.</p>"
        )
        for heading, answers in section.examples:
            inside = "".join(answers)
            body.append(f"<details><summary>{escape(heading)}</summary>{inside}</details>")
    body.append(head("Everything else"))
    for name in ("curves", "settings", "metrics"):
        if name in section.tables:
            table = section.tables[name]
            folded = f"<details><summary>{escape(table.title)}</summary>{to_html(table)}</details>"
            body.append(folded)
    if analysis := section.figures.headline or section.figures.drawn:
        body.append(head("Read with care"))
        body += [f"<p>{escape(words)}.</p>" for words in analysis.warnings] or ["<p>Nothing.</p>"]
    body.append(head("What was left out, and why"))
    lost = section.tables["discarded"]
    body.append(to_html(lost) if lost.rows else "<p>Nothing.</p>")
    return [*body, "</section>"]


def _shown(table: Table) -> str:
    """A table under its title; a long one is folded."""
    title = escape(table.title)
    if len(table.rows) > LONG:
        return f"<details><summary>{title}</summary>{to_html(table)}</details>"
    return f"<h4>{title}</h4>{to_html(table)}"


# -- the folder ---------------------------------------------------------------------------------


def write_report(report: BenchReport, folder: Path) -> list[Path]:
    """Writes the page, and every table and plot as files of their own.

    With several comparisons each has a folder of its own within the folder.

    Args:
        report: The report.
        folder: Where to, made if missing. What an earlier report wrote there is replaced or
            removed; other files, and those that were changed since, are not removed.

    Returns:
        The files, the page first.

    Raises:
        InputError: If something cannot be written.
    """
    files: dict[Path, str] = {folder / "report.html": page(report)}
    if report.combined:
        for suffix, write in WRITERS.items():
            files[folder / f"headline{suffix}"] = write(report.combined)
    for section in report.sections:
        place = folder / slug(section.comparison.title) if len(report.sections) > 1 else folder
        shown = [t for t in section.tables.values() if t.rows]
        files[place / "tables.md"] = "\n".join(map(to_markdown, shown))
        files[place / "tables.tex"] = "\n".join(map(to_latex, shown))
        for table in shown:
            files[place / f"{table.name}.csv"] = to_csv(table)
        for name, (svg, _) in section.plots.items():
            files[place / f"{name}.svg"] = svg + "\n"
        files[place / "points.csv"] = points_csv(section.comparison)
        files[place / "figures.csv"] = _figures_csv(section.figures)
        text = json.dumps([asdict(f) for f in section.findings], ensure_ascii=False, indent=1)
        files[place / "findings.json"] = text + "\n"
    try:
        _clear(folder)
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
        (folder / WRITTEN).write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return list(files)


def _clear(folder: Path) -> None:
    """Removes what an earlier report wrote here and nobody has changed since."""
    try:
        lines = (folder / WRITTEN).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return
    root = folder.resolve()
    for line in lines:
        digest, _, name = line.partition("  ")
        path = folder / name
        inside = root in path.resolve().parents and not path.is_symlink()
        if inside and path.is_file() and _digest(path) == digest:
            path.unlink()


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


WRITTEN = "files.sha256"
"""The list of a report's files, as sha256sum writes it; by it the next report knows them."""

WRITERS: Mapping[str, Callable[[Table], str]] = {
    ".csv": to_csv,
    ".md": to_markdown,
    ".tex": to_latex,
}


def points_csv(comparison: Comparison) -> str:
    """Mean of every metric at every setting, as `baco tradeoff` reads it, in full precision."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    names = [m.name for m in comparison.metrics]
    writer.writerow(["dataset", "method", "control", "n", *names])
    for setting in comparison.cells:
        values = [comparison.mean(setting, name) for name in names]
        cells = ["" if math.isnan(v) else repr(v) for v in values]
        writer.writerow(inert([comparison.title, *setting, comparison.n, *cells]))
    return out.getvalue()


def _figures_csv(figures: Figures) -> str:
    """Every Coverage and Dominance with its interval, unrounded; what it is of comes first."""
    some = ("average", "metric")
    parts: dict[str, tuple[Analysis | None, Sequence[str]]] = {
        "methods": (figures.headline, some),
        "curves": (figures.everything, LEVELS),
        "routers": (figures.routers, some),
        "pairs": (figures.others, some),
        **{f"category {name}": (a, ("average",)) for name, a in figures.categories.items()},
    }
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    for name, (analysis, levels) in parts.items():
        if analysis:
            head, *rows = csv.reader(io.StringIO(figures_csv(rows_of([analysis], levels))))
            width = head.index("grid")  # what is compared is in points.csv, once
            if not out.tell():
                writer.writerow(["table", *head[:width]])
            writer.writerows([name, *row[:width]] for row in rows)
    return out.getvalue()
