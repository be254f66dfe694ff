"""``baco bench report`` and ``baco bench pick`` as users type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baco.cli import run
from bench.example import make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("results") / "run.sqlite")


def test_report_writes_a_folder(store: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    out, notes = tmp_path / "out", tmp_path / "notes.txt"
    notes.write_text("Why: because <it> is made up.\n\nSecond.")
    options = ["--bootstrap", "10", "--no-models", "--notes", str(notes)]
    assert run(["bench", "report", str(store), "-o", str(out), *options]) == 0
    said = capsys.readouterr()
    assert "tiny, tiny: the paper's findings: " in said.out
    assert "cannot be told" in said.out
    assert "reading samples" in said.err
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "<p>Why: because &lt;it&gt; is made up.</p><p>Second.</p>" in html
    assert (out / "tables.tex").is_file()


def test_pick_names_a_setting(store: Path, capsys) -> None:
    assert run(["bench", "pick", str(store), "--min-quality", "6"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("baco p-punc@0.4, on tiny, tiny, 24 prompts\n")
    assert "--router p-punc --gamma 0.4" in said
    assert "One half of the prompts alone picks" in said
    assert run(["bench", "pick", str(store), "--target", "base-share=0.25", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["curve"] in ("baco rand", "baco p-punc")
    assert abs(found["base_share"] - 0.25) < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pick"], "what is the setting to be? (--min-quality"),
        (["pick", "--target", "share=1"], "cannot read the target 'share=1'"),
        (["pick", "--target", "base-share=2"], "X from 0 to 1"),
        (["pick", "--min-quality", "11"], "no setting fits: the best reward@tiny is"),
        (["pick", "--min-quality", "1", "--dataset", "x"], "no such dataset and pair (--dataset t"),
        (["pick", "--min-quality", "1", "--quality", "x"], "unknown quality metric 'x'"),
        (["report", "--rule", "x"], "unknown boundary rule 'x' (known: drop"),
        (["report", "--bootstrap", "-1"], "cannot be negative"),
        (["report", "--notes", "/nowhere/x"], "cannot read /nowhere/x: No such file"),
    ],
)
def test_mistakes_are_one_clear_line(store: Path, capsys, arguments, message: str) -> None:
    command, *options = arguments
    assert run(["bench", command, str(store), *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("baco: ")
    assert message in said[-1]


def test_an_empty_store_has_nothing_to_report(tmp_path: Path, capsys) -> None:
    from baco.bench.store import Store

    Store(tmp_path / "s.sqlite", create=True).close()
    for command in (["report"], ["pick", "--min-quality", "1"]):
        assert run(["bench", command[0], str(tmp_path / "s.sqlite"), *command[1:]]) == 2
        assert "is empty (baco bench run fills it)" in capsys.readouterr().err
