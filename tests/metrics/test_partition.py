"""First-come classes, NoveltyBench's rules and utility."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from baco.metrics.partition import THRESHOLDS, first_come, mark, short_rule, utility

from .conftest import load

NB = load("noveltybench")


def partition(texts: list[str], same: Callable[[str, str], bool]) -> list[int]:
    run = first_come(len(texts))
    try:
        asked = next(run)
        while True:
            asked = run.send([same(texts[a], texts[b]) for a, b in asked])
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize("case", NB["maybe_test_equality"])
def test_short_rule(case: list[object]) -> None:
    a, b, expected = case
    assert short_rule(str(a), str(b)) is expected


@pytest.mark.parametrize("case", NB["reward_map"])
def test_marks(case: list[float]) -> None:
    raw, expected = case
    assert mark(raw) == expected


def test_a_tie_gets_the_lower_mark() -> None:
    assert NB["thresholds"] == list(THRESHOLDS)
    assert [mark(t) for t in THRESHOLDS] == list(range(1, 10))


@pytest.mark.parametrize("rule", ["unigram", "short"])
def test_partitions_of_the_published_algorithm(rule: str, groups: dict) -> None:
    scorer = RougeScorer(["rouge1"])

    def same(a: str, b: str) -> bool:
        ruled = short_rule(a, b) if rule == "short" else None
        return scorer.score(a, b)["rouge1"].fmeasure > 0.458 if ruled is None else ruled

    key = {
        "unigram": "partition_with_published_alg_unigram (rouge1>0.458)",
        "short": "partition_short_rule_then_unigram",
    }[rule]
    for name, expected in NB[key].items():
        assert partition(groups[name]["generations"], same) == expected, name


def test_the_first_class_keeps_its_members() -> None:
    texts = ["A", "B", "C", "D"]
    alike = {("A", "C"), ("B", "C")}
    expected = load("semantic_entropy")["clustering"]["non_transitive A~C,B~C"]["noveltybench"]
    assert partition(texts, lambda a, b: (a, b) in alike) == expected


def test_utility_of_published_rows() -> None:
    for row in NB["rows"].values():
        # the published scores already hold 0 for repeated classes
        found = utility(row["partition"], row["generation_scores"])
        assert found == pytest.approx(row["utility_published"], rel=1e-9)
        assert len(set(row["partition"])) == row["n_classes"]


def test_repeated_classes_count_nothing() -> None:
    assert utility([0, 0], [10, 10]) == pytest.approx(10 / 1.8)
    assert utility([0, 1], [10, 10]) == pytest.approx(10)


def test_all_fifty_published_rows(gemini: Path) -> None:
    rows = [json.loads(line) for line in gemini.read_text().splitlines()]
    assert len(rows) == 50
    for row in rows:
        found = utility(row["partition"], row["generation_scores"])
        assert found == pytest.approx(row["utility"], rel=1e-9)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_an_equivalence_relation_gives_its_classes_in_any_order(kinds: list[int], random) -> None:
    texts = [str(k) for k in kinds]
    found = partition(texts, str.__eq__)
    assert len(set(found)) == len(set(texts))
    placed = list(zip(texts, found, strict=True))
    assert all((a == b) == (x == y) for a, x in placed for b, y in placed)
    random.shuffle(texts)
    assert len(set(partition(texts, str.__eq__))) == len(set(found))
