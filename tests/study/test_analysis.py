"""The report's numbers on votes that can be counted by hand."""

import csv
import io
import json
import math
import re

import pytest

from baco.reporting.tables import to_csv, to_latex, to_markdown, to_terminal
from baco.study.analysis import analyse
from baco.study.export import rows
from baco.study.page import page
from baco.study.simulate import Raters, rehearse
from baco.study.store import Vote
from baco.study.tables import headline, tables, values_csv

from .example import make_study


def by_hand(folder, raters=2):
    """Four prompts, two raters. Both rate the first method 2 and 3 in turn, the second 4.

    Overall: rater 1 always chooses the second method; rater 2 the second, a tie, the first, the
    second. Format: all the second. Content: none voted. Creativity: the second three times of
    four for both raters, on the same prompts.
    """
    study = make_study(folder, annotators=raters)
    shown = study.responses()
    votes = []
    for rater in range(2):
        for r in shown:
            rating = 4 if r.method else 2 + r.prompt % 2
            votes.append(Vote(rater, r.prompt, "quality", r.id, rating))
        overall = ([1, 1, 1, 1], [1, None, 0, 1])[rater]
        for prompt in range(4):
            votes.append(Vote(rater, prompt, "overall", 0, overall[prompt]))
            votes.append(Vote(rater, prompt, "format", 0, 1))
            best = next(
                r.id for r in shown if (r.prompt, r.method) == (prompt, 0 if prompt == 0 else 1)
            )
            votes.append(Vote(rater, prompt, "creativity", 0, best))
    study.add_votes(votes)
    return study


def preference(report, question, method):
    return next(p for p in report.preferences if (p.question, p.method) == (question, method))


def test_quality_by_hand(tmp_path):
    report = analyse(by_hand(tmp_path))
    first, second = report.quality
    assert first.mean.value == 2.5
    assert second.mean == (4, 4, 4)
    assert first.counts == {1: 0, 2: 12, 3: 12, 4: 0, 5: 0}
    (gap,) = report.differences
    assert (gap.first, gap.second) == ("plainwriter", "variedwriter")
    assert gap.difference.value == 1.5
    assert gap.relative.value == pytest.approx(0.6)
    assert gap.difference.low == pytest.approx(4 - first.mean.high)
    assert gap.difference.high == pytest.approx(4 - first.mean.low)


def test_win_rates_by_hand(tmp_path):
    report = analyse(by_hand(tmp_path))
    second = preference(report, "overall", "variedwriter")
    assert (second.wins, second.losses, second.ties) == (6, 1, 1)
    assert second.share.value == pytest.approx(6.5 / 8)
    assert second.exact.value == pytest.approx(6 / 7)
    # Clopper-Pearson for 6 of 7: the published table has 0.421 to 0.996.
    assert second.exact[1:] == (pytest.approx(0.4213, abs=1e-4), pytest.approx(0.9964, abs=1e-4))
    assert second.p == pytest.approx(16 / 128)
    first = preference(report, "overall", "plainwriter")
    assert first.share.value == pytest.approx(1.5 / 8)
    assert first.share.low == pytest.approx(1 - second.share.high)
    everything = preference(report, "format", "variedwriter")
    assert everything.share == (1, 1, 1)
    assert everything.p == pytest.approx(2 / 256)
    creative = preference(report, "creativity", "variedwriter")
    assert (creative.wins, creative.losses, creative.share.value) == (6, 2, 0.75)


def test_questions_without_votes_are_empty_not_wrong(tmp_path):
    report = analyse(by_hand(tmp_path))
    content = preference(report, "content", "plainwriter")
    assert content.wins + content.losses + content.ties == 0
    assert math.isnan(content.share.value)
    agreement = next(a for a in report.agreement if a.question == "content")
    assert (agreement.items, agreement.raters) == (0, 0)
    assert math.isnan(agreement.kappa)


