"""Datasets: what is read, what is refused."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import ClassVar

import pytest

from baco.bench.datasets import DATASETS, Source, load_dataset
from baco.errors import InputError
from baco.prompts import Message

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data files are not here")


def load(dataset: str, source: object = "", **options: str):
    return load_dataset(Source(dataset, "", str(source), options))


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_bundled_world_is_all_there() -> None:
    from baco.tiny.world import prompts

    found = load("tiny")
    assert [r.id for r in found.records] == [p.id for p in prompts("heldout")]
    assert len({r.category for r in found.records}) == 4


def test_any_jsonl(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hello?"}]
    path = write(
        tmp_path / "p.jsonl",
        {"prompt": "A?", "id": "a", "category": "c", "x": 1},
        {"messages": talk},
    )
    found = load("jsonl", path)
    assert found.records[0].prompt == (Message("user", "A?"),)
    assert (found.records[0].id, found.records[0].category) == ("a", "c")
    assert found.records[0].extra == {"x": 1}
    assert found.records[1].prompt == (Message("user", "Hello?"),)


def test_the_fingerprint_follows_the_data(tmp_path: Path) -> None:
    one = load("jsonl", write(tmp_path / "a.jsonl", {"prompt": "A?"}, {"prompt": "B?"}))
    same = load("jsonl", write(tmp_path / "b.jsonl", {"prompt": "A?"}, {"prompt": "B?"}))
    other = load("jsonl", write(tmp_path / "c.jsonl", {"prompt": "A?"}, {"prompt": "b?"}))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_novelty_bench_has_paraphrases_and_categories(tmp_path: Path) -> None:
    row = {
        "id": "curated-0",
        "category": "Creativity",
        "prompt": "A?",
        "prompt_paraphrases": ["B?"],
    }
    (record,) = load("noveltybench", write(tmp_path / "c.jsonl", row)).records
    assert record.extra == {"paraphrases": ["B?"]}
    assert record.category == "Creativity"


@needs_data
def test_novelty_bench_as_it_is() -> None:
    found = load("noveltybench", DATA / "noveltybench" / "curated.jsonl")
    assert len(found.records) == 100
    assert all(len(r.extra["paraphrases"]) == 10 for r in found.records)
    counts = collections.Counter(r.category for r in found.records)
    assert sorted(counts.values()) == [7, 7, 15, 20, 23, 28]


@needs_data
def test_wildchat_as_it_is() -> None:
    path = DATA / "noveltybench" / "wildchat-1k.jsonl"
    found = load("wildchat", path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(found.records) == 1000
    assert [r.prompt[-1].content for r in found.records] == [row["prompt"] for row in rows]
    assert [r.id for r in found.records] == [row["id"] for row in rows]


class FakeHub:
    """The calls of the package `datasets` that are used, without a network."""

    class config:
        HF_HUB_OFFLINE = True

    asked: ClassVar[list[tuple[str, str, str | None]]] = []

    @classmethod
    def load_dataset(cls, ident: str, split: str, revision: str | None) -> list[dict[str, str]]:
        cls.asked.append((ident, split, revision))
        return [{"id": "x", "prompt": "A?"}]

    @staticmethod
    def get_dataset_split_names(ident: str, revision: str | None) -> list[str]:
        return ["train", "validation"]


def test_infinity_chat_in_its_shapes(tmp_path: Path) -> None:
    talk = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "C?"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "D?"},
    ]
    path = write(
        tmp_path / "i.jsonl",
        {"query": "A?"},
        {"user_query": "B?", "response_1": "x", "response_2": "y", "human_labels": [2, -1]},
        {"user_query": "B?", "response_1": "z", "response_2": "y", "human_labels": [0, 1]},
        {"messages": talk, "category": "Creative"},
        {"messages": talk, "lm_judge_annotation": {"original_query": "E", "revised_query": "E?"}},
        {"messages": talk, "lm_judge_annotation": {"original_query": "F?", "revised_query": None}},
    )
    found = load("infinity-chat", path).records
    assert [r.prompt for r in found] == [(Message("user", f"{text}?"),) for text in "ABCEF"]
    assert [r.id for r in found] == ["0", "1", "2", "3", "4"]
    assert [r.category for r in found] == [None, None, "Creative", None, None]
    for row in ({"text": "A?"}, {"query": " "}, {"messages": [{"role": "system", "content": "x"}]}):
        with pytest.raises(InputError, match="line 1: no query of Infinity-Chat") as caught:
            load("infinity-chat", write(tmp_path / "bad.jsonl", row))
        assert f"this one {next(iter(row))}" in str(caught.value.hint)
    with pytest.raises(InputError, match="cannot read"):  # a file that is missing is no hub id
        load("infinity-chat", tmp_path.name + "/none.parquet")


def test_the_hub_by_id_split_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "datasets", FakeHub)
    FakeHub.asked.clear()
    load("hub", "a/b")
    load("hub", "a/b", split="extra", revision="v1")
    load("noveltybench")
    load("wildchat", "c/d")
    with pytest.raises(InputError, match="no query of Infinity-Chat"):  # the fake has prompts
        load("infinity-chat")
    assert FakeHub.asked == [
        ("a/b", "validation", None),
        ("a/b", "extra", "v1"),
        ("yimingzhang/novelty-bench", "curated", None),
        ("c/d", "wildchat", None),
        ("liweijiang/infinite-chats-eval", "validation", None),
    ]


def test_without_a_network_the_refusal_is_clear() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(InputError, match=r"cannot load 'nobody/nothing'.*local file") as caught:
        load("hub", "nobody/nothing")
    assert "\n" not in str(caught.value)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from baco.errors import BacoError

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BacoError, match=r"baco\[bench\]"):
        load("noveltybench")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "?"}], "neither prompt nor messages"),
        ([{"prompt": " "}], "line 1: the prompt is empty"),
        ([[1]], "line 1: int instead of an object"),
        ([{"prompt": "A?", "id": 1}, {"prompt": "B?", "id": 1}], "'1' twice"),
        ([], "no prompt"),
    ],
)
def test_bad_rows(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load("jsonl", write(tmp_path / "p.jsonl", *rows))


def test_bad_sources(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load("wildchat", tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="names no hub id"):
        load("hub")
    with pytest.raises(InputError, match="no option 'speed'"):
        load("hub", "a/b", speed="1")
    assert {
        "tiny",
        "jsonl",
        "hub",
        "noveltybench",
        "wildchat",
        "narrative",
        "infinity-chat",
    } <= set(DATASETS)
