from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco.engine import Warp, reference
from baco.engine.warp import warp
from baco.errors import InputError

WARPS = st.builds(
    Warp,
    temperature=st.one_of(st.just(1.0), st.floats(0.1, 3)),
    top_p=st.one_of(st.just(1.0), st.floats(0.05, 0.99)),
    top_k=st.integers(0, 12),
    min_p=st.one_of(st.just(0.0), st.floats(0.01, 1)),
    top_n_sigma=st.one_of(st.just(float("inf")), st.floats(0.1, 3)),
    typical=st.one_of(st.just(1.0), st.floats(0.05, 0.99)),
    xtc=st.one_of(st.just(1.0), st.floats(0.01, 0.6)),
)


@given(how=WARPS, seed=st.integers(0, 10_000), size=st.integers(1, 300))
def test_equals_the_sorting_version(how: Warp, seed: int, size: int) -> None:
    logits = np.random.default_rng(seed).normal(size=size) * 3
    p = np.exp(logits) / np.exp(logits).sum()
    expected = reference.warp(p, how)
    got = warp(torch.tensor(logits)[None], how)[0].exp().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert got.sum() == pytest.approx(1)


@given(how=WARPS, seed=st.integers(0, 1000))
def test_a_row_does_not_depend_on_its_batch(how: Warp, seed: int) -> None:
    flat = torch.zeros(1, 400, dtype=torch.float64)  # needs a long head for its nucleus
    peaked = torch.tensor(np.random.default_rng(seed).normal(size=(1, 400)) * 9)
    together = warp(torch.cat([peaked, flat]), how)
    torch.testing.assert_close(together[:1], warp(peaked, how), rtol=0, atol=0)
    torch.testing.assert_close(together[1:], warp(flat, how), rtol=0, atol=0)


def test_zero_temperature_is_one_hot_on_the_first_largest() -> None:
    out = warp(torch.tensor([[1.0, 3.0, 3.0]]), Warp(temperature=0))
    assert out.exp().tolist() == [[0.0, 1.0, 0.0]]


def test_forbidden_tokens_stay_forbidden() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0]])
    for how in (Warp(), Warp(top_p=1), Warp(top_k=3, top_p=1), Warp(temperature=0)):
        assert warp(logits, how)[0, 0] == -torch.inf


def test_top_p_keeps_the_token_that_crosses() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    assert warp(p.log(), Warp(top_p=0.6)).exp()[0].tolist() == pytest.approx([0.625, 0.375, 0])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # The logits' standard deviation is 0.86; 0.3 is 0.51 nats below 0.5, which is 0.59 of it.
        ({"top_n_sigma": 0.0}, [1, 0, 0, 0]),
        ({"top_n_sigma": 0.6}, [0.625, 0.375, 0, 0]),
        # Entropy 1.14 nats: 0.3 (1.20) is the most typical, then 0.5 (0.69), then 0.15 (1.90).
        ({"typical": 0.2}, [0, 1, 0, 0]),
        ({"typical": 0.7}, [0.625, 0.375, 0, 0]),
        # Half the time only the least likely of the top choices and what is below it.
        ({"xtc": 0.3}, [0.25, 0.15 + 0.3, 0.075 + 0.15, 0.025 + 0.05]),
        ({"xtc": 0.4}, [0.5, 0.3, 0.15, 0.05]),
        ({"xtc": 0.1}, [0.25, 0.15, 0.075 + 0.375, 0.025 + 0.125]),
    ],
)
def test_filters_of_other_samplers(how: dict[str, float], expected: list[float]) -> None:
    p = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    assert warp(p.log(), Warp(top_p=1, **how)).exp()[0].tolist() == pytest.approx(expected)


def test_ties_stay_together() -> None:
    p = torch.full((1, 4), 0.25, dtype=torch.float64)
    for how in (Warp(top_p=0.3), Warp(top_k=1, top_p=1)):
        assert warp(p.log(), how).exp()[0].tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"temperature": -1}, "temperature -1 is out of range"),
        ({"temperature": float("nan")}, "temperature nan is out of range"),
        ({"top_p": 0}, "top-p 0 is out of range"),
        ({"top_p": 1.1}, "top-p 1.1 is out of range"),
        ({"top_k": -1}, "top-k -1 is out of range"),
        ({"min_p": 2}, "min-p 2 is out of range"),
        ({"top_n_sigma": -1}, "top-n-sigma -1 is out of range"),
        ({"typical": 0}, "typical 0 is out of range"),
        ({"xtc": 1.5}, "xtc_threshold 1.5 is out of range"),
    ],
)
def test_bad_values(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Warp(**kwargs)  # type: ignore[arg-type]
