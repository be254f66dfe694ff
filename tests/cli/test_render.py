"""How sources are shown: in colour, with marks, or not at all."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from baco.cli.render import BASE_STYLE, Printer, coloured, marked, runs, safe, style_for
from baco.group import Group, Sample
from baco.prompts import conversation_of

SAMPLE = Sample(
    prompt="Suggest a trip.",
    index=0,
    text=" Go to the wild sea, now.",
    finish_reason="stop",
    seed=0,
    method="baco",
    tokens=(" Go", " to", " the", " wild", " sea", ",", " now", "."),
    sources=("aligned", "aligned", "aligned", "base", "base", "aligned", "base", "aligned"),
    token_ids=tuple(range(8)),
)


def test_marks_stand_at_words():
    assert marked(SAMPLE) == "Go to the «wild sea», «now»."


def test_colours_cover_the_same_words():
    text = coloured(SAMPLE)
    assert text.plain == SAMPLE.text.strip()
    assert [text.plain[s.start : s.end] for s in text.spans if s.style == BASE_STYLE] == [
        "wild sea",
        "now",
    ]


def test_runs_join_to_the_text():
    assert "".join(piece for piece, _ in runs(SAMPLE)) == SAMPLE.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("a\rb", "a\ufffdb"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("a\u202eb", "a\ufffdb"),
        ("ab é 👩‍🚀", "ab é 👩‍🚀"),
    ],
)
def test_what_could_fool_a_terminal_is_replaced(text, shown):
    assert safe(text) == shown


@pytest.mark.parametrize(
    ("terminal", "variables", "asked", "style"),
    [
        (True, {}, None, "colour"),
        (True, {}, True, "colour"),
        (True, {}, False, "plain"),
        (True, {"NO_COLOR": "1"}, None, "plain"),
        (True, {"NO_COLOR": "1"}, True, "marks"),
        (True, {"TERM": "dumb"}, None, "plain"),
        (False, {}, None, "plain"),
        (False, {}, True, "marks"),
    ],
)
def test_the_style_follows_the_terminal(monkeypatch, terminal, variables, asked, style):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    console = Console(file=io.StringIO(), force_terminal=terminal)
    assert style_for(console, asked) == style


def printed(style: str, width: int = 24) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=style == "colour", width=width, color_system="256")
    printer = Printer(console, style)
    printer.begin(conversation_of(SAMPLE.prompt), 10)
    printer.sample(SAMPLE)
    printer.end(Group((SAMPLE,)))
    return file.getvalue()


def test_a_coloured_group_is_wrapped_under_its_number():
    out = printed("colour", width=24)
    assert "35mwild sea\x1b[0m" in out
    lines = out.splitlines()
    assert any(line.startswith("    ") for line in lines), lines


def test_a_plain_group():
    assert printed("plain") == (
        "Suggest a trip.\n\n 1  Go to the wild sea, now.\n\n"
        "base share 0.00, 0.0 switches, mean length 8.0 tokens, 1 of 1 answers distinct as text\n"
    )
