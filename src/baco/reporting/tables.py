"""Tables for people: one kind of table, written as Markdown, LaTeX, CSV, HTML or for a terminal."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

DASH = "–"
"""Stands where there is no value."""


def number(
    value: float,
    digits: int = 3,
    low: float = math.nan,
    high: float = math.nan,
    *,
    unit: str = "",
    sign: str = "",
    none: str = DASH,
) -> str:
    """Writes a figure, with its interval in brackets if it has one.

    Args:
        value: The figure.
        digits: Digits after the point.
        low: Where its interval begins; NaN for none.
        high: Where it ends.
        unit: What stands behind the figure.
        sign: ``+`` writes the sign of positive numbers too.
        none: What stands where there is no figure.
    """
    if math.isnan(value):
        return none
    text = f"{value:{sign}.{digits}f}{unit}"
    return text if math.isnan(low) else f"{text} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def percent(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Writes a share in per cent, as `number`."""
    return number(100 * value, 1, 100 * low, 100 * high, unit="%")


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        name: Short name, for file names and labels.
        title: What it shows; empty for a bare table.
        header: Column titles.
        rows: The cells.
        bold: Row and column of the cells to stress.
        note: How to read it.
        texts: How many columns at the left hold words; the others hold figures.
        groups: Titles that span columns, each with its number of columns; empty for none.
        rules: Rows before which a line is drawn.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    note: str = ""
    texts: int = 1
    groups: Sequence[tuple[str, int]] = ()
    rules: frozenset[int] = field(default_factory=frozenset)

    @property
    def flat_header(self) -> list[str]:
        """Column titles that stand alone: the spanning title put before each."""
        spans = [title for title, count in self.groups for _ in range(count)]
        spans += [""] * (len(self.header) - len(spans))
        return [f"{s} {h}".strip() for s, h in zip(spans, self.header, strict=True)]


def to_markdown(table: Table) -> str:
    """Markdown; title and note stand around the table if there are any."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rows = [
        [f"**{cell}**" if (r, c) in table.bold else cell for c, cell in enumerate(row)]
        for r, row in enumerate(table.rows)
    ]
    rule = "|" + "---|" * len(table.header)
    body = "\n".join([line(table.flat_header), rule, *map(line, rows)])
    head = f"**{table.title}**\n\n" if table.title else ""
    note = f"\n{table.note}\n" if table.note else ""
    return f"{head}{body}\n{note}"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "γ": r"$\gamma$",
        "κ": r"$\kappa$",
        "α": r"$\alpha$",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "→": r"$\to$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "∞": r"$\infty$",
        "\n": " ",
    }
)


LATEX_WIDTH, LATEX_ROWS = 100, 40
"""Letters in a line and rows of a table that fit a page of LaTeX's article."""

LATEX_WORDS = 34
"""Letters of a column of words in LaTeX; longer ones are broken into lines."""


def to_latex(table: Table) -> str:
    """LaTeX that needs the packages booktabs and adjustbox.

    One with a title is a float with caption and label. What does not fit a page is cut into parts,
    each with the columns of words, on a page each, as LaTeX keeps only so many floats waiting; a
    part that is a little too wide is scaled to the line.
    """
    if not table.title:
        return _tabular(table, range(len(table.header)), range(len(table.rows)))
    parts = [(columns, rows) for rows in _cut_rows(table) for columns in _cut_columns(table, rows)]
    found = []
    for at, (columns, rows) in enumerate(parts):
        note = f" {table.note.translate(_LATEX)}" if table.note and not at else ""
        part = f" (part {at + 1} of {len(parts)})" if len(parts) > 1 else ""
        label = f"{table.name}-{at + 1}" if at else table.name
        found += [
            r"\begin{table}",
            r"\centering\footnotesize",
            r"\begin{adjustbox}{max width=\linewidth}",
            _tabular(table, columns, rows).rstrip("\n"),
            r"\end{adjustbox}",
            rf"\caption{{{table.title.translate(_LATEX)}{part}.{note}}}",
            rf"\label{{tab:{label}}}",
            r"\end{table}",
            *([r"\clearpage"] if len(parts) > 1 else []),
        ]
    return "\n".join([*found, ""])


