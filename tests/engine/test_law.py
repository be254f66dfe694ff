"""The law of a step: sums to 1, and is what the step draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from baco.engine.law import check_router, law
from baco.engine.noise import row_key
from baco.engine.request import ALIGNED, BASE
from baco.engine.scores import Context, score
from baco.engine.step import step
from baco.engine.units import START
from baco.engine.warp import Warp
from baco.errors import UnsupportedError
from baco.routers import parse
from support.engines import WORDS, fake_pair

KEYS = torch.tensor([row_key(1, "law", i) for i in range(3000)])
PREFIXES = [(), (1, 2), (3, 10), (2, 16), (5, 8), (18, 1), (4, 7), (2, 9), (6, 13, 2)]


def expected_and_drawn(spec, prefix, source, how, **rules):
    base, aligned = fake_pair(end=rules.pop("end", 0.5))
    vocabulary, router = base.vocabulary, parse(spec)
    state = torch.tensor([vocabulary.units.state_after(prefix) if prefix else START])

    def scores(partner, n):
        return score(partner.logits((1, *prefix)).expand(n, -1), how, vocabulary)

    def context(keys):
        n = len(keys)
        return Context(
            keys, torch.full((n,), len(prefix)), state.expand(n), torch.full((n,), source)
        )

    known = {"sentences": torch.tensor([0])} if router.counts_sentences else {}
    probs = law(
        scores(base, 1), scores(aligned, 1), context(KEYS[:1]), router, (how, how), vocabulary,
        **known, **rules,
    )[0]  # fmt: skip
    n = len(KEYS)
    known = {"sentences": torch.zeros(n, dtype=torch.int64)} if known else {}
    chosen = step(
        scores(base, n), scores(aligned, n), context(KEYS), router, (how, how), vocabulary,
        **known, **rules,
    )  # fmt: skip
    return probs, torch.bincount(chosen.token, minlength=len(WORDS))


SPECS = ["rand@0.4", "p-punc@0.3", "p@0.5", "punc>rand@0.5", "rand@linear:0.9..0.1/4",
         "open>rand@0.4", "p-punc-open@0.3"]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("rules", [{}, {"turn_rule": True}, {"end_rule": False}], ids=str)
@pytest.mark.parametrize("how", [Warp(top_p=1.0), Warp(0.8, 0.6)], ids=["plain", "cut"])
def test_the_law_is_what_the_step_draws(spec, rules, how):
    worst = 1.0
    for prefix in PREFIXES:
        for source in (ALIGNED, BASE) if prefix else (ALIGNED,):
            for end in (-1.0, 4.0):
                probs, counts = expected_and_drawn(spec, prefix, source, how, end=end, **rules)
                assert float(probs.sum()) == pytest.approx(1, abs=1e-9)
                there = probs > 1e-12
                assert int(counts[~there].sum()) == 0, (prefix, source)
                wanted = probs[there].numpy() * len(KEYS)
                if len(wanted) > 1:
                    seen = counts[there].numpy()
                    few = wanted < 5
                    if few.any():  # the test wants five of each: put the rare ones together
                        wanted = np.append(wanted[~few], wanted[few].sum())
                        seen = np.append(seen[~few], seen[few].sum())
                    if len(wanted) > 1 and wanted.min() > 1:
                        wanted = wanted * (seen.sum() / wanted.sum())
                        worst = min(worst, chisquare(seen, wanted).pvalue)
    assert worst > 1e-5  # over a few dozen comparisons with fixed keys


def test_routers_without_a_closed_form_are_refused():
    for spec in ("judge", "p-ahead3@0.3"):
        with pytest.raises(UnsupportedError, match="has no closed form"):
            check_router(parse(spec))
    check_router(parse("p-punc@0.3"))
