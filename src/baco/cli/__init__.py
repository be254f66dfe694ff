"""The ``baco`` command: one thin module per command, imported only when it runs."""

from __future__ import annotations

import sys

import typer

from baco.errors import BacoError

app = typer.Typer(
    name="baco",
    help="Base-aligned model collaboration: many different answers that are all good.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command line; what the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except BacoError as error:
        print(f"baco: {error}", file=sys.stderr)
        sys.exit(2)
