"""Linear layers by oneDNN: torch's results, up to rounding, and torch itself for all else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from baco.models.linear import LARGE, OneDNNLinear, use_onednn

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"
)


def layer(bias: bool = True, dtype: torch.dtype = torch.float32) -> OneDNNLinear:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, LARGE // 1024, bias=bias, dtype=dtype))
    use_onednn(model)
    assert isinstance(model[0], OneDNNLinear)
    return model[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (2,), (1, 2), (3, 1), (2, 5), (0,), (2, 0)])
def test_the_same_up_to_rounding(bias: bool, shape: tuple[int, ...]) -> None:
    linear = layer(bias)
    x = torch.randn(*shape, 1024)
    with torch.inference_mode():
        got, wanted = linear(x), nn.functional.linear(x, linear.weight, linear.bias)
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_views_that_are_not_contiguous() -> None:
    linear = layer()
    x = torch.randn(1024, 6).T[::2]
    with torch.inference_mode():
        wanted = nn.functional.linear(x, linear.weight, linear.bias)
        torch.testing.assert_close(linear(x), wanted, rtol=1e-5, atol=1e-5)


def test_only_float32_without_gradients_is_onednns(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    own = nn.functional.linear
    monkeypatch.setattr(nn.functional, "linear", lambda *a: called.append(1) or own(*a))
    linear, half = layer(), layer(dtype=torch.bfloat16)
    with torch.inference_mode():
        linear(torch.randn(2, 1024))
        assert called == []
        half(torch.randn(2, 1024).bfloat16())
        assert len(called) == 1
    linear(torch.randn(2, 1024))
    assert len(called) == 2


def test_gradients_still_flow() -> None:
    linear = layer()
    linear(torch.randn(3, 1024)).sum().backward()
    assert linear.weight.grad is not None


def test_new_weights_are_seen_at_once() -> None:
    linear = layer(bias=False)
    x = torch.randn(2, 1024)
    with torch.inference_mode():
        linear(x)
        linear.weight.zero_()
        assert not linear(x).any()


def test_small_layers_and_subclasses_stay() -> None:
    class Mine(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(8, 8), Mine(1024, LARGE // 1024), nn.Linear(1024, 1024))
    names = list(model.state_dict())
    use_onednn(model)
    assert [type(m) for m in model] == [nn.Linear, Mine, OneDNNLinear]
    assert list(model.state_dict()) == names


def test_torch_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    model = nn.Sequential(nn.Linear(1024, 1024))
    use_onednn(model)
    assert type(model[0]) is nn.Linear
