"""The creative-writing task's prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baco.bench.datasets import Source, load_dataset
from baco.errors import InputError

STORY = "Ann has a shop. One day it burns. She leaves. She sails. She wins."


def load(path: Path | str):
    return load_dataset(Source("narrative", "", str(path), {})).records


def folder(tmp_path: Path, stories: object, points: object = None) -> Path:
    (tmp_path / "narratives.json").write_text(json.dumps(stories))
    if points is not None:
        (tmp_path / "ground_truth_tp.json").write_text(json.dumps(points))
    return tmp_path


def test_a_story_is_cut_after_its_first_turning_point(tmp_path: Path) -> None:
    stories = {"7": {"title": "The Shop", "synopsis": STORY, "arc": "Man in Hole"}}
    (record,) = load(folder(tmp_path, stories, {"7": {"tp1": 2.0, "tp2": 3.0}}))
    assert record.id == "7"
    assert record.category == "Man in Hole"
    assert record.extra["prefix"] == "Ann has a shop. One day it burns."
    text = record.prompt[0].content
    assert text.startswith("Continue the story and bring it to an ending")
    assert text.endswith("Title: The Shop\nStory Sketch: Ann has a shop. One day it burns.")
    assert "She leaves" not in text


@pytest.mark.parametrize(("point", "kept"), [(1.5, 2), (2.4, 2), (2.5, 3), (1, 1)])
def test_a_mean_of_raters_is_rounded(tmp_path: Path, point: float, kept: int) -> None:
    stories = [{"id": "a", "title": "T", "sentences": STORY.split(". "), "tp1": point}]
    (record,) = load(folder(tmp_path, stories) / "narratives.json")
    assert record.extra["prefix"] == " ".join(STORY.split(". ")[:kept])


def test_a_given_sketch_needs_no_turning_point(tmp_path: Path) -> None:
    (record,) = load(folder(tmp_path, {"a": {"title": "T", "sketch": " Once. "}}))
    assert record.extra["prefix"] == "Once."


@pytest.mark.parametrize(
    ("stories", "message"),
    [
        ({"a": {"title": "T"}}, "neither a sketch nor a story"),
        ({"a": {"text": STORY}}, "first turning point is not known"),
        ({"a": {"text": STORY, "tp1": 9}}, "is sentence 9, the story has 5"),
        ({"a": {"text": STORY, "tp1": True}}, "first turning point is not known"),
        ("nothing", "holds no stories"),
        ({}, "no prompt"),
    ],
)
def test_bad_stories(tmp_path: Path, stories: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(folder(tmp_path, stories))


def test_the_file_is_not_at_hand(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"neither with BaCo nor from the hub.*Narrative-Discourse"
    ):
        load("")
    with pytest.raises(InputError, match=r"cannot read .*narratives.json"):
        load(tmp_path)
    (tmp_path / "narratives.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load(tmp_path)
