"""From token ids to text: stop strings, held-back tokens, cut characters."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco.methods.reader import Reader


def read(pieces: list[bytes], stop: tuple[str, ...] = (), hold: int = 0) -> tuple[Reader, list]:
    """Reads pieces one by one; returns the reader and what was released after each."""
    reader = Reader(pieces, stop, hold)
    shown = []
    for token in range(len(pieces)):
        reader.add(token, "base" if token % 2 else "aligned", True)
        shown.append(reader.release())
        if reader.stopped:
            break
    reader.finish()
    shown.append(reader.release(final=True))
    return reader, shown


def texts(released: list) -> list[list[str]]:
    return [[text for text, _ in step] for step in released]


def test_without_stop_strings_tokens_come_at_once():
    reader, shown = read([b"A", b" plum", b"."])
    assert texts(shown) == [["A"], [" plum"], ["."], []]
    assert [source for step in shown for _, source in step] == ["aligned", "base", "aligned"]
    assert reader.text == "A plum."


def test_characters_come_with_the_token_that_completes_them():
    reader, shown = read(["é".encode()[:1], "é".encode()[1:], b"!"])
    assert texts(shown) == [[], ["", "é"], ["!"], []]
    assert reader.strings == ["", "é", "!"]


def test_an_incomplete_end_becomes_a_replacement_character():
    reader, shown = read([b"A", "é".encode()[:1]])
    assert reader.text == "A\ufffd"
    assert texts(shown) == [["A"], [], ["\ufffd"]]
    assert reader.strings == ["A", "\ufffd"]


def test_text_ends_before_the_stop_string_and_its_start_was_never_shown():
    reader, shown = read([b"A plum", b".\n", b"Question", b": more"], ("\nQuestion:",))
    assert reader.text == "A plum."
    assert reader.stopped
    assert texts(shown) == [["A plum"], [], [], [], ["."]]
    assert reader.ids == [0, 1]
    assert reader.sources == ["aligned", "base"]


def test_a_start_of_a_stop_string_that_does_not_go_on_is_shown_late():
    _, shown = read([b"a", b"x", b"y", b"b"], ("xyz",))
    assert texts(shown) == [["a"], [], [], ["x", "y", "b"], []]


def test_the_earliest_stop_string_wins():
    reader, _ = read([b"one two three"], ("three", "two"))
    assert reader.text == "one "


def test_tokens_after_the_stop_string_are_ignored():
    reader, _ = read([b"a", b"STOP", b"b"], ("STOP",))
    reader.add(2, "base", True)
    assert reader.text == "a"


def test_the_first_tokens_are_held_back():
    _, shown = read([b"a", b"b", b"c", b"d"], hold=3)
    assert texts(shown) == [[], [], ["a", "b", "c"], ["d"], []]


@given(
    st.lists(st.text("abc", max_size=3).map(str.encode), max_size=8),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(tuple),
    st.integers(0, 5),
)
def test_what_is_shown_is_the_text_and_stops_where_python_says(pieces, stop, hold):
    reader, shown = read(pieces, stop, hold)
    whole = b"".join(pieces).decode()
    # The text after the token in which the first stop string is complete is never seen.
    seen = ""
    for piece in pieces:
        seen += piece.decode()
        found = [seen.find(s) for s in stop if s in seen]
        if found:
            whole = seen[: min(found)]
            break
    assert reader.text == whole
    assert "".join(text for step in texts(shown) for text in step) == whole
    assert len(reader.ids) == len(reader.strings) == len(reader.sources) == len(reader.begins)


@pytest.mark.parametrize("stop", [(), ("zz",)])
def test_nothing_is_shown_twice(stop):
    _, shown = read([b"a", b"z", b"b", b"z"], stop)
    assert [text for step in texts(shown) for text in step] == ["a", "z", "b", "z"]


BYTES = [bytes([i]) for i in range(256)] + ["né".encode(), "😀".encode(), b"ab", b"bc", b"abc"]


@given(
    st.lists(st.sampled_from([97, 98, 99, 256, 257, 258, 259, 260, 0xF0, 0x9F, 0xC3]), max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4).map(tuple),
)
def test_broken_characters_too_are_shown_once_and_nothing_shown_is_taken_back(tokens, stop):
    reader, shown = read([BYTES[token] for token in tokens], stop)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    whole = ""
    for token in tokens:
        whole += decoder.decode(BYTES[token])
        places = [at for s in stop if (at := whole.find(s)) >= 0]
        if places:
            whole = whole[: min(places)]
            break
    else:
        whole += decoder.decode(b"", final=True)
    assert "".join(text for step in texts(shown) for text in step) == reader.text == whole
    assert sum(map(len, shown)) == len(reader.ids)


def test_a_character_over_several_tokens_comes_whole():
    _, shown = read([bytes([b]) for b in "😀".encode()])
    assert texts(shown) == [[], [], [], ["", "", "", "😀"], []]


BOUNDARY = "\n\nQuestion:"


def turns(pieces: list[str], sources: list[str], stop: tuple[str, ...] = ()) -> Reader:
    """Reads pieces with a boundary that the aligned model's words may hold."""
    reader = Reader([p.encode() for p in pieces], stop, 0, BOUNDARY, "aligned")
    for token, source in enumerate(sources):
        reader.add(token, source, True)
    reader.finish()
    return reader


def test_an_answer_ends_where_the_base_model_opens_a_turn():
    reader = turns(["A plum.", "\n\n", "Question", ":", " Why?"], ["aligned"] + ["base"] * 4)
    assert reader.text == "A plum."
    assert reader.stopped
    assert reader.turned
    assert reader.ids == [0]


def test_who_opens_the_turn_is_who_wrote_its_first_character():
    pieces = ["A plum.", "\n", "\nQuestion", ":"]
    reader = turns(pieces, ["aligned", "base", "aligned", "aligned"])
    assert reader.text == "A plum."
    kept = turns(pieces, ["base", "aligned", "base", "base"])
    assert kept.text == "".join(pieces)
    assert not kept.stopped


def test_no_part_of_a_boundary_is_shown_before_it_is_known():
    reader = Reader([b"A plum.", b"\n\n", b"Question", b":"], (), 0, BOUNDARY)
    shown = []
    for token in range(4):
        reader.add(token, "base", True)
        shown += [text for text, _ in reader.release()]
    assert shown == ["A plum."]


def test_a_stop_string_before_the_boundary_is_what_stopped_it():
    reader = turns(["A plum", ".\n\n", "Question:"], ["base"] * 3, ("um",))
    assert reader.text == "A pl"
    reader = turns(["A plum", ".\n\nQuestion:"], ["base"] * 2, (".",))
    assert (reader.text, reader.turned) == ("A plum", False)
