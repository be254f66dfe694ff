"""What any schedule of two partners would cost on a finished sample, worked out without a model.

A sample's `Truth` says for each position which sides decide it and whose guess would be right.
With it a schedule can be played: a fixed one, or, by breadth-first search over all of them, the
oracle's, which knows every guess's fate beforehand. `run_side` mirrors the engine's cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from baco.engine import Request
from baco.engine.loop import LONGEST_DRAFT
from baco.engine.scores import Context, score
from baco.engine.step import step
from baco.engine.units import START
from baco.models.hf import HFPartner
from baco.pair import Pair
from baco.routers import parse

ALIGNED, BASE = 0, 1


class Truth(NamedTuple):
    """A finished sample, for each position (the end included), sides in the order aligned, base.

    Attributes:
        needs: Which sides' scores decide the token.
        hits: Whose own guess equals the token.
    """

    needs: list[tuple[bool, bool]]
    hits: list[tuple[bool, bool]]


class State(NamedTuple):
    """Where a row stands.

    Attributes:
        t: Emitted tokens.
        aligned: Response tokens that the aligned side was fed, -1 before its prompt.
        base: The same of the base side.
        drafted: Length of the draft.
        wrong: Whether the draft's last guess is wrong.
    """

    t: int = 0
    aligned: int = -1
    base: int = -1
    drafted: int = 0
    wrong: bool = False


def truth(pair: Pair, request: Request, tokens: list[int], ended: bool) -> Truth:
    """Replays a sample with both models' whole sequences.

    Args:
        pair: The pair.
        request: What was decoded.
        tokens: What came out.
        ended: Whether an end token followed.
    """
    vocabulary = pair.aligned.vocabulary
    logits = []
    prompts = (request.aligned_prompt, request.base_prompt)
    for partner, prompt in zip((pair.aligned, pair.base), prompts, strict=True):
        assert isinstance(partner, HFPartner)
        logits.append(partner.all_logits([*prompt, *tokens])[len(prompt) - 1 :])
    how, own = (request.warp, request.warp), parse("rand", 0)
    state, source = torch.tensor([START]), torch.tensor([0])
    needs, hits = [], []
    for t in range(len(tokens) + ended):
        context = Context(torch.tensor([request.key]), torch.tensor([t]), state, source)
        aligned, base = (score(each[t : t + 1], request.warp, vocabulary) for each in logits)
        real = step(base, aligned, context, request.router, how, vocabulary)
        needs.append((bool(real.needs_aligned), bool(real.needs_base)))
        guesses = [step(s, s, context, own, how, vocabulary) for s in (aligned, base)]
        hits.append((bool(guesses[0].token == real.token), bool(guesses[1].token == real.token)))
        if t < len(tokens):
            assert int(real.token) == tokens[t], "the replay must give the sample"
            state = vocabulary.units.advance(state, real.token)
            source = real.source
    return Truth(needs, hits)


def run_side(state: State, side: int, known: Truth, longest: int = LONGEST_DRAFT) -> State:
    """The state after one pass of a side; mirrors `Engine.step` for one row."""
    total = len(known.needs)
    t, drafted, wrong = state.t, state.drafted, state.wrong
    fed = [state.aligned, state.base]
    fed[side] = t + drafted if fed[side] >= 0 else t
    while t < total:
        if any(need and f < t for need, f in zip(known.needs[t], fed, strict=True)):
            break
        if drafted == 1 and wrong:
            fed, drafted, wrong = [min(f, t) for f in fed], 0, False
        elif drafted:
            drafted -= 1
        t += 1
    tip = t + drafted
    if tip < total and fed[side] == tip and not wrong and drafted < longest:
        wrong = not known.hits[tip][side]
        drafted += 1
    return State(t, fed[ALIGNED], fed[BASE], drafted, wrong)


def schedule_passes(known: Truth, choose: Callable[[int], int], longest: int) -> int:
    """Passes of a schedule that looks at nothing.

    Args:
        known: The sample.
        choose: Number of the pass, from 0 -> the side to run.
        longest: Longest draft.
    """
    state, passes = State(), 0
    while state.t < len(known.needs):
        state = run_side(state, choose(passes), known, longest)
        passes += 1
    return passes


def fixed_passes(known: Truth, leader: int, k: int) -> int:
    """Passes of a fixed schedule: one side k times, then the other once."""
    return schedule_passes(known, lambda n: leader if (n + 1) % (k + 1) else 1 - leader, k)


def oracle_passes(known: Truth, longest: int = LONGEST_DRAFT) -> int:
    """The fewest passes of any schedule, every guess's fate being known beforehand."""
    total, passes = len(known.needs), 0
    frontier = seen = {State()}
    while True:
        passes += 1
        frontier = {run_side(state, side, known, longest) for state in frontier for side in (0, 1)}
        if any(state.t >= total for state in frontier):
            return passes
        frontier -= seen
        seen = seen | frontier
