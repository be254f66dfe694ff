"""Exact speculation in vLLM: the answers of decoding without, in fewer passes. Runner V2 only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from baco.engine import Request, Warp
from baco.engine.blend import Blend
from baco.engine.opening import open_engine
from baco.engine.policy import Rate
from baco.errors import UnsupportedError
from baco.pair import Pair
from support import golden, triton_cpu
from support.engines import Decoded, drain
from support.oracle import (
    DRAFTING,
    LEARNED,
    PROMPTS,
    Tally,
    compare,
    core_of,
    of_lengths,
    requests,
    warm_up,
)

GREEDY = Warp(temperature=0)
v2 = pytest.mark.skipif(not triton_cpu.ASKED, reason="the runner V1 has no door to it")


@pytest.fixture(scope="module")
def drafting(load: Callable[..., Pair]) -> Pair:
    """The bundled pair, drafting."""
    return load(enforce_eager=True, **DRAFTING)


def decoded(pair: Pair, asked: list[Request]) -> tuple[list[Decoded], Any]:
    """Answers, and what they took."""
    engine = open_engine(pair.base, pair.aligned)
    return drain(engine, [engine.submit(request) for request in asked]), engine.stats


def checked(pair: Pair, asked: list[Request], few: float = 1) -> Tally:
    """Compares with the oracle; fails if there were no fewer passes than in lock-step."""
    answers, stats = decoded(pair, asked)
    tally = compare(asked, answers)
    longest = max(len(tokens) for tokens, *_ in answers)
    both = stats.base_passes + stats.aligned_passes
    print(f"{tally}; {both} passes of one model, the longest answer has {longest} tokens")
    assert both < few * 2 * longest
    assert tally.equal >= tally.total - 1
    return tally


@v2
@pytest.mark.parametrize("how", [GREEDY, Warp()], ids=["greedy", "sampled"])
def test_answers_stay_what_they_are(drafting: Pair, eager: Pair, how: Warp, free: None) -> None:
    """All kinds of routers in one batch, turns and ends among them; and exactly as without."""
    asked = [
        request
        for spec in ("p-punc@0.4", "rand@0.5", "h@1", "fc", "p@sentence:1,0.2/1", "pr@1",
                     "p@linear:0.8..0.1/20", f"{LEARNED}@0.6")
        for request in requests(spec, how, prompts=PROMPTS[:3], count=2, limit=40)
    ]  # fmt: skip
    checked(drafting, asked)
    assert decoded(drafting, asked)[0] == decoded(eager, asked)[0]


@v2
def test_what_drafts_and_what_does_not_share_a_batch(
    drafting: Pair, eager: Pair, free: None
) -> None:
    """Blends draft too; look-ahead routers go one by one; answers of one token and of a few."""
    asked = requests("p-ahead3@0.6", Warp()) + requests("punc-ahead2", GREEDY)
    asked += requests("p-punc@0.4", Warp(temperature=1.7, top_p=0.5), limit=40)
    for how in (Blend("linear", 0.4), Blend("contrast", 0.5)):
        asked += [replace(r, blend=how, end_rule=False) for r in requests("rand@0", Warp())]
    for limit in range(1, 8):
        asked += requests("p@0.5", Warp(), limit=limit, seed=limit)
    answers, _ = decoded(drafting, asked)
    tally = compare(asked, answers)
    print(tally)
    assert tally.equal >= tally.total - 1
    assert answers == decoded(eager, asked)[0]


@v2
@pytest.mark.parametrize("side", ["base", "aligned"])
def test_a_side_alone_drafts_nothing(drafting: Pair, side: str, free: None) -> None:
    options = {"n": 3, "method": side, "max_new_tokens": 20, "turn_rule": False}
    here, there = (
        drafting.generate(PROMPTS[0], **options),
        golden.tiny().generate(PROMPTS[0], **options),
    )
    assert here.texts == there.texts
    assert here.stats is not None
    assert here.stats.base_passes + here.stats.aligned_passes >= max(len(s.token_ids) for s in here)


@v2
def test_prompts_of_unequal_lengths(drafting: Pair, free: None) -> None:
    """Either side lags, by tokens and by blocks, and either side drafts."""
    lengths = [(1, 90), (90, 1), (31, 33), (33, 31), (32, 64), (63, 65), (97, 20)]
    asked = [
        one
        for spec in ("p-punc@0.2", "rand@0.9")
        for ask in requests(spec, Warp())[:1]
        for one in of_lengths(ask, lengths)
    ]
    checked(drafting, asked)


@v2
@pytest.mark.parametrize("tight", ["preempted", "chunks"])
def test_rows_that_come_and_go(
    tight: str, load: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch, free: None
) -> None:
    """Preempted within answers; prompts read in pieces beside rows that draft."""
    from vllm.v1.core.sched.scheduler import Scheduler

    preempted = []
    plain = Scheduler._preempt_request

    def counting(self: Any, request: Any, *args: Any, **more: Any) -> Any:
        preempted.append(len(request.output_token_ids))
        return plain(self, request, *args, **more)

    monkeypatch.setattr(Scheduler, "_preempt_request", counting)
    # Room for about eight answers, and two dozen of them at a time; or for few tokens of a pass.
    room = {"num_gpu_blocks_override": 18, "max_model_len": 128}
    if tight == "chunks":
        room = {"max_num_batched_tokens": 40, "max_model_len": 128, "max_num_seqs": 16}
    pair = load(enforce_eager=True, **room, **DRAFTING)
    asked = [
        request
        for spec in ("p-punc@0.4", "rand@0.5", "p@sentence:1,0.2/1")
        for how in (Warp(), GREEDY)
        for request in requests(spec, how, count=4, limit=60)
    ]
    tally = compare(asked, decoded(pair, asked)[0])
    in_answers = sum(t > 0 for t in preempted)
    print(f"{tally}, {in_answers} preemptions within answers")
    assert tally.equal >= tally.total - 1
    assert tight == "chunks" or in_answers >= 5


@v2
def test_compiled(load: Callable[..., Pair], free: None) -> None:
    checked(load(**DRAFTING), requests("p-punc@0.4", Warp(), prompts=PROMPTS, count=2, limit=40))


@v2
def test_passes_of_one_row(drafting: Pair, free: None) -> None:
    """Of one model per token: whoever speaks, fewer than with drafts that are never free."""
    for spec in ("rand@0", "rand@1"):
        (ask,) = requests(spec, GREEDY, prompts=PROMPTS[1:2], limit=60)
        ((tokens, *_),), stats = decoded(drafting, [ask])
        passes = stats.aligned_passes + stats.base_passes
        print(f"{spec}: {len(tokens)} tokens, {passes} passes of one model")
        assert stats.base_passes <= stats.aligned_passes
        assert len(tokens) <= passes < 1.6 * len(tokens)


@v2
def test_passes_beside_our_own_engine(drafting: Pair, free: None) -> None:
    """How many passes of one model a token takes, of ten rows: lock-step takes two.

    They are the same each time: what was learned of other requests is forgotten.
    """
    asked = requests("p-punc@0.4", Warp(), prompts=PROMPTS[1:2], count=10, limit=60)
    _, here = decoded(drafting, asked)
    decoded(drafting, requests("h@1", Warp(temperature=1.7)))
    assert decoded(drafting, asked)[1] == here
    _, there = decoded(golden.tiny(), asked)
    longest = max(len(tokens) for tokens, *_ in decoded(golden.tiny(), asked)[0])
    mine, own = ((s.base_passes + s.aligned_passes) / longest for s in (here, there))
    print(f"passes per token of the longest row: {mine:.2f} in vLLM, {own:.2f} in our own engine")
    assert mine < 1.1 * own


@v2
def test_many_rows_do_not_draft_where_a_token_costs_a_pass(
    drafting: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the table of costs; no clock is asked."""
    from baco.vllm.inside.drafts import Drafts

    asked = requests("p@0.5", GREEDY, prompts=PROMPTS, count=4, limit=8)
    answers, stats = decoded(drafting, asked)
    assert stats.base_passes == stats.aligned_passes
    assert compare(asked, answers).equal >= len(asked) - 1
    core = core_of(drafting).engine_core.engine_core
    drafts = core.model_executor.driver_worker.worker.model_runner.speculator
    assert isinstance(drafts, Drafts)
    for name in ("_drafts", "_guesses"):
        monkeypatch.setattr(drafts, name, Rate(0.9))
    assert [drafts._worth(n) for n in (1, 16, 17, 256)] == [0, 0, None, None]
    monkeypatch.setattr(drafts, "_runs_on", ("cuda", "torch.bfloat16"))
    assert [drafts._worth(n) for n in (1, 64, 128, 192, 256)] == [0, 0, 0, 0, None]
    monkeypatch.setattr(drafts, "_guesses", Rate(0.4))
    assert [drafts._worth(n) for n in (1, 64, 128, 192, 256)] == [2, 2, 0, None, None]


@pytest.mark.skipif(triton_cpu.ASKED, reason="the runner V2 speculates")
def test_the_runner_v1_refuses(load: Callable[..., Pair]) -> None:
    with pytest.raises(UnsupportedError, match="speculative decoding by the model runner V1"):
        load(enforce_eager=True, **DRAFTING)


@v2
def test_other_ways_to_draft_are_refused(load: Callable[..., Pair]) -> None:
    other = {"method": "ngram_gpu", "num_speculative_tokens": 1}
    with pytest.raises(UnsupportedError, match="one model drafts for the other, and ngram_gpu"):
        load(enforce_eager=True, speculative_config=other)


@v2
def test_warming_up(load: Callable[..., Pair], free: None) -> None:
    """As vLLM does on GPUs at the start, where it drafts and checks drafts of nobody's."""
    pair = load(enforce_eager=True, max_num_seqs=4, **DRAFTING)
    warm_up(pair)
    checked(pair, requests("p-punc@0.4", Warp(), count=2, limit=40))
