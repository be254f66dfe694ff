"""Samples and groups: what is derived from tokens and sources, and their JSON."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco.engine.request import Cost
from baco.errors import InputError, UnsupportedError
from baco.group import (
    FIELDS,
    Group,
    Sample,
    TokenText,
    base_share,
    normalised,
    switches,
)


def sample(index: int = 0, text: str = "A plum.", **fields) -> Sample:
    return Sample(
        **{
            "prompt": "Name a fruit.",
            "index": index,
            "text": text,
            "finish_reason": "stop",
            "seed": 0,
            "method": "baco",
            "router": "p-punc",
            "gamma": 0.3,
            "token_ids": (1, 2, 3),
            "tokens": ("A", " plum", "."),
            "sources": ("aligned", "base", "aligned"),
            "base_share": 1 / 3,
            "switches": 2,
        }
        | fields
    )


def token_strings(pieces: list[bytes]) -> list[str]:
    """The string of each token, and what is left in the end."""
    reader = TokenText(pieces)
    return [*map(reader.add, range(len(pieces))), reader.finish()]


@given(st.text(), st.data())
def test_token_strings_join_to_the_text_wherever_bytes_are_cut(text, data):
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    edges = [0, *cuts, len(raw)]
    pieces = [raw[a:b] for a, b in pairwise(edges)]
    assert "".join(token_strings(pieces)) == text


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=8))
def test_broken_bytes_become_replacement_characters(pieces):
    assert "".join(token_strings(pieces)) == b"".join(pieces).decode(errors="replace")


def test_units_count_not_tokens():
    sources = ["aligned", "base", "base", "base", "aligned"]
    begins = [True, True, False, False, True]
    assert base_share(sources, begins) == pytest.approx(1 / 3)
    assert switches(sources, begins) == 2
    assert base_share([], []) == 0
    assert switches([], []) == 0


def test_json_has_the_agreed_keys_in_order():
    row = sample().as_dict()
    assert list(row) == list(FIELDS)
    agreed = (
        "prompt, index, text, finish_reason, seed, method, router, gamma, control, "
        "token_ids, tokens, sources, base_share, switches"
    )
    assert ", ".join(row) == agreed
    assert Sample.from_dict(json.loads(json.dumps(row))) == sample()


def test_restarts_are_recorded():
    again = sample(attempts=3)
    assert again.as_dict()["attempts"] == 3
    assert Sample.from_dict(again.as_dict()).attempts == 3
    assert Group((sample(), again)).restarts == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, "'text' of a sample is not str"),
        ({"index": True}, "'index' of a sample is not int"),
        ({"tokens": "A"}, "'tokens' of a sample is not a list"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"prompt": ""}, "prompt is empty"),
    ],
)
def test_rows_are_checked(change, message):
    with pytest.raises(InputError, match=message):
        Sample.from_dict(sample().as_dict() | change)


def test_a_missing_key_is_named():
    row = sample().as_dict()
    del row["seed"]
    with pytest.raises(InputError, match="lacks 'seed'"):
        Sample.from_dict(row)


def test_group_figures():
    group = Group(
        (
            sample(0, "A plum.", cost=Cost(4, 3, 4, 2)),
            sample(1, " a  PLUM!", base_share=0.0, switches=0, cost=Cost(1, 1, 0, 0)),
            sample(2, "A pear.", base_share=1.0, switches=1, cost=Cost(3, 0, 0, 0)),
        )
    )
    assert group.texts == ["A plum.", "a  PLUM!", "A pear."]
    assert group[1].index == 1
    assert len(group) == 3
    assert group.base_share == pytest.approx(4 / 9)
    assert group.switches == 1
    assert group.mean_length == 3
    assert group.distinct == 2
    assert group.forwards_per_token == pytest.approx(12 / 9)
    assert group.acceptance == 0.5
    assert group.summary == (
        "base share 0.44, 1.0 switches, mean length 3.0 tokens, 2 of 3 answers distinct as text"
    )


def test_costs_that_are_not_known_are_not_guessed():
    group = Group((sample(cost=Cost(1, 1, 0, 0)), sample(1)))
    assert group.cost is None
    assert group.forwards_per_token is None
    assert group.acceptance is None


def test_comparison_of_texts():
    assert normalised(" The  Plum. ") == normalised("“the plum”")
    assert normalised("plum") != normalised("plums")


def test_an_empty_answer_has_no_share() -> None:
    nothing = sample(1, " \n", token_ids=(), tokens=(), sources=(), base_share=0.0)
    group = Group((sample(base_share=1.0), nothing))
    assert (group.base_share, group.empty) == (1.0, 1)
    assert group.summary.endswith("distinct as text, 1 empty")
    assert (Group((nothing,)).base_share, Group((sample(),)).empty) == (0.0, 0)


def test_texts_begin_with_a_word():
    asked = Group((sample(0, " A plum.\n"), sample(1, "\n\nA pear.")))
    assert asked.texts == ["A plum.\n", "A pear."]
    assert asked[0].text == " A plum.\n"
    begun = [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "A"}]
    assert Group((sample(0, " plum.", prompt=begun),)).texts == [" plum."]


def test_a_group_shows_itself_in_one_line():
    group = Group((sample(0), sample(1, "A pear.")))
    assert repr(group) == f"<Group of 2 answers to 'Name a fruit.': {group.summary}>"
    assert repr(Group(())) == "<Group of 0 answers>"
    assert len(repr(Group((sample(0, prompt="word " * 500),)))) < 300


def test_notebooks_show_who_wrote_what_and_nothing_is_markup():
    nasty = sample(
        0,
        "<b> & pear.",
        prompt="<script>alert(1)</script>",
        tokens=("<b>", " & pear", "."),
        sources=("aligned", "base", "aligned"),
    )
    shown = Group((nasty,))._repr_html_()
    assert "<script>" not in shown
    assert "&lt;b&gt; <b style='color: #b5179e'>&amp; pear</b>." in shown
    assert shown.count("<li") == 1
    assert Group(())._repr_html_() == "&lt;Group of 0 answers&gt;"


def test_a_group_as_a_dictionary():
    group = Group((sample(0), sample(1, "A pear.", base_share=1.0)))
    row = json.loads(json.dumps(group.to_dict()))
    assert [Sample.from_dict(entry) for entry in row["samples"]] == list(group)
    assert (row["prompt"], row["base_share"]) == ("Name a fruit.", group.base_share)
    assert (row["switches"], row["mean_length"], row["distinct"]) == (2, 3, 2)


def test_a_group_as_a_table():
    pytest.importorskip("pandas", reason="needs pandas")
    table = Group((sample(0), sample(1, "A pear."))).to_pandas()
    assert list(table.columns) == list(FIELDS)
    assert list(table["text"]) == ["A plum.", "A pear."]


def test_without_pandas_there_is_a_hint(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UnsupportedError, match="pip install pandas"):
        Group((sample(0),)).to_pandas()
