"""Temperature and filters that turn raw logits into the distribution tokens are drawn from.

Ties are kept or dropped together, so a result never depends on how a sort breaks them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from baco.errors import InputError


@dataclass(frozen=True)
class Warp:
    """How P becomes P~: temperature, top-k, top-p, min-p, in this order.

    Attributes:
        temperature: Divides the logits; 0 means one-hot on the largest (default 1).
        top_p: Keep the most likely tokens until their mass reaches this, in (0, 1]; 1 is off.
        top_k: Keep the k most likely tokens; 0 is off.
        min_p: Keep tokens at least this times as likely as the likeliest, in [0, 1]; 0 is off.

    Raises:
        InputError: If a value is out of its range.

    Paper: §4 (T = 1.0, top-p 0.9, no top-k).
    """

    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(
                f"temperature {self.temperature} is out of range",
                hint="use 0 (greedy) or any positive number",
            )
        if not 0 < self.top_p <= 1:
            raise InputError(
                f"top-p {self.top_p} is out of range", hint="use 0 < top-p <= 1; 1 switches it off"
            )
        if self.top_k < 0:
            raise InputError(
                f"top-k {self.top_k} is out of range", hint="use 0 (off) or a positive integer"
            )
        if not 0 <= self.min_p <= 1:
            raise InputError(
                f"min-p {self.min_p} is out of range", hint="use 0 <= min-p <= 1; 0 switches it off"
            )


def warp(logits: torch.Tensor, how: Warp) -> torch.Tensor:
    """Computes log P~ from logits.

    Args:
        logits: Float [..., vocabulary]; -inf where a token is forbidden.
        how: Temperature and filters.

    Returns:
        Log-probabilities, same shape and dtype; -inf for what the filters drop; each row's
        probabilities sum to 1.
    """
    if how.temperature == 0:
        top = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, top, 0.0)
    scaled = logits if how.temperature == 1 else logits / how.temperature
    log_probs = torch.log_softmax(scaled, -1)
    if 0 < how.top_k < logits.shape[-1]:
        log_probs = _drop_below(log_probs, log_probs.topk(how.top_k, -1).values[..., -1:])
    if how.top_p < 1:
        log_probs = _drop_below(log_probs, _nucleus_floor(log_probs, how.top_p))
    if how.min_p > 0:
        least = log_probs.amax(-1, keepdim=True) + math.log(how.min_p)
        log_probs = _drop_below(log_probs, least)
    return log_probs


def _drop_below(log_probs: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Drops what is less likely than `floor` [..., 1] and renormalises the rest."""
    return torch.log_softmax(log_probs.masked_fill(log_probs < floor, -torch.inf), -1)


def _nucleus_floor(log_probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """Returns the log-probability of the token with which the mass reaches top_p, [..., 1]."""
    size = log_probs.shape[-1]
    head = min(size, 32)
    while True:
        # Nuclei are small as a rule: sort a short head first, more only where that is not enough.
        values = log_probs.topk(head, -1).values
        mass = values.exp().cumsum(-1)
        if head == size or bool((mass[..., -1] >= top_p).all()):
            break
        head = min(size, head * 8)
    crossing = (mass < top_p).sum(-1, keepdim=True).clamp(max=head - 1)
    return values.gather(-1, crossing)
