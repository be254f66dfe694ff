"""Writes the list in ``methods.md``: every method, with real answers and costs on the bundled pair.

Run: ``python docs/draw_methods.py`` rewrites what stands below the marker in ``docs/methods.md``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import baco
from baco.group import Group
from baco.methods import METHODS, Method

PROMPT = "My comic has a wise wizard without a name. Suggest one."
N = 4
PAGE = Path(__file__).parent / "methods.md"
MARKER = "<!-- what follows is written by docs/draw_methods.py -->\n"


def facts(method: Method) -> str:
    """Returns what a method says of itself, in one paragraph."""
    what = " ".join((inspect.getdoc(method.run) or "").split("\n\n")[0].split())
    default = "" if method.default is None else f", default {method.default:g}"
    needs = ", ".join(sorted(method.needs))
    return (
        f"{what} Source: {method.source}. Control: {method.control}, {method.span}{default}. "
        f"Needs: {needs}."
    )


def example(group: Group) -> Iterator[str]:
    """Yields the lines that show a group."""
    yield "```text"
    for sample in group:
        text = sample.text.strip() or f"(no text: {sample.finish_reason})"
        yield f"{sample.index + 1}  " + text.replace("\n", "\n   ").rstrip()
        for name, value in (sample.details or {}).items():
            yield f"   [{name}: {value}]"
    yield "```"


def costs(group: Group) -> str:
    """Returns a method's row of the table of costs, per answer."""
    cost = group.cost
    if cost is None:
        return "| not known | | | | |"
    figures = (
        cost.base_passes,
        cost.aligned_passes,
        cost.base_token_rows,
        cost.aligned_token_rows,
        cost.tokens,
    )
    return "| " + " | ".join(f"{figure / len(group):.1f}" for figure in figures) + " |"


def draw() -> str:
    """Runs every method once, and returns the text below the marker."""
    tiny, two_aligned = baco.load("tiny"), baco.load("tiny-aligned2")
    lines, table, category = [], [], ""
    families = list(dict.fromkeys(method.category for method in METHODS.values()))
    for name, method in sorted(METHODS.items(), key=lambda item: families.index(item[1].category)):
        pair = two_aligned if name == "aaco" else tiny
        group = pair.generate(PROMPT, n=N, method=name, max_new_tokens=60)
        if method.category != category:
            category = method.category
            lines += [f"## {category[0].upper()}{category[1:]}", ""]
        lines += [f"### `{name}`", "", facts(method), "", *example(group), ""]
        table.append(f"| `{name}` {costs(group)}")
    head = "| method | base passes | aligned passes | base tokens read | aligned tokens read "
    lines += [
        "## Costs",
        "",
        f"Per answer, for the examples above: forward passes that served it, tokens read by each "
        f"model (the prompt, which the {N} answers share, among them), tokens written.",
        "",
        f"{head}| tokens written |",
        "|---|---:|---:|---:|---:|---:|",
        *table,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page[: page.index(MARKER) + len(MARKER)] + "\n" + draw(), encoding="utf-8")
