"""What partners say of the next token: the floor that routers, the step and engines stand on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from baco.engine.blend import Blend, blend
from baco.engine.lazy import cached_property, torch
from baco.engine.penalties import Past, penalised
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp, in_order, nucleus
from baco.errors import not_finite

LOG_0 = -math.inf
"""The log-probability of what cannot be."""


class Nucleus(NamedTuple):
    """The tokens that P~ holds, per row.

    Attributes:
        ids: Token ids, int64 [n, k].
        log_probs: log P~ of each, float [n, k]; -inf where a row holds fewer than k.
    """

    ids: torch.Tensor
    log_probs: torch.Tensor


@dataclass(frozen=True, eq=False)
class SideScores:
    """What one partner says about the next token of each row.

    Attributes:
        lines: log P, the log-softmax of the raw logits with forbidden tokens at -inf, of the ids
            that the partner gives probability to; float [m, own].
        kept: P~, after penalties, temperature and filters; n rows. Or the filters, where it is
            worked out when it is asked for.
        ends: bool [v]; the vocabulary's end tokens.
        at: Which line is each row's, int64 [n]; None if they are the rows.
        partial: Whether only the likeliest tokens are known: P is true for them, and 0 for the
            others, which in truth share what is missing to 1.
        biased: As `lines`, after penalties and without what is barred; None where there is neither.
        top: The raw top-1 token of each row where it is known already, int64 [n].
        offset: Where the partner's ids begin among all v. Tokens are named by ids of all.
    """

    lines: torch.Tensor
    kept: Nucleus | Warp
    ends: torch.Tensor
    at: torch.Tensor | None = None
    partial: bool = False
    biased: torch.Tensor | None = None
    top: torch.Tensor | None = None
    offset: int = 0

    @cached_property
    def nucleus(self) -> Nucleus:
        """The tokens that P~ holds."""
        if isinstance(self.kept, Nucleus):
            return self.kept
        return Nucleus(*nucleus(self.penalised, self.kept))

    @cached_property
    def _own(self) -> torch.Tensor:
        """The log-probabilities log P of the partner's ids: float [n, own]."""
        return self.lines if self.at is None else self.lines[self.at]

    def _among_all(self, own: torch.Tensor) -> torch.Tensor:
        """Lays values of the partner's ids [n, own] among those of all, [n, v]."""
        after = len(self.ends) - self.offset - own.shape[-1]
        if not self.offset and not after:
            return own
        return torch.nn.functional.pad(own, (self.offset, after), value=LOG_0)

    @cached_property
    def raw(self) -> torch.Tensor:
        """The log-probabilities log P of every token: float [n, v]."""
        return self._among_all(self._own)

    @cached_property
    def penalised(self) -> torch.Tensor:
        """Log P after penalties, before temperature and filters: float [n, v]."""
        if self.biased is None:
            return self.raw
        return self._among_all(self.biased if self.at is None else self.biased[self.at])

    @cached_property
    def warped(self) -> torch.Tensor:
        """The log-probabilities log P~ of every token: float [n, v]."""
        return in_order(*self.nucleus, len(self.ends))[1]

    @cached_property
    def top_token(self) -> torch.Tensor:
        """The raw top-1 token: int64 [n]."""
        return moved(self._own.argmax(-1), self.offset) if self.top is None else self.top

    @cached_property
    def _top_place(self) -> torch.Tensor:
        """The place of the raw top-1 token among the partner's ids: int64 [n].

        Of a line that was never scored the token is nonsense, and may be none of the partner's.
        """
        return self.top_token if not self.offset else (self.top_token - self.offset).clamp(min=0)

    @cached_property
    def top_prob(self) -> torch.Tensor:
        """The raw top-1 probability: float [n]."""
        return self.top_log_prob.exp()

    @cached_property
    def top_log_prob(self) -> torch.Tensor:
        """Its logarithm: float [n]."""
        if self.at is None:
            return self.lines.gather(-1, self._top_place[:, None])[:, 0]
        return self.lines[self.at, self._top_place]

    @cached_property
    def entropy(self) -> torch.Tensor:
        """The entropy of P in nats, or, where P is partial, a lower bound: float [n].

        A token that is not known is no likelier than the least that is.
        """
        probs = self._own.exp()
        known = -(probs * self._own.masked_fill(probs == 0, 0)).sum(-1)
        if not self.partial:
            return known
        least = self._own.masked_fill(self._own == LOG_0, torch.inf).amin(-1)
        return known - (1 - probs.sum(-1)).clamp(min=0) * least

    @cached_property
    def top_is_end(self) -> torch.Tensor:
        """Whether the raw top-1 token is an end: bool [n]."""
        return self.ends[self.top_token]

    def top_mean(self, k: int) -> torch.Tensor:
        """The mean of the k largest raw probabilities: float [n]."""
        return self._own.topk(min(k, self._own.shape[-1]), -1).values.exp().mean(-1)

    def rows(self, index: torch.Tensor) -> SideScores:
        """Returns the scores of some rows (an index or a mask)."""
        kept = Nucleus(*(x[index] for x in self.nucleus))
        at = index if self.at is None else self.at[index]
        biased = None if self.biased is None else self.biased[at]
        return replace(self, lines=self.lines[at], kept=kept, at=None, biased=biased, top=None)

    def among(self, vocabulary: Vocabulary, offset: int) -> SideScores:
        """Returns the same where other ids are laid beside the partner's.

        Args:
            vocabulary: Over all ids.
            offset: Where the partner's begin.
        """
        if self.ends is vocabulary.is_end:
            return self
        ids, log_probs = self.nucleus
        kept = Nucleus(moved(ids, offset), log_probs)
        return replace(self, kept=kept, ends=vocabulary.is_end, offset=offset)


