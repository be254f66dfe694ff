"""Blends of two models' next-token distributions into one: the logit ensembles.

Paper: §4 (logit ensemble), as the linear mixture and as the geometric one, which is linear in the
logits; contrastive extrapolation (arXiv 2309.09117); and a mixture whose weight follows the two
distributions, as DIVERSED has one (arXiv 2604.07622) whose weight is learned, and ours is not.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from baco.engine.lazy import torch

PLAUSIBLE = 0.1
"""Extrapolation keeps tokens at least this times as likely as the aligned model's likeliest."""


BlendKind = Literal["linear", "geometric", "contrast", "overlap"]


class Blend(NamedTuple):
    """How two distributions become one.

    Attributes:
        kind: ``linear``: w P_aligned + (1 - w) P_base. ``geometric``: P_aligned^w P_base^(1-w),
            normalised. ``contrast``: P_aligned^(1+w) P_base^(-w) over the tokens that are
            plausible to the aligned model, normalised. ``overlap``: (1 - v) P_aligned + v P_base
            with v = w sum(min(P_aligned, P_base)): the base model speaks as far as both agree.
        weight: w; in [0, 1] but for ``contrast``, where it is at least 0.
    """

    kind: BlendKind
    weight: float


def blend(base: torch.Tensor, aligned: torch.Tensor, how: Blend) -> torch.Tensor:
    """Blends log-probabilities.

    Args:
        base: The base model's log P, float [..., v].
        aligned: The aligned model's.
        how: The kind and the weight.

    Returns:
        Log-probabilities, same shape; exactly one model's own at a weight of 0 or 1.
    """
    weight = how.weight
    if how.kind == "contrast":
        lost = aligned < aligned.amax(-1, keepdim=True) + math.log(PLAUSIBLE)
        # What the base model holds impossible is not therefore infinitely good.
        difference = (aligned - base.clamp(min=torch.finfo(base.dtype).min)).masked_fill(lost, 0)
        return torch.log_softmax((aligned + weight * difference).masked_fill(lost, -torch.inf), -1)
    if how.kind == "overlap":
        both = torch.minimum(aligned, base).exp().sum(-1, keepdim=True).clamp(max=1)
        share = weight * both
        return torch.logaddexp(aligned + (-share).log1p(), base + share.log())
    if weight in (0, 1):
        return aligned if weight else base
    if how.kind == "linear":
        return torch.logaddexp(aligned + math.log(weight), base + math.log1p(-weight))
    return torch.log_softmax(weight * aligned + (1 - weight) * base, -1)
