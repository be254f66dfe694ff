"""Files as people have them: what is a prompt, what is an answer, what is refused and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baco.cli.inputs import read_prompts
from baco.errors import InputError
from baco.metrics import read_groups
from baco.reading import parse_json, read_rows

FRUIT, PET = {"prompt": "Name a fruit."}, {"prompt": "Name a pet."}
ALPACA = {"instruction": "Name a fruit.", "input": "", "output": "Apple"}
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "Name a fruit."},
        {"from": "gpt", "value": "Apple"},
    ]
}
BATCH = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "x", "messages": [{"role": "user", "content": "Name a fruit."}]},
}
TUNING = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Name a fruit."}], "name": None},
        {"role": "assistant", "content": "Apple"},
    ]
}


def put(tmp_path: Path, name: str, content: object) -> Path:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        path.write_text(text, encoding="utf-8", newline="")
    return path


def prompts(path: Path) -> list[str]:
    return [prompt[-1].content for prompt in read_prompts([], str(path), None)]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.txt", "x"])
@pytest.mark.parametrize("row", [FRUIT, ALPACA, SHAREGPT, BATCH])
@pytest.mark.parametrize("indent", [None, 1])
def test_prompts_of_json_files(tmp_path: Path, name: str, row: Any, indent: int | None) -> None:
    both = put(tmp_path, name, json.dumps([row, PET], indent=indent))
    assert prompts(both) == ["Name a fruit.", "Name a pet."]
    if indent is None or name.startswith("x.json"):
        one_by_one = "\n".join(json.dumps(r, indent=indent) for r in (row, PET))
        assert prompts(put(tmp_path, name, one_by_one)) == ["Name a fruit.", "Name a pet."]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.txt", "{name} is my hero. Write a poem.\nName a pet.\n", 2),
        ("a.txt", '{"a": is how a set begins. Explain.\n', 1),
        ("a.txt", "[INST] Name a pet [/INST]\n", 1),
        ("a", "[1, 2, 3] Sort this list.\n", 1),
        ("a.txt", "Name a fruit.\rName a pet.\r", 2),
        ("a.txt", "Name\u2028a fruit.\x85Next\n", 1),
        ("a.md", "prompt\nName a fruit.\n", 2),
        ("a.csv", "prompt\nName a fruit.\n", 1),
        ("a.csv", 'id,prompt\r\n1,"Name a fruit,\nplease."\r\n\r\n2,Name a pet.\r\n', 2),
        ("a.tsv", "id\tprompt\n1\tName a fruit.\n", 1),
        ("a.csv", "instruction,input\nAdd.,1 and 2\n", 1),
        ("a.jsonl", b"\xef\xbb\xbf" + b'{"prompt": "A?"}\r\n\r\n"B?"\n', 2),
    ],
)
def test_what_is_one_prompt(tmp_path: Path, name: str, content: object, found: int) -> None:
    assert len(prompts(put(tmp_path, name, content))) == found


def test_messages_that_end_with_an_answer_are_a_prefill(tmp_path: Path) -> None:
    assert prompts(put(tmp_path, "a.jsonl", TUNING)) == ["Apple"]


def test_the_input_of_an_instruction_is_part_of_the_prompt(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", [{"instruction": "Add.", "input": "1 and 2", "output": "3"}])
    assert prompts(path) == ["Add.\n\n1 and 2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,text\n1,Name a fruit.\n", "line 2: the object has neither prompt"),
        ("a.csv", "prompt\nName, say, a fruit.\n", "line 2: 3 cells under 1 columns"),
        ("a.csv", 'prompt\n"Name a fruit.\n', "line 2: not valid CSV"),
        ("a.csv", "prompt,prompt\na,b\n", "two columns have the same name"),
        ("a.jsonl", b'{"prompt": "A?"}\n{"prompt": "caf\xe9"}\n', "line 2: not UTF-8"),
        ("a.jsonl", '{"prompt": "A?"}'.encode("utf-16"), "UTF-16 and not UTF-8"),
        ("a.txt", "Name a fruit.\n".encode("utf-16-le"), "binary and not UTF-8"),
        ("a.txt", b"\x1f\x8b\x08\x00", "binary and not UTF-8"),
        ("a.parquet", b"PAR1xxxx", "as Parquet"),
        ("a.txt", b"PAR1xxxx", "as Parquet"),
        ("a.jsonl", '{"prompt": "A?"},\n{"prompt": "B?"},\n', "line 1: not valid JSON: extra data"),
        ("a.json", '[\n {"prompt": "A?"},\n {"prompt": }\n]', "line 3: not valid JSON"),
        ("a.json", '[\n {"prompt": "A?"}\n {"prompt": "B?"}\n]', "line 3: .*a comma or ]"),
        ("a.json", '[{"prompt": "A?"}] x', "after the array's end"),
        ("a.json", '[{"prompt": "A?"},', "not valid JSON"),
        ("a.json", [FRUIT, 3], "line 1: int instead of an object"),
        ("a", '{"prompt": "A?"', "line 1: not valid JSON"),
        ("a.jsonl", "// prompts\n", "line 1: not valid JSON"),
        ("a.jsonl", '{"prompt":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ("a.jsonl", '{"prompt": "A?", "id": ' + "9" * 5000 + "}", "more than 4300 digits"),
        ("a.jsonl", '{"prompt": "A?", "prompt": "B?"}', "the key 'prompt' twice"),
        ("a.jsonl", r'{"prompt": "\ud83d"}', "half of a surrogate"),
        ("a.jsonl", {"question": "A?"}, "it has question"),
        ("a.jsonl", {"prompt": "A?", "messages": []}, "both prompt and messages"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = put(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as error:
        prompts(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ([{"prompt": "p", "responses": ["a", "b"]}], ["a", "b"]),
        ([{"prompt": "p", "choices": [{"message": {"content": "a"}}, {"text": "b"}]}], ["a", "b"]),
        ([{"custom_id": "p", "response": {"body": {"choices": [{"text": "a"}]}}}], ["a"]),
        ([ALPACA, {**ALPACA, "output": "Pear"}], ["Apple", "Pear"]),
        ([SHAREGPT], ["Apple"]),
        ([TUNING], ["Apple"]),
        ([{"prompt": "p", "text": t, "index": i} for i, t in ((1.0, "b"), (0.0, "a"))], ["a", "b"]),
        ([{"prompt": "p", "generations": ["a"], "finish_reasons": None}], ["a"]),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_answers_of_many_shapes(tmp_path: Path, rows: Any, texts: Any, indent: int | None) -> None:
    (group,) = read_groups(put(tmp_path, "g.json", json.dumps(rows, indent=indent)))
    assert list(group.generations) == texts


def test_groups_in_tables(tmp_path: Path) -> None:
    csv = put(tmp_path, "g.csv", "prompt,index,text,method\np,1,b,m\np,0,a,m\nq,0,c,m\n")
    groups = read_groups(csv)
    assert [(g.prompt, g.generations) for g in groups] == [("p", ("a", "b")), ("q", ("c",))]
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "g.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["p", "p"], "text": ["a", "b"]}), path)
    assert read_groups(path)[0].generations == ("a", "b")
    assert prompts(path) == ["p"]


def test_an_index_is_a_number(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a whole number"):
        read_groups(put(tmp_path, "g.jsonl", {"prompt": "p", "text": "a", "index": True}))


def test_lines_of_arrays_are_counted(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", json.dumps([FRUIT, PET], indent=2))
    assert [row.where for row in read_rows(path)] == [f"{path}, line 2", f"{path}, line 5"]


def test_json_by_itself() -> None:
    assert parse_json(' {"a": [1, "x"]} ', "here") == {"a": [1, "x"]}
    with pytest.raises(InputError, match="here: not valid JSON: extra data at column 4"):
        parse_json("{} x", "here")
