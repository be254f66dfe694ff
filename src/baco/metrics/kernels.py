"""Measures of vectors and similarity matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def vendi(kernel: ArrayLike) -> float:
    """Vendi score: the effective number of different outputs (Paper: App. C.1).

    The exponential of the Shannon entropy (nats) of the eigenvalues of K / n.

    Args:
        kernel: Symmetric similarity matrix K of n outputs, ones on the diagonal.

    Returns:
        A number in [1, n]; up is more diverse. NaN if the diagonal is not one (a zero vector).
    """
    matrix = np.asarray(kernel, dtype=np.float64)
    if not np.allclose(np.diag(matrix), 1.0, rtol=0, atol=1e-6):
        return math.nan
    values = np.linalg.eigvalsh(matrix / len(matrix))
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def cosines(vectors: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Cosine similarity of all pairs of rows; rows and columns of zero vectors are NaN."""
    matrix = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        units = matrix / norms
    similarity = units @ units.T
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.clip(similarity, -1.0, 1.0)
    return found


def cosine_dissimilarity(vectors: ArrayLike) -> float:
    """Mean of 1 - cosine over unordered pairs of outputs (Paper: App. C.1).

    Args:
        vectors: One row per output.

    Returns:
        A number in [0, n / (n - 1)]; up is more diverse. NaN for fewer than two outputs and if one
        of the vectors is zero.
    """
    similarity = cosines(vectors)
    if len(similarity) < 2:
        return math.nan
    upper = np.triu_indices(len(similarity), k=1)
    return float(np.mean(1.0 - similarity[upper]))


def hivemind_rate(vectors: ArrayLike, threshold: float) -> float:
    """Share of unordered pairs of outputs whose cosine is above a threshold (arXiv 2510.22954).

    Args:
        vectors: One row per output.
        threshold: The cosine that a pair must exceed to count as alike.

    Returns:
        A share in [0, 1]; down is more diverse. NaN for fewer than two outputs and if one of the
        vectors is zero.
    """
    similarity = cosines(vectors)
    pairs = similarity[np.triu_indices(len(similarity), k=1)]
    if not len(pairs) or np.isnan(pairs).any():
        return math.nan
    return float(np.mean(pairs > threshold))


def branching_factor(entropies: Sequence[Sequence[float] | NDArray[np.float64]]) -> float:
    """Effective number of next tokens along outputs: exp of their mean entropy (arXiv 2506.17871).

    Args:
        entropies: For each output the sum of its tokens' entropies (nats) and their number.

    Returns:
        A number in [1, vocabulary]; every output weighs the same, whatever its length. NaN if an
        output has no token.
    """
    if any(not number for _, number in entropies):
        return math.nan
    return math.exp(math.fsum(total / number for total, number in entropies) / len(entropies))


def icl_score(
    alone: Sequence[tuple[float, int]], curves: Sequence[Sequence[tuple[float, int]]]
) -> float:
    """Diversity as what earlier answers teach about later ones, times coherence (2606.01811).

    With h the surprise of an answer by itself and a_k that of the k-th of n in an order, both in
    bits per byte: 2 ** -mean(h) * mean over orders of sum over k of (a_k - a_n).

    Args:
        alone: Surprise (bits) of each answer given the prompt only, and its bytes.
        curves: The same of the answers in each order, given the prompt and those before.

    Returns:
        Bits per byte; up is more diverse. NaN if a surprise is missing.
    """
    coherence = 2 ** -(math.fsum(bits / size for bits, size in alone) / len(alone))
    rates = [[bits / size for bits, size in curve] for curve in curves]
    excess = math.fsum(a - rate[-1] for rate in rates for a in rate) / len(rates)
    return coherence * excess


def semantic_entropy(classes: Sequence[int], log_likelihoods: Sequence[float]) -> float:
    """Entropy over meanings, each weighted by the likelihood of its outputs (Paper: App. C.1).

    The Rao-Blackwellised estimate of Farquhar et al. (2024), normalised over the outputs at hand.

    Args:
        classes: Class of meaning of each output.
        log_likelihoods: Mean log-probability of a token (nats) of each output.

    Returns:
        Entropy in nats, in [0, ln n]; up is more diverse. NaN if a likelihood is missing.
    """
    weights = np.asarray(log_likelihoods, dtype=np.float64)
    if not np.isfinite(weights).all():
        return math.nan
    shares = np.exp(weights - np.logaddexp.reduce(weights))
    return entropy([float(shares[np.asarray(classes) == c].sum()) for c in dict.fromkeys(classes)])


def discrete_entropy(classes: Sequence[int]) -> float:
    """Entropy over meanings, each weighted by its number of outputs.

    Args:
        classes: Class of meaning of each output.

    Returns:
        Entropy in nats, in [0, ln n]; up is more diverse.
    """
    return entropy([classes.count(c) / len(classes) for c in dict.fromkeys(classes)])


def entropy(shares: Sequence[float]) -> float:
    """Shannon entropy in nats of shares that sum to 1; never below 0 through rounding."""
    return max(0.0, -math.fsum(p * math.log(p) for p in shares if p > 0))


def pair_mean(probabilities: ArrayLike) -> float:
    """Mean over all ordered pairs of outputs, the diagonal left out.

    Args:
        probabilities: Square matrix; entry (i, j) belongs to premise i and hypothesis j.

    Returns:
        The mean; NaN for fewer than two outputs.
    """
    matrix = np.asarray(probabilities, dtype=np.float64)
    if len(matrix) < 2:
        return math.nan
    return float(matrix[~np.eye(len(matrix), dtype=bool)].mean())
