"""Engines by name: a backend is one file, and the rest of the house finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

import baco
from baco.cli.engines import engine_options
from baco.engine import Request, reference
from baco.engine.noise import row_key
from baco.errors import InputError, UnknownNameError, UnsupportedError
from baco.metrics.passes import ScoringOptions
from baco.models.engines import ENGINES
from baco.prompts import conversation_of
from baco.routers import parse
from support import bigram_backend

BASE = "the red cat sat on the blue mat and the old dog ran to the far house"
ALIGNED = "the cat sat on the mat and the dog sat on the mat"


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> baco.Pair:
    monkeypatch.setitem(ENGINES._items, "bigram", bigram_backend.BACKEND)
    return baco.load(BASE, ALIGNED, engine="bigram")


def test_it_is_one_file_of_sixty_lines() -> None:
    lines = Path(bigram_backend.__file__).read_text().splitlines()
    assert len(lines) <= 75
    assert len([line for line in lines if line.strip()]) <= 60


def test_a_pair_of_it_has_all_the_verbs_and_equals_the_oracle(pair: baco.Pair) -> None:
    group = pair.generate("the", n=8, router="rand@0.5", max_new_tokens=12)
    base, aligned = pair.prompt_ids(conversation_of("the"))
    for sample in group:
        request = Request(
            base, aligned, parse("rand@0.5"), row_key(0, "the", sample.index), max_new_tokens=12
        )
        wanted = reference.decode(pair.base, pair.aligned, request)
        assert list(sample.token_ids) == wanted.tokens
        assert [source == "base" for source in sample.sources] == [s == 1 for s in wanted.sources]
    assert 0 < group.base_share < 1


def test_what_it_cannot_do_is_refused_by_name(pair: baco.Pair) -> None:
    with pytest.raises(InputError, match="the engine 'bigram' has no engine options"):
        engine_options("bigram", ["threads=2"])
    with pytest.raises(InputError, match="the engine 'bigram' computes no likelihoods"):
        ScoringOptions(engine="bigram")
    with pytest.raises(UnsupportedError, match="cannot look ahead"):
        pair.generate("the", n=1, lookahead=4)


def test_unknown_engines_are_named() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown engine 'vlm' \(did you mean 'vllm'\?"):
        baco.load("tiny", engine="vlm")
