"""Moderation: what a filter refuses is seen nowhere."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest

from baco.errors import BacoError, InputError
from baco.methods.filters import load_filter, moderate

ASK = "What is the capital of France?"


def test_withheld_samples_carry_nothing(random_pair):
    free = random_pair.generate(ASK, n=4, max_new_tokens=12)
    bad = free[1].text
    asked = []

    def keep(prompt, text):
        asked.append((prompt, text))
        return text != bad

    group = random_pair.generate(ASK, n=4, max_new_tokens=12, keep=keep)
    assert sorted(asked) == sorted((ASK, text) for text in free.texts)
    assert group[1].finish_reason == "withheld"
    assert (group[1].text, group[1].tokens, group[1].token_ids, group[1].sources) == (
        "",
        (),
        (),
        (),
    )
    assert [group[i] for i in (0, 2, 3)] == [free[i] for i in (0, 2, 3)]


def test_streams_wait_for_the_filter(random_pair):
    bad = random_pair.generate(ASK, n=2, max_new_tokens=12)[0].text
    stream = random_pair.stream(ASK, n=2, max_new_tokens=12, keep=lambda _, text: text != bad)
    tokens = list(stream)
    assert {token.sample for token in tokens} == {1}
    assert "".join(token.text for token in tokens) == stream.group[1].text


def test_a_text_can_be_replaced(random_pair):
    group = random_pair.generate(ASK, n=2, max_new_tokens=5, keep=lambda _, text: "something else")
    assert group.texts == ["something else"] * 2
    assert group[0].tokens == ()
    assert group[0].finish_reason == "length"


def test_a_filter_that_fails_lets_nothing_through(random_pair):
    def broken(prompt, text):
        raise KeyError(text)

    text = random_pair.generate(ASK, n=1, max_new_tokens=5).texts[0]
    with pytest.raises(
        BacoError, match=r"the filter failed: KeyError \(test_filters.py, line"
    ) as e:
        random_pair.generate(ASK, n=1, max_new_tokens=5, keep=broken)
    words = "".join(traceback.format_exception(e.value))
    assert text not in words
    assert repr(text) not in words


def test_what_else_is_known_of_a_withheld_answer_is_hidden_too(random_pair):
    sample = random_pair.generate(ASK, n=1, max_new_tokens=12, router="rand@0.5")[0]
    assert sample.base_share > 0
    told = replace(sample, details={"string": "part of what the model wrote"})
    for verdict in (False, "something else"):
        hidden = moderate(told, lambda *_, said=verdict: said)
        assert (hidden.details, hidden.base_share, hidden.switches) == (None, 0, 0)


@pytest.mark.parametrize("verdict", [None, 1, 0.5])
def test_only_clear_verdicts_count(random_pair, verdict):
    sample = random_pair.generate(ASK, n=1, max_new_tokens=2)[0]
    with pytest.raises(BacoError, match="it must return True, False or a text"):
        moderate(sample, lambda *_: verdict)


def test_filters_are_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "house_rules_for_test.py").write_text("def allow(prompt, text): return True\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_filter("house_rules_for_test:allow")("a", "b") is True


def test_a_filter_with_a_mistake_in_it(tmp_path, monkeypatch):
    (tmp_path / "broken_rules_for_test.py").write_text("def allow(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="cannot be imported: SyntaxError"):
        load_filter("broken_rules_for_test:allow")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rules", "is not module:function"),
        ("no_such_module_here:f", "cannot be imported"),
        ("json:no_such", "has no function 'no_such'"),
    ],
)
def test_bad_filters(spec, message):
    with pytest.raises(InputError, match=message):
        load_filter(spec)
