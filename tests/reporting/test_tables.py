"""One table in every form."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from baco.reporting.tables import (
    LATEX_ROWS,
    LATEX_WIDTH,
    LATEX_WORDS,
    Table,
    inert,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_terminal,
)

TABLE = Table(
    "results",
    "Methods & spaces",
    ["Method", "Cov.", "Dom.", "Cov.", "Dom."],
    [["a_b", "0.1", "5%", "0.2", "–"], ["<c> | d", "0.3", "95%", "[0.1, 0.2]", "1"]],
    frozenset({(1, 1)}),
    "Read γ from 50% on.",
    groups=[("", 1), ("Lexical", 2), ("Semantic", 2)],
    rules=frozenset({1}),
)


def test_every_form_has_every_cell():
    cells = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert cells[0] == ["Method", "Lexical Cov.", "Lexical Dom.", "Semantic Cov.", "Semantic Dom."]
    assert cells[1:] == [list(row) for row in TABLE.rows]
    text = to_terminal([TABLE], width=200)
    for row in TABLE.rows:
        assert all(cell in text for cell in row)


def test_markdown():
    lines = to_markdown(TABLE).splitlines()
    assert lines[0] == "**Methods & spaces**"
    assert lines[5] == r"| <c> \| d | **0.3** | 95% | [0.1, 0.2] | 1 |"
    assert lines[-1] == TABLE.note
    assert to_markdown(replace(TABLE, title="", note="")).startswith("| Method |")


def test_latex_has_as_many_columns_everywhere_and_nothing_unescaped():
    latex = to_latex(TABLE)
    assert not re.search(r"(?<!\\)%", latex)
    assert r"\textbf{0.3}" in latex
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}" in latex
    assert r"a\_b" in latex
    assert r"$\gamma$" in latex
    assert latex.count(r"\midrule") == 2
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in body[1:]} == {4}
    spans = sum(int(n) for n in re.findall(r"\\multicolumn\{(\d)\}", body[0]))
    assert spans + 1 == len(TABLE.header)
    bare = to_latex(replace(TABLE, title=""))
    assert "caption" not in bare
    assert bare.startswith(r"\begin{tabular}{lrrrr}")


def test_latex_fits_a_page():
    """Columns and rows that do not fit are cut into parts, each with the words at the left."""
    rows = [[f"curve {r // 8}", f"{r}", "a" * 90, *["0.584 [0.521, 0.613]"] * 9] for r in range(90)]
    header = ["Curve", "Control", "About", *(f"Metric {c}" for c in range(9))]
    table = Table("wide", "All", header, rows, texts=3, rules=frozenset(range(8, 90, 8)))
    parts = to_latex(table).split(r"\begin{table}")[1:]
    assert len(parts) > 4
    seen = set()
    for part in parts:
        body = [line for line in part.splitlines() if line.endswith(r"\\")]
        head, *cells = (line.removesuffix(r" \\").split(" & ") for line in body)
        assert head[:3] == header[:3]
        assert len({len(row) for row in (head, *cells)}) == 1
        assert 3 * len(cells) <= LATEX_ROWS  # ninety letters are three lines
        widths = [max(len(row[c]) for row in (head, *cells)) + 2 for c in range(len(head))]
        assert sum(min(width, LATEX_WORDS) for width in widths) <= LATEX_WIDTH
        assert "max width=" in part
        assert part.endswith("\\clearpage\n")  # LaTeX keeps few floats waiting
        assert re.search(r"\\begin\{tabular\}\{llp\{\d+em\}r+\}", part)
        seen |= {(row[1], name) for row in cells for name in head[3:]}
    assert seen == {(f"{r}", f"Metric {c}") for r in range(90) for c in range(9)}
    labels = re.findall(r"\\label\{(.*)\}", "".join(parts))
    assert len(set(labels)) == len(parts)


def test_html_escapes_and_stresses():
    page = to_html(TABLE)
    assert "&lt;c&gt; | d" in page
    assert "<b>0.3</b>" in page
    assert '<th scope="colgroup" colspan="2">Lexical</th>' in page
    assert page.count("<tr") == 4
    assert '<tr class="rule">' in page


@pytest.mark.parametrize("write", [to_csv, to_html, to_latex, to_markdown])
def test_an_empty_table_is_a_table(write):
    assert "Method" in write(replace(TABLE, rows=[], bold=frozenset()))


def test_no_cell_of_a_csv_file_runs_as_a_formula() -> None:
    texts = ["=1+1", "+cmd|' /C calc'!A0", "-1+cmd|x", "@SUM(A1)", "\t=1", "\n=1"]
    figures = ["-0.5", "+1e-3", "-0.5 ± 0.1", "-inf", "- - 0.2", "-", "–", "0.1 – 0.2", "(-1)", ""]
    assert inert(["a\r=1", "\r\n=1", -1.5]) == ["a\n=1", "'\n=1", -1.5]
    rows = [texts, figures[:6], [*figures[6:], "a", "b=1"], [1, -2.5, None, True, "x", "'"]]
    table = Table("t", "", [f"{i}" for i in range(6)], rows)  # type: ignore[arg-type]
    read = list(csv.reader(io.StringIO(to_csv(table), newline="")))
    assert read[1] == [f"'{text}" for text in texts]
    assert read[2] == figures[:6]
    assert read[3] == [*figures[6:], "a", "b=1"]
    assert read[4] == ["1", "-2.5", "", "True", "x", "'"]
