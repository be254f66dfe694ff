"""`baco calibrate`, end to end on a random pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baco.cli import run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def quick(folders: tuple[Path, Path], prompts: Path) -> list[str]:
    return [
        "calibrate", "--pair", "{},{}".format(*folders), "--router", "rand",
        "--input", str(prompts), "--samples", "2", "--max-new-tokens", "8",
    ]  # fmt: skip


def test_measures_shows_and_keeps_a_curve(
    random_folders: tuple[Path, Path],
    tmp_path: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prompts = tmp_path / "mine.txt"
    prompts.write_text("What is the capital of France?\nSuggest a destination.\n")
    assert run(quick(random_folders, prompts)) == 0
    out = capsys.readouterr().out
    assert "diversity  threshold  base share" in out
    (kept,) = home.rglob("rand.json")
    assert str(kept) in out
    elsewhere = tmp_path / "curves"
    assert run([*quick(random_folders, prompts), "--save-to", str(elsewhere), "--json"]) == 0
    curve = json.loads(capsys.readouterr().out)
    assert curve["router"] == "rand"
    assert curve["prompts"] == 2
    (copied,) = elsewhere.rglob("rand.json")
    assert json.loads(copied.read_text()) == curve
    shares = [knot["share"] for knot in curve["knots"]]
    assert shares == sorted(shares)
    assert shares[0] == 0 < shares[-1]


def test_a_method_without_a_router(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["calibrate", "--prompts", "3", "--max-new-tokens", "12", "--samples"]
    assert run([*ask, "3", "--method", "interpolate"]) == 0
    out = capsys.readouterr().out
    assert "method interpolate: part of the way 0.00 to 1.00" in out
    assert "diversity    control  part of the way" in out
    (kept,) = home.rglob("*.json")
    assert kept.name == "interpolate.json"
    assert run([*ask, "3", "--method", "xtc"]) == 2
    assert "beside baco: interpolate" in capsys.readouterr().err
    assert run([*ask, "1", "--method", "interpolate"]) == 2
    assert "at least 2 samples" in capsys.readouterr().err


def test_a_quality_target_reads_a_bench_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = tmp_path / "points.csv"
    points.write_text("method,control,quality\nbaco,0.1,9\nbaco,0.3,8.2\nbaco,0.6,5\n")
    assert run(["calibrate", "--target", "quality=8", "--points", str(points)]) == 0
    assert capsys.readouterr().out.strip() == "baco at 0.3: quality 8.2"


def test_a_quality_target_reads_the_store_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.example import make_store

    store = make_store(tmp_path / "run.sqlite")
    ask = ["calibrate", "--run", str(store), "--json", "--target"]
    assert run([*ask, "quality=6"]) == 0
    careful = json.loads(capsys.readouterr().out)
    assert run([*ask, "reward@tiny=4"]) == 0
    bold = json.loads(capsys.readouterr().out)
    assert careful["metric"] == bold["metric"] == "reward@tiny"
    assert careful["quality"][0] >= 6 > bold["quality"][0] >= 4
    assert bold["diversity"][0] > careful["diversity"][0]
    assert "--gamma" in careful["command"]
    assert run([*ask, "quality=99"]) == 2
    assert "no setting fits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "high", "--points", "x.csv"], "quality=8"),
        (["--target", "quality=8"], "--points"),
        (["--target", "quality=8", "--points", "x.csv", "--run", "x.sqlite"], "once"),
        (["--target", "quality=8", "--run", "missing.sqlite"], "missing.sqlite"),
        (["--run", "missing.sqlite"], "--target is missing"),
        (["--target", "quality=8", "--points", "missing.csv"], "cannot read"),
        (["--pair", "tinny"], "did you mean"),
        (["--input", "missing.txt"], "missing.txt"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["calibrate", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert "\n" not in error
