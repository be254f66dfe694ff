"""Prints groups: coloured by source on a terminal, with marks or plain elsewhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Literal

from rich.console import Console
from rich.text import Text

from baco.group import Group, Sample, runs
from baco.prompts import Conversation, question_of

BASE_STYLE = "bold magenta"

Style = Literal["colour", "marks", "plain"]

_INSTEAD = {"withheld": "(withheld by the filter)", "failed": "(no answer was found)"}
"""What is shown of samples without a text, by their finish reason."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def safe(text: str) -> str:
    """Replaces control characters, which could move the cursor or hide text on a terminal."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def style_for(console: Console, show_sources: bool | None) -> Style:
    """Decides how sources are shown.

    Args:
        console: Where they are shown.
        show_sources: What the user asked for; None for colours where there are any.
    """
    colours = console.is_terminal and not console.is_dumb_terminal and "NO_COLOR" not in os.environ
    if show_sources is False or (show_sources is None and not colours):
        return "plain"
    return "colour" if colours else "marks"


def coloured(sample: Sample) -> Text:
    """Returns a sample with the base model's words coloured."""
    text = Text()
    for piece, source in runs(sample):
        text.append(safe(piece), BASE_STYLE if source == "base" else "")
    return _stripped(text)


def _stripped(text: Text) -> Text:
    plain = text.plain
    return text[len(plain) - len(plain.lstrip()) : len(plain.rstrip()) or None]


def marked(sample: Sample) -> str:
    """Returns a sample with the base model's words in «guillemets»."""
    pieces = (f"«{safe(p)}»" if source == "base" else safe(p) for p, source in runs(sample))
    return "".join(pieces).strip()


def title(prompt: Conversation) -> str:
    """Returns the line that stands above a group: the last question."""
    return " ".join(safe(question_of(prompt)).split())


class Printer:
    """Prints groups to a console, sample by sample, in order.

    Args:
        console: Where to.
        style: How sources are shown.
    """

    def __init__(self, console: Console, style: Style) -> None:
        self.console = console
        self.style = style
        self._explained = style == "plain"

    def begin(self, prompt: Conversation, n: int) -> None:
        """Prints what stands above a group."""
        self._width = len(str(n))
        self._line(Text(title(prompt), "bold" if self.style == "colour" else ""))
        self._line(Text())

    def sample(self, sample: Sample) -> None:
        """Prints one sample under its number."""
        instead = _INSTEAD.get(sample.finish_reason)
        if instead:
            body = Text(instead, "dim" if self.style == "colour" else "")
        elif self.style == "colour":
            body = coloured(sample)
        else:
            body = Text(marked(sample) if self.style == "marks" else safe(sample.text).strip())
        number = f"{sample.index + 1:>{self._width}}  "
        if self.style == "colour":
            lines = body.wrap(self.console, max(20, self.console.width - len(number)))
            for i, line in enumerate(lines):
                line.rstrip()
                head = Text.assemble((number, "dim")) if i == 0 else Text(" " * len(number))
                self._line(head + line)
        else:
            rest = body.plain.replace("\n", "\n" + " " * len(number))
            self._line(Text(number + rest))

    def end(self, group: Group, judged: str = "") -> None:
        """Prints the summary of a group, and what a judge says of it, if there is one."""
        dim = "dim" if self.style == "colour" else ""
        self._line(Text())
        if judged:
            self._line(Text(judged, "bold" if self.style == "colour" else ""))
        self._line(Text(group.summary, dim))
        if not self._explained and any("base" in sample.sources for sample in group):
            self._explained = True
            like_this = ("like this", BASE_STYLE) if self.style == "colour" else "«like this»"
            self._line(
                Text.assemble(
                    ("Words of the base model look ", dim),
                    like_this,
                    ("; the aligned model wrote the others.", dim),
                )
            )

    def between(self) -> None:
        """Prints what stands between two groups."""
        self._line(Text())

    def _line(self, text: Text) -> None:
        if self.style == "colour":
            self.console.print(text, soft_wrap=True, highlight=False)
        else:
            print(text.plain, file=self.console.file)


def stdout_console() -> Console:
    """Returns the console of stdout."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def note(lines: Iterable[str] | str) -> None:
    """Says something on stderr, next to the results."""
    for line in [lines] if isinstance(lines, str) else lines:
        print(f"baco: {safe(line)}", file=sys.stderr)
