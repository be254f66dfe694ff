"""The law of one step, by chi-square through vLLM; and rows of many kinds coming and going."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from baco.engine import ALIGNED, BASE, Request, Warp
from baco.engine.noise import row_key
from baco.engine.opening import open_engine
from baco.engine.router import View
from baco.engine.scores import Context, score
from baco.engine.units import START
from baco.pair import Pair
from baco.routers import parse
from support import golden
from support.oracle import PROMPTS, compare, decode, requests

END = -1
HOT = [Warp(temperature=2.5, top_p=0.95), Warp(temperature=3, top_p=1.0, top_k=12)]
"""The bundled pair is sure of itself: only so are there enough outcomes to count."""


@pytest.mark.parametrize("spec", ["rand@0.5", "p-punc@0.9"])
@pytest.mark.parametrize("how", HOT, ids=["nucleus", "top-k"])
def test_law_of_the_second_token(eager: Pair, spec: str, how: Warp) -> None:
    """Given the first token, the second follows the closed form of the rules."""
    (ask,) = requests(spec, how, prompts=PROMPTS[4:5], limit=2)
    n = 2000
    asked = [
        Request(ask.base_prompt, ask.aligned_prompt, ask.router, row_key(9, "law", i), how,
                max_new_tokens=2)
        for i in range(n)
    ]  # fmt: skip
    decoded = decode(eager, asked)
    (first, _), *_ = Counter(tokens[0] for tokens, *_ in decoded if tokens).most_common(1)
    seen: Counter[tuple[int, int]] = Counter()
    for tokens, sources, _, _ in decoded:
        if tokens and tokens[0] == first:
            seen[(tokens[1], sources[1]) if len(tokens) > 1 else (END, ALIGNED)] += 1
    expected = law(ask, first)
    total = seen.total()
    assert total > 200
    assert not set(seen) - set(expected), "a token that the law forbids"
    likely = [k for k, p in expected.items() if p * total >= 5]
    observed = np.array([*(seen[k] for k in likely), total - sum(seen[k] for k in likely)])
    wanted = np.array([*(expected[k] for k in likely), 1 - sum(expected[k] for k in likely)])
    keep = wanted * total > 0.5
    if not keep[-1]:
        observed, wanted, keep = observed[:-1], wanted[:-1] / wanted[:-1].sum(), keep[:-1]
    result = stats.chisquare(observed, wanted * observed.sum())
    print(f"{spec}: {total} draws over {len(likely)} outcomes, p = {result.pvalue:.3f}")
    assert len(likely) >= 8
    assert result.pvalue > 1e-4


def law(ask: Request, first: int) -> dict[tuple[int, int], float]:
    """P(token, source) after one token, by the formula: P~_s(v), or P~_s(B) P~_r(v | B)."""
    pair, how = golden.tiny(), ask.warp
    vocabulary = pair.aligned.vocabulary
    base, aligned = (
        score(partner.logits([*prompt, first])[None], how, vocabulary)
        for partner, prompt in ((pair.base, ask.base_prompt), (pair.aligned, ask.aligned_prompt))
    )
    state = vocabulary.units.advance(torch.tensor([START]), torch.tensor([first]))
    b = vocabulary.units.begins(state)[0]
    assert bool(aligned.top_is_end) is False, "the end rule would have to be in the formula"
    no_end = ~vocabulary.is_end
    p = {BASE: base.warped[0].exp(), ALIGNED: aligned.warped[0].exp()}
    if ask.router.name == "rand":
        to_base = float(ask.router.gamma or 0)
    else:
        view = View(
            base, aligned, vocabulary,
            Context(torch.tensor([0]), torch.tensor([1]), state, torch.tensor([ALIGNED])),
            torch.tensor([True]),
        )  # fmt: skip
        to_base = float(parse(ask.router.spec).decide(view)[0])
    out: Counter[tuple[int, int]] = Counter()
    for v in (~b & (p[ALIGNED] > 0)).nonzero().flatten().tolist():
        out[v, ALIGNED] += float(p[ALIGNED][v])
    ending = float(p[ALIGNED][b].sum())
    for side, share in ((BASE, to_base), (ALIGNED, 1 - to_base)):
        speaker = side if float(p[side][b & no_end].sum()) > 0 else ALIGNED
        # An end that is refused is drawn again, by the symmetry of the noise without ends.
        begin = torch.where(b & no_end, p[speaker], 0.0)
        for v in begin.nonzero().flatten().tolist():
            out[v, speaker] += ending * share * float(begin[v] / begin.sum())
    return {k: p for k, p in out.items() if p > 0}


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_requests_dropped_at_random_leave_nothing_behind(eager: Pair, count: int) -> None:
    """A crash test: no leak, and no wrong neighbour."""
    dice = random.Random(count)
    specs = ("p-punc@0.4", "rand@0.5", "h@1", "fc", "p@0.7", "p@sentence:1,0.2/1", "p-ahead3@0.6")
    warps = (Warp(), Warp(temperature=0), Warp(temperature=0.8, top_k=9))
    pool = [r for s in specs for w in warps for r in requests(s, w, prompts=PROMPTS, limit=30)]
    engine = open_engine(eager.base, eager.aligned)
    waiting = [dice.choice(pool) for _ in range(count)]
    live: dict[int, Request] = {}
    got: dict[int, tuple[list[int], list[int], list[bool]]] = {}
    finished, dropped = [], 0
    while waiting or not engine.idle:
        for _ in range(dice.randrange(6)):
            if waiting:
                request = waiting.pop()
                number = engine.submit(request)
                live[number], got[number] = request, ([], [], [])
        for event in engine.step():
            assert event.row in live, "news of a row that was dropped"
            for column, news in zip(
                got[event.row], (event.tokens, event.sources, event.begins), strict=True
            ):
                column += news  # type: ignore[operator]
            if event.finish:
                finished.append((live.pop(event.row), (*got[event.row], event.finish)))
        if live and dice.random() < 0.4:
            number = dice.choice(list(live))
            engine.cancel(number)
            del live[number]
            dropped += 1
    tally = compare([r for r, _ in finished], [d for _, d in finished])
    print(f"{dropped} dropped, {len(finished)} finished: {tally}")
    assert dropped > count / 10
    assert dropped + len(finished) == count
    assert tally.equal >= 0.97 * tally.total

    runtime = eager.aligned.runtime  # type: ignore[attr-defined]
    core = runtime._engine.engine_core.engine_core
    runtime._engine.step()  # vLLM tells its workers of ends with the next step
    assert not runtime._live
    assert not core.scheduler.requests
    assert len(core.model_executor.driver_worker.worker.model_runner.model.rows) == 0
    pool_of_blocks = core.scheduler.kv_cache_manager.block_pool
    assert pool_of_blocks.get_num_free_blocks() == pool_of_blocks.num_gpu_blocks - 1
