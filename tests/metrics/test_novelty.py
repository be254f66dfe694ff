"""The submission of NoveltyBench: the published arithmetic, the files, and refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from baco.cli import run
from baco.errors import InputError
from baco.metrics import read_groups
from baco.metrics.novelty import scored, summary, write_submission


def test_the_published_rows_come_out_again(gemini: Path) -> None:
    rows = [json.loads(line) for line in gemini.read_text(encoding="utf-8").splitlines()]
    made = [
        scored(group, row["partition"], row["generation_scores"])
        for group, row in zip(read_groups(gemini), rows, strict=True)
    ]
    for ours, theirs in zip(made, rows, strict=True):
        for name in ("id", "prompt", "generations", "partition", "distinct", "generation_scores"):
            assert ours[name] == theirs[name], name
        assert ours["partition_scores"] == theirs["partition_scores"]
        assert ours["utility"] == pytest.approx(theirs["utility"], rel=1e-12)
    told = summary(made)
    assert told["mean_utility"] == pytest.approx(sum(r["utility"] for r in rows) / len(rows))
    distinct = sum(max(r["partition"]) + 1 for r in rows) / len(rows)
    assert told["mean_distinct"] == pytest.approx(distinct)


def groups() -> list[dict[str, object]]:
    """Two prompts whose answers bring their classes and marks along."""
    return [
        {"id": f"curated-{i}", "prompt": "Name one.", "generations": [f"a{k}" for k in range(10)],
         "partition": [0, 0, 1, *range(2, 9)], "generation_scores": [i + 1.0] * 10}
        for i in range(2)
    ]  # fmt: skip


def test_files_and_what_they_hold(tmp_path: Path) -> None:
    told = write_submission(groups(), tmp_path / "s", model="x", metric="nb_utility@file")
    lines = (tmp_path / "s" / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert first["model"] == "x"
    assert first["generation_scores"] == [1, 0, *[1] * 8]
    weights = [0.8**k for k in range(10)]
    assert first["utility"] == pytest.approx((sum(weights) - 0.8) / sum(weights))
    assert told["mean_distinct"] == 9
    assert json.loads((tmp_path / "s" / "summary.json").read_text()) == told
    assert len((tmp_path / "s" / "generations.jsonl").read_text().splitlines()) == 2
    assert "partition" in (tmp_path / "s" / "partitions.jsonl").read_text()
    with pytest.raises(InputError, match=r"generations.jsonl is there already"):
        write_submission(groups(), tmp_path / "s", model="x", metric="nb_utility@file")


def test_what_is_no_submission_is_refused(tmp_path: Path) -> None:
    one = groups()[0]
    for bad, said in (
        ({k: v for k, v in one.items() if k != "id"}, "has no id"),
        ({**one, "generations": one["generations"][:9]}, "has 9 answers"),
    ):
        short = {k: v for k, v in bad.items() if k not in ("partition", "generation_scores")}
        with pytest.raises(InputError, match=said):
            write_submission([short], tmp_path / "n", model="x", metric="nb_utility@file")
    with pytest.raises(InputError, match="comes twice"):
        write_submission([one, one], tmp_path / "n", model="x", metric="nb_utility@file")
    for mark in (math.nan, 50.0):
        with pytest.raises(InputError, match="marks of curated-0 are not all from 0 to 10"):
            write_submission(
                [{**one, "generation_scores": [1.0] * 9 + [mark]}],
                tmp_path / "n", model="x", metric="nb_utility@file",
            )  # fmt: skip
    mixed = [{**group, "model": name} for group, name in zip(groups(), "ab", strict=True)]
    with pytest.raises(InputError, match="model is a and b: a submission holds one system"):
        write_submission(mixed, tmp_path / "n", model="x", metric="nb_utility@file")
    assert not (tmp_path / "n").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "g.jsonl"
    file.write_text("".join(json.dumps(g) + "\n" for g in groups()), encoding="utf-8")
    out = tmp_path / "s"
    command = ["metrics", "noveltybench", str(file), "--model", "x", "--out", str(out)]
    assert run([*command, "--metric", "nb_utility@file"]) == 0
    assert "mean_utility" in capsys.readouterr().out
    assert (out / "scores.jsonl").is_file()
