"""Decoding in vLLM against the oracle: every router, several thresholds, greedy and sampled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baco.engine import Warp
from baco.engine.blend import Blend
from baco.pair import Pair
from baco.routers import CASCADES, ROUTERS, parse
from support.oracle import LEARNED, PROMPTS, compare, decode, of_lengths, requests

GREEDY = Warp(temperature=0)


def thresholds(name: str) -> list[str]:
    """A router at several thresholds, or alone where it has none."""
    router = parse(name)
    if router.control is None:
        return [name]
    high = router.rules[router.control].high
    values = (0.2, 0.5, 0.8) if high == 1 else (0.5, 1, 2)
    return [f"{name}@{value}" for value in values]


NAMES = sorted({*ROUTERS, *CASCADES} - {"judge"})
SPECS = [
    spec
    for name in (*NAMES, "punc>p-a", "p-top3")
    for spec in thresholds(name)
] + [
    "p@linear:0.8..0.1/20", "p-punc@0.123456789", "rand@step:0.9,0.1/8",
    "p-punc@sentence:1,0.2/1", "rand@sentence:0.9,0.5/1,0.1/2", "h@sentence:0.2,9/1",
    *(LEARNED + gamma for gamma in ("", "@0.1", "@0.7", "@sentence:0.9,0.1/1")),
    "p-ahead3@0.6", "p-ahead-sentence@0.7", "h-ahead-sentence@0.8", "punc-ahead2",
    "p-fc-ahead2@0.6",
    f"p-ahead2@0.8>{LEARNED}@0.7", f"punc>{LEARNED}@0.6", f"{LEARNED}@0.8>{LEARNED}@0.5",
]  # fmt: skip


@pytest.mark.parametrize("how", [GREEDY, Warp()], ids=["greedy", "sampled"])
def test_every_router_in_one_batch(eager: Pair, how: Warp) -> None:
    asked = [request for spec in SPECS for request in requests(spec, how)]
    tally = compare(asked, decode(eager, asked))
    print(f"{len(SPECS)} specs, {how}: {tally}")
    assert tally.equal >= 0.98 * tally.total


def test_requests_that_differ_in_everything_share_a_batch(eager: Pair) -> None:
    warps = [
        GREEDY, Warp(), Warp(top_p=1.0), Warp(temperature=0.7, top_k=6, min_p=0.05),
        Warp(temperature=1.7, top_p=0.5), Warp(top_n_sigma=1.5), Warp(typical=0.6, xtc=0.2),
    ]  # fmt: skip
    asked = []
    for i, warp in enumerate(warps):
        for j, spec in enumerate(("rand@0.5", "p-punc@0.4", "h@1", "fc")):
            asked += requests(
                spec, warp, prompts=PROMPTS[j : j + 2], count=2, limit=5 + 6 * i, seed=j
            )
    tally = compare(asked, decode(eager, asked))
    print(tally)
    assert tally.equal >= 0.98 * tally.total


def test_blends_of_both_models(eager: Pair) -> None:
    asked = [
        replace(request, blend=how, end_rule=False)
        for how in (Blend("linear", 0.4), Blend("geometric", 0.6), Blend("contrast", 0.5))
        for warp in (GREEDY, Warp())
        for request in requests("rand@0", warp, count=2)
    ]
    tally = compare(asked, decode(eager, asked))
    print(tally)
    assert tally.equal >= len(asked) - 1


def test_a_wrong_base_prompt_shows(eager: Pair) -> None:
    """The control: the comparison can fail."""
    asked = requests("p@0.9", GREEDY, prompts=PROMPTS)
    wrong = [
        type(r)(asked[i - 1].base_prompt, r.aligned_prompt, r.router, r.key, r.warp,
                max_new_tokens=r.max_new_tokens)
        for i, r in enumerate(asked)
    ]  # fmt: skip
    right, other = decode(eager, asked), decode(eager, wrong)
    assert compare(asked, right).equal >= len(asked) - 1
    assert sum(a != b for a, b in zip(right, other, strict=True)) >= 3


@pytest.mark.parametrize("spec", ["p-punc@0.5", "h-ahead3@1"])
def test_prompt_lengths_in_every_order(eager: Pair, spec: str) -> None:
    """The base prompt shorter, equal, longer; by one, by blocks; over block borders."""
    (ask, *_) = requests(spec, Warp())
    lengths = [(1, 90), (90, 1), (31, 33), (33, 31), (32, 64), (64, 32), (63, 65), (96, 97),
               (50, 50), (97, 20), (20, 97), (128, 1), (2, 3)]  # fmt: skip
    asked = of_lengths(ask, lengths)
    tally = compare(asked, decode(eager, asked))
    print(tally)
    assert tally.equal >= len(asked) - 1
