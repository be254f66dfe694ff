"""THE step: how one token is chosen, as pure functions of tensors.

Every engine runs this: the decode loop, the oracle's tests, vLLM. All functions are vectorised
over rows, keep no state, and draw nothing: noise comes in as keys and counters.

The step, with current source s and other partner o (Paper: §3, A.1; rules 1-5 of the docs):

1. At t = 0 the unit ends and r = aligned. Otherwise it ends iff U_unit(t) < P~_s(B).
2. If it does not: the source stays s; emit the best continuing token under log P~_s + G.
3. If it does: the router decides r; emit the best token of B under log P~_r + G.
   If P~_r has no token in B, r = s.
4. An end token is accepted only if it is an end that the aligned model's raw top-1 is too.
   Otherwise choose again, same noise: from B without ends under P~_r; if that is empty, under
   P~_s (r = s); if that is empty too, from s's raw distribution without ends, warped again.
5. With `turn_rule`, a line break by which the base model begins a unit is an end as well: it goes
   on to the next turn of its plain template. If the aligned model's raw top-1 is an end, the
   sample stops. If that breaks the line too, the break is part of the answer. Otherwise the base
   model has nothing left to say: r = aligned, which chooses from B without ends, with noise of its
   own (G speaks for the break); the break stays only if that is empty.
"""

from __future__ import annotations

from typing import NamedTuple

from baco.engine import noise
from baco.engine.lazy import torch
from baco.engine.request import ALIGNED, BASE
from baco.engine.router import Router, View
from baco.engine.scores import LOG_0, Context, Look, Nucleus, SideScores
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp, nucleus


class Choice(NamedTuple):
    """What the step decided for each row.

    Attributes:
        token: The emitted token, int64 [n]; an end token means the row stops.
        source: Who emitted it, int64 [n].
        begins: Whether it begins a new unit, bool [n].
        state: Unit state after it, int64 [n].
        needs_base: Whether the decision needed the base partner's scores, bool [n].
        needs_aligned: The same for the aligned partner.
    """

    token: torch.Tensor
    source: torch.Tensor
    begins: torch.Tensor
    state: torch.Tensor
    needs_base: torch.Tensor
    needs_aligned: torch.Tensor


def _pick(from_base: torch.Tensor, base: Nucleus, aligned: Nucleus) -> Nucleus:
    """Row-wise choice, by a mask [n]; the narrower nucleus is padded."""
    if base is aligned:
        return base
    width = max(base.ids.shape[1], aligned.ids.shape[1])
    mask = from_base[:, None]
    return Nucleus(
        torch.where(mask, _padded(base.ids, width, 0), _padded(aligned.ids, width, 0)),
        torch.where(
            mask,
            _padded(base.log_probs, width, LOG_0),
            _padded(aligned.log_probs, width, LOG_0),
        ),
    )


def _padded(x: torch.Tensor, width: int, value: float) -> torch.Tensor:
    """Widens [n, k] to [n, width]."""
    missing = width - x.shape[1]
    return torch.nn.functional.pad(x, (0, missing), value=value) if missing else x


