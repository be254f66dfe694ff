"""Lexical measures against known answers, against the reference libraries, and as properties."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer

from baco.metrics.kernels import vendi
from baco.metrics.ngrams import (
    distinct,
    expected_distinct,
    jaccard,
    self_bleu,
    self_bleu_pairwise,
    self_rouge_l,
)
from baco.metrics.words import UNTRAINED, words

from .conftest import load

LEXICAL = load("lexical")
EDGES_BY_RULE = {"all_empty", "emoji", "cjk", "single_output"}

near = {"rel": 1e-9, "abs": 1e-9}

WORDS = st.sampled_from(["a", "b", "c", "Dog", "dog", "x.", "7", "猫", "😀"])
TEXTS = st.lists(st.lists(WORDS, max_size=9).map(" ".join), min_size=2, max_size=6)


def tokens(texts: list[str]) -> list[list[str]]:
    return [words(text, UNTRAINED) for text in texts]


@pytest.mark.parametrize("name", LEXICAL)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_distinct_and_ead(name: str, order: int, groups: dict[str, Any]) -> None:
    found = tokens(groups[name]["generations"])
    expected = LEXICAL[name]["tok_A"]
    assert distinct(found, order) == pytest.approx(expected[f"dist{order}"]["value"], **near)
    for size in (128256, 100278):
        known = expected[f"ead{order}"][f"V={size}^{order}"]
        assert expected_distinct(found, order, size) == pytest.approx(known, **near)


@pytest.mark.parametrize("name", sorted(LEXICAL.keys() - EDGES_BY_RULE))
def test_self_bleu_and_rouge(name: str, groups: dict[str, Any]) -> None:
    texts = groups[name]["generations"]
    found = tokens(texts)
    bleu = LEXICAL[name]["self_bleu"]
    expected = bleu["nltk_multi_ref_method1_tokA_auto_reweigh"]
    assert self_bleu(found) == pytest.approx(expected, **near)
    expected = LEXICAL[name]["self_rouge_l"]["pairwise_mean_f"]
    assert self_rouge_l(texts, found) == pytest.approx(expected, **near)
    if min(map(len, found)) >= 4:
        expected = bleu["nltk_pairwise_method1_tokA"]
        assert self_bleu_pairwise(found) == pytest.approx(expected, **near)


def test_rules_where_the_references_fail(groups: dict[str, Any]) -> None:
    for name in ("all_empty", "emoji", "cjk"):
        texts = groups[name]["generations"]
        found = tokens(texts)
        pairs = list(combinations(range(len(texts)), 2))
        same = sum(found[i] == found[j] for i, j in pairs) / len(pairs)
        assert self_rouge_l(texts, found) == pytest.approx(same, **near)
        shared = sum(t in found[:i] + found[i + 1 :] for i, t in enumerate(found)) / len(found)
        assert self_bleu(found) == pytest.approx(shared, **near)
    one = tokens(groups["single_output"]["generations"])
    assert math.isnan(self_bleu(one))
    assert math.isnan(self_bleu_pairwise(one))
    assert math.isnan(self_rouge_l(groups["single_output"]["generations"], one))


def test_pair_of_which_one_text_has_no_ascii_word() -> None:
    texts = ["😀", "😀 dog"]
    assert self_rouge_l(texts, tokens(texts)) == pytest.approx(2 / 3)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_bleu_equals_nltk(texts: list[str]) -> None:
    found = tokens(texts)
    smooth = SmoothingFunction().method1
    scores = []
    for i, mine in enumerate(found):
        rest = found[:i] + found[i + 1 :]
        if mine in rest:
            scores.append(1.0)
        else:
            scores.append(sentence_bleu(rest, mine, smoothing_function=smooth, auto_reweigh=True))
    assert self_bleu(found) == pytest.approx(sum(scores) / len(scores), **near)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_rouge_equals_rouge_score(texts: list[str]) -> None:
    scorer = RougeScorer(["rougeL"])
    found = tokens(texts)
    values = []
    for i, j in combinations(range(len(texts)), 2):
        a, b = texts[i], texts[j]
        plain = [[c for c in t if c.isascii() and c.isalnum()] for t in (a, b)]
        if a == b:
            values.append(1.0)
        elif all(plain):
            values.append(scorer.score(a, b)["rougeL"].fmeasure)
        else:
            own = RougeScorer(["rougeL"], tokenizer=_Words())
            values.append(own.score(a, b)["rougeL"].fmeasure)
    assert self_rouge_l(texts, found) == pytest.approx(sum(values) / len(values), **near)


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return words(text, UNTRAINED)


def test_bleu_agrees_with_sacrebleu_on_long_texts(groups: dict[str, Any]) -> None:
    checked = 0
    for name in ("curated-0", "curated-5", "curated-35", "curated-46"):
        texts = groups[name]["generations"]
        found = tokens(texts)
        if min(map(len, found)) < 4:
            continue
        joined = [" ".join(t) for t in found]
        metric = sacrebleu.BLEU(effective_order=True, tokenize="none")
        scores = [
            metric.sentence_score(mine, joined[:i] + joined[i + 1 :]).score / 100
            for i, mine in enumerate(joined)
        ]
        assert self_bleu(found) == pytest.approx(sum(scores) / len(scores), abs=0.02)
        checked += 1
    assert checked >= 2


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.randoms(use_true_random=False))
def test_order_ranges_and_floors(texts: list[str], random: Any) -> None:
    shuffled = list(texts)
    random.shuffle(shuffled)
    mine, other = tokens(texts), tokens(shuffled)
    n = len(texts)
    for order in (1, 2, 3):
        value = distinct(mine, order)
        assert 0 <= value <= 1
        assert distinct(other, order) == pytest.approx(value, abs=1e-12)
        ead = expected_distinct(mine, order, 1000)
        assert 0 <= ead <= 1 / (1 - math.exp(-1)) + 1e-12
    assert 0 <= self_bleu(mine) <= 1 + 1e-12
    assert self_bleu(other) == pytest.approx(self_bleu(mine), abs=1e-12)
    assert 0 <= self_rouge_l(texts, mine) <= 1 + 1e-12
    assert self_rouge_l(shuffled, other) == pytest.approx(self_rouge_l(texts, mine), abs=1e-12)
    score = vendi(jaccard(mine))
    assert 1 - 1e-9 <= score <= n + 1e-9
    assert vendi(jaccard(other)) == pytest.approx(score, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, max_size=9).map(" ".join), st.integers(2, 6))
def test_identical_outputs_are_least_diverse(text: str, n: int) -> None:
    texts = [text] * n
    found = tokens(texts)
    assert self_bleu(found) == 1
    assert self_bleu_pairwise(found) == 1
    assert self_rouge_l(texts, found) == 1
    assert vendi(jaccard(found)) == pytest.approx(1, abs=1e-9)


def test_ngram_vendi(groups: dict[str, Any]) -> None:
    for name, known in load("vendi_embedding")["ngram"].items():
        found = tokens(groups[name]["generations"])
        for order in (1, 2, 3):
            expected = known.get(f"jaccard_n{order}_tokA")
            if isinstance(expected, float):
                assert vendi(jaccard(found, order)) == pytest.approx(expected, **near)


def test_ead_of_the_largest_vocabularies_is_finite() -> None:
    assert expected_distinct([["a", "b", "a", "c"]], 4, 128256) == pytest.approx(1.0, abs=1e-9)
