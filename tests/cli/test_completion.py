"""Shell completion: Typer's own, with the names of this installation."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from baco.cli import COMMANDS


def completed(words: str) -> list[str]:
    """What bash is told to offer for the last word."""
    asked = {
        "_BACO_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "baco"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("baco gen", ["generate"]),
        ("baco generate --router p-pu", ["p-punc-any", "p-punc", "p-punc-ahead", "p-punc-open"]),
        ("baco generate --pair smol", ["smollm2-135m", "smollm2-360m"]),
        ("baco generate --method alig", ["aligned"]),
        ("baco generate --max-new", ["--max-new-tokens"]),
    ],
)
def test_names_are_offered(words: str, offered: list[str]) -> None:
    assert sorted(completed(words)) == sorted(offered)


def test_every_command_is_offered() -> None:
    assert completed("baco ") == list(COMMANDS)
