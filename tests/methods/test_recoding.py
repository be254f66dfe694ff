"""Recoding: which letters begin which sentences, and what becomes of the rest."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache, partial

import pytest

import baco
from baco.methods.base import Task
from baco.methods.stems import NOUNS, STEMS, Stems
from baco.prompts import conversation_of

ASK = "Tell me a story in three sentences about a girl and her dog."
tiny = cache(partial(baco.load, "tiny"))
HOW = {"method": "recoding", "max_new_tokens": 60, "seed": 3}


def stems_of(share: float = 1.0, seed: int = 0, attempt: int = 0, index: int = 0) -> Stems:
    side = tiny().sides[1]
    return Stems(side, Task(conversation_of("?"), index), seed, share, attempt)


def test_where_a_sentence_begins() -> None:
    spelled = tiny().sides[1].token_bytes

    def given(*strings: str) -> str:
        return b"".join(spelled[i] for i in stems_of().after(strings)).decode()

    assert given(" One", ".", " Two")[1:] in STEMS
    assert given(" One", ".", " Two").startswith(" ")
    assert given(" One", '!"', "\n\n", "Two") in STEMS
    assert given(" One", "\n", "Two") in STEMS
    for none in ((" One",), (" One", "."), (" One", ".", " "), (" 3", ".", "5"), (" a", " b"),
                 (" One", "; Two"), ("\n", "One")):  # fmt: skip
        assert given(*none) == ""


def test_chance_follows_the_seed_the_sample_and_the_draw() -> None:
    def some(**how: int) -> list[str]:
        stems = stems_of(**how)
        for _ in range(5):
            stems.first()
        return stems.given

    assert some() == some()
    others = [some(seed=1), some(attempt=1), some(index=1)]
    assert all(other != some() for other in others)
    half = [len(stems_of(0.5, index=i).first()) > 0 for i in range(200)]
    assert 70 < sum(half) < 130
    assert len(NOUNS) == len(set(NOUNS)) > 200
    assert all(re.fullmatch("[A-Z][a-z]{2}", stem) for stem in STEMS)
    assert max(Counter(stems_of(index=i).first() for i in range(300)).values()) < 20


@pytest.mark.parametrize("lookahead", ["auto", "off"])
def test_every_sentence_begins_with_its_stem(lookahead: str) -> None:
    pair = tiny()
    group = pair.generate(ASK, n=6, lookahead=lookahead, **HOW)
    for sample in group:
        assert sample.details["noun"].lower() in NOUNS
        stems = sample.details["stems"]
        starts = [m.start(1) for m in re.finditer(r"(?:^\s*|[.!?]\s+|\n\s*)(\S)", sample.text)]
        assert len(stems) <= len(starts)
        for stem, start in zip(stems, starts, strict=False):
            assert sample.text[start:].startswith(stem)
        if sample.finish_reason == "stop":
            assert len(stems) == len(starts)
        assert len(sample.token_ids) <= 60
    assert max(len(sample.details["stems"]) for sample in group) > 1
    shown = dict.fromkeys(range(6), "")
    stream = pair.stream(ASK, n=6, **HOW)
    for index, text, _ in stream:
        shown[index] += text
    assert list(shown.values()) == [sample.text for sample in group]


def test_without_stems_it_is_the_primed_model_and_bans_hold() -> None:
    pair = tiny()
    for sample in pair.generate(ASK, n=2, control=0, **HOW):
        assert sample.details["stems"] == []
        request = f"Related to {sample.details['noun']}: {ASK}"
        assert sample.text
        assert pair.sides[1].ids(conversation_of(request))
    for text in pair.generate(ASK, n=4, ban=["the", "a"], **HOW).texts:
        assert not re.search(r"\b(the|a)\b", text, flags=re.IGNORECASE)