def _best(
    nucleus: Nucleus, allowed: torch.Tensor, context: Context, stream: int = noise.TOKEN
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns argmax of log P~ + G over the allowed tokens, and whether there is any: [n], [n].

    Args:
        nucleus: P~.
        allowed: bool [n, k], over the nucleus.
        context: Where the rows stand: the noise of a token depends on nothing else.
        stream: Of the noise.
    """
    gumbel = noise.gumbel(context.keys, context.t, nucleus.ids, stream)
    gumbel = gumbel.to(nucleus.log_probs.dtype)
    value, place = torch.where(allowed, nucleus.log_probs + gumbel, LOG_0).max(-1)
    return nucleus.ids.gather(-1, place[:, None])[:, 0], value > LOG_0


def unit_ends(nucleus: Nucleus, begins: torch.Tensor, context: Context) -> torch.Tensor:
    """Rule 1: draws whether the current unit ends, bool [n].

    Args:
        nucleus: The current source's P~.
        begins: Which of its tokens are in B(q), bool [n, k].
        context: Where the rows stand.
    """
    probs = nucleus.log_probs.exp()
    inside = (probs * begins).sum(-1)
    outside = (probs * ~begins).sum(-1)
    u = noise.uniform(context.keys, noise.UNIT, context.t)
    # The ratio is exactly 1 when nothing continues, whatever the rounding of the sums.
    return (u < inside / (inside + outside)) | (context.t == 0)


def step(
    base: SideScores,
    aligned: SideScores,
    context: Context,
    router: Router,
    how: tuple[Warp, Warp],
    vocabulary: Vocabulary,
    *,
    end_rule: bool = True,
    turn_rule: bool = False,
    history: list[list[int]] | None = None,
    sentences: torch.Tensor | None = None,
    ahead: Look | None = None,
) -> Choice:
    """Chooses the next token of each row.

    Rows may hold nonsense on a side that the decision does not need: `needs_base` and
    `needs_aligned` say what it rested on, and they are right whatever an unneeded side holds.
    (They may be wrong on a row whose needed side is missing; the caller asks again then.)

    Args:
        base: The base partner's scores.
        aligned: The aligned partner's scores.
        context: Where the rows stand.
        router: One router for all rows.
        how: The warps of (base, aligned); read only in the last resort of rule 4.
        vocabulary: Shared by both partners.
        end_rule: Whether rule 4 applies; a single model samples without it.
        turn_rule: Whether rule 5 applies.
        history: Each row's emitted ids, for routers with `needs_text`.
        sentences: How many sentences each row has finished, int64 [n], for routers that count
            them.
        ahead: Lets a partner write on, for routers with `looks_ahead`.

    Returns:
        The choices.

    Paper: §3 Eqs. 1-2, App. A, A.1.
    """
    from_base = context.source == BASE
    start = context.t == 0

    def begins_of(nucleus: Nucleus) -> torch.Tensor:
        return vocabulary.units.begins_token(context.state[:, None], nucleus.ids)

    # 1) Does the unit end? Only the current source is asked.
    source = _pick(from_base, base.nucleus, aligned.nucleus)
    begins = begins_of(source)
    ends = unit_ends(source, begins, context)

    # 2) Who speaks? Inside a unit the source stays; at its end the router decides.
    routed = ends & ~start
    proposals = None
    if router.needs_text:
        proposals = tuple(
            _best(s.nucleus, begins_of(s.nucleus), context)[0] for s in (base, aligned)
        )
    view = View(base, aligned, vocabulary, context, routed, history, proposals, sentences, ahead)
    to_base = torch.where(routed, router.decide(view), from_base & ~start)
    needs_base = from_base | (ends & to_base)
    needs_aligned = ~from_base | (ends & ~to_base)
    if "base" in router.reads:
        needs_base = needs_base | routed
    if "aligned" in router.reads:
        needs_aligned = needs_aligned | routed
    needs_base = needs_base & ~start
    needs_aligned = needs_aligned | start

    # 3) The token: from B where the unit ends, else from the rest.
    speaker = _pick(to_base, base.nucleus, aligned.nucleus)
    if speaker is not source:
        begins = begins_of(speaker)
    token, found = _best(speaker, begins == ends[:, None], context)
    breaks_line = vocabulary.units.breaks_line
    rare = ~found | vocabulary.units.within(context.state)
    if end_rule:
        rare = rare | vocabulary.is_end[token]
    if turn_rule:
        rare = rare | (to_base & ends & breaks_line[token])
    # The host looks once at all that is rare: on a GPU each look waits for what was launched.
    usual = not bool(rare.any())
    if not usual:
        if not bool(found.all()):
            # P~_r has no token in B: the source keeps speaking.
            kept, _ = _best(source, begins_of(source) == ends[:, None], context)
            token = torch.where(found, token, kept)
            to_base = torch.where(found, to_base, from_base)
            speaker = _pick(to_base, base.nucleus, aligned.nucleus)

        # 4) The end rule.
        is_end = vocabulary.is_end[token]
        if end_rule and bool(is_end.any()):
            needs_aligned = needs_aligned | is_end
            refused = is_end & ~aligned.top_is_end
            if bool(refused.any()):
                second, to_base = _without_ends(
                    refused, to_base, speaker, source, (base, aligned), context, how, vocabulary
                )
                token = torch.where(refused, second, token)
                ends = torch.where(
                    refused, vocabulary.units.begins_token(context.state, token), ends
                )  # the last resort may go on with the unit

        # 5) The turn rule.
        if turn_rule and bool((turns := to_base & ends & breaks_line[token]).any()):
            needs_aligned = needs_aligned | turns
            token = torch.where(turns & aligned.top_is_end, aligned.top_token, token)
            refused = turns & ~aligned.top_is_end & ~breaks_line[aligned.top_token]
            open_ = begins_of(aligned.nucleus) & ~vocabulary.is_end[aligned.nucleus.ids]
            instead, found = _best(aligned.nucleus, open_, context, noise.TURN)
            token = torch.where(refused & found, instead, token)
            to_base = to_base & ~(refused & found)

    return Choice(
        token,
        torch.where(to_base, BASE, ALIGNED),
        ends,
        vocabulary.units.advance(context.state, token, whole=usual or None),
        needs_base,
        needs_aligned,
    )


def _without_ends(
    refused: torch.Tensor,
    to_base: torch.Tensor,
    speaker: Nucleus,
    source: Nucleus,
    scores: tuple[SideScores, SideScores],
    context: Context,
    how: tuple[Warp, Warp],
    vocabulary: Vocabulary,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rule 4's second choice for the refused rows; returns (token, to_base) for all rows."""

    def open_in(nucleus: Nucleus) -> torch.Tensor:
        begins = vocabulary.units.begins_token(context.state[:, None], nucleus.ids)
        return begins & ~vocabulary.is_end[nucleus.ids]

    from_base = context.source == BASE
    token, found = _best(speaker, open_in(speaker), context)
    if not bool((found | ~refused).all()):
        third, found_third = _best(source, open_in(source), context)
        token = torch.where(found, token, third)
        to_base = torch.where(refused & ~found, from_base, to_base)
        found = found | found_third
        if not bool((found | ~refused).all()):
            # Even the source's nucleus holds only ends: its whole distribution without them.
            base, aligned = (
                Nucleus(
                    *nucleus(
                        torch.log_softmax(s.penalised.masked_fill(vocabulary.is_end, LOG_0), -1),
                        warps,
                    )
                )
                for s, warps in zip(scores, how, strict=True)
            )
            again = _pick(from_base, base, aligned)
            last, _ = _best(again, torch.ones_like(again.ids, dtype=torch.bool), context)
            token = torch.where(found, token, last)
    return token, to_base
