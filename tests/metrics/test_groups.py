"""Reading groups, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from baco.errors import InputError
from baco.metrics import Generations, as_groups, read_groups

GOOD = {"prompt": "p", "generations": ["a", "b"], "id": 7, "meta": {"x": [1]}}


def write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "groups.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    return path


def test_unknown_fields_pass_through(tmp_path: Path) -> None:
    (group,) = read_groups(write(tmp_path, GOOD, ""))
    assert (group.prompt, group.generations) == ("p", ("a", "b"))
    assert group.extra == {"id": 7, "meta": {"x": [1]}}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{oops", "line 2: not valid JSON: .* at column 2"),
        ("[1]", "line 2: list instead of an object"),
        ({"prompt": "p"}, "line 2: the group has no generations"),
        ({"prompt": "p", "generations": []}, "line 2: the group has no generations"),
        ({"prompt": "p", "generations": "abc"}, "line 2: generations is a str"),
        ({"prompt": "p", "generations": ["a", None]}, "line 2: generation 1 is a NoneType"),
        ({"prompt": "p", "generations": ["a", 3]}, "line 2: generation 1 is a int"),
        ('{"prompt": "p", "generations": ["\\ud800"]}', "line 2: not valid Unicode"),
        ({"prompt": 3, "generations": ["a"]}, "line 2: the prompt is a int"),
        ({"prompt": [], "generations": ["a"]}, "line 2: the prompt is a list"),
        ({"prompt": "p", "generations": ["a"], "finish_reasons": []}, None),
        (
            {"prompt": "p", "generations": ["a"], "finish_reasons": ["stop", "stop"]},
            "line 2: .*one finish reason",
        ),
    ],
)
def test_wrong_lines(tmp_path: Path, line: object, words: str | None) -> None:
    path = write(tmp_path, GOOD, line)
    if words is None:
        assert len(read_groups(path)) == 2
        return
    with pytest.raises(InputError, match=words):
        read_groups(path)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_groups(tmp_path / "none.jsonl")
    path = tmp_path / "x.jsonl"
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no group"):
        read_groups(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        read_groups(path)
    with pytest.raises(InputError, match="cannot read"):
        read_groups(tmp_path)


def sample(prompt: str, index: int, gamma: float, text: str) -> dict:
    return {
        "prompt": prompt,
        "index": index,
        "text": text,
        "finish_reason": "stop",
        "seed": 0,
        "method": "baco",
        "router": "p-punc",
        "gamma": gamma,
        "token_ids": [1],
        "base_share": 0.5,
    }


def test_samples_are_joined_by_prompt_and_setting(tmp_path: Path) -> None:
    rows = [
        sample("p", 1, 0.3, "b"),
        sample("p", 0, 0.3, "a"),
        sample("q", 0, 0.3, "c"),
        sample("p", 0, 0.5, "d"),
    ]
    found = read_groups(write(tmp_path, *rows))
    assert [g.generations for g in found] == [("a", "b"), ("c",), ("d",)]
    assert found[0].extra["control"] == 0.3
    assert found[0].finish_reasons == ("stop", "stop")
    assert "token_ids" not in found[0].extra
    with pytest.raises(InputError, match="same index"):
        read_groups(write(tmp_path, rows[0], rows[0]))


def test_samples_of_several_systems_are_not_joined(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "model": m, "temperature": t, "text": m + t, "kind": "x"}
        for m in "ab"
        for t in "12"
    ]
    path = write(tmp_path, *rows)
    found = read_groups(path)
    assert [g.generations for g in found] == [("a1", "a2"), ("b1", "b2")]
    assert [g.extra["model"] for g in found] == ["a", "b"]
    assert "temperature" not in found[0].extra  # neither 1 nor 2
    assert found[0].extra["kind"] == "x"
    apart = read_groups(path, by=["temperature"])
    assert [g.generations for g in apart] == [("a1",), ("a2",), ("b1",), ("b2",)]
    assert [g.extra["temperature"] for g in apart] == ["1", "2", "1", "2"]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "g.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["p"], "generations": [["a", "b"]]}), path)
    assert read_groups(path)[0].generations == ("a", "b")
    path.write_text("nonsense")
    with pytest.raises(InputError, match="as Parquet"):
        read_groups(path)


def test_python_objects() -> None:
    made = SimpleNamespace(
        prompt="p",
        texts=["a", "b"],
        samples=(SimpleNamespace(finish_reason="stop"), SimpleNamespace(finish_reason="length")),
    )
    group, same, other = as_groups([made, Generations("p", ("a",)), GOOD])
    assert group.generations == ("a", "b")
    assert group.hit_limit(1)
    assert not group.hit_limit(0)
    assert same.generations == ("a",)
    assert other.extra["id"] == 7
    with pytest.raises(InputError, match="group 1 is a int"):
        as_groups([3])
    with pytest.raises(InputError, match="no group"):
        as_groups([])


def test_noveltybench_file(gemini: Path) -> None:
    found = read_groups(gemini)
    assert len(found) == 50
    assert all(len(g.generations) == 10 and "partition" in g.extra for g in found)