def test_agreement_by_hand(tmp_path):
    report = {a.question: a for a in analyse(by_hand(tmp_path)).agreement}
    assert report["quality"].pearson == pytest.approx(1)
    assert report["quality"].icc == pytest.approx(1)
    assert report["quality"].complete == report["quality"].items == 24
    # Overall: the raters agree on 2 of 4 prompts; votes are 6 second, 1 tie, 1 first.
    chance = (36 + 1 + 1) / 64
    assert report["overall"].kappa == pytest.approx((0.5 - chance) / (1 - chance))
    assert math.isnan(report["format"].kappa)  # one category only
    assert report["creativity"].kappa == pytest.approx(1)


def test_correlations_by_hand(tmp_path):
    study = by_hand(tmp_path)
    extra = {
        (prompt, method): {"mine": float(at * (method == "variedwriter"))}
        for at, prompt in enumerate(study.prompts)
        for method in study.methods
    }
    found = {(c.question, c.metric): c for c in analyse(study, scores=extra).correlations}
    assert {metric for _, metric in found} == {"words", "quality", "diversity", "mine"}
    assert found["quality", "words"].units == 24
    # Net overall votes per prompt: 1, 1/2, 0, 1 against 0, 1, 2, 3.
    xs, ys = [0, 1, 2, 3], [1, 0.5, 0, 1]
    top = sum((x - 1.5) * (y - 0.625) for x, y in zip(xs, ys, strict=True))
    below = math.sqrt(5 * sum((y - 0.625) ** 2 for y in ys))
    assert found["overall", "mine"].pearson == pytest.approx(top / below)
    assert found["overall", "mine"].units == 4
    # Every pair of groups differs by 3 in this score, so nothing can correlate with it.
    assert math.isnan(found["overall", "diversity"].pearson)


def test_annotators_by_hand(tmp_path):
    study = by_hand(tmp_path, raters=4)
    study.forget(3)
    workers = analyse(study).workers
    assert [w.label for w in workers] == ["A1", "A2", "A3"]
    assert workers[0].votes == 24 + 4 + 4 + 4
    assert workers[0].expected == 4 * (6 + 3 + 1)
    assert workers[0].mean_rating == pytest.approx(3.25)
    sides = {screen.prompt: screen.sides[0] for screen in study.screens(0)}
    left = sum(sides[prompt][0] == 1 for prompt in range(4)) / 4
    assert workers[0].left_share == left == 0.5
    assert workers[2].votes == 0
    assert analyse(study).withdrawn == 1


def test_a_study_without_votes_can_be_reported(tmp_path):
    report = analyse(make_study(tmp_path))
    text = to_terminal(tables([report]), width=100)
    assert "0 of 40" in text
    assert "nan" not in text
    assert "nan" not in page([report])


def test_three_methods(tmp_path):
    from baco.study.design import DesignOptions, design
    from baco.study.groups import Response, StudyGroup
    from baco.study.protocol import protocol
    from baco.study.store import Study

    groups = [
        StudyGroup(
            name,
            "",
            f"p{at}",
            tuple(Response(f"{name} {at} {i}", {"quality": 1.0}) for i in range(3)),
        )
        for name in ("one", "two", "three")
        for at in range(6)
    ]
    plan = design(groups, DesignOptions(prompts=6, bins=1, shortest=1))
    study = Study.create(tmp_path / "s.sqlite", plan, title="Three", seed=0, protocol=protocol())
    rehearse(study, 3, Raters(win_rate=0.9, ties=0.0))
    report = analyse(study)
    assert len(report.workers) == 3
    assert all(w.votes == w.expected == 6 * (9 + 9 + 1) for w in report.workers)
    votes = {
        p.against: p for p in report.preferences if (p.question, p.method) == ("overall", "three")
    }
    assert set(votes) == {"all others", "one", "two"}
    assert votes["one"].wins + votes["two"].wins == votes["all others"].wins
    assert votes["one"].wins + votes["one"].losses == 18
    creative = [p for p in report.preferences if p.question == "creativity"]
    assert len(creative) == 3
    assert sum(p.wins for p in creative) == 18
    assert creative[0].chance == pytest.approx(1 / 3)
    assert "Against" in to_markdown(tables([report])[2])


