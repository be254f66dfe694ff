"""Agreement of metrics with people."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from baco.errors import InputError
from baco.metrics.people import PEOPLE, agreements, check_single, judged
from baco.metrics.score import score
from baco.metrics.spec import resolve
from baco.reading import as_object, read_rows

PAIRWISE: list[dict[str, Any]] = [
    # dist_1 of the answers: 1 and 1/2, 2/3 and 1, 1 and 1, 1/3 and 1
    {"user_query": "q", "response_1": "a b", "response_2": "a a", "human_labels": [2, 1]},
    {"user_query": "q", "response_1": "a a b", "response_2": "a b c", "human_labels": [1, 0]},
    {"user_query": "r", "response_1": "a", "response_2": "b", "human_labels": [-1, -2]},
    {"user_query": "r", "response_1": "a a a", "response_2": "b", "human_labels": [1, -1]},
]

LOOP = "we go there " * 8

ABSOLUTE: list[dict[str, Any]] = [
    {"user_query": "q", "response": "a b", "human_labels": [5, 3]},
    {"user_query": "q", "response": "a a", "human_labels": [1, 2]},
    {"user_query": "q", "response": "a a b", "human_labels": [4, 5]},
    {"user_query": "r", "response": "a", "human_labels": [3, 3]},
]


def rows(found: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"row {i}", row) for i, row in enumerate(found, 1)]


def test_preferences_by_hand() -> None:
    found = judged(rows(PAIRWISE))
    of = agreements(found, score(found.answers, "dist_1", cache=False))
    # same order, other order, equal values; people are even on the fourth
    assert of["dist_1"].share == pytest.approx((1 + 0 + 0.5) / 3)
    assert of["dist_1"].pairs == 3
    # differences 1/2, -1/3, 0, -2/3 have ranks 4, 2, 3, 1; preferences 1.5, 0.5, -1.5, 0 4, 3, 1, 2
    assert of["dist_1"].spearman == pytest.approx(1 - 6 * (0 + 1 + 4 + 1) / (4 * 15))
    # halves 2, 1, -1, 1 and 1, 0, -2, -1: even in the second pair, the last one is the other way
    assert of[PEOPLE].share == pytest.approx(2 / 3)


def test_marks_by_hand() -> None:
    found = judged(rows(ABSOLUTE))
    of = agreements(found, score(found.answers, "dist_1", cache=False))
    # means 4, 1.5, 4.5 of values 1, 1/2, 2/3: of three pairs only the first and the third differ
    assert of["dist_1"].share == pytest.approx(2 / 3)
    assert of["dist_1"].pairs == 3
    assert math.isnan(of["dist_1"].low) or of["dist_1"].low <= 2 / 3


def test_marks_with_decimals_tie_in_any_order() -> None:
    labels = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    of_marks = judged(rows([{**ABSOLUTE[i], "human_labels": labels[i]} for i in range(2)]))
    of_pairs = judged(rows([{**PAIRWISE[0], "human_labels": [0.1, 0.2, -0.3]}]))
    for found in (of_marks, of_pairs):
        assert found.pairs[0].people == 0
        assert agreements(found, score(found.answers, "dist_1", cache=False))["dist_1"].pairs == 0


def test_a_metric_that_is_better_when_lower() -> None:
    found = judged(rows([{**PAIRWISE[0], "response_2": LOOP, "human_labels": [2]}] * 2))
    of = agreements(found, score(found.answers, "looping,dist_1", cache=False))
    assert of["looping"].share == 1  # the second answer loops, and people prefer the first
    assert math.isnan(of[PEOPLE].share)  # one person has no other half


@pytest.mark.parametrize("compared", [True, False])
def test_against_scipy(compared: bool) -> None:
    draw = random.Random(5)
    words = ["red", "blue", "green"]
    made = []
    for query, _ in itertools.product("abcdef", range(4)):
        text = [" ".join(draw.choices(words, k=4)) for _ in range(2)]
        if compared:
            answers = {"response_1": text[0], "response_2": text[1]}
            labels = [draw.randint(-2, 2) for _ in range(7)]
        else:
            answers, labels = {"response": text[0]}, [draw.randint(1, 5) for _ in range(7)]
        made.append({"user_query": query, **answers, "human_labels": labels})
    found = judged(rows(made))
    scores = score(found.answers, "dist_1", cache=False)
    one = agreements(found, scores)["dist_1"]
    values = np.array(scores.column("dist_1"))
    if compared:
        said = np.array([np.mean(row["human_labels"]) for row in made])
        apart = values[::2] - values[1::2]
        assert one.spearman == pytest.approx(stats.spearmanr(apart, said).statistic)
        kept = said != 0
        hits = [
            1 if a * b > 0 else 0.5 if a == 0 else 0 for a, b in zip(apart, said, strict=True) if b
        ]
        assert one.pairs == kept.sum()
        assert one.share == pytest.approx(np.mean(hits))
    else:
        said = np.array([np.mean(row["human_labels"]) for row in made])
        assert one.spearman == pytest.approx(stats.spearmanr(values, said).statistic)
        concordant = total = 0.0
        for start in range(0, len(made), 4):
            d = stats.somersd(said[start : start + 4], values[start : start + 4]).statistic
            pairs = sum(a != b for a, b in itertools.combinations(said[start : start + 4], 2))
            if pairs:  # D is concordant less discordant over pairs that are not tied in the first
                concordant += (d + 1) / 2 * pairs
                total += pairs
        assert one.share == pytest.approx(concordant / total)
        assert one.pairs == total
    assert one.low <= one.share <= one.high


def test_files_of_each_kind_say_the_same(tmp_path: Path) -> None:
    table = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(table.Table.from_pylist(PAIRWISE), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, PAIRWISE)))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(PAIRWISE[0]))
        writer.writeheader()
        writer.writerows(
            {**row, "human_labels": json.dumps(row["human_labels"])} for row in PAIRWISE
        )
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        found = judged([(row.where, as_object(row)) for row in read_rows(tmp_path / name)])
        assert found.pairs == judged(rows(PAIRWISE)).pairs, name


def test_what_cannot_be_read() -> None:
    with pytest.raises(InputError, match="no answer that people judged"):
        judged([])
    with pytest.raises(InputError, match="row 1: no user_query") as caught:
        judged(rows([{"prompt": "x"}]))
    assert "this one prompt" in str(caught.value.hint)
    with pytest.raises(InputError, match="row 2: no response_1"):
        judged(rows([PAIRWISE[0], ABSOLUTE[0]]))
    for labels in (["Response 1 is much better"], [], None, 3, "12", {"1": 2}, [True], ["2"]):
        with pytest.raises(InputError, match="row 1: human_labels is no list of numbers"):
            judged(rows([{**PAIRWISE[0], "human_labels": labels}]))
    for number in (float("nan"), float("inf"), 10**400):
        with pytest.raises(InputError, match="row 1: human_labels is no list of numbers"):
            judged(rows([{**PAIRWISE[0], "human_labels": [1, number]}]))
    for query in (None, " ", ["q"]):
        with pytest.raises(InputError, match="row 1: user_query is no text"):
            judged(rows([{**PAIRWISE[0], "user_query": query}]))
    with pytest.raises(InputError, match="row 1: generation 0 is a NoneType"):
        judged(rows([{**PAIRWISE[0], "response_1": None}]))
    with pytest.raises(InputError, match="no prompt has two answers"):
        judged(rows(ABSOLUTE[3:]))
    with pytest.raises(InputError, match="self_bleu compares several outputs"):
        check_single([resolve("dist_1"), resolve("self_bleu")])
