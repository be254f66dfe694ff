from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from baco.engine import noise, reference

KEYS = st.integers(-(1 << 63), (1 << 63) - 1)


@given(key=KEYS, t=st.integers(0, 10_000), stream=st.sampled_from([1, 2, 3]))
def test_equals_the_integer_version(key: int, t: int, stream: int) -> None:
    keys, ts = torch.tensor([key]), torch.tensor([t])
    assert float(noise.uniform(keys, stream, ts)) == reference.uniform(key, stream, t)
    np.testing.assert_allclose(
        noise.gumbel(keys, ts, torch.arange(40))[0].numpy(),
        reference.gumbel(key, t, 40),
        rtol=1e-12,
    )


@given(st.lists(st.tuples(KEYS, st.integers(0, 10_000)), min_size=1, max_size=9))
def test_the_host_draws_what_the_device_does(rows: list[tuple[int, int]]) -> None:
    keys, t = np.array(rows, dtype=np.int64).T
    unit, token = noise.Draws.on_host(keys, t)
    wanted = noise.Draws.of(torch.from_numpy(keys), torch.from_numpy(t))
    assert unit.view(np.float64).tolist() == wanted.unit.tolist()
    assert token.tolist() == wanted.token.tolist()


def test_a_number_does_not_depend_on_its_neighbours() -> None:
    keys = torch.tensor([5, -7, 11])
    t = torch.tensor([0, 3, 9])
    ids = torch.arange(100)
    together = noise.gumbel(keys, t, ids)
    for i in range(3):
        assert torch.equal(together[i : i + 1], noise.gumbel(keys[i : i + 1], t[i : i + 1], ids))
    some = torch.tensor([[3, 99], [0, 7], [50, 1]])
    assert torch.equal(together.gather(1, some), noise.gumbel(keys, t, some))


def test_uniform_is_uniform_and_gumbel_is_gumbel() -> None:
    keys = torch.tensor([noise.row_key(0, "a prompt", i) for i in range(5000)])
    t = torch.arange(5000) % 7
    assert stats.kstest(noise.uniform(keys, noise.UNIT, t).numpy(), "uniform").pvalue > 1e-3
    draws = noise.gumbel(keys[:200], t[:200], torch.arange(50)).flatten().numpy()
    assert stats.kstest(draws, "gumbel_r").pvalue > 1e-3


def test_streams_positions_and_tokens_are_uncorrelated() -> None:
    keys = torch.tensor([noise.row_key(0, "p", i) for i in range(4000)])
    t = torch.zeros_like(keys)
    columns = [
        noise.uniform(keys, noise.UNIT, t),
        noise.uniform(keys, noise.ROUTE, t),
        noise.uniform(keys, noise.UNIT, t + 1),
        *noise.gumbel(keys, t, torch.arange(3)).unbind(1),
    ]
    correlation = np.corrcoef(torch.stack(columns).numpy()) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.06  # about 3.8 standard errors


@pytest.mark.parametrize("other", [(1, "p", 0, 0), (0, "q", 0, 0), (0, "p", 1, 0), (0, "p", 0, 1)])
def test_every_part_of_the_key_counts(other: tuple[int, str, int, int]) -> None:
    assert noise.row_key(0, "p", 0, 0) != noise.row_key(*other)
    assert noise.row_key(0, "p", 0, 0) == noise.row_key(0, "p", 0)
