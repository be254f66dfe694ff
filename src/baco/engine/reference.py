"""The oracle: the same rules, one row, one token at a time, no cache, no cleverness.

Written from the rules and not from `loop.py` or `step.py`: plain numpy in float64 over one row,
its own noise in Python integers, its own filters by sorting. It is slow and meant to be read.
The router is asked through the same `View` as everywhere, with a batch of one; what a partner would
write ahead and what a learned router says are worked out anew (`reference_rules.py`).

Paper: §3, App. A, A.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import torch

from baco.engine import noise
from baco.engine.blend import PLAUSIBLE, Blend
from baco.engine.partner import Partner
from baco.engine.penalties import MOST, Penalties
from baco.engine.reference_rules import SlowBan, decide, margin_ahead, margin_of, rollout
from baco.engine.request import ALIGNED, BASE, Finish, Request
from baco.engine.router import View
from baco.engine.scores import Context, Nucleus, SideScores, Stretch
from baco.engine.step import PLAUSIBLE_OPENING
from baco.engine.units import START
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp

Floats = np.ndarray[tuple[int], np.dtype[np.floating]]
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]

_MASK = (1 << 64) - 1


class Margin(NamedTuple):
    """How close a decision was: its position, what was compared, and by how much it won."""

    t: int
    what: str
    value: float


class Trace(NamedTuple):
    """One decoded sample.

    Attributes:
        tokens: Emitted ids, the end token excluded.
        sources: `BASE` or `ALIGNED` for each.
        begins: Whether each began a unit.
        finish: Why it ended; ``stop_string`` where nothing but a banned phrase could follow.
        margins: How close each comparison was, for telling near-ties from errors.
    """

    tokens: list[int]
    sources: list[int]
    begins: list[bool]
    finish: Finish | Literal["stop_string"]
    margins: list[Margin]


def _mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)


def _u(bits: int) -> float:
    return ((bits >> 11) + 0.5) * 2.0**-53


def _counter(key: int, stream: int, t: int) -> int:
    golden = 0x9E3779B97F4A7C15
    return _mix(_mix(key + stream * golden & _MASK) + t * golden & _MASK)


def uniform(key: int, stream: int, t: int) -> float:
    """U(t) of a stream; equals `noise.uniform`."""
    return _u(_mix(_counter(key & _MASK, stream, t)))


def gumbel(key: int, t: int, size: int, stream: int = noise.TOKEN) -> Floats:
    """G(t, v) for all v; equals `noise.gumbel` up to rounding of the logarithms."""
    start = _counter(key & _MASK, stream, t)
    golden = 0x9E3779B97F4A7C15
    u = np.array([_u(_mix(start + (v + 1) * golden & _MASK)) for v in range(size)])
    out: Floats = -np.log(-np.log(u))
    return out


def _softmax(logits: Floats) -> Floats:
    e = np.exp(logits - logits.max())
    out: Floats = e / e.sum()
    return out


def _known(logs: Floats, masked: Floats) -> Floats:
    """P of a partner that tells only its likeliest tokens: 0 for the others, no sum of 1."""
    known: Floats = np.exp(masked)
    out: Floats = known / (1 - (np.exp(logs).sum() - known.sum()))
    return out


def warp(probs: Floats, how: Warp) -> Floats:
    """P~ from P: temperature, then the filters in the order of `Warp`; ties stay together."""
    if how.temperature == 0:
        out = np.zeros_like(probs)
        out[probs.argmax()] = 1
        return out
    with np.errstate(divide="ignore"):
        p = probs.copy() if how.temperature == 1 else _softmax(np.log(probs) / how.temperature)
    if how.top_n_sigma < math.inf:
        logits = np.log(p[p > 0])
        p = np.where(p >= p.max() * np.exp(-how.top_n_sigma * logits.std()), p, 0)
        p = p / p.sum()
    if 0 < how.top_k < len(p):
        p = np.where(p >= np.sort(p)[-how.top_k], p, 0)
        p = p / p.sum()
    if how.typical < 1:
        there: Floats = p[p > 0]
        distance = np.abs(-np.log(there) + (there * np.log(there)).sum())
        nearest = np.argsort(distance, kind="stable")
        crossing = min(int((np.cumsum(there[nearest]) < how.typical).sum()), len(there) - 1)
        p[p > 0] = np.where(distance <= distance[nearest[crossing]], there, 0)
        p = p / p.sum()
    if how.top_p < 1:
        order = np.sort(p)[::-1]
        crossing = min(int((np.cumsum(order) < how.top_p).sum()), len(p) - 1)
        p = np.where(p >= order[crossing], p, 0)
        p = p / p.sum()
    if how.min_p > 0:
        p = np.where(p >= how.min_p * p.max(), p, 0)
        p = p / p.sum()
    if how.xtc < 1 and (p >= how.xtc).any():
        cut = np.where(p > p[p >= how.xtc].min(), 0, p)
        p = (1 - how.xtc_probability) * p + how.xtc_probability * cut / cut.sum()
    return p


def penalised(
    logits: Floats, prompt: Sequence[int], answer: Sequence[int], how: Penalties, stops: Bools
) -> Floats:
    """Logits after bias, repetition, frequency and presence penalties and DRY, in this order.

    Args:
        logits: The logits.
        prompt: What the side was asked, in its own tokens.
        answer: What it has read of the answer.
        how: The penalties.
        stops: Which tokens no repeat reaches over.
    """
    out = logits.copy()
    for token, bias in how.logit_bias:
        out[token] += bias
    for token in set(prompt) | set(answer):
        factor = how.repetition_penalty
        out[token] = out[token] / factor if out[token] > 0 else out[token] * factor
    for token in answer:
        out[token] -= how.frequency_penalty
    for token in set(answer):
        out[token] -= how.presence_penalty
    read = [*prompt, *answer]
    longest: dict[int, int] = {}
    for i in range(len(read) - 1):  # what stands before read[i + 1] against what was read last
        n = 0
        while i - n >= 0 and read[i - n] == read[-1 - n] and not stops[read[-1 - n]]:
            n += 1
        if not stops[read[i + 1]]:
            longest[read[i + 1]] = max(longest.get(read[i + 1], 0), n)
    for token, n in longest.items():
        if n >= how.dry_allowed_length:
            loss = how.dry_multiplier * how.dry_base ** (n - how.dry_allowed_length)
            out[token] -= min(loss, MOST)
    return out


def _choose(p: Floats, allowed: Bools, g: Floats) -> tuple[int | None, float]:
    """Returns the best allowed token under log p + g (None if there is none) and its margin."""
    with np.errstate(divide="ignore"):
        value = np.where(allowed, np.log(p) + g, -np.inf)
    if not np.isfinite(value).any():
        return None, math.inf
    best = int(value.argmax())
    second = np.delete(value, best).max() if len(value) > 1 else -np.inf
    return best, float(value[best] - second)


def _blend(base: Floats, aligned: Floats, how: Blend) -> Floats:
    """One distribution of two, by the formulas of `Blend`."""
    w = how.weight
    if how.kind == "linear":
        mixed: Floats = w * aligned + (1 - w) * base
        return mixed
    out: Floats
    if how.kind == "overlap":
        v = w * np.minimum(aligned, base).sum()
        out = (1 - v) * aligned + v * base
        return out
    if how.kind == "geometric":
        out = aligned**w * base ** (1 - w)
    else:
        out = np.zeros_like(aligned)
        kept = aligned >= PLAUSIBLE * aligned.max()
        out[kept] = aligned[kept] * (aligned[kept] / base[kept]) ** w
    out = out / out.sum()
    return out


def decode(base: Partner, aligned: Partner, request: Request, ban: SlowBan | None = None) -> Trace:
    """Decodes one sample.

    Args:
        base: The base partner; only its `logits` is used.
        aligned: The aligned partner; both must share ids.
        request: Prompts, router, noise key, warps, limit.
        ban: Phrases that it may not hold: the text is taken back to the token in which one began,
            and that choice is made again without it, from there on with the noise of another key.

    Returns:
        The sample, with the margins of every comparison made.
    """
    vocabulary = aligned.vocabulary
    units = vocabulary.units
    is_end = vocabulary.is_end.cpu().numpy()
    breaks = units.breaks_line.cpu().numpy()
    size = vocabulary.size
    tokens: list[int] = []
    sources: list[int] = []
    begins_unit: list[bool] = []
    margins: list[Margin] = []
    state, s = START, ALIGNED
    key, rewinds = request.key, 0  # the row's own; the present one is the request's
    barred = list(request.barred)

    while len(tokens) < request.max_new_tokens:
        t = len(tokens)
        # Both models look at their own prompt and the same response.
        raw = {}
        shaped = {}  # after penalties: what temperature and filters work on
        p = {}
        for side, partner, prompt, how in (
            (BASE, base, request.base_prompt, request.warps[0]),
            (ALIGNED, aligned, request.aligned_prompt, request.warps[1]),
        ):
            logits = partner.logits([*prompt, *tokens])[:size].double().cpu()
            masked = logits.masked_fill(~vocabulary.allowed.cpu(), -torch.inf).numpy()
            partial = partner.abilities.gives == "top-k"
            raw[side] = _known(logits.numpy(), masked) if partial else _softmax(masked)
            shaped[side] = raw[side]
            out = [token for place, token in barred if place == t]
            if how.penalties.on:
                past = partner.past(prompt, tokens)
                shaped[side] = _softmax(
                    penalised(
                        masked,
                        past.prompt.tolist(),
                        past.answer.tolist(),
                        how.penalties,
                        vocabulary.stops_repeats,
                    )
                )
            rest = shaped[side].copy()
            rest[out] = 0
            if out and rest.any():
                shaped[side] = rest / rest.sum()
            p[side] = warp(shaped[side], how)
            if 0 < how.top_p < 1 and how.temperature > 0:
                margins.append(Margin(t, "top-p", _nucleus_margin(shaped[side], how)))
            if how.temperature == 0:
                margins.append(
                    Margin(t, "argmax", _choose(shaped[side], shaped[side] > 0, 0 * p[side])[1])
                )
        if request.blend:
            raw[BASE] = raw[ALIGNED] = _blend(raw[BASE], raw[ALIGNED], request.blend)
            shaped[BASE] = shaped[ALIGNED] = _blend(shaped[BASE], shaped[ALIGNED], request.blend)
            p[BASE] = p[ALIGNED] = warp(shaped[BASE], request.warps[1])
        g = gumbel(request.key, t, size)
        q = torch.tensor([state], device=vocabulary.is_end.device)
        b = units.begins(q)[0].cpu().numpy()

        # 1. Does the unit end?
        partners = {
            BASE: (base, request.base_prompt),
            ALIGNED: (aligned, request.aligned_prompt),
        }
        if t == 0 and request.router.opens:
            p[BASE], margin = _held(shaped[BASE], raw[ALIGNED], request.warps[0])
            margins.append(Margin(t, "plausible", margin))
            ends = True
            r = _route(request, raw, p, vocabulary, t, q, s, tokens, margins, g, b, partners)
        elif t == 0:
            ends, r = True, ALIGNED
        else:
            inside = p[s][b].sum()
            share = inside / (inside + p[s][~b].sum())
            u = uniform(request.key, noise.UNIT, t)
            margins.append(Margin(t, "unit", abs(share - u)))
            ends, r = bool(u < share), s
            if ends:
                r = _route(request, raw, p, vocabulary, t, q, s, tokens, margins, g, b, partners)

        # 2. and 3. The token.
        allowed = b if ends else ~b
        v, margin = _choose(p[r], allowed, g)
        if v is None:
            r = s
            v, margin = _choose(p[r], allowed, g)
        assert v is not None
        margins.append(Margin(t, "token", margin))

        # 4. The end rule.
        if request.end_rule and is_end[v]:
            top = int(raw[ALIGNED].argmax())
            margins.append(Margin(t, "top-1", _choose(raw[ALIGNED], raw[ALIGNED] > 0, 0 * g)[1]))
            if not is_end[top]:
                v, margin = _choose(p[r], b & ~is_end, g)
                if v is None:
                    r = s
                    v, margin = _choose(p[s], b & ~is_end, g)
                if v is None:
                    bare = np.where(is_end, 0, shaped[s])
                    again = warp(bare / bare.sum(), request.warps[0 if s == BASE else 1])
                    v, margin = _choose(again, ~is_end, g)
                assert v is not None
                margins.append(Margin(t, "token", margin))

        # 5. The turn rule: a line that the base model breaks is an end, too.
        if request.turn_rule and r == BASE and b[v] and breaks[v]:
            top = int(raw[ALIGNED].argmax())
            margins.append(Margin(t, "top-1", _choose(raw[ALIGNED], raw[ALIGNED] > 0, 0 * g)[1]))
            if is_end[top]:
                v = top
            elif not breaks[top]:
                other = gumbel(request.key, t, size, noise.TURN)
                instead, margin = _choose(p[ALIGNED], b & ~is_end, other)
                if instead is not None:
                    v, r = instead, ALIGNED
                    margins.append(Margin(t, "token", margin))
        stops = bool(is_end[v])
        if not stops:
            tokens.append(v)
            sources.append(r)
            begins_unit.append(bool(b[v]))
            state = int(units.advance(q, torch.tensor([v], device=q.device))[0])
            s = r

        # A phrase that the text may not hold is taken back.
        over = stops or len(tokens) == request.max_new_tokens
        place = ban.began(tokens, over) if ban else None
        if ban and place is not None:
            bar = (place, tokens[place])
            barred = [old for old in barred if old[0] <= place]
            del tokens[place:], sources[place:], begins_unit[place:]
            if bar in barred or rewinds == ban.most:
                return Trace(tokens, sources, begins_unit, "stop_string", margins)
            barred.append(bar)
            rewinds += 1
            request = replace(request, key=noise.rewound_key(key, rewinds))
            state, s = units.state_after(tokens), (sources or [ALIGNED])[-1]
        elif stops:
            return Trace(tokens, sources, begins_unit, "stop", margins)
    return Trace(tokens, sources, begins_unit, "length", margins)


def _held(base: Floats, aligned: Floats, how: Warp) -> tuple[Floats, float]:
    """P~ of what base may begin an answer with, and how near a token is to being dropped."""
    with np.errstate(divide="ignore"):
        apart = np.log(aligned / aligned.max() / PLAUSIBLE_OPENING)
    kept = np.where(apart >= 0, base, 0)
    if not kept.any():
        kept = base
    return warp(kept / kept.sum(), how), float(np.abs(apart).min())


def _nucleus_margin(probs: Floats, how: Warp) -> float:
    """How far the cumulated mass is from top-p at the token where it crosses."""
    with np.errstate(divide="ignore"):
        p = probs if how.temperature == 1 else _softmax(np.log(probs) / how.temperature)
        p = np.sort(p)[::-1]
    return float(np.abs(np.cumsum(p) - how.top_p).min())


def _route(
    request: Request,
    raw: dict[int, Floats],
    p: dict[int, Floats],
    vocabulary: Vocabulary,
    t: int,
    q: torch.Tensor,
    s: int,
    tokens: list[int],
    margins: list[Margin],
    g: Floats,
    b: Bools,
    partners: dict[int, tuple[Partner, tuple[int, ...]]],
) -> int:
    """Asks the router about one row."""
    device = vocabulary.is_end.device

    def scores(side: int) -> SideScores:
        with np.errstate(divide="ignore"):
            log_raw, log_p = np.log(raw[side]), np.log(p[side])
        return SideScores(
            torch.tensor(log_raw, device=device)[None],
            Nucleus(
                torch.arange(len(log_p), device=device)[None],
                torch.tensor(log_p, device=device)[None],
            ),
            vocabulary.is_end,
            partial=partners[side][0].abilities.gives == "top-k",
        )

    def row(value: int) -> torch.Tensor:
        return torch.tensor([value], device=device)

    def ahead(side: int, depth: int, _: torch.Tensor) -> Stretch:
        partner, prompt = partners[side]
        stretch, gap = rollout(partner, [*prompt, *tokens], depth)
        near = min(gap, margin_ahead(request.router, view, stretch))
        margins.append(Margin(t, "ahead", near))
        return stretch

    view = View(
        scores(BASE),
        scores(ALIGNED),
        vocabulary,
        Context(row(request.key), row(t), q, row(s)),
        asked=row(1).bool(),
        history=[tokens],
        sentences=vocabulary.units.sentences([tokens]),
        proposals=tuple(row(_choose(p[side], b, g)[0] or 0) for side in (BASE, ALIGNED)),
        ahead=ahead,
    )
    margins.append(Margin(t, "route", _route_margin(request, view)))
    return BASE if decide(request.router, view, raw, t) else ALIGNED


def _route_margin(request: Request, view: View) -> float:
    """How near the router's statistics are to its threshold: the smallest distance of any."""
    gamma = request.router.gamma
    margin = math.inf
    for side in (view.base, view.aligned):
        top = side.raw.exp().sort(descending=True).values[0]
        margin = min(margin, float(top[0] - top[1]) if len(top) > 1 else math.inf)
        if gamma is not None:
            stats = [float(side.top_prob), float(side.entropy), float(side.top_mean(5))]
            margin = min(margin, *(abs(x - gamma) for x in stats))
    if gamma is not None:
        ratio = float(view.base.top_prob / view.aligned.top_prob)
        spread = float(view.base.entropy - gamma * view.aligned.entropy)
        margin = min(margin, abs(ratio - gamma), abs(spread))
    return min(margin, margin_of(request.router, view))