def test_table_5_form(tmp_path):
    table = headline([analyse(by_hand(tmp_path))])
    assert list(table.header) == ["", "plainwriter", "variedwriter"]
    assert [row[0] for row in table.rows] == [
        "Quality (1-5)",
        "Diversity: overall",
        "Diversity: format",
        "Diversity: content",
        "Creativity",
    ]
    assert table.rows[0][2] == "4.00 [4.00, 4.00]"
    assert table.rows[1][2].startswith("81.2% [")
    assert table.rows[3][1:] == ["–", "–"]
    assert {(0, 2), (1, 2), (2, 2), (4, 2)} == table.bold


def test_two_studies_stand_side_by_side(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    reports = [analyse(by_hand(tmp_path / name)) for name in "xy"]
    reports[1].title = "Other_prompts"
    table = headline(reports)
    assert table.header[3] == "Other_prompts: plainwriter"
    assert r"Other\_prompts" in to_latex(table)


def test_formats(tmp_path):
    table = headline([analyse(by_hand(tmp_path))])
    cells = list(csv.reader(io.StringIO(to_csv(table))))
    assert cells[1][0] == "Quality (1-5)"
    assert {len(row) for row in cells} == {3}
    latex = to_latex(table)
    assert r"\textbf{81.2\% [" in latex
    assert not re.search(r"(?<!\\)%", latex)
    markdown = to_markdown(table).splitlines()
    assert markdown[2].count("|") == markdown[3].count("|") == markdown[4].count("|")
    assert "**81.2% [" in markdown[5]
    assert "81.2% [" in to_terminal([table], width=100)


def test_plain_values_are_json_and_csv(tmp_path):
    report = analyse(by_hand(tmp_path))
    plain = json.loads(json.dumps(report.plain(), allow_nan=False))
    assert plain["quality"][1]["mean"] == {"value": 4.0, "low": 4.0, "high": 4.0}
    values = list(csv.DictReader(io.StringIO(values_csv([report]))))
    mean = [v for v in values if v["part"] == "quality" and v["field"] == "mean.value"]
    assert [float(v["value"]) for v in mean] == [2.5, 4.0]


def test_page_is_one_file_and_escapes(tmp_path):
    pytest.importorskip("matplotlib")
    study = by_hand(tmp_path)
    study.comment(0, 1, "<script>alert(1)</script>")
    html = page([analyse(study)])
    assert "&lt;script&gt;alert(1)" in html
    assert "<script" not in html
    outside = [
        link
        for link in re.findall(r"""(?:src|href)=["']?([^"' >]+)""", html)
        if not link.startswith("#")
    ]
    assert outside == []
    assert html.count("<svg") == 3
    assert "Simulated" not in html
    assert "Unfinished: A1, A2." in html


def test_simulated_reports_say_so_everywhere(tmp_path):
    pytest.importorskip("matplotlib")
    study = make_study(tmp_path)
    rehearse(study, 2, Raters())
    report = analyse(study)
    assert report.simulated
    assert "Simulated annotators: no human judged" in page([report])
    for table in tables([report]):
        for text in (to_markdown(table), to_latex(table), to_terminal([table])):
            assert "SIMULATED" in text
    assert {row["simulated"] for row in csv.DictReader(io.StringIO(values_csv([report])))} == {
        "True"
    }
    assert all(row["simulated"] for row in rows(study))


def test_export_rows(tmp_path):
    exported = list(rows(by_hand(tmp_path)))
    assert len(exported) == 8
    first = next(r for r in exported if r["method"] == "variedwriter")
    assert len(first["generations"]) == 3
    assert first["ratings"] == {"A1": [4, 4, 4], "A2": [4, 4, 4]}
    assert first["votes"]["overall"] == {
        "plainwriter": {"A1": "variedwriter", "A2": "variedwriter"}
    }
    assert first["votes"]["creativity"] == {"A1": "plainwriter", "A2": "plainwriter"}


def test_the_seed_decides_the_intervals(tmp_path):
    study = by_hand(tmp_path)
    assert analyse(study, seed=1).plain() == analyse(study, seed=1).plain()
