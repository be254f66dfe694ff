"""Decoding baselines are the aligned model with one filter, and nothing else."""

from __future__ import annotations

import pytest

from baco.engine import Warp
from baco.engine.noise import row_key
from baco.engine.reference import decode
from baco.engine.request import Request
from baco.errors import InputError
from baco.methods.settings import make_setting
from baco.prompts import conversation_of
from baco.routers import parse

ASK = "What is the capital of France?"

FILTERS = [
    ("min-p", 0.3, Warp(top_p=1, min_p=0.3)),
    ("top-n-sigma", 1.0, Warp(top_p=1, top_n_sigma=1.0)),
    ("xtc", 0.05, Warp(top_p=1, xtc=0.05)),
    ("typical", 0.5, Warp(top_p=1, typical=0.5)),
]


@pytest.mark.parametrize(("name", "control", "how"), FILTERS, ids=[f[0] for f in FILTERS])
def test_each_is_the_oracle_with_its_filter(random_pair, name, control, how):
    group = random_pair.generate(ASK, n=3, method=name, control=control, max_new_tokens=12)
    prompt = random_pair.prompt_ids(conversation_of(ASK))[1]
    for sample in group:
        request = Request(
            prompt, prompt, parse("rand", 0), row_key(0, ASK, sample.index), how,
            max_new_tokens=12, end_rule=False,
        )  # fmt: skip
        trace = decode(random_pair.aligned, random_pair.aligned, request)
        if list(sample.token_ids) != trace.tokens:  # single precision may turn a near-tie
            both = zip(sample.token_ids, trace.tokens, strict=False)
            at = next(i for i, (a, b) in enumerate(both) if a != b)
            assert min(m.value for m in trace.margins if m.t == at) < 1e-4
        assert set(sample.sources) <= {"aligned"}
    plain = random_pair.generate(ASK, n=3, method="aligned", top_p=1, max_new_tokens=12)
    assert group.texts != plain.texts


def test_a_filter_takes_top_ps_place_unless_asked_for_both():
    assert make_setting(method="xtc").sampling.warp.top_p == 1
    assert make_setting(method="xtc", top_p=0.9).sampling.warp.top_p == 0.9
    assert make_setting(method="aligned").sampling.warp.top_p == 0.9


def test_min_p_has_one_control():
    assert make_setting(method="min-p").sampling.warp.min_p == 0.1
    assert make_setting(method="min-p", min_p=0.2).control == 0.2
    assert make_setting(method="min-p", control=0.2).sampling.warp.min_p == 0.2
    with pytest.raises(InputError, match="control and min_p are both given"):
        make_setting(method="min-p", control=0.2, min_p=0.2)
