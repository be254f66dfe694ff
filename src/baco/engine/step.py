"""THE step: how one token is chosen, as pure functions of tensors.

Every engine runs this: the decode loop, the oracle's tests, vLLM. All functions are vectorised
over rows, keep no state, and draw nothing: noise comes in as keys and counters.

The step, with current source s and other partner o (Paper: §3, A.1; rules 1-5 of the docs):

1. At t = 0 the unit ends and r = aligned. Otherwise it ends iff U_unit(t) < P~_s(B).
   A router that `opens` is asked at t = 0 too; P~_base is then made from what the aligned model
   finds plausible of P_base: tokens at least `PLAUSIBLE_OPENING` times as likely as its likeliest.
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

It has two halves. A side's *offer* is all that the step needs of its P~ at a place: whether the
unit would end there, and the best tokens of each kind. It depends on the text and on the noise, not
on who spoke before or who else is asked. What is decided from two offers is plain arithmetic, by
arrays on the host or by tensors.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from baco.engine import noise
from baco.engine.lazy import torch
from baco.engine.noise import Draws
from baco.engine.request import ALIGNED, BASE
from baco.engine.router import Router, View
from baco.engine.scores import LOG_0, Context, Look, Nucleus, SideScores
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp, nucleus

ENDS, GOES_ON, BEGINS, STAYS_OPEN, TOP = range(5)
"""Columns of an offer: 1 if the unit ends; the best token that continues it, that begins one, and
that begins one and is no end, each -1 if P~ holds none; the raw top-1 token."""

PLAUSIBLE_OPENING = 1e-3
"""Base may begin an answer with tokens that are so many times as likely as the likeliest."""

Array: TypeAlias = Any
"""A tensor, or an array on the host."""


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


class Rules(NamedTuple):
    """What holds for a row; each a flag, or one for each row, bool [n].

    Attributes:
        reads_base: Whether the router looks at the base partner's scores.
        reads_aligned: The same for the aligned partner.
        opens: Whether the router is asked at t = 0.
        end_rule: Whether rule 4 applies.
        turn_rule: Whether rule 5 applies.
    """

    reads_base: Array
    reads_aligned: Array
    opens: Array
    end_rule: Array
    turn_rule: Array

    @classmethod
    def of(cls, router: Router, end_rule: bool, turn_rule: bool) -> Rules:
        """Makes the rules of all rows."""
        reads_base, reads_aligned = (side in router.reads for side in ("base", "aligned"))
        return cls(reads_base, reads_aligned, router.opens, end_rule, turn_rule)


class Decision(NamedTuple):
    """A `Choice` before its unit state, as arrays of either kind, [n].

    Attributes:
        token: As of `Choice`.
        to_base: Whether the base partner speaks.
        begins: As of `Choice`.
        needs_base: As of `Choice`.
        needs_aligned: As of `Choice`.
        stuck: Whether it takes the last resort of rule 4, which no offer holds.
        turned: Whether it takes the aligned partner's next word by rule 5, which no offer holds.
    """

    token: Array
    to_base: Array
    begins: Array
    needs_base: Array
    needs_aligned: Array
    stuck: Array
    turned: Array


def offer(
    scores: SideScores, states: torch.Tensor, draws: Draws, vocabulary: Vocabulary
) -> torch.Tensor:
    """Returns a side's offers: int64 [n, 5], see `ENDS` and the following.

    Args:
        scores: What the side says, n rows.
        states: Unit states, int64 [n].
        draws: The rows' noise.
        vocabulary: Shared by both partners.
    """
    ids, log_probs = scores.nucleus
    kinds = vocabulary.kinds(states, ids)
    begins = kinds > 0
    # Rule 1. The ratio is exactly 1 when nothing continues, whatever the rounding of the sums.
    probs, goes_on = log_probs.exp(), ~begins
    inside = (probs * begins).sum(-1)
    outside = (probs * goes_on).sum(-1)
    ends = draws.unit < inside / (inside + outside)
    # Rules 2 to 4: argmax of log P~ + G over the tokens of each kind.
    value = noise.gumbel_of(draws.token, ids).to(log_probs.dtype).add_(log_probs)
    others = torch.stack([begins, goes_on, kinds != 1])
    most, place = value.masked_fill(others, LOG_0).max(-1)
    tokens = ids.gather(-1, place.T).masked_fill(most.T == LOG_0, -1)
    return torch.cat([ends.long()[:, None], tokens, scores.top_token[:, None]], -1)


def decide(
    base: Array,
    aligned: Array,
    says: Array,
    from_base: Array,
    start: Array,
    rules: Rules,
    tables: tuple[Array, Array],
    last: tuple[Array, Array] | None = None,
    instead: Array | None = None,
) -> Decision:
    """Chooses from two sides' offers, by tensors or by arrays on the host.

    Args:
        base: The base partner's offers, int64 [n, 5].
        aligned: The aligned partner's.
        says: What the router says, bool [n]: True where base speaks.
        from_base: Whether base is the current source, bool [n].
        start: Whether t = 0, bool [n].
        rules: What holds.
        tables: Which tokens are ends, and which break a line, bool [vocabulary].
        last: The tokens of the last resort, and whether each begins a unit; read where stuck.
        instead: The aligned partner's next word, -1 if it has none; read where turned.
    """
    where: Any = np.where if isinstance(base, np.ndarray) else torch.where
    is_end, breaks_line = tables

    def of(to_base: Array) -> Array:
        return where(to_base[:, None], base, aligned)

    # 1) Does the unit end? 2) Who speaks?
    source = of(from_base)
    ends = source[:, ENDS] != 0
    given = start & (rules.opens ^ True)  # to the aligned model
    routed = ends & ~given
    to_base = where(routed, says, from_base & ~given)
    needs_base = (from_base | (ends & to_base) | (routed & rules.reads_base)) & ~given
    needs_aligned = ~from_base | (ends & ~to_base) | (routed & rules.reads_aligned) | start

    # 3) The token. If P~_r has none that begins a unit, the source keeps speaking.
    to_base = where(ends & (of(to_base)[:, BEGINS] < 0), from_base, to_base)
    speaker = of(to_base)
    token = where(ends, speaker[:, BEGINS], speaker[:, GOES_ON])

    # 4) The end rule.
    ended = is_end[token] & rules.end_rule
    top = aligned[:, TOP]
    top_is_end = is_end[top]
    needs_aligned = needs_aligned | ended
    refused = ended & ~top_is_end
    to_base = where(refused & (speaker[:, STAYS_OPEN] < 0), from_base, to_base)
    second = of(to_base)[:, STAYS_OPEN]
    token, ends = where(refused, second, token), ends | refused
    stuck = refused & (second < 0)
    if last is not None:
        token, ends = where(stuck, last[0], token), where(stuck, last[1], ends)

    # 5) The turn rule.
    turns = to_base & ends & breaks_line[token] & rules.turn_rule
    needs_aligned = needs_aligned | turns
    token = where(turns & top_is_end, top, token)
    turned = turns & ~top_is_end & ~breaks_line[top]
    if instead is not None:
        spoken = turned & (instead >= 0)
        token, to_base = where(spoken, instead, token), to_base & ~spoken
    return Decision(token, to_base, ends, needs_base, needs_aligned, stuck, turned)


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
    draws = Draws.of(context.keys, context.t)
    from_base, start = context.source == BASE, context.t == 0
    theirs = mine = offer(aligned, context.state, draws, vocabulary)
    if base is not aligned:
        spoken = held(base, aligned, start, how[0]) if router.opens else base
        mine = offer(spoken, context.state, draws, vocabulary)
    routed = torch.where(from_base, mine[:, ENDS], theirs[:, ENDS]) != 0
    if not router.opens:
        routed = routed & ~start
    told = proposals(mine, theirs)
    view = View(base, aligned, vocabulary, context, routed, history, told, sentences, ahead)
    says = router.decide(view)
    rules = Rules.of(router, end_rule, turn_rule)
    made = decide(mine, theirs, says, from_base, start, rules, vocabulary.tables)
    rare = made.stuck | made.turned | vocabulary.units.within(context.state)
    # The host looks once at all that is rare: on a GPU each look waits for what was launched.
    usual = not bool(rare.any())
    if not usual:
        made = settle((mine, theirs), says, (base, aligned), context, rules, how, vocabulary)
    return Choice(
        made.token,
        torch.where(made.to_base, BASE, ALIGNED),
        made.begins,
        vocabulary.units.advance(context.state, made.token, whole=usual or None),
        made.needs_base,
        made.needs_aligned,
    )


def held(base: SideScores, aligned: SideScores, start: torch.Tensor, how: Warp) -> SideScores:
    """Holds what the base partner may begin an answer with to what the aligned one finds plausible.

    Args:
        base: The base partner's scores; their statistics stay.
        aligned: The aligned partner's.
        start: Whether t = 0, bool [n]; other rows stay. So do rows that would be left with nothing.
        how: The base side's warps.
    """
    least = aligned.raw.amax(-1, keepdim=True) + math.log(PLAUSIBLE_OPENING)
    left = base.penalised.masked_fill(aligned.raw < least, LOG_0)
    changed = start & (left.amax(-1) > LOG_0)
    raw = torch.where(changed[:, None], torch.log_softmax(left, -1), base.penalised)
    return replace(base, kept=Nucleus(*nucleus(raw, how)))


def proposals(base: torch.Tensor, aligned: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that each side would begin a unit with, from their offers: int64 [n] each."""
    return base[:, BEGINS].clamp(min=0), aligned[:, BEGINS].clamp(min=0)


