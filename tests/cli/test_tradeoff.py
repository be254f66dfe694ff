"""``baco tradeoff`` as users run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baco.cli import run

POINTS = """\
method,control,reward,ppl,dist_1,self_bleu,semantic_entropy,comment
base,1,2,40,0.9,0.1,2.1,x
base,0.8,3,30,0.8,0.2,2.0,
aligned,1,8,4,0.3,0.6,0.8,
aligned,1.2,7.8,5,0.35,0.55,0.9,
baco,0.1,7.7,5,0.45,0.5,1.1,
baco,0.3,7,8,0.58,0.4,1.5,
"""


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text(POINTS)
    return path


def test_table_files_and_remarks(points: Path, tmp_path: Path, capsys) -> None:
    outputs = {name: tmp_path / f"out.{name}" for name in ("csv", "tex", "md", "svg", "png")}
    arguments = ["--csv", outputs["csv"], "--latex", outputs["tex"], "--markdown", outputs["md"]]
    arguments += ["--plot", outputs["svg"], "--plot", outputs["png"]]
    arguments += ["--space", "semantic_entropy,reward"]
    assert run(["tradeoff", str(points), *map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert "overall_flat" in out
    assert "ignored columns: comment" in err
    assert "compared: base (2), aligned (2), baco (2)" in err
    assert all(path.stat().st_size > 300 for path in outputs.values())


def test_json(points: Path, capsys) -> None:
    assert run(["tradeoff", str(points), "--json", "--rule", "ramp", "--n", "5"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["datasets"][0]["rule"] == "ramp"
    assert data["datasets"][0]["n"] == 5


@pytest.mark.parametrize(
    ("old", "new", "arguments", "words"),
    [
        ("base,", "bass,", [], "no base reference"),
        ("aligned,1,", "aligned,2,", [], "no aligned reference"),
        ("aligned,1,8,4,0.3,0.6,0.8", "aligned,1,2,40,0.3,0.6,0.8", [], "references coincide"),
        ("0.9", "?", [], "line 2: dist_1 is '?'"),
        ("", "", ["--rule", "drip"], "unknown boundary rule"),
        ("", "", ["--level", "all the way"], "unknown level"),
        ("", "", ["--base", "@1"], "names no method"),
        ("", "", ["--base", "baco@0.1", "--aligned", "baco@0.1"], "the same row"),
        ("", "", ["--plot", "x.jpeg"], "cannot tell the format"),
        ("", "", ["--plot", "x.svg", "--space", "dist_1"], "unknown space"),
        ("", "", ["--csv", "none/x.csv"], "cannot write"),
        ("", "", ["--bootstrap", "-1"], "negative"),
        ("", "", ["--plot", "x.svg", "--dataset", "y"], "no dataset 'y'"),
    ],
)
def test_mistakes(points: Path, old, new, arguments, words, capsys) -> None:
    points.write_text(POINTS.replace(old, new) if old else POINTS)
    assert run(["tradeoff", str(points), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err


def test_other_references(points: Path, capsys) -> None:
    points.write_text(POINTS.replace("base,", "start,").replace("aligned,", "end,"))
    arguments = ["--base", "start", "--aligned", "end@1.2", "--level", "space"]
    assert run(["tradeoff", str(points), *arguments]) == 0
    assert "dist_1 | ppl" in capsys.readouterr().out
