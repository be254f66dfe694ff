"""``baco methods``: lists the methods."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Lists methods: what turns a prompt into a group, and by what each is controlled."""
    from baco.cli.table import print_json, print_table
    from baco.methods import METHODS

    rows = [
        {
            "name": name,
            "category": method.category,
            "control": method.control,
            "range": method.span,
            "default": "the router's" if method.default is None else f"{method.default:g}",
            "needs": ", ".join(sorted(method.needs)),
            "source": method.source,
        }
        for name, method in METHODS.items()
    ]
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
