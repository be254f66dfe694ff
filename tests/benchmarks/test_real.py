"""What look-ahead across tokenizers could bring: on sequences whose passes one can count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.real import ahead, sequences


def test_passes_by_hand() -> None:
    one = [False] * 5
    assert ahead(one, 0) == 10
    # Both score the first place. Then one guess and its check give a token, and the next place is
    # scored by the other side already: one pass more.
    assert ahead(one, 1) == 2 + 2 + 1 + 2 + 1
    assert ahead(one, 4) == 2 + 4 + 1
    # A guess that fails costs what lock-step does; two of them cost a pass more.
    assert ahead([False, True], 1) == 4
    assert ahead([False, True], 2) == 5
    assert ahead([False], 8) == 2


def test_settings_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [
        {"method": "baco", "router": "rand", "control": 0.5, "sources": ["aligned", "base"]},
        {"method": "baco", "router": "p", "control": 0.1, "sources": ["aligned"] * 2},
        {"method": "base", "router": None, "control": 1.0, "sources": ["base"]},
    ]
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in said), encoding="utf-8")
    sequences(file)
    _, *rows = capsys.readouterr().out.splitlines()
    assert rows == [
        "| rand@0.5 | 2 | 0.50 | 0.50 | 2.00, 2.00, 2.50, 3.00, 3.50 |",
        "| p@0.1 | 2 | 0.00 | 0.00 | 2.00, 2.00, 2.00, 2.00, 2.00 |",
    ]
