"""`baco bench` as a user types it, with a small plan on the bundled pair."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from baco import cli
from baco.bench.plan import read_plan
from baco.bench.run import prepare
from baco.bench.shipped import plan_text
from baco.bench.store import Store

PLAN = """
pairs = ["tiny"]
n = 2
[[datasets]]
dataset = "tiny"
limit = 2
[sampling]
max_new_tokens = 16
[[methods]]
method = "aligned"
[[methods]]
method = "baco"
router = "p-punc"
controls = [0.2, 0.4]
[metrics]
quality = ["reward@tiny"]
diversity = ["dist_1", "nb_distinct@tiny"]
"""


class Result(NamedTuple):
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


Baco = Callable[..., Result]


@pytest.fixture
def baco(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Baco:
    """Runs `baco bench` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))

    def call(*arguments: str) -> Result:
        code = cli.run(["bench", *arguments])
        return Result(code, *capsys.readouterr())

    return call


def test_a_partially_aligned_base_in_a_plan(tmp_path: Path, baco: Baco) -> None:
    text = PLAN.replace('pairs = ["tiny"]', 'pairs = ["tiny~0.3", "tiny"]')
    (tmp_path / "mine.toml").write_text(text)
    made = baco("run", "mine.toml")
    assert made.returncode == 0, made.stderr
    assert "mine.sqlite holds 24 samples of 6 cells" in made.stderr
    assert baco("score", "mine.sqlite").returncode == 0
    with Store(tmp_path / "mine.sqlite") as store:
        cells = {cell.pair: cell.revision for cell in store.cells()}
    assert cells.keys() == {"tiny~0.3", "tiny"}
    assert len(set(cells.values())) == 2


def test_from_plan_to_export(tmp_path: Path, baco: Baco) -> None:
    (tmp_path / "mine.toml").write_text(PLAN)
    needs = baco("run", "mine.toml", "--dry-run")
    assert needs.returncode == 0, needs.stderr
    said = dict(line.split("\t") for line in needs.stdout.splitlines())
    assert said["samples"] == "12"
    assert said["left"] == "12 samples, 192 tokens expected; the time is theirs"
    assert not (tmp_path / "mine.sqlite").exists()
    made = baco("run", "mine.toml", "--executor", "processes", "--workers", "2")
    assert made.returncode == 0, made.stderr
    assert "mine.sqlite holds 12 samples of 3 cells" in made.stderr
    assert "12 samples (" in made.stderr  # plain lines, as this is no terminal
    assert "\x1b" not in made.stderr
    scored = baco("score", "mine.toml")
    assert scored.returncode == 0, scored.stderr
    assert "18 new values" in scored.stderr
    assert "0 new values" in baco("score", "mine.sqlite").stderr
    status = baco("status", "mine.toml").stdout
    assert re.search(r"\tbaco p-punc\t0.2 ✓  0.4 ✓", status)
    assert "tokens a second" in status
    written = baco("export", "mine.sqlite", "--out", "all.jsonl")
    assert "12 samples in all.jsonl" in written.stderr
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert {row["curve"] for row in rows} == {"aligned", "baco p-punc"}


def test_a_dry_run_says_what_is_left(tmp_path: Path, baco: Baco) -> None:
    def said(plan: str) -> tuple[str, str]:
        (tmp_path / "mine.toml").write_text(plan)
        needs = baco("run", "mine.toml", "--dry-run", "--store", "s.sqlite")
        assert needs.returncode == 0, needs.stderr
        rows = dict(line.split("\t") for line in needs.stdout.splitlines())
        return rows["samples"], rows["left"].partition(";")[0]

    (tmp_path / "mine.toml").write_text(PLAN)
    assert baco("run", "mine.toml", "--store", "s.sqlite").returncode == 0
    assert said(PLAN) == ("12, 12 are there", "0 samples, 0 tokens expected")
    other = PLAN.replace("[0.2, 0.4]", "[0.4, 0.6]")  # two of its three cells are there
    assert said(other) == ("12, 8 are there", "4 samples, 64 tokens expected")
    larger = other.replace("n = 2", "n = 4")
    assert said(larger) == ("24, 8 are there", "16 samples, 256 tokens expected")
    with Store(tmp_path / "s.sqlite") as store:
        assert store.plan.n == 2  # nothing was changed by asking


