"""Penalties, temperature and filters: from raw logits to the distribution tokens are drawn from.

Ties are kept or dropped together, so a result never depends on how a sort breaks them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from baco.engine.lazy import torch
from baco.engine.penalties import OFF, Penalties
from baco.errors import InputError

HEADS = {"cpu": (32, 4), "else": (1024, 32)}
"""By kind of device: tokens that are sorted first, and how many times as many where the filters
keep all of these. A CPU's time goes by what it sorts; what is launched anew costs a GPU more."""


@dataclass(frozen=True)
class Warp:
    """How P becomes P~: penalties, temperature, top-nσ, top-k, typical, top-p, min-p, XTC.

    They come in this order.

    Attributes:
        temperature: Divides the logits; 0 means one-hot on the largest (default 1).
        top_p: Keep the most likely tokens until their mass reaches this, in (0, 1]; 1 is off.
        top_k: Keep the k most likely tokens; 0 is off.
        min_p: Keep tokens at least this times as likely as the likeliest, in [0, 1]; 0 is off.
        top_n_sigma: Keep tokens whose logit is at most this many standard deviations of all
            logits below the largest; infinity is off.
        typical: Keep the tokens whose surprise is nearest the entropy until their mass reaches
            this, in (0, 1]; 1 is off.
        xtc: In some steps, drop all tokens of at least this probability but the least likely
            of them, in (0, 1]; 1 is off. Steps are drawn independently, so the law is that of the
            mean of both distributions, which is what P~ is.
        xtc_probability: In how many steps XTC does so, in [0, 1].
        penalties: What depends on the text so far; `baco.engine.scores.score` applies it, and all
            else here works on what comes out.

    Raises:
        InputError: If a value is out of its range.

    Paper: §4 (T = 1.0, top-p 0.9, no top-k). Min-p: arXiv 2407.01082; top-nσ: 2411.07641;
    typical: 2202.00666; XTC: text-generation-webui, pull request 6335.
    """

    temperature: float = 1.0
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0
    top_n_sigma: float = math.inf
    typical: float = 1.0
    xtc: float = 1.0
    xtc_probability: float = 0.5
    penalties: Penalties = OFF

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
        if not self.top_n_sigma >= 0:
            raise InputError(
                f"top-n-sigma {self.top_n_sigma} is out of range",
                hint="use 0 or more; infinity switches it off",
            )
        for name, value in (("typical", self.typical), ("xtc_threshold", self.xtc)):
            if not 0 < value <= 1:
                raise InputError(
                    f"{name} {value} is out of range",
                    hint=f"use 0 < {name} <= 1; 1 switches it off",
                )
        if not 0 <= self.xtc_probability <= 1:
            raise InputError(
                f"the XTC probability {self.xtc_probability} is out of range",
                hint="use 0 to 1; 0 switches it off",
            )

    @property
    def extras(self) -> dict[str, object]:
        """Penalties, biases and XTC that are not at their defaults, by name, ready for JSON."""
        found = dict(self.penalties.told)
        if self.crosses_out:
            found |= {"xtc_probability": self.xtc_probability, "xtc_threshold": self.xtc}
        return found

    @property
    def asks_for(self) -> str:
        """Names one thing that needs all logits of a model: a penalty, or XTC; else empty."""
        if self.penalties.on:
            return next(iter(self.penalties.told))
        return "xtc_probability" if self.crosses_out else ""

    @property
    def crosses_out(self) -> bool:
        """Whether XTC does anything."""
        return self.xtc < 1 and self.xtc_probability > 0


def nucleus(log_probs: torch.Tensor, how: Warp) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes P~ from P, over the tokens that it keeps.

    Few tokens survive the filters as a rule, so all further work is on a short list of them.

    Args:
        log_probs: log P, float [n, vocabulary]; -inf where a token is forbidden.
        how: Temperature and filters.

    Returns:
        Token ids, int64 [n, k], and log P~ of each, float [n, k]. Rows with fewer tokens than k
        are padded with ids of log P~ = -inf. If k is the whole vocabulary, ids are in order.
    """
    if how.temperature == 0:
        top = log_probs.argmax(-1, keepdim=True)
        return top, torch.zeros_like(top, dtype=log_probs.dtype)
    if how.temperature != 1:
        log_probs = torch.log_softmax(log_probs / how.temperature, -1)
    size = log_probs.shape[-1]
    if how.top_n_sigma < math.inf or how.typical < 1 or how.crosses_out:
        ids = torch.arange(size, device=log_probs.device)
        return ids.expand(log_probs.shape), _all_filters(log_probs, how)
    if how.top_p == 1 and how.min_p == 0 and not 0 < how.top_k < size:
        ids = torch.arange(size, device=log_probs.device)
        return ids.expand(log_probs.shape), log_probs
    ids, values = _kept(log_probs, how, min(size, max(_heads(log_probs)[0], how.top_k + 1)))
    return (ids, values) if ids.shape[-1] < size else in_order(ids, values, size)


def _kept(log_probs: torch.Tensor, how: Warp, head: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Applies top-k, top-p and min-p to the likeliest tokens; results as of `nucleus`, unordered.

    Args:
        log_probs: log P, float [n, vocabulary].
        how: The filters.
        head: How many tokens to sort; rows that keep more are done again with more.
    """
    size = log_probs.shape[-1]
    values, ids = log_probs.topk(head, -1)
    floor, mass = _floor(values, how, size)
    kept = values >= floor
    total = mass.gather(-1, (kept.sum(-1, keepdim=True) - 1).clamp_(min=0))  # 0 of what is NaN
    values = (values - total.log()).masked_fill_(~kept, -torch.inf)
    # Enough when the last of the head is dropped: what comes after it is no likelier.
    if head < size and len(short := kept[:, -1].nonzero()[:, 0]):
        more_ids, more = _kept(log_probs[short], how, min(size, head * _heads(log_probs)[1]))
        missing = more.shape[-1] - head
        ids = torch.nn.functional.pad(ids, (0, missing))
        values = torch.nn.functional.pad(values, (0, missing), value=-torch.inf)
        ids[short], values[short] = more_ids, more
    return ids, values


