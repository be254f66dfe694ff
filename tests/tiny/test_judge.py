"""The exact judge: what it accepts, what it rejects, what it calls the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baco.tiny.judge import judge, known, quality, semantic_class, valid
from baco.tiny.world import answer, prompts, understand

EVERY = [*prompts("train"), *prompts("calibration"), *prompts("heldout")]
cases = st.tuples(st.sampled_from(EVERY), st.integers(0, 2**32))


def drawn(case) -> tuple[str, str]:
    prompt, seed = case
    return prompt.text, answer(understand(prompt.text), random.Random(seed))


@settings(deadline=None, max_examples=400)
@given(cases)
def test_what_the_grammar_writes_is_flawless(case) -> None:
    prompt, text = drawn(case)
    assert quality(prompt, text) == 10
    assert valid(prompt, " " + text + "\n")
    assert not semantic_class(prompt, text).startswith("text:")


@settings(deadline=None, max_examples=200)
@given(cases)
def test_a_truncated_answer_is_not(case) -> None:
    prompt, text = drawn(case)
    tokens = text.split(" ")
    for size in range(1, len(tokens)):
        cut = " ".join(tokens[:size])
        kind = understand(prompt).kind
        one_sentence_is_enough = not kind.roles and kind.name != "joke"
        if cut[-1] not in ".?" or one_sentence_is_enough:
            assert valid(prompt, cut) == (cut[-1] in ".?")
        elif kind.roles:
            assert not valid(prompt, cut)


@settings(deadline=None, max_examples=200)
@given(cases)
def test_a_repeated_sentence_is_not(case) -> None:
    prompt, text = drawn(case)
    assert quality(prompt, f"{text} {text}") < 4


@settings(deadline=None, max_examples=200)
@given(cases, st.data())
def test_a_doubled_or_foreign_word_is_not(case, data) -> None:
    prompt, text = drawn(case)
    tokens = text.split(" ")
    at = data.draw(st.integers(0, len(tokens) - 1))
    doubled = " ".join([*tokens[: at + 1], *tokens[at:]])
    assert not valid(prompt, doubled)
    foreign = " ".join([*tokens[:at], "zorp", *tokens[at:]])
    assert not valid(prompt, foreign)


@settings(deadline=None, max_examples=200)
@given(cases)
def test_talk_after_the_answer_costs_quality_but_keeps_the_class(case) -> None:
    prompt, text = drawn(case)
    longer = text + " I have the same question."
    assert quality(prompt, longer) < 6
    if not understand(prompt).kind.roles:
        assert semantic_class(prompt, longer) == semantic_class(prompt, text)


@settings(deadline=None, max_examples=200)
@given(cases, cases)
def test_the_answer_to_another_kind_is_off_topic(case, other) -> None:
    prompt, _ = drawn(case)
    question, text = drawn(other)
    if understand(prompt).kind is not understand(question).kind:
        # Some sentences fit several kinds ("How about Echo?"); others must not.
        assert valid(prompt, text) <= (judge(prompt, text).on_topic == 1)


def test_classes_follow_content_not_wording() -> None:
    ask = "Suggest a summer trip destination."
    same = ["How about Lisbon?", "I would go to Lisbon.", "Lisbon is perfect for a summer trip."]
    assert len({semantic_class(ask, text) for text in same}) == 1
    assert semantic_class(ask, "How about Oslo?") != semantic_class(ask, same[0])
    assert semantic_class(ask, "Blah  blah") == semantic_class(ask, "blah blah")
    assert semantic_class(ask, "Blah blah") != semantic_class(ask, "Blah")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("How about Lisbon?", True),
        ("How about Lisbon? Book early, because Lisbon is popular.", True),
        ("How about Lisbon? Book early, because Oslo is popular.", False),
        ("How about Lisbon", False),
        ("How about winter?", False),
        ("A winter trip to Oslo is a good idea.", False),
        ("A summer trip to Oslo is a good idea.", True),
        ("I have the same question.", False),
        ("", False),
    ],
)
def test_examples(response: str, expected: bool) -> None:
    assert valid("Suggest a summer trip destination.", response) is expected


def test_an_unknown_prompt_has_no_good_answer() -> None:
    assert not known("Explain quantum chromodynamics.")
    assert quality("Explain quantum chromodynamics.", "How about Lisbon?") == 0


def test_sentence_counts_are_instructions() -> None:
    prompt = next(p for p in EVERY if p.kind == "dog story" and "three sentences" in p.text)
    other = prompt.text.replace("three", "four")
    text = answer(understand(prompt.text), random.Random(1))
    assert valid(prompt.text, text)
    assert quality(other, text) < 5