def _cut_rows(table: Table) -> list[range]:
    """Rows of each part: as many as fit, cut at a rule where one is near."""
    parts, start, height = [], 0, 0
    lines = [
        max((-(-len(cell) // LATEX_WORDS) for cell in row[: table.texts]), default=1) or 1
        for row in table.rows
    ]
    for at, count in enumerate(lines):
        if at > start and height + count > LATEX_ROWS:
            cut = next((r for r in range(at, start, -1) if r in table.rules), at)
            parts.append(range(start, cut))
            start, height = cut, sum(lines[cut:at])
        height += count
    return [*parts, range(start, len(lines))]


def _cut_columns(table: Table, rows: range) -> list[list[int]]:
    """Columns of each part: those of words, and as many of figures as fit; groups stay whole."""
    widths = [
        2 + max(len(text) for text in (head, *(table.rows[r][c] for r in rows)))
        for c, head in enumerate(table.header)
    ]
    words = list(range(table.texts))
    left = sum(min(widths[c], LATEX_WORDS) for c in words)
    blocks, column = [], 0
    for _, count in table.groups or [("", 1)] * len(table.header):
        blocks.append([c for c in range(column, column + count) if c >= table.texts])
        column += count
    blocks += [[c] for c in range(max(column, table.texts), len(table.header))]
    whole: list[list[int]] = []
    for block in filter(None, blocks):  # a group that is too wide by itself is cut
        fits = left + sum(widths[c] for c in block) <= LATEX_WIDTH
        whole += [block] if fits else [[c] for c in block]
    parts: list[list[int]] = [[]]
    for block in whole:
        width = left + sum(widths[c] for c in (*parts[-1], *block))
        if parts[-1] and width > LATEX_WIDTH:
            parts.append([])
        parts[-1] += block
    return [words + part for part in parts]


def _tabular(table: Table, columns: Sequence[int], rows: Sequence[int]) -> str:
    """Some columns and rows of a table."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    def kind(column: int) -> str:
        if column >= table.texts:
            return "r"
        widest = max((len(table.rows[r][column]) for r in rows), default=0)
        return f"p{{{LATEX_WORDS / 2:g}em}}" if widest > LATEX_WORDS else "l"

    lines = [rf"\begin{{tabular}}{{{''.join(map(kind, columns))}}}", r"\toprule"]
    if table.groups:
        titles = [title for title, count in table.groups for _ in range(count)]
        titles += [""] * (len(table.header) - len(titles))
        spans, rules, column = [], [], 1
        for title, group in itertools.groupby(columns, key=lambda c: titles[c]):
            count = len(list(group))
            text = title.translate(_LATEX)
            spans.append(
                rf"\multicolumn{{{count}}}{{c}}{{{text}}}" if title else " & " * (count - 1)
            )
            if title:
                rules.append(rf"\cmidrule(lr){{{column}-{column + count - 1}}}")
            column += count
        lines += [line(spans), "".join(rules)]
    lines += [line([table.header[c].translate(_LATEX) for c in columns]), r"\midrule"]
    for r in rows:
        if r != rows[0] and r in table.rules:
            lines.append(r"\midrule")
        cells = [table.rows[r][c].translate(_LATEX) for c in columns]
        lines.append(
            line(
                [
                    rf"\textbf{{{text}}}" if (r, c) in table.bold else text
                    for c, text in zip(columns, cells, strict=True)
                ]
            )
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


_FORMULA = re.compile(r"[=+\-@\t\n]")
_FIGURES = re.compile(r"[-+0-9.,eE%±()\[\]…– ]*|[-+]?(inf|nan)")


def inert(cells: Iterable[object]) -> list[object]:
    """Puts an apostrophe before texts that a spreadsheet would run as formulas; not before figures.

    A carriage return, which would begin another row, becomes a line break within the cell.

    Source: OWASP, "CSV Injection".
    """
    return [_inert(cell) if isinstance(cell, str) else cell for cell in cells]


def _inert(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) and not _FIGURES.fullmatch(text) else text


def to_csv(table: Table) -> str:
    """CSV, header first."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(map(inert, [table.flat_header, *table.rows]))
    return out.getvalue()


def to_html(table: Table) -> str:
    """An HTML table in a box that scrolls sideways, its note below; all text is escaped."""
    lines = []
    if table.groups:
        spans = "".join(
            f'<th scope="colgroup" colspan="{count}">{escape(title)}</th>'
            if title
            else f'<td colspan="{count}"></td>'
            for title, count in table.groups
        )
        lines.append(f'<tr class="groups">{spans}</tr>')
    cells = [
        f'<th scope="col"{_side(table, c)}>{escape(h)}</th>' for c, h in enumerate(table.header)
    ]
    lines.append(f"<tr>{''.join(cells)}</tr></thead><tbody>")
    for r, row in enumerate(table.rows):
        cells = []
        for c, cell in enumerate(row):
            text = f"<b>{escape(cell)}</b>" if (r, c) in table.bold else escape(cell)
            cells.append(f"<td{_side(table, c)}>{text}</td>")
        rule = ' class="rule"' if r and r in table.rules else ""
        lines.append(f"<tr{rule}>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}"><table>'
        f"<caption><span>{escape(table.note)}</span></caption>"
        f"<thead>{''.join(lines)}</tbody></table></div>"
    )


def _side(table: Table, column: int) -> str:
    """Class of a cell of words that is not in the first column, which is one anyway."""
    return ' class="words"' if 0 < column < table.texts else ""


def to_terminal(shown: Sequence[Table], width: int | None = None) -> str:
    """Tables for a terminal, as text."""
    from rich.console import Console
    from rich.markup import escape as plain
    from rich.table import Table as RichTable

    console = Console(width=width, file=io.StringIO(), highlight=False)
    for table in shown:
        grid = RichTable(
            title=table.title, title_justify="left", caption=table.note, caption_justify="left"
        )
        for at, name in enumerate(table.flat_header):
            grid.add_column(name, justify="left" if at < table.texts else "right")
        for r, row in enumerate(table.rows):
            grid.add_row(
                *(
                    f"[bold]{plain(cell)}[/bold]" if (r, c) in table.bold else plain(cell)
                    for c, cell in enumerate(row)
                )
            )
        console.print(grid)
        console.print()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
