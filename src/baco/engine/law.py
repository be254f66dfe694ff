"""The law of a step: how likely each token is, over all the noise of the unit, router and token.

What `baco.engine.step` draws has a closed form, given the prefix and who wrote its last token. The
Gumbel noise of a token turns "choose again, same noise, from fewer tokens" into a renormalisation
over these fewer tokens; the rest are sums over what may happen.

Paper: §3 Eqs. 1-2, App. A, A.1 (rules 1-5 of `baco.engine.step`).
"""

from __future__ import annotations

from itertools import pairwise

import torch

from baco.engine.request import BASE
from baco.engine.router import Router, View
from baco.engine.scores import LOG_0, Context, SideScores
from baco.engine.step import held
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp, in_order, nucleus
from baco.errors import UnsupportedError


def check_router(router: Router) -> None:
    """Raises UnsupportedError for routers whose decisions are not functions of one position."""
    if router.needs_text or router.looks_ahead:
        raise UnsupportedError(
            f"the law of the router {router.name!r} has no closed form: it judges text or looks "
            "ahead",
            hint="use a router that looks at one token, such as p-punc",
        )


def law(
    base: SideScores,
    aligned: SideScores,
    context: Context,
    router: Router,
    how: tuple[Warp, Warp],
    vocabulary: Vocabulary,
    *,
    end_rule: bool = True,
    turn_rule: bool = False,
    sentences: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns the probability of every next token; arguments as of `baco.engine.step.step`.

    The keys of the context do not matter: noise is summed over.

    Returns:
        Float64 [n, v]; rows sum to 1.
    """
    start, from_base = context.t == 0, context.source == BASE
    spoken = held(base, aligned, start, how[0]) if router.opens else base
    of_base, of_aligned = (s.warped.exp().double() for s in (spoken, aligned))
    source = torch.where(from_base[:, None], of_base, of_aligned)
    begins = vocabulary.units.begins(context.state)[:, : source.shape[1]]
    ends = vocabulary.is_end

    inside, outside = (source * begins).sum(-1), (source * ~begins).sum(-1)
    over = inside / (inside + outside)
    over = torch.where(start, torch.ones_like(over), over)[:, None]
    goes = _to_base(base, aligned, context, router, vocabulary, sentences)
    if not router.opens:
        goes = torch.where(start, torch.zeros_like(goes), goes)
    goes = goes[:, None]

    bare = _without_ends(base, aligned, from_base, how, vocabulary)
    open_ = begins & ~ends
    accepted = (aligned.top_is_end | (not end_rule))[:, None]

    def from_side(probs: torch.Tensor, side_is_base: bool) -> torch.Tensor:
        """The law of a new unit that the router gives to one side."""
        allowed = probs * begins
        own = allowed.sum(-1, keepdim=True) > 0
        to_base = own & side_is_base | ~own & from_base[:, None]
        allowed = torch.where(own, allowed, source * begins)
        # Ends that are refused: from what is left of the speaker, else of the source, else of all.
        left = allowed * ~ends
        found = left.sum(-1, keepdim=True) > 0
        second = source * open_
        found_second = second.sum(-1, keepdim=True) > 0
        refused = torch.where(found, left, torch.where(found_second, second, bare))
        to_base = torch.where(accepted | found, to_base, from_base[:, None])
        made = _normal(torch.where(accepted, allowed, refused))
        return _turned(made, to_base) if turn_rule else made

    def _turned(made: torch.Tensor, to_base: torch.Tensor) -> torch.Tensor:
        """Rule 5: what becomes of line breaks by which the base model begins a unit."""
        breaks = vocabulary.units.breaks_line
        lost = made * breaks * begins * to_base
        mass = lost.sum(-1, keepdim=True)
        stop = aligned.top_is_end[:, None]
        instead = of_aligned * open_
        other = instead.sum(-1, keepdim=True) > 0
        refused = ~stop & ~breaks[aligned.top_token][:, None] & other
        ended = torch.zeros_like(made).scatter_(1, aligned.top_token[:, None], 1.0)
        new = torch.where(stop, ended, _normal(instead))
        return torch.where(stop | refused, made - lost + mass * new, made)

    stays = _normal(source * ~begins)
    return (1 - over) * stays + over * (
        goes * from_side(of_base, True) + (1 - goes) * from_side(of_aligned, False)
    )


def _normal(weights: torch.Tensor) -> torch.Tensor:
    """Rows that sum to 1; rows of zeros stay."""
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, torch.ones_like(total))


def _without_ends(
    base: SideScores,
    aligned: SideScores,
    from_base: torch.Tensor,
    how: tuple[Warp, Warp],
    vocabulary: Vocabulary,
) -> torch.Tensor:
    """The source's raw distribution without ends, warped again: rule 4's last resort."""
    made = []
    for scores, warps in zip((base, aligned), how, strict=True):
        raw = torch.log_softmax(scores.raw.masked_fill(vocabulary.is_end, LOG_0), -1)
        made.append(in_order(*nucleus(raw, warps), raw.shape[-1])[1].exp().double())
    of_base, of_aligned = made
    return torch.where(from_base[:, None], of_base, of_aligned)


def _to_base(
    base: SideScores,
    aligned: SideScores,
    context: Context,
    router: Router,
    vocabulary: Vocabulary,
    sentences: torch.Tensor | None,
) -> torch.Tensor:
    """The chance that the router says base: float64 [n].

    A rule draws by comparing one uniform number with its threshold, so that the decision is
    constant between the thresholds: it is asked once in each stretch.
    """
    asked = torch.ones_like(context.t, dtype=torch.bool)
    cuts = [torch.zeros_like(context.t, dtype=torch.float64)]
    for schedule in router.schedules:
        if schedule is not None:
            at = context.t
            if schedule.kind == "sentence":
                assert sentences is not None
                at = sentences
            cuts.append(schedule.at(at).double().clamp(0, 1))
    cuts.append(torch.ones_like(cuts[0]))
    edges = torch.stack(cuts).sort(0).values
    chance = torch.zeros_like(cuts[0])
    for low, high in pairwise(edges):
        view = View(base, aligned, vocabulary, context, asked, sentences=sentences)
        view.__dict__["u_route"] = (low + high) / 2
        chance = chance + router.decide(view) * (high - low)
    return chance
