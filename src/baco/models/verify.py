"""What is checked of a model when it loads: that our cache gives what the model itself gives.

Few tokens, two rows, six short passes: three without a cache (a text must not change what was said
of its beginning), then prefill, one more token for both
rows, and one pass in which a row was set back and the rows stand at different places. Families
whose code reads positions or masks in a way of its own differ here, by about as much as two texts
do; rounding is far below, in any dtype.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from baco.engine.lazy import torch
from baco.errors import BacoError, PairError, not_finite
from baco.models.hf import longest_text
from baco.models.lora import LoraPartner, cannot_switch

if TYPE_CHECKING:
    from baco.models.hf import HFPartner

logger = logging.getLogger("baco")

_LONGER = 16
"""How much longer one row is than the other, so that it matters whose positions are taken."""

_EXACT = 0.01
_COARSE = 0.2
"""How far logits may be apart, as a share of their spread: in float32 and more; in half precision
or quantised. `python -m benchmarks.loading` measures what rounding does, and what mistakes of a
cache do (docs/engine.md)."""

_VERIFIED: WeakKeyDictionary[Any, dict[tuple[Any, ...], str]] = WeakKeyDictionary()
"""Why a model is recomputed (empty if it is not), by the states it was found in."""


def sample_ids(partner: HFPartner, count: int = 6) -> list[int]:
    """Returns token ids from all over the part of a vocabulary that a model knows."""
    ids: list[int] = _known(partner).nonzero().flatten().tolist()
    return [ids[(2 * k + 1) * len(ids) // (2 * count)] for k in range(count)]


def verify(partner: HFPartner) -> None:
    """Compares cached with uncached logits; a model that our cache cannot serve is recomputed.

    A model is checked once for each dtype, device and kind of attention that it is found in.

    Args:
        partner: A loaded model; its `recomputes` is set where its cache gives other logits.

    Raises:
        PairError: If the model cannot compute, gives no finite scores, or is no decoder.
    """
    model = partner.model
    state = (model.dtype, partner.place, partner.additive_mask, partner.vocabulary.size)
    known = _VERIFIED.setdefault(model, {})
    if state not in known:
        _compare(partner)
        known[state] = partner.recomputes
        allowed = longest_text(model.config.get_text_config())
        if partner.context_window < allowed:
            logger.warning(
                "texts of %s end at %d of %d tokens, where its rotary embeddings change",
                partner.label,
                partner.context_window,
                allowed,
            )
    if known[state]:
        partner.recompute(known[state])


def _compare(partner: HFPartner) -> None:
    ids = sample_ids(partner)[:4]
    whole = _finite(partner, partner.all_logits(ids))
    if not alike(partner, partner.all_logits(ids[:3]), whole[:3]):
        raise PairError(
            f"{partner.label} sees tokens that come later: what it says of a text changes when "
            "the text goes on",
            hint="give a model that was trained to write from left to right",
        )
    if partner.recomputes:
        return
    try:
        got, right = cached_and_uncached(partner)
    except BacoError:
        partner.recompute("its code does not take a cache with rows of unequal length")
        return
    if not alike(partner, got, right):
        partner.recompute("with a cache it gives other scores than without")


def cached_and_uncached(partner: HFPartner) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the same logits [n, v] twice: with our cache, and without any.

    Raises:
        PairError: If the model fails in a pass.
    """
    ids = sample_ids(partner, 4 + _LONGER)
    one, other = ids[:4], ids[1:]
    alone = [partner.all_logits(row) for row in (one, other)]
    cache, n = partner.new_cache(), len(other) - 2
    cache.add(2)
    opened = cache.open([one[:3], other[:n]], [0, 1])
    both = cache.feed(torch.tensor([[one[3]], [other[n]]]), torch.tensor([1, 1]))
    cache.truncate(torch.tensor([2, n + 1]))
    ragged = cache.feed(torch.tensor([one[2:4], [other[n + 1], 0]]), torch.tensor([2, 1]))
    got = torch.stack([*opened, *both[:, 0], *ragged[0], ragged[1, 0]])
    right = [alone[k][at] for k, at in ((0, 2), (1, n - 1), (0, 3), (1, n))]
    return got, torch.stack([*right, *alone[0][2:4], alone[1][n + 1]])


def verify_adapter(
    sides: tuple[LoraPartner, LoraPartner], untouched: torch.Tensor, ids: list[int], what: str
) -> bool:
    """Checks the sides of one set of weights: base = the model alone, aligned = PEFT's own.

    Args:
        sides: (base, aligned).
        untouched: What the model said of `ids` before it got the adapter, float [ids, v].
        ids: Some token ids.
        what: What to call the adapter.

    Returns:
        Whether the adapter changes anything.

    Raises:
        UnsupportedError: If a side is not what it should be.
        PairError: If the adapted model gives no finite scores.
    """
    base, aligned = sides
    try:
        adapted = aligned.run(
            degrees=None,
            input_ids=torch.tensor([ids], device=aligned.place),
            use_cache=False,
        )[0]
        cache = base.shared_cache(aligned)
        assert cache is not None  # they are two sides of one set of weights
        cache.add(2)
        got = [cache.open([ids[:-1]] * 2, [0, 1])]
        got += [cache.feed(torch.tensor([ids[-1:]] * 2), torch.tensor([1, 1]))[:, 0]]
    except BacoError as error:
        raise cannot_switch(what, error.message) from error
    _finite(aligned, adapted)
    for side, (partner, right) in enumerate(zip(sides, (untouched, adapted), strict=True)):
        if not alike(partner, torch.stack([each[side] for each in got]), right[-2:]):
            name = ("base", "aligned")[side]
            raise cannot_switch(what, f"the {name} side is not what it is without the other")
    return not torch.equal(got[1][0], got[1][1])


def bound(dtype: torch.dtype) -> float:
    """How far apart logits may be that are the same but for rounding, see `apart`."""
    return _EXACT if dtype in (torch.float32, torch.float64) else _COARSE


def alike(partner: HFPartner, got: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether logits [n, v] are the same but for rounding."""
    model = partner.model
    rounds = getattr(model, "is_quantized", False)
    return apart(partner, got, right) <= (_COARSE if rounds else bound(model.dtype))


def apart(partner: HFPartner, got: torch.Tensor, right: torch.Tensor) -> float:
    """How far logits [n, v] are apart: the largest error of a row, as a share of its spread."""
    allowed = _known(partner).to(right.device)
    got, right = (x[:, : len(allowed)][:, allowed].double() for x in (got.to(right.device), right))
    spread = right.std(-1, unbiased=False) + 1e-6
    error = (got - right).square().mean(-1).sqrt()
    return float((error / spread).nan_to_num(torch.inf).max())


def _known(partner: HFPartner) -> torch.Tensor:
    """The ids that a model scores and may write, bool [at most its own vocabulary]."""
    width: int = partner.model.config.get_text_config().vocab_size
    return partner.vocabulary.allowed[:width]


def _finite(partner: HFPartner, logits: torch.Tensor) -> torch.Tensor:
    allowed = _known(partner).to(logits.device)
    if logits[..., : len(allowed)][..., allowed].isnan().any():
        raise not_finite(partner.label)
    return logits
