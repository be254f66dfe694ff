"""Writes the pages of the site that are made from the code, so that they are never stale.

Run: ``python -m docs._site.pages FOLDER``, in the environment that BaCo is installed in.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

import baco
import baco.metrics
from baco.bench.datasets import DATASETS
from baco.cli import app, run
from baco.methods import METHODS
from baco.reporting.tables import Table, to_markdown

ROOT = Path(__file__).parents[2]


def rows(*command: str) -> list[dict[str, Any]]:
    """Returns what a listing command prints with ``--json``."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if run([*command, "--json"]):
            raise SystemExit(f"baco {' '.join(command)} --json failed")
    return [json.loads(line) for line in out.getvalue().splitlines()]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; names as code."""
    head = list(found[0])
    cells = [
        [f"`{row[head[0]]}`", *(_cell(row[name]).replace("<", "&lt;") for name in head[1:])]
        for row in found
    ]
    return to_markdown(Table("", "", head, cells))


def _cell(value: Any) -> str:
    if value is None or value == {}:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def routers() -> str:
    """The page of routers."""
    return (
        "# Routers\n\nAt each new word a router reads both models and decides who writes it. "
        "This is what `baco routers` prints: `--router p-punc@0.3`, `baco.load(...).generate(..., "
        'router="p-punc@0.3")`. [Routers beyond one token](../routers.md) explains cascades, '
        f"schedules, look-ahead and learned ones.\n\n{table(rows('routers'))}"
    )


def methods() -> str:
    """The page of methods."""
    found = [
        {
            "method": row.pop("name"),
            "what": " ".join((inspect.getdoc(METHODS[name].run) or "").split("\n\n")[0].split()),
            **row,
        }
        for row in rows("methods")
        for name in [row["name"]]
    ]
    return (
        "# Methods\n\nA method makes a group of answers out of a prompt. This is what "
        "`baco methods` prints; [Methods](../methods.md) shows real answers and the cost "
        "of each.\n\n" + table(found)
    )


def metrics() -> str:
    """The page of metrics."""
    return (
        "# Metrics\n\nThis is what `baco metrics list` prints. "
        f"[Metrics and trade-offs](../metrics.md) says how they are used.\n\n"
        f"{table(rows('metrics', 'list'))}"
    )


def pairs() -> str:
    """The page of pairs."""
    wanted = ("name", "about", "base", "aligned", "adapter", "licence", "gated", "memory_gb")
    found = [{name: row[name] for name in wanted} for row in rows("pairs")]
    for row in found:
        row["gated"] = "yes" if row["gated"] else ""
        row["memory_gb"] = f"{row['memory_gb']:.3g}"
    return (
        "# Pairs\n\nThis is what `baco pairs` prints. Any two models from the Hub or from folders "
        "make a pair too: `--pair BASE,ALIGNED`. Memory is that of both models' weights at two "
        f"bytes each.\n\n{table(found)}"
    )


def datasets() -> str:
    """The page of datasets."""
    found = [
        {"dataset": name, "what": " ".join((inspect.getdoc(load) or "").split())}
        for name, load in DATASETS.items()
    ]
    return (
        "# Datasets\n\nThe loaders that a plan names under `[[datasets]]`. [Reports](../report.md) "
        f"says which files each takes.\n\n{table(found)}"
    )


def python() -> str:
    """The page of the Python interface; mkdocstrings fills it in."""
    public = [f"baco.{name}" for name in baco.__all__]
    public += ["baco.hf.decode", *(f"baco.metrics.{name}" for name in baco.metrics.__all__)]
    return "# Python\n\n" + "\n\n".join(f"::: {name}" for name in public) + "\n"


def command_line() -> str:
    """The page of the command line: every command with every option."""
    root = typer.main.get_command(app)
    return (
        "# Command line\n\nEvery command with every option, as `--help` has them. Exit codes: 0, "
        "or 2 for what you can mend (one line on stderr says how), 1 for what was unforeseen.\n\n"
        + "\n".join(_commands(root, None, "baco"))
    )


def _commands(command: Any, above: Any, name: str) -> Iterator[str]:
    """A command, its options, and the commands below it."""
    context = command.context_class(command, info_name=name, parent=above)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## `{context.command_path}`\n"
    yield inspect.cleandoc(command.help or "").replace("\b\n", "").replace("<", "&lt;") + "\n"
    yield f"```text\n{context.command_path} {usage}\n```\n"
    found = [
        {
            "option": " ".join(record[0].split()),
            "meaning": " ".join((record[1] or "").split()),
        }
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) and "--help" not in record[0]
    ]
    if found:
        yield table(found)
    if hasattr(command, "list_commands"):
        for below in command.list_commands(context):
            yield from _commands(command.get_command(context, below), context, below)


PAGES = {
    "reference/routers.md": routers,
    "reference/methods.md": methods,
    "reference/metrics.md": metrics,
    "reference/datasets.md": datasets,
    "reference/pairs.md": pairs,
    "reference/python.md": python,
    "reference/command-line.md": command_line,
}
"""Where each generated page stands in the site, and what writes it."""


def write(folder: Path) -> None:
    """Writes every generated page below a folder."""
    for name, make in PAGES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
