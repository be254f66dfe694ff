"""The unit state machine against plain segmentation, and against Unicode's word boundaries."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import regex
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco.engine.units import START, Char, State, UnitTable, char_class, segment

SHARED = Path(__file__).parents[3] / "shared" / "tokenizers"

TEXTS = [
    "Hello, world! Don't stop: it's 3.14 (about), isn't it?",
    "The U.S. paid $1,234.56 on 2024-05-06 at 10:30; e.g. here.",
    "naïve café — façade… “quoted” ‘words’ and rock’n’roll",
    "def f(x_1, y=2):\n    return x_1 ** 2  # square\n\n\tif a != b: pass",
    "# Title\n\n* one\n* two\n\n1. first\n2. second\n",
    "family 👨‍👩‍👧‍👦, thumbs 👍🏽👍, flags 🇩🇪🇫🇷, heart ❤️, keycap 1️⃣",
    "日本語のテキスト、漢字とカナ。中文没有空格！한국어는 띄어쓰기",
    "ภาษาไทยไม่มีวรรค กขค",
    "e\u0301te\u0301 ko\u0308nnen x\u0304y",
    "snake_case and kebab-case and CamelCase2B",
    "tabs\tand\u00a0hard spaces  double   triple\r\nnext",
    "",
]

ANY_TEXT = st.text(
    st.one_of(
        st.sampled_from("abcXYZ 019.,'’-_!?\n\t()é漢字ก👍🏽\u200d👩🇩🇪\u0301\ufe0f한и"),
        st.characters(codec="utf-8"),
    ),
    max_size=40,
)


@given(ANY_TEXT)
def test_units_are_a_partition(text: str) -> None:
    units = segment(text)
    assert "".join(units) == text
    assert all(units)


def boundaries(parts: list[str]) -> set[int]:
    out, at = set(), 0
    for part in parts:
        out.add(at)
        at += len(part)
    return out


# Where our boundary stands inside a word of Unicode's (UAX #29), with the reason.
ALLOWED_INSIDE = {
    # A full stop or colon between letters ends a unit: at a sentence's end the next word is not
    # yet written, and the mark itself is what routers look at. ("example.com" is three units.)
    "mark in a word": lambda before, after: before in ".:·․﹒'．：‧" or after in ".:·․﹒．：‧",
    # Katakana is written without spaces: every character begins a unit.
    "no spaces": lambda before, after: Char.IDEOGRAPH in (char_class(before), char_class(after)),
    # Pictures of letters are letters to Unicode, pictures here.
    "picture": lambda before, after: (
        {Char.SYMBOL, Char.FLAG} & {char_class(before), char_class(after)}
    ),
    # Unicode's word break joins what follows a zero-width joiner only if it is a picture.
    "format": lambda before, after: char_class(before) in (Char.JOINER, Char.EXTEND),
    # Unicode joins double quotes inside Hebrew words.
    "hebrew": lambda before, after: '"' in (before, after),
    # Some modifier signs, and characters that Python's Unicode version does not know yet.
    "unlike versions": lambda before, after: (
        {"Sk", "Cn"} & {unicodedata.category(before), unicodedata.category(after)}
    ),
    # Number marks beyond "." and "," (fullwidth, Arabic ...) are punctuation here.
    "number mark": lambda before, after: before in ";٬٫，；'’" or after in ";٬٫，；",
}


@pytest.mark.parametrize("text", TEXTS)
def test_no_boundary_inside_a_unicode_word(text: str) -> None:
    check_against_unicode(text)


@given(ANY_TEXT)
def test_no_boundary_inside_a_unicode_word_of_any_text(text: str) -> None:
    check_against_unicode(text)


def check_against_unicode(text: str) -> None:
    words = {m.start() for m in regex.finditer(r"\b", text, flags=regex.WORD)}
    for at in boundaries(segment(text)) - words:
        before, after = text[at - 1], text[at]
        assert any(rule(before, after) for rule in ALLOWED_INSIDE.values()), (text, at)


def test_what_a_unit_is() -> None:
    assert segment("It's 3.14, isn't it?!  OK\n\nYes.") == [
        "It's", " 3.14", ",", " isn't", " it", "?!", "  OK", "\n\n", "Yes", "."
    ]  # fmt: skip
    assert segment("👨‍👩‍👧👍🏽 🇩🇪🇫🇷") == ["👨‍👩‍👧", "👍🏽", " 🇩🇪", "🇫🇷"]
    assert segment("漢字ok") == ["漢", "字", "ok"]


BYTES = UnitTable([bytes([i]) for i in range(256)])


def token_units(table: UnitTable, tokens: list[bytes], ids: list[int]) -> list[bytes]:
    """Splits a token sequence at the tokens that begin a unit."""
    state = torch.tensor([START])
    units: list[bytes] = []
    for i in ids:
        token = torch.tensor([i])
        begins = bool(table.begins_token(state, token))
        assert begins == bool(table.begins(state)[0, i])
        state = table.advance(state, token)
        if begins or not units:
            units.append(b"")
        units[-1] += tokens[i]
    return units


@given(ANY_TEXT)
def test_bytes_never_break_inside_a_unit(text: str) -> None:
    """Byte by byte, boundaries are a subset of the text's: what is unclear continues."""
    data = text.encode()
    units = token_units(BYTES, [bytes([i]) for i in range(256)], list(data))
    assert b"".join(units) == data
    whole, at = set(), 0
    for unit in segment(text):
        whole.add(at)
        at += len(unit.encode())
    at = 0
    for unit in units:
        assert at in whole, (text, at)
        at += len(unit)