def settle(
    offers: tuple[torch.Tensor, torch.Tensor],
    says: torch.Tensor,
    scores: tuple[SideScores, SideScores],
    context: Context,
    rules: Rules,
    how: tuple[Warp, Warp],
    vocabulary: Vocabulary,
) -> Decision:
    """Decides with all that offers do not hold, which is needed in few rows.

    Args:
        offers: Both sides', base first, as all else.
        says: What the router says.
        scores: Both sides' scores.
        context: Where the rows stand.
        rules: What holds.
        how: Both sides' warps.
        vocabulary: Shared by both partners.
    """
    from_base = context.source == BASE
    again = partial(decide, *offers, says, from_base, context.t == 0, rules, vocabulary.tables)
    made, last = again(), None
    if bool(made.stuck.any()):
        # Even the source's nucleus holds only ends: its whole distribution without them.
        of_base, of_aligned = (
            _best(Nucleus(*nucleus(torch.log_softmax(left, -1), warp)), None, context, noise.TOKEN)
            for warp, left in zip(
                how,
                (s.penalised.masked_fill(vocabulary.is_end, LOG_0) for s in scores),
                strict=True,
            )
        )
        token = torch.where(from_base, of_base, of_aligned)
        last = (token, vocabulary.units.begins_token(context.state, token))
        made = again(last=last)
    if bool(made.turned.any()):
        spoken = scores[1].nucleus
        open_ = vocabulary.kinds(context.state, spoken.ids) == 1
        instead = _best(spoken, open_, context, noise.TURN)
        made = again(last=last, instead=instead)
    return made


def _best(
    nucleus: Nucleus, allowed: torch.Tensor | None, context: Context, stream: int
) -> torch.Tensor:
    """Returns argmax of log P~ + G over the allowed tokens, -1 if there is none: int64 [n].

    Args:
        nucleus: P~.
        allowed: bool [n, k], over the nucleus; None for all.
        context: Where the rows stand: the noise of a token depends on nothing else.
        stream: Of the noise.
    """
    gumbel = noise.gumbel(context.keys, context.t, nucleus.ids, stream)
    value = nucleus.log_probs + gumbel.to(nucleus.log_probs.dtype)
    if allowed is not None:
        value = value.masked_fill(~allowed, LOG_0)
    most, place = value.max(-1)
    return nucleus.ids.gather(-1, place[:, None])[:, 0].masked_fill(most == LOG_0, -1)