def test_merge_says_what_the_plan_does_not_ask_for(tmp_path: Path, baco: Baco) -> None:
    (tmp_path / "mine.toml").write_text(PLAN)
    assert baco("run", "mine.toml").returncode == 0
    (tmp_path / "mine.toml").write_text("seed = 1" + PLAN)
    prepare(read_plan("mine.toml"), tmp_path / "other.sqlite")
    merged = baco("merge", "other.sqlite", "mine.sqlite")
    assert merged.returncode == 0, merged.stderr
    assert merged.stderr.splitlines() == [
        "mine.sqlite: 12 new samples and 0 new scores in other.sqlite",
        "baco: the plan of other.sqlite does not ask for 12 samples of mine.sqlite, as of another "
        "seed, sampling or model; they are kept, but not reported",
    ]


def test_a_damaged_store_is_one_line(tmp_path: Path, baco: Baco) -> None:
    (tmp_path / "mine.toml").write_text(PLAN)
    assert baco("run", "mine.toml").returncode == 0
    path = tmp_path / "mine.sqlite"
    db = sqlite3.connect(path)
    pages = db.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'samples'").fetchall()
    db.close()
    with path.open("r+b") as file:
        for (page,) in pages:
            file.seek((page - 1) * 4096)
            file.write(b"\x5a" * 4096)
    for command in (
        ["status", "mine.sqlite"],
        ["run", "mine.toml"],
        ["run", "mine.toml", "--executor", "processes"],
        ["export", "mine.sqlite", "--out", "x.jsonl"],
        ["merge", "new.sqlite", "mine.sqlite"],
    ):
        result = baco(*command)
        assert result.returncode == 2
        assert result.stderr == (
            "baco: mine.sqlite is damaged "
            "(restore a copy, or merge the other parts and run the plan again)\n"
        )


def test_init_takes_the_file_to_write(tmp_path: Path, baco: Baco) -> None:
    made = baco("init", "plan.toml")
    assert made.returncode == 0, made.stderr
    assert "plan.toml is written" in made.stdout
    assert (tmp_path / "plan.toml").read_text() == plan_text("tiny")


def test_init(tmp_path: Path, baco: Baco) -> None:
    made = baco("init", "wildchat-llama-3-8b")
    assert made.returncode == 0
    assert "n = 10" in (tmp_path / "wildchat-llama-3-8b.toml").read_text()
    again = baco("init", "wildchat-llama-3-8b")
    assert again.returncode == 2
    assert again.stderr == (
        "baco: wildchat-llama-3-8b.toml exists already (name another with --out)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "tinny"], "unknown plan 'tinny' (did you mean 'tiny'?"),
        (["run", "tiny", "--executor", "rays"], "unknown executor 'rays' (use local"),
        (["run", "tiny", "--workers", "0"], "0 workers are too few"),
        (["run", "tiny", "--workers", "2"], "--workers is for --executor processes or ray"),
        (["run", "narrative-olmo-2-7b"], "cannot read narrative-discourse: No such file"),
        (["score", "tiny"], "there is no store tiny.sqlite (baco bench run makes one)"),
        (["status", "none.sqlite"], "there is no store none.sqlite"),
        (["export", "tiny", "--out", "x.jsonl"], "there is no store tiny.sqlite"),
        (["init", "nothing"], "unknown plan 'nothing'"),
        (["score", "tiny", "--workers", "-1"], "-1 workers are too few"),
    ],
)
def test_mistakes(tmp_path: Path, baco: Baco, arguments: list[str], message: str) -> None:
    result = baco(*arguments)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.sqlite*"))
