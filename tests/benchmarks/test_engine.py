"""The pure parts of the engine's benchmark: schedules, ballast, tables."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import baco
from baco.engine import Engine
from baco.routers import parse
from benchmarks import engine as bench
from benchmarks import report
from benchmarks.ballast import heavy_pair
from benchmarks.decoding import LIMIT, decode, requests
from benchmarks.oracle import Truth, fixed_passes, oracle_passes, truth

ASKED = bench.held_out(2)


def sample(needs: str, hits: str) -> Truth:
    """Positions as letters: a, b or 2 for both."""
    sides = {"a": (True, False), "b": (False, True), "2": (True, True), "-": (False, False)}
    return Truth([sides[c] for c in needs], [sides[c] for c in hits])


def test_schedules_by_hand() -> None:
    # Only the aligned side is ever needed: one pass a token.
    assert oracle_passes(sample("aaaa", "2222")) == 4
    # Both are needed everywhere. Guesses always right: two passes read the prompts and give the
    # first token, one more leads, then each pass checks the last guess and leads on.
    assert oracle_passes(sample("2222", "2222")) == 6
    assert fixed_passes(sample("2222", "2222"), 0, 1) == 6
    # Guesses always wrong: two passes a token, as in lock-step.
    assert oracle_passes(sample("2222", "----")) == 8


@given(st.data())
def test_the_oracle_is_never_beaten(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    known = sample(
        "a" + "".join(data.draw(st.lists(st.sampled_from("ab2"), min_size=size, max_size=size))),
        "".join(data.draw(st.lists(st.sampled_from("ab2-"), min_size=size + 1, max_size=size + 1))),
    )
    best = oracle_passes(known)
    assert (size + 1) / 2 <= best <= 2 * (size + 1)
    for leader in (0, 1):
        for k in (1, 2, 4):
            assert best <= fixed_passes(known, leader, k)


@pytest.mark.parametrize("spec", ["p-punc@0.3", "rand@0.5"])
def test_the_oracle_bounds_the_engine(spec: str) -> None:
    pair, router = baco.load("tiny"), parse(spec)
    made = decode(pair, ASKED, router, 1, partial(Engine, pair.base, pair.aligned))
    total = 0
    for prompt, tokens in zip(ASKED, made.texts, strict=True):
        [request] = requests(pair, prompt, router, 1)
        total += oracle_passes(truth(pair, request, tokens, len(tokens) < LIMIT))
    assert made.tokens / 2 < total <= made.passes


@pytest.mark.parametrize("name", ["tiny", "tiny-lora"])
def test_ballast_changes_no_bit(name: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        light, heavy = heavy_pair(name, 1, dtype), heavy_pair(name, 300, dtype)
        for k in (0, 1):
            ids = list(range(5, 30))
            one, other = (pair.sides[k].partner.logits(ids) for pair in (light, heavy))
            assert torch.equal(one, other)
        assert heavy.aligned.parameters == light.aligned.parameters + 299 * 3 * 128 * 4


def figures() -> dict:
    """Made-up figures of the form that `measure` gives."""
    row = {"seconds_per_token": 0.5, "all_seconds_per_token": [0.4, 0.5, 0.6], "tokens": 10,
           "passes": 12.0, "drawn": None, "published": None}  # fmt: skip
    alone = {**row, "seconds_per_token": 0.25, "passes": None}
    slow = {**row, "seconds_per_token": 1.0}
    rows = {"generate": alone}
    for spec in ("p-punc@0.3", "p-punc@0.5"):
        rows |= {f"{spec}, lock-step": slow, f"{spec}, look-ahead": row}
    rows["NUDGING"] = {**slow, "drawn": 30, "published": 160}
    return {
        "size": {"prompts": 1, "timed_prompts": 1, "times": 3, "ballast": 8, "limit": 120,
                 "small_model_share": 0.02},
        "passes": [{
            "router": "p-punc@0.3", "base_share": 0.1, "lock_step": 1.9, "own_noise": 1.7,
            "fixed": 1.3, "fixed_leader": "base", "fixed_k": 2, "adaptive": 1.25, "oracle": 1.0,
            "acceptance": 0.8, "token_rows": 2, "lock_step_token_rows": 2, "n": 10,
            "group_lock_step": 1.9, "group_adaptive": 1.4, "group_adaptive_per_row": 1.3,
            "group_token_rows": 2.2,
        }],
        "drafts": [{"text": "text that repeats", "draft": "prompt-lookup", "passes": 1.0}],
        "lora": [{"pair": "tiny-lora", "passes": 1.05, "weights_bytes": 5e6}],
        "races": [{"model": "ballast 8", "dtype": "float32", "n": 1, "threads": 2, "rows": rows}],
        "minutes": 1.0,
        "machine": {"processor": "a slide rule"},
    }  # fmt: skip


def test_targets_are_met_or_missed() -> None:
    met = {t.what: t.met for t in report.targets(figures())}
    assert met == {
        "adaptive to oracle (p-punc@0.3)": True,
        "passes per token, p-punc@0.3": True,
        "passes per token, anywhere (p-punc@0.3)": True,
        "passes per token, prompt-lookup, text that repeats": False,
        "passes per token, LoRA pair": True,
        "speed to lock-step, p-punc@0.3, ballast, float32, n = 1": True,
        "speed to lock-step, p-punc@0.5, ballast, float32, n = 1": True,
        "speed to aligned alone, p-punc@0.3, ballast, float32, n = 1": False,
    }


def test_the_page_gets_its_tables() -> None:
    page = report.README.read_text(encoding="utf-8")
    filled = report.put(page, report.markdown(figures()))
    assert "a slide rule" in filled
    assert "| p-punc@0.3, look-ahead | 2 | 0.50 | 2.00 | 1.20 |  | 0.80 to 1.20 |" in filled
    assert "| NUDGING | 1 | 0.25 |  | 1.20 | 3.00 (published: to 16.0) | 0.40 to 0.60 |" in filled
    assert "MISSED" in filled
    assert report.put(filled, report.markdown(figures())) == filled
    with pytest.raises(ValueError, match="has no marks"):
        report.put("nothing here", "")
