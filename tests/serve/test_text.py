from __future__ import annotations

import codecs

from hypothesis import given
from hypothesis import strategies as st

from baco.engine import ALIGNED
from baco.serve.text import TextStream

BYTES = [bytes([i]) for i in range(256)] + ["né".encode(), "😀".encode(), b"ab", b"bc", b"abc"]

ids = st.lists(st.integers(0, len(BYTES) - 1), max_size=30)
letters = st.lists(st.sampled_from([97, 98, 99, 258, 259, 260, 257, 0xF0, 0x9F]), max_size=30)
stops = st.lists(st.text("abc", min_size=1, max_size=4), max_size=4)


def read(tokens: list[int], stop: list[str]) -> tuple[list[str], bool]:
    """Reads tokens; returns the released pieces of text and whether a stop was met."""
    stream = TextStream(BYTES, stop)
    out: list[str] = []
    for token in tokens:
        out += [piece.text for piece in stream.push(token, ALIGNED, True)]
        if stream.stopped:
            return out, True
    return out + [piece.text for piece in stream.flush()], False


@given(ids)
def test_pieces_joined_are_the_text_and_every_token_has_one(tokens: list[int]) -> None:
    pieces, stopped = read(tokens, [])
    whole = b"".join(BYTES[t] for t in tokens).decode(errors="replace")
    assert "".join(pieces) == whole
    assert len(pieces) == len(tokens)
    assert not stopped


@given(letters, stops)
def test_text_ends_before_the_first_stop_string(tokens: list[int], stop: list[str]) -> None:
    pieces, stopped = read(tokens, stop)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, expected = "", None
    for token in tokens:
        text += decoder.decode(BYTES[token])
        places = [at for s in stop if (at := text.find(s)) >= 0]
        if places:
            expected = text[: min(places)]
            break
    else:
        text += decoder.decode(b"", final=True)
    assert stopped == (expected is not None)
    assert "".join(pieces) == (text if expected is None else expected)


@given(letters, stops)
def test_nothing_is_released_that_is_taken_back(tokens: list[int], stop: list[str]) -> None:
    answer = "".join(read(tokens, stop)[0])
    stream = TextStream(BYTES, stop)
    released = ""
    for token in tokens:
        released += "".join(p.text for p in stream.push(token, ALIGNED, True))
        assert answer.startswith(released)
        if stream.stopped:
            break


def test_a_character_over_several_tokens_comes_whole() -> None:
    stream = TextStream(BYTES)
    told = [stream.push(b, ALIGNED, True) for b in "😀".encode()]
    assert [len(pieces) for pieces in told] == [0, 0, 0, 4]
    assert [piece.text for piece in told[-1]] == ["", "", "", "😀"]


def test_a_broken_end_becomes_one_replacement_character() -> None:
    assert read([97, 0xF0, 0x9F], [])[0] == ["a", "", "\ufffd"]
