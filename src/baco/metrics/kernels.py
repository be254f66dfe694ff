"""Measures of vectors and similarity matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


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
