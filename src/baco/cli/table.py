"""Rows on stdout: tables on a terminal, tab-separated lines elsewhere, or JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from baco.cli.render import stdout_console


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table.

    Args:
        columns: The headings.
        rows: Cells of each row; a cell may have several lines.
    """
    from rich.table import Table

    console = stdout_console()
    if not console.is_terminal:
        print("\t".join(columns))
        for row in rows:
            print("\t".join(cell.replace("\n", " + ") for cell in row))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=name == columns[0])
    for row in rows:
        table.add_row(*row)
    console.print(table, soft_wrap=False)


def print_json(row: Mapping[str, Any]) -> None:
    """Prints one line of JSON; with escapes where stdout cannot show every character."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(row, ensure_ascii=not unicode))
