"""Thresholds over positions and sentences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco.engine import Engine, Request, Warp, reference
from baco.engine.noise import row_key
from baco.errors import InputError, UnsupportedError
from baco.routers import Schedule, parse
from support.engines import WORDS, fake_pair, run, words_vocabulary
from support.views import HALF, SURE, view


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split("|")]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (" the| cat", 0),
        (" the| cat|.", 1),
        (" the| cat|!|!|.", 1),  # one end, however loud
        (" the|.| cat|!| dog", 2),
        (" the| cat|.|\n| dog", 1),
        (" the| cat|,| dog", 0),
    ],
)
def test_sentences_are_counted(text: str, sentences: int) -> None:
    units = words_vocabulary().units
    assert units.sentences([ids(text), []]).tolist() == [sentences, 0]


@given(st.lists(st.lists(st.sampled_from(range(len(WORDS))), max_size=12), min_size=1, max_size=4))
def test_counting_token_by_token_is_counting_all(texts: list[list[int]]) -> None:
    units = words_vocabulary().units
    for text in texts:
        turns = torch.zeros(2, dtype=torch.int64)
        for k, token in enumerate(text, 1):
            turns = units.turn(turns, torch.tensor([token, ids(" cat")[0]]))
            assert ((turns + 1) >> 1).tolist() == [int(units.sentences([text[:k]])[0]), 0]


def test_by_sentence() -> None:
    schedule = Schedule.parse("sentence:0.5,0.2/1,0.1/3")
    assert str(schedule) == "sentence:0.5,0.2/1,0.1/3"
    assert schedule.at(torch.arange(5)).tolist() == pytest.approx([0.5, 0.2, 0.2, 0.1, 0.1])
    router = parse("p@sentence:0.5,0.2/1")
    assert router.gamma == 0.5
    assert router.needs_history
    assert router.counts_sentences
    assert not router.needs_text
    assert not parse("p@step:0.5,0.2/1").needs_history


def test_the_loop_equals_the_oracle_by_sentence() -> None:
    base, aligned = fake_pair()
    router = parse("p@sentence:1,0/1")
    wanted = [
        Request((1,), (2,), router, row_key(0, "s", i), Warp(), max_new_tokens=40) for i in range(8)
    ]
    seen = set()
    for request, got in zip(wanted, run(Engine(base, aligned), wanted), strict=True):
        trace = reference.decode(base, aligned, request)
        assert tuple(got) == tuple(trace[:4])
        for k, (source, begins) in enumerate(zip(trace.sources, trace.begins, strict=True)):
            if k and begins:
                over = int(aligned.vocabulary.units.sentences([trace.tokens[:k]])[0]) > 0
                seen.add((over, source))
    # The base model in the first sentence, the aligned one after (but for refused ends).
    assert (False, 1) in seen
    assert (True, 0) in seen
    assert (True, 1) not in seen


def test_an_engine_without_the_text_says_so() -> None:
    with pytest.raises(UnsupportedError, match="thresholds by sentence need the text"):
        parse("p@sentence:0.5,0.2/1").decide(view(HALF, SURE))


@pytest.mark.parametrize("text", ["sentence:", "sentence:0.5,0.2", "sentence:0.5,0.2/0", "by:1"])
def test_bad_schedules(text: str) -> None:
    with pytest.raises(InputError, match="neither a number nor a schedule"):
        Schedule.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "step:0,1/99999999999999999999",
        "sentence:0,1/99999999999999999999",
        "linear:0..1/1000000001",
        "linear:0..inf/10",
        "linear:-1e308..1e308/10",
        "step:0" + "".join(f",0/{i}" for i in range(1, 101)),
    ],
)
def test_schedules_have_bounds(text: str) -> None:
    with pytest.raises(InputError, match="schedule"):
        Schedule.parse(text)


def test_the_bounds_themselves_pass() -> None:
    last = Schedule.parse("linear:0..1/1000000000")
    assert last.at(torch.tensor([0, 10**9, 2**40])).tolist() == [0, 1, 1]
    steps = "step:0" + "".join(f",0/{i}" for i in range(1, 100))
    assert Schedule.parse(steps).at(torch.tensor([5])).tolist() == [0]


def test_specs_have_bounds() -> None:
    parse(">".join(["p"] * 16))
    for spec in (">".join(["p"] * 17), "p" * 1001, "p-top1001", "p-ahead99999"):
        with pytest.raises(InputError) as caught:
            parse(spec)
        assert len(str(caught.value)) < 1500
