"""Measures of vectors, matrices and classes against known answers and other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from baco.metrics.kernels import (
    cosine_dissimilarity,
    cosines,
    discrete_entropy,
    pair_mean,
    semantic_entropy,
    vendi,
)

from .conftest import load

near = {"rel": 1e-9, "abs": 1e-9}
EMBEDDINGS = load("vendi_embedding")["embedding"]
ENTROPIES = {k: v for k, v in load("semantic_entropy").items() if k != "clustering"}

MATRICES = st.integers(2, 8).flatmap(
    lambda n: st.integers(0, 2**31).map(
        lambda seed: np.random.default_rng(seed).normal(size=(n, 5))
    )
)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_known_matrices(name: str) -> None:
    vectors = EMBEDDINGS[name]["X"]
    assert vendi(cosines(vectors)) == pytest.approx(EMBEDDINGS[name]["vendi_score_X"], **near)
    expected = EMBEDDINGS[name]["embedding_cosine_dissimilarity"]
    assert cosine_dissimilarity(vectors) == pytest.approx(expected, **near)


@pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")
@settings(max_examples=60, deadline=None)
@given(MATRICES)
def test_against_vendi_score_and_sklearn(vectors: np.ndarray) -> None:
    from vendi_score.vendi import score_K

    kernel = cosine_similarity(vectors)
    assert cosines(vectors) == pytest.approx(kernel, **near)
    assert vendi(kernel) == pytest.approx(float(score_K(kernel)), rel=1e-7)
    n = len(vectors)
    assert 1 - 1e-9 <= vendi(kernel) <= n + 1e-9
    upper = 1 - kernel[np.triu_indices(n, 1)]
    assert cosine_dissimilarity(vectors) == pytest.approx(upper.mean(), **near)
    assert -1e-9 <= cosine_dissimilarity(vectors) <= n / (n - 1) + 1e-9
    turned = vectors[::-1]
    assert cosine_dissimilarity(turned) == pytest.approx(cosine_dissimilarity(vectors), **near)


def test_identical_vectors_are_least_diverse_and_zero_vectors_have_no_value() -> None:
    same = np.ones((10, 4))
    assert vendi(cosines(same)) == pytest.approx(1, abs=1e-9)
    assert cosine_dissimilarity(same) == pytest.approx(0, abs=1e-12)
    broken = np.vstack([same, np.zeros(4)])
    assert math.isnan(cosine_dissimilarity(broken))
    assert math.isnan(vendi(cosines(broken)))
    assert math.isnan(cosine_dissimilarity(same[:1]))


@pytest.mark.parametrize("name", ENTROPIES)
def test_known_entropies(name: str) -> None:
    case = ENTROPIES[name]
    found = semantic_entropy(case["ids"], case["mean_logprob"])
    assert found == pytest.approx(case["jlko_rao (recommended)"], **near)
    discrete = case["cluster_assignment_entropy (discrete)"]
    assert discrete_entropy(case["ids"]) == pytest.approx(discrete, **near)
    assert found <= case["log_n"] + 1e-9


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-50, 0)), min_size=1, max_size=9))
def test_entropy_range_and_order(outputs: list[tuple[int, float]]) -> None:
    classes, weights = map(list, zip(*outputs, strict=True))
    value = semantic_entropy(classes, weights)
    assert 0 <= value <= math.log(len(outputs)) + 1e-9
    assert semantic_entropy(classes[::-1], weights[::-1]) == pytest.approx(value, abs=1e-9)
    assert semantic_entropy([0] * len(outputs), weights) == pytest.approx(0, abs=1e-9)


def test_very_unlikely_outputs_do_not_underflow_and_missing_ones_give_nan() -> None:
    assert semantic_entropy([0, 1], [-5000.0, -5000.0]) == pytest.approx(math.log(2), abs=1e-9)
    assert math.isnan(semantic_entropy([0, 1], [-1.0, math.nan]))


def test_nli_aggregates() -> None:
    case = load("nli")
    table = np.array(case["P"])
    values = case["values"]
    expected = values["entail_both_directions (recommended)"]
    assert pair_mean(table[:, :, 1]) == pytest.approx(expected, **near)
    assert pair_mean(table[:, :, 0]) == pytest.approx(values["contradiction_both"], **near)
    assert math.isnan(pair_mean([[1.0]]))
