"""Draws the picture of the README: a real group of the bundled pair, as a terminal shows it.

Run: ``python docs/draw_group.py`` writes ``docs/images/group.svg``.
"""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

import baco
from baco.cli.render import Printer
from baco.prompts import conversation_of

PROMPT = "My comic has a wise wizard without a name. Suggest one."
PICTURE = Path(__file__).parent / "images" / "group.svg"


def draw() -> str:
    """Generates the group and returns its picture as SVG."""
    group = baco.load("tiny").generate(PROMPT, n=10, router="p-punc@0.3", seed=0)
    console = Console(record=True, width=92, file=io.StringIO(), force_terminal=True)
    printer = Printer(console, "colour")
    printer.begin(conversation_of(PROMPT), len(group))
    for sample in group:
        printer.sample(sample)
    printer.end(group)
    command = f'baco generate "{PROMPT}" -n 10 --router p-punc --gamma 0.3'
    return console.export_svg(title=command, theme=MONOKAI, unique_id="group")


if __name__ == "__main__":
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(draw(), encoding="utf-8")