@given(ANY_TEXT, st.lists(st.integers(1, 7), min_size=1, max_size=30))
def test_any_tokenisation_never_breaks_inside_a_unit(text: str, cuts: list[int]) -> None:
    """However a text is cut into byte strings, tokens begin units only where units begin."""
    data = text.encode()
    tokens, at, i = [], 0, 0
    while at < len(data):
        tokens.append(data[at : at + cuts[i % len(cuts)]])
        at += cuts[i % len(cuts)]
        i += 1
    if not tokens:
        return
    table = UnitTable(tokens)
    units = token_units(table, tokens, list(range(len(tokens))))
    whole, at = set(), 0
    for unit in segment(text):
        whole.add(at)
        at += len(unit.encode())
    at = 0
    for unit in units:
        assert at in whole, (text, tokens)
        at += len(unit)


def test_everything_begins_at_the_start_and_ends_always_begin() -> None:
    table = UnitTable([b"a", b" b", b"\xa9", b"", b"'"], ends=[3])
    assert table.begins(torch.tensor([START])).all()
    for state in State:
        assert table.begins(torch.tensor([int(state)]))[0, 3]
    # Inside an incomplete character nothing begins but an end.
    table = UnitTable([b"\xc3", b"\xa9", b" x", b""], ends=[3])
    state = table.advance(torch.tensor([START]), torch.tensor([0]))
    assert table.begins(state)[0].tolist() == [False, False, False, True]
    whole = table.advance(state, torch.tensor([1]))
    assert whole.tolist() == [int(State.LETTER)]


@pytest.mark.parametrize("name", ["gpt-neox", "olmo-2"])
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real tokenizers are not at hand (../shared)")
def test_real_tokenizers(name: str) -> None:
    from transformers import PreTrainedTokenizerFast

    from baco.models.tokens import token_bytes

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(SHARED / name / "tokenizer.json"))
    tokens = token_bytes(tokenizer)
    table = UnitTable(tokens)
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        data = tokenizer.decode(ids, clean_up_tokenization_spaces=False).encode()
        assert b"".join(tokens[i] for i in ids) == data
        whole, at = set(), 0
        for unit in segment(data.decode()):
            whole.add(at)
            at += len(unit.encode())
        at = 0
        for piece in token_units(table, tokens, ids):
            assert at in whole, (text, at)
            at += len(piece)


def test_two_vocabularies_beside_each_other() -> None:
    one = [b"a", b" b", b"\xa9", b"", b"\xf0\x9f"]
    other = [b"'", b"\n", b"12", b"", b"x."]
    both = UnitTable(one, [3]).beside(UnitTable(other, [3]))
    wanted = UnitTable([*one, *other], [3, 8])
    for found, right in zip(both._tables, wanted._tables, strict=True):
        assert torch.equal(found, right)
