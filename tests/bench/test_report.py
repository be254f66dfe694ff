"""The report against figures worked out by hand from the store's own tables."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baco.bench.compare import ReportOptions, compare
from baco.bench.findings import _ahead, difference, findings
from baco.bench.report import headline, make_report, page, read_looks, write_report
from baco.bench.results import read_results
from baco.bench.store import Store
from baco.errors import InputError

from .example import PLAN, make_store

pytest.importorskip("matplotlib")

QUALITY = {"reward@tiny": "up", "ppl": "down"}
THEORY = {"dist_1": 1.0, "self_bleu": 0.0, "nb_distinct@tiny": 4.0, "semantic_entropy@tiny": 1.3863}
"""Theory ends for groups of four: 1, 0, four classes, ln 4."""


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("bench") / "run.sqlite")


@pytest.fixture(scope="module")
def report(store_path: Path):
    with Store(store_path) as store:
        return make_report(store, ReportOptions(bootstrap=40), with_models=False)


def means(path: Path, records: set[str] | None = None) -> dict[tuple[str, str, str], float]:
    """(curve, control, metric) -> mean, straight from SQL."""
    database = sqlite3.connect(path)
    rows = database.execute(
        "SELECT json_extract(b.about, '$.curve'), json_extract(b.about, '$.control'), m.metric,"
        " s.record, s.value FROM scores s JOIN makers m ON m.id = s.maker"
        " JOIN members b ON b.cell = s.cell"
    ).fetchall()
    database.close()
    found: dict[tuple[str, str, str], list[float]] = {}
    for curve, control, metric, record, value in rows:
        if records is None or record in records:
            found.setdefault((curve, f"{control:g}", metric), []).append(value)
    return {key: sum(values) / len(values) for key, values in found.items()}


def coverage_by_hand(
    table: Mapping[tuple[str, str, str], float], curve: str, diversity: str, quality: str
) -> float:
    """Trapezoids of the normalised curve, level to the left edge and down to the right one."""
    low, high = table["base", "1", quality], table["aligned", "1", quality]
    zero, one = table["aligned", "1", diversity], THEORY[diversity]
    points = []
    for (name, control, metric), value in table.items():
        if (name, metric) == (curve, quality):
            x = (value - low) / (high - low)
            y = (table[curve, control, diversity] - zero) / (one - zero)
            if -1e-9 <= x <= 1 + 1e-9 and -1e-9 <= y <= 1 + 1e-9:
                points.append((x, y))
    points.sort(key=lambda p: (p[0], -p[1]))
    path = [(0.0, points[0][1]), *points, (points[-1][0], 0.0)]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(path))


def overall_by_hand(table: Mapping[tuple[str, str, str], float], curve: str) -> float:
    def average(diversities: tuple[str, ...]) -> float:
        areas = [coverage_by_hand(table, curve, d, q) for d in diversities for q in QUALITY]
        return sum(areas) / len(areas)

    lexical = average(("dist_1", "self_bleu"))
    semantic = average(("nb_distinct@tiny", "semantic_entropy@tiny"))
    return (lexical + semantic) / 2


def test_table_1_is_the_mean_of_the_store(report, store_path: Path) -> None:
    table = report.sections[0].tables["models"]
    expected = means(store_path)
    names = {m.title: m.name for m in report.sections[0].comparison.metrics}
    for row, curve in zip(table.rows, ("base", "aligned"), strict=True):
        assert row[0] == f"{curve}@1"
        for cell, heading in zip(row[1:], table.header[1:], strict=True):
            value = expected[curve, "1", names[heading[:-2]]]
            assert float(cell.split()[0]) == pytest.approx(value, abs=0.006)


def test_metrics_that_make_no_space_are_shown_with_every_setting(report, store_path: Path) -> None:
    section, expected = report.sections[0], means(store_path)
    (title,) = (m.title for m in section.comparison.extra)
    table = section.tables["settings"]
    for row in table.rows:
        value = float(row[table.header.index(title)])
        assert value == pytest.approx(expected[row[0], row[1], "esd@tiny"], abs=0.006)
    assert title in {row[0] for row in section.tables["metrics"].rows}
    assert {space.diversity.title for space in section.figures.everything.spaces}.isdisjoint(
        {title}
    )


@pytest.mark.parametrize("curve", ["base", "aligned", "baco rand", "baco p-punc"])
def test_coverage_of_every_curve_is_the_one_by_hand(report, store_path: Path, curve: str) -> None:
    levels = report.sections[0].figures.everything.levels
    table = means(store_path)
    for diversity, quality in itertools.product(THEORY, QUALITY):
        found = levels["space", f"{diversity} | {quality}"][curve]["coverage"]
        assert found == pytest.approx(coverage_by_hand(table, curve, diversity, quality), abs=1e-4)
    overall = levels["average", "overall"][curve]["coverage"]
    assert overall == pytest.approx(overall_by_hand(table, curve), abs=1e-4)
    row = next(r for r in report.sections[0].tables["curves"].rows if r[0] == curve)
    assert float(row[5].split()[0]) == pytest.approx(overall, abs=0.0006)


def test_the_best_of_a_family_is_chosen_on_one_half_and_shown_on_the_other(
    report, store_path: Path
) -> None:
    figures = report.sections[0].figures
    first, second = figures.comparison.halves()
    assert {r.id for r in first} | {r.id for r in second} == {
        r.id for r in figures.comparison.records
    }
    assert not {r.id for r in first} & {r.id for r in second}
    assert len(first) == len(second) == 12
    (chosen,) = figures.chosen
    deciding = means(store_path, {r.id for r in first})
    by_hand = {c: overall_by_hand(deciding, c) for c in ("baco rand", "baco p-punc")}
    assert chosen.curve == max(by_hand, key=lambda c: by_hand[c]) == "baco p-punc"
    assert chosen.among == pytest.approx(by_hand, abs=1e-4)
    shown = means(store_path, {r.id for r in second})
    value = figures.headline.levels["average", "overall"]["BaCo (best)"]["coverage"]
    assert value == pytest.approx(overall_by_hand(shown, "baco p-punc"), abs=1e-4)
    assert "baco rand" not in figures.headline.methods


def test_routers_are_compared_among_themselves(report) -> None:
    routers = report.sections[0].figures.routers
    assert routers.methods == ("baco rand", "baco p-punc")
    shares = [routers.levels["average", "overall"][m]["dom_share"] for m in routers.methods]
    assert sum(shares) == pytest.approx(1)


def test_early_stops_lengths_and_cost_by_hand(report, store_path: Path) -> None:
    section = report.sections[0]
    look = section.looks["baco p-punc", "0.7"]
    database = sqlite3.connect(store_path)
    lengths = [
        n
        for (n,) in database.execute(
            "SELECT s.tokens FROM samples s JOIN members b ON b.cell = s.cell WHERE"
            " json_extract(b.about, '$.curve') = 'baco p-punc'"
            " AND json_extract(b.about, '$.control') = 0.7"
        )
    ]
    database.close()
    assert look.length.mean() == pytest.approx(sum(lengths) / len(lengths))
    # The aligned reference always writes twenty tokens, so that four are an early stop.
    assert look.early.mean() == pytest.approx(lengths.count(4) / len(lengths))
    assert look.passes_per_token == 2
    row = next(r for r in section.tables["settings"].rows if tuple(r[:2]) == ("baco p-punc", "0.7"))
    assert f"{100 * look.early.mean():.1f}%" in row
    assert "restarts" in section.tables
    assert section.tables["restarts"].rows[1][2] == "0.0%"


def test_findings_follow_the_numbers(report) -> None:
    section = report.sections[0]
    verdicts = {f.claim: f.verdict for f in section.findings}
    assert verdicts["BaCo has more Coverage than base (overall)"] == "confirmed"
    assert verdicts["BaCo has more Coverage than NUDGING (overall)"] == "cannot be told"
    assert verdicts["p-punc has more Coverage than rand on semantic spaces"] == "confirmed"
    aaco = "two aligned models (AACO) have less than half of BaCo's Coverage (overall)"
    assert verdicts[aaco] == "confirmed"
    assert verdicts["the base model's share falls as the answer goes on"] == "confirmed"
    assert verdicts["early stops become more frequent with γ (p-punc)"] == "confirmed"
    between = [v for c, v in verdicts.items() if "partly aligned" in c]
    assert between == ["confirmed", "confirmed"]


def test_the_opposite_is_not_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from . import example

    made = example.place

    def swapped(cell):
        other = {"baco rand": 0.9, "baco p-punc": 0.2, "AACO p-punc": 0.9}.get(cell.curve)
        g = float(cell.control or 0)
        return made(cell) if other is None else (1 - g, other * (0.2 + g))

    monkeypatch.setattr(example, "place", swapped)
    with Store(make_store(tmp_path / "run.sqlite")) as store:
        (comparison,), _ = read_results(store)
        looks, _ = read_looks(store, comparison)
        figures = compare(comparison, ["BaCo"], ReportOptions(bootstrap=40))
        verdicts = {f.claim: f.verdict for f in findings(figures, looks)}
    assert figures.chosen[0].curve == "baco rand"
    assert verdicts["p-punc has more Coverage than rand on semantic spaces"] == "not confirmed"
    aaco = "two aligned models (AACO) have less than half of BaCo's Coverage (semantic)"
    assert verdicts[aaco] == "not confirmed"


def test_a_difference_is_paired(report) -> None:
    analysis = report.sections[0].figures.everything
    value, low, high = difference(analysis, "overall", "coverage", "baco p-punc", "baco rand")
    assert low < value < high
    back = difference(analysis, "overall", "coverage", "baco rand", "baco p-punc")
    assert back == pytest.approx((-value, -high, -low))


def test_files_and_page(report, tmp_path: Path) -> None:
    files = write_report(report, tmp_path / "out")
    assert files[0] == tmp_path / "out" / "report.html"
    html = files[0].read_text(encoding="utf-8")
    names = {f.name for f in files}
    assert {"methods.csv", "routers.csv", "tables.md", "tables.tex", "main.svg"} <= names
    assert {"points.csv", "figures.csv", "findings.json", "spaces.svg"} <= names
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    assert "<script" not in html
    assert len(html.encode()) < 1_000_000
    assert "made up" in html
    assert html.count('class="base"') > 5
    verdicts = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert {v["verdict"] for v in verdicts} == {"confirmed", "cannot be told"}
    text = (tmp_path / "out" / "figures.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {r["table"] for r in rows} >= {"methods", "curves", "routers", "pairs"}


def test_the_page_begins_with_what_came_out_and_the_first_chart(report) -> None:
    html = page(report)
    compared, won = headline(report.sections[0])
    analysis = report.sections[0].figures.headline
    table = analysis.levels["average", "overall"]
    ranked = sorted(
        (m for m in analysis.methods if table[m]["coverage"] == table[m]["coverage"]),
        key=lambda m: -table[m]["coverage"],
    )
    assert f"{len(analysis.methods)} methods" in compared
    assert f"each of {len(report.sections[0].comparison.halves()[1])} prompts" in compared
    assert f"Coverage {table[ranked[0]]['coverage']:.3f} [" in won
    assert f"with {table[ranked[1]]['coverage']:.3f} (lead +" in won
    gap = difference(analysis, "overall", "coverage", ranked[0], ranked[1])
    assert ("lies above 0" if gap[1] > 0 else "reaches below 0") in won
    places = [
        html.index(part)
        for part in ("<h1", 'class="lead"', "<figure", "<nav", "<table", 'id="about"')
    ]
    assert places == sorted(places)
    links = re.findall(r'href="#([^"]+)"', html)
    assert len(links) > 8
    assert set(links) <= set(re.findall(r'id="([^"]+)"', html))
    assert len(set(links)) == len(links)
    assert 'id="notes"' not in html
    noted = page(replace(report, notes="Mind the moon."))
    assert noted.index("Mind the moon.") > noted.index('id="about"')


def test_a_curve_looks_the_same_in_every_plot(report) -> None:
    """By colour and dash; other curves have another pair."""
    from baco.bench.plots import places
    from baco.tradeoff.plots import style

    figures = report.sections[0].figures
    found = places(figures)
    best = {f"{c.family} (best)": c.curve for c in figures.chosen}
    assert best
    assert all(found[name] == found[curve] for name, curve in best.items())
    curves = report.sections[0].comparison.curves
    assert set(curves) <= set(found)
    pairs = {curve: (style(found[curve])[0], str(style(found[curve])[2])) for curve in curves}
    assert len(set(pairs.values())) == len(curves)
    name = next(best[m] for m in figures.drawn.methods if best.get(m) in figures.routers.methods)
    for plot in ("main", "routers", "spaces"):
        svg, _ = report.sections[0].plots[plot]
        assert pairs[name][0].lower() in svg.lower(), plot


def test_metrics_go_by_names_for_people(report) -> None:
    section = report.sections[0]
    shown = " ".join(svg for svg, _ in section.plots.values())
    shown += " ".join(caption for _, caption in section.plots.values())
    for name, table in section.tables.items():
        if name not in ("metrics", "discarded", "findings"):
            shown += " ".join([table.title, *table.header])
    assert "Distinct-1" in shown
    assert "Self-BLEU" in shown
    assert not re.search(r"\b(dist_1|self_bleu|nb_distinct|semantic_entropy|reward@)", shown)


def test_points_can_be_judged_by_tradeoff(report, store_path: Path, tmp_path: Path) -> None:
    from baco.tradeoff import analyse, read_points

    write_report(report, tmp_path)
    (analysis,) = analyse(read_points(tmp_path / "points.csv"))
    found = analysis.levels["average", "overall"]["baco p-punc"]["coverage"]
    assert found == pytest.approx(overall_by_hand(means(store_path), "baco p-punc"), abs=1e-4)


def test_a_finding_about_a_curve_without_coverage_names_no_difference() -> None:
    levels = {("average", "overall"): {"a": {"coverage": 0.1}, "b": {"coverage": math.nan}}}
    analysis: Any = SimpleNamespace(levels=levels, replicates=[levels])
    found = _ahead(analysis, "overall", "coverage", "a", "b", "a has more", "§5.1")
    assert found.measured == "Coverage of a 0.100, of b –"
    assert found.verdict == "cannot be told"


@pytest.mark.slow
def test_the_same_store_gives_the_same_report(report, store_path: Path) -> None:
    with Store(store_path) as store:
        again = make_report(store, ReportOptions(bootstrap=40), with_models=False)
    assert page(again) == page(report)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s.sqlite", unfinished="baco rand", unscored="self_bleu")
    with Store(path) as store:
        report = make_report(store, ReportOptions(bootstrap=0), with_models=False)
    section = report.sections[0]
    reasons = {d.what: d.why for d in section.discarded}
    assert reasons["baco rand 0.2"] == "finished on 23 of 24 prompts"
    assert "baco bench score" in reasons["self_bleu"]
    assert "routers" not in section.tables
    assert section.findings[9].verdict == "cannot be told"
    assert "finished on 23 of 24 prompts" in page(report)


def test_without_references_nothing_can_be_compared(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s.sqlite", plan=PLAN + 'base = "base@3"\n')
    with Store(path) as store, pytest.raises(InputError, match="no base reference"):
        make_report(store, ReportOptions(bootstrap=0), with_models=False)


@pytest.mark.parametrize("limit", [1, 3])
def test_from_a_few_prompts_nothing_can_be_told(tmp_path: Path, limit: int) -> None:
    path = make_store(tmp_path / "s.sqlite", plan=PLAN.replace("limit = 24", f"limit = {limit}"))
    with Store(path) as store:
        (comparison,), _ = read_results(store)
        looks, _ = read_looks(store, comparison)
        figures = compare(comparison, ["BaCo"], ReportOptions(bootstrap=5))
    assert {f.verdict for f in findings(figures, looks)} == {"cannot be told"}
    assert any("halved" in p.why for p in figures.problems) == (limit == 1)


def test_a_run_without_scores_still_shows_its_samples(tmp_path: Path) -> None:
    path = make_store(tmp_path / "s.sqlite")
    database = sqlite3.connect(path)
    database.execute("DELETE FROM scores")
    database.commit()
    database.close()
    with Store(path) as store:
        report = make_report(store, ReportOptions(bootstrap=0), with_models=False)
    section = report.sections[0]
    assert section.figures.everything is None
    assert len([d for d in section.discarded if "baco bench score" in d.why]) == 7
    assert "lengths" in section.tables
    assert section.examples == []
    write_report(report, tmp_path / "out")
    text = (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")
    assert not re.search(r"\bnan\b", text)


@pytest.mark.slow
def test_two_datasets_are_averaged(tmp_path: Path) -> None:
    second = '[[datasets]]\ndataset = "tiny"\nname = "again"\nlimit = 8\n[[methods]]'
    path = make_store(tmp_path / "s.sqlite", plan=PLAN.replace("[[methods]]", second, 1))
    with Store(path) as store:
        report = make_report(store, ReportOptions(bootstrap=10), with_models=False)
    values = [
        s.figures.headline.levels["average", "overall"]["BaCo (best)"]["coverage"]
        for s in report.sections
    ]
    assert report.combined is not None
    row = next(r for r in report.combined.rows if r[0] == "BaCo (best)")
    assert float(row[5].split()[0]) == pytest.approx(sum(values) / 2, abs=0.0006)
    files = write_report(report, tmp_path / "out")
    assert tmp_path / "out" / "again-tiny" / "tables.md" in files
    assert "headline.tex" in {f.name for f in files}


def test_a_second_report_leaves_no_stale_files_and_keeps_the_users(report, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside.txt"
    write_report(report, out)
    stale = [out / name for name in ("old.svg", "older/tables.md")]
    mine = [out / "mine.txt", out / "changed.csv", outside]
    (out / "older").mkdir()
    for path in [*stale, *mine]:
        path.write_text("as written")
    digest = hashlib.sha256(b"as written").hexdigest()
    with (out / "files.sha256").open("a") as file:
        for name in ("old.svg", "older/tables.md", "changed.csv", "../outside.txt", str(outside)):
            file.write(f"{digest}  {name}\n")
        file.write("no line of a list\n")
    (out / "changed.csv").write_text("changed by hand")
    files = write_report(report, out)
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for path in mine)
    listed = [line.split("  ") for line in (out / "files.sha256").read_text().splitlines()]
    assert [out / name for _, name in listed] == files
    for known, name in listed:
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == known


def test_a_folder_that_cannot_be_written(report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_report(report, tmp_path / "file")
