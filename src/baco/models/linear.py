"""Linear layers that read large float32 weights once for a few tokens, on a CPU.

torch gives float32 matrix products to MKL. On processors of other makers the product of a weight
with two vectors then costs twice that with a single one, though the weight is read once in both
cases; for look-ahead, whose passes check a guess or two, and for small batches, that is the whole
gain. oneDNN, which torch carries too, has no such step, was faster for single vectors as well on
the processor at hand, and needs no copy of the weight. `python -m benchmarks.widths` measures both.
"""

from __future__ import annotations

from torch import nn

from baco.engine.lazy import torch

LARGE = 1 << 19
"""Weights of fewer elements than this stay with torch: there, calling costs more than computing."""


class OneDNNLinear(nn.Linear):
    """A linear layer whose float32 products on a CPU are oneDNN's."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Returns ``input @ weight.T + bias``: [..., in_features] -> [..., out_features]."""
        if (
            not input.dtype == self.weight.dtype == torch.float32
            or input.device.type != "cpu"
            or torch.is_grad_enabled()
        ):
            return super().forward(input)
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            input, self.weight, self.bias, "none", [], ""
        )
        return out


def use_onednn(model: nn.Module) -> None:
    """Turns the large linear layers of a model into `OneDNNLinear`, where torch has oneDNN.

    Weights, their names and the training of the model stay as they are. Results differ from torch's
    own in the last bits, as they do between batches of different sizes.

    Args:
        model: A model in any precision and place; only float32 on a CPU is treated differently.
    """
    if not (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    ):
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.numel() >= LARGE:
            module.__class__ = OneDNNLinear