def _heads(log_probs: torch.Tensor) -> tuple[int, int]:
    if torch.compiler.is_compiling():
        return log_probs.shape[-1], 1  # no branch there depends on what is in a tensor
    return HEADS.get(log_probs.device.type, HEADS["else"])


def in_order(
    ids: torch.Tensor, log_probs: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists all tokens in the order of their ids: `nucleus`'s result as [n, size]."""
    full = log_probs.new_full((len(log_probs), size), -torch.inf)
    every = torch.arange(size, device=ids.device).expand(full.shape)
    # Padding may name a token again.
    return every, full.scatter_reduce_(-1, ids, log_probs, "amax")


def _floor(values: torch.Tensor, how: Warp, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the least log P that is kept, [n, 1], and the cumulated P, [n, k].

    Args:
        values: The largest log P in descending order, [n, k].
        how: The filters.
        size: Number of token ids.
    """
    mass = values.exp().cumsum(-1)
    floor = values.new_full((len(values), 1), -torch.inf)
    top_p: float | torch.Tensor = how.top_p
    if 0 < how.top_k < size:
        floor = values[..., how.top_k - 1 : how.top_k]
        top_p = top_p * mass.gather(-1, (values >= floor).sum(-1, keepdim=True) - 1)
    if how.top_p < 1:
        crossing = (mass < top_p).sum(-1, keepdim=True).clamp_(max=values.shape[-1] - 1)
        floor = torch.maximum(floor, values.gather(-1, crossing))
    if how.min_p > 0:
        floor = torch.maximum(floor, values[..., :1] + math.log(how.min_p))
    return floor, mass


def warp(logits: torch.Tensor, how: Warp) -> torch.Tensor:
    """Computes log P~ of every token from logits.

    Args:
        logits: Float [n, vocabulary]; -inf where a token is forbidden.
        how: Temperature and filters.

    Returns:
        Log-probabilities, same shape and dtype; -inf for what the filters drop; each row's
        probabilities sum to 1.
    """
    ids, kept = nucleus(torch.log_softmax(logits, -1), how)
    return in_order(ids, kept, logits.shape[-1])[1]


def _all_filters(log_probs: torch.Tensor, how: Warp) -> torch.Tensor:
    """Applies the filters one after another to log P at temperature 1, over all tokens."""

    def plain(log_probs: torch.Tensor, **filters: float) -> torch.Tensor:
        # Penalties are done with; torch.compile cannot make the default of their argument.
        only = Warp(**{"top_p": 1, "penalties": how.penalties, **filters})  # type: ignore[arg-type]
        kept = nucleus(log_probs, only)
        return in_order(*kept, log_probs.shape[-1])[1]

    if how.top_n_sigma < math.inf:
        reach = how.top_n_sigma * _deviation(log_probs)
        log_probs = _drop_below(log_probs, log_probs.amax(-1, keepdim=True) - reach)
    log_probs = plain(log_probs, top_k=how.top_k)
    if how.typical < 1:
        log_probs = _typical(log_probs, how.typical)
    log_probs = plain(log_probs, top_p=how.top_p, min_p=how.min_p)
    if how.crosses_out:
        log_probs = _without_top_choices(log_probs, how.xtc, how.xtc_probability)
    return log_probs


def _deviation(log_probs: torch.Tensor) -> torch.Tensor:
    """Returns the standard deviation of the logits that are not forbidden, [..., 1]."""
    known = log_probs > -torch.inf
    count = known.sum(-1, keepdim=True)
    mean = log_probs.masked_fill(~known, 0).sum(-1, keepdim=True) / count
    return (((log_probs - mean).masked_fill(~known, 0) ** 2).sum(-1, keepdim=True) / count).sqrt()


def _typical(log_probs: torch.Tensor, mass: float) -> torch.Tensor:
    """Keeps the tokens nearest the expected surprise that together have this mass."""
    probs = log_probs.exp()
    entropy = -(probs * log_probs.masked_fill(probs == 0, 0)).sum(-1, keepdim=True)
    distance = (-log_probs - entropy).abs()
    nearest, order = distance.sort(-1)
    below = (probs.gather(-1, order).cumsum(-1) < mass).sum(-1, keepdim=True)
    reach = nearest.gather(-1, below.clamp(max=log_probs.shape[-1] - 1))
    return torch.log_softmax(log_probs.masked_fill(distance > reach, -torch.inf), -1)


def _without_top_choices(log_probs: torch.Tensor, threshold: float, share: float) -> torch.Tensor:
    """Mixes a distribution with a share of itself without its top choices but the last."""
    top = log_probs >= math.log(threshold)
    last = log_probs.masked_fill(~top, torch.inf).amin(-1, keepdim=True)
    cut = torch.log_softmax(log_probs.masked_fill(log_probs > last, -torch.inf), -1)
    if share == 1:
        return cut
    return torch.logaddexp(log_probs + math.log1p(-share), cut + math.log(share))


def _drop_below(log_probs: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    """Drops what is less likely than `floor` [..., 1] and renormalises the rest."""
    return torch.log_softmax(log_probs.masked_fill(log_probs < floor, -torch.inf), -1)