def moved(ids: torch.Tensor, offset: int) -> torch.Tensor:
    """Returns ids that begin further on."""
    return ids + offset if offset else ids


def score(
    logits: torch.Tensor,
    how: Warp,
    vocabulary: Vocabulary,
    *,
    past: Sequence[Past] | None = None,
    barred: Sequence[Sequence[int]] | None = None,
    partial: bool = False,
    of: str = "the model",
    check: bool = True,
) -> SideScores:
    """Turns a partner's raw logits into P and P~.

    Args:
        logits: Float [n, at least `vocabulary.size`]; half precision is computed in float32.
        how: The warps of this side.
        vocabulary: The partner's vocabulary.
        past: What the partner has read before each row; needed for penalties only.
        barred: Tokens that each row may not choose here; None for none.
        partial: Whether they are log-probabilities of the likeliest tokens only, see
            `baco.engine.partner.Abilities`. P~ then holds no others.
        of: What an error calls the partner.
        check: Whether to look at once whether all is finite; see `broken`.

    Returns:
        The scores, in float64 for float64 logits, else in float32.

    Raises:
        PairError: If a row has a score that is NaN or infinite, or none that is finite.
    """
    logits = logits[..., : vocabulary.size]
    if logits.dtype not in (torch.float32, torch.float64):
        logits = logits.float()
    raw = logits.masked_fill(vocabulary.forbidden, LOG_0)
    if partial:
        lost = logits.masked_fill(vocabulary.allowed, LOG_0).exp().sum(-1, keepdim=True)
        raw = raw - torch.log1p(-lost.clamp(max=1 - 1e-6))
    else:
        raw = torch.log_softmax(raw, -1)
    if check:
        raw = finite(raw, of)
    biased = None
    if how.penalties.on or barred is not None:
        assert not partial
        shaped = logits.masked_fill(vocabulary.forbidden, LOG_0)
        if how.penalties.on:
            assert past is not None
            shaped = penalised(shaped, past, how.penalties, vocabulary)
        biased = torch.log_softmax(_without(shaped, barred or ()), -1)
    kept = Nucleus(*nucleus(raw if biased is None else biased, how))
    return SideScores(raw, kept, vocabulary.is_end, partial=partial, biased=biased)


def _without(logits: torch.Tensor, barred: Sequence[Sequence[int]]) -> torch.Tensor:
    """Takes tokens out of logits [n, v], but for rows that would be left with nothing."""
    for row, tokens in enumerate(barred):
        if tokens:
            rest = logits[row].index_fill(0, torch.tensor(tokens, device=logits.device), LOG_0)
            if bool((rest > LOG_0).any()):
                logits[row] = rest
    return logits


def broken(scores: SideScores) -> torch.Tensor:
    """Tells which rows have a score that is no number, as `finite`: bool [n]."""
    return scores.top_log_prob.isnan()


def finite(raw: torch.Tensor, of: str) -> torch.Tensor:
    """Returns log-probabilities [..., v] as they are, if they are any.

    Args:
        raw: From a log-softmax: there one bad logit makes its whole row NaN. (Filters would turn
            that into an index of -1.)
        of: What an error calls the model.

    Raises:
        PairError: If a row has a score that is NaN or infinite, or none that is finite.
    """
    if raw.amax(-1).isnan().any():
        raise not_finite(of)
    return raw


def blended(base: SideScores, aligned: SideScores, how: Blend, warp: Warp) -> SideScores:
    """Makes one distribution of both partners', which penalties have changed before.

    Args:
        base: The base partner's scores.
        aligned: The aligned partner's.
        how: The formula.
        warp: Temperature and filters of the mixture.
    """
    raw = blend(base.raw, aligned.raw, how)
    shaped = base.biased is not None or aligned.biased is not None
    biased = blend(base.penalised, aligned.penalised, how) if shaped else None
    kept = Nucleus(*nucleus(raw if biased is None else biased, warp))
    return SideScores(raw, kept, aligned.ends, biased=biased)


class Context(NamedTuple):
    """Where each row stands before the step.

    Attributes:
        keys: Noise keys, int64 [n].
        t: Tokens emitted so far, int64 [n].
        state: Unit state of the text so far, int64 [n].
        source: Current source s, int64 [n] (`ALIGNED` at t = 0).
    """

    keys: torch.Tensor
    t: torch.Tensor
    state: torch.Tensor
    source: torch.Tensor


class Stretch(NamedTuple):
    """What a partner would write next in each of n rows.

    A row's stretch is shorter than asked where an end token (included) or the context window ends
    it. Rows that were not asked about hold one token of probability 0.

    Attributes:
        tokens: Its likeliest tokens, int64 [n, k].
        top_prob: The probability of each, float [n, k].
        entropy: The entropy of the distribution it is from, in nats, float [n, k].
        counts: Which places count, bool [n, k]; the first always does.
    """

    tokens: torch.Tensor
    top_prob: torch.Tensor
    entropy: torch.Tensor
    counts: torch.Tensor

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the mean of values [n, k] over the places that count: float [n]."""
        return (values * self.counts).sum(-1) / self.counts.sum(-1)


Look: TypeAlias = "Callable[[int, int, torch.Tensor], Stretch]"
"""(side, depth, asked bool [n]) -> what that side would write."""
