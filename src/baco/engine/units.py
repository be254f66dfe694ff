"""The unit state machine: which tokens begin a new unit, given the text so far.

A unit is what must be written by one model: a word, a run of punctuation, a line break. The
machine reads decoded bytes, one character class at a time; a token is judged by its first
character. Where the answer would depend on text that has not been written yet, the token
continues (a full stop after a digit may be a decimal point, an apostrophe after a letter may be
inside a word), so a unit may come out longer than a linguist's word but never shorter.

A state is one integer: the class of the last unit character, plus the bytes of a character that
is still incomplete. All tables are built once per vocabulary; `begins` and `advance` are
vectorised over rows.

Paper: §3 (switching at word boundaries), App. A ("Tokenization Alignment").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import cache
from typing import NamedTuple

from baco.engine.lazy import torch


class Char(IntEnum):
    """Character classes."""

    SPACE = 0
    NEWLINE = 1
    LETTER = 2  # letters and connectors such as "_"
    DIGIT = 3
    APOSTROPHE = 4
    DECIMAL = 5  # "." and ","
    PUNCTUATION = 6  # every other sign
    IDEOGRAPH = 7  # a letter of a script that is written without spaces
    SYMBOL = 8  # emoji and other pictures
    FLAG = 9  # regional indicators, which come in pairs
    EXTEND = 10  # combining marks, variation selectors, skin tones, format characters
    JOINER = 11  # zero-width joiner
    UNKNOWN = 12  # an incomplete character that could still become anything


class State(IntEnum):
    """What the text ends with."""

    START = 0
    SPACE = 1
    NEWLINE = 2
    LETTER = 3
    DIGIT = 4
    APOSTROPHE = 5  # an apostrophe after a letter or digit, perhaps inside a word
    DECIMAL = 6  # a "." or "," after a digit, perhaps inside a number
    PUNCTUATION = 7
    IDEOGRAPH = 8
    SYMBOL = 9
    FLAG = 10  # the first half of a flag
    JOINED = 11  # a joiner after a symbol


START = int(State.START)
"""The state before any text."""

_PENDING = len(State)  # the row of the `begins` table for states with an incomplete character

# Scripts written without spaces between words; only their letters count (not digits, marks).
_NO_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x3007),  # ideographic iteration mark, closing mark, zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3031, 0x3035),  # vertical kana repeat marks
    (0x3038, 0x303C),
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # CJK unified ideographs
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),  # Myanmar extended
    (0xAA60, 0xAADF),  # Myanmar extended, Tai Viet
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # halfwidth Katakana
    (0x1AFF0, 0x1B16F),  # kana supplements
    (0x20000, 0x3FFFF),
)

_NEWLINES = frozenset("\n\r\v\f\x85\u2028\u2029")


@cache
def char_class(char: str) -> Char:
    """Returns the class of one character."""
    code = ord(char)
    category = unicodedata.category(char)
    if char in _NEWLINES:
        return Char.NEWLINE
    if category == "Zs" or char in "\t\u200b":
        return Char.SPACE
    if char in "'\u2019":
        return Char.APOSTROPHE
    if char in ".,":
        return Char.DECIMAL
    if char == "\u200d":
        return Char.JOINER
    # Whole planes count as one class, assigned or not, so that tables stay small and lasting.
    if 0x20000 <= code < 0x40000:
        return Char.IDEOGRAPH
    if (
        category in ("Mn", "Mc", "Me", "Cf")
        or 0x1F3FB <= code <= 0x1F3FF
        or 0xE0000 <= code < 0xE1000
    ):
        return Char.EXTEND
    if 0x1F1E6 <= code <= 0x1F1FF:
        return Char.FLAG
    if category[0] == "L" or category == "Nl":
        inside = any(low <= code <= high for low, high in _NO_SPACES)
        return Char.IDEOGRAPH if inside else Char.LETTER
    if category == "Pc":
        return Char.LETTER
    if category in ("Nd", "No"):
        return Char.DIGIT
    if category == "So":
        return Char.SYMBOL
    return Char.PUNCTUATION


# A sign after a lone apostrophe or decimal mark shows that this was punctuation after all; the
# run they form is already part of the unit.
_RUN = frozenset({State.PUNCTUATION, State.APOSTROPHE, State.DECIMAL, State.SPACE})

_CONTINUES: dict[Char, frozenset[State]] = {
    Char.SPACE: frozenset({State.SPACE}),
    Char.NEWLINE: frozenset({State.NEWLINE}),
    Char.LETTER: frozenset({State.LETTER, State.DIGIT, State.APOSTROPHE, State.SPACE}),
    Char.DIGIT: frozenset(
        {State.LETTER, State.DIGIT, State.APOSTROPHE, State.DECIMAL, State.SPACE}
    ),
    Char.APOSTROPHE: _RUN,
    Char.DECIMAL: _RUN,
    Char.PUNCTUATION: _RUN,
    Char.IDEOGRAPH: frozenset({State.SPACE}),
    Char.SYMBOL: frozenset({State.SPACE, State.JOINED}),
    Char.FLAG: frozenset({State.SPACE, State.FLAG}),
}

_BECOMES: dict[Char, State] = {
    Char.SPACE: State.SPACE,
    Char.NEWLINE: State.NEWLINE,
    Char.LETTER: State.LETTER,
    Char.DIGIT: State.DIGIT,
    Char.APOSTROPHE: State.PUNCTUATION,
    Char.DECIMAL: State.PUNCTUATION,
    Char.PUNCTUATION: State.PUNCTUATION,
    Char.IDEOGRAPH: State.IDEOGRAPH,
    Char.SYMBOL: State.SYMBOL,
    Char.FLAG: State.FLAG,
}


def transition(state: State, char: Char, following: Char | None) -> tuple[bool, State]:
    """Reads one character.

    Args:
        state: What the text ends with.
        char: The character's class.
        following: The class of the character after it, or None where that is not known yet.

    Returns:
        Whether the character begins a new unit, and the state after it.
    """
    if char in (Char.EXTEND, Char.JOINER, Char.UNKNOWN):
        if state is State.START:
            return True, State.PUNCTUATION
        joins = char is Char.JOINER and state is State.SYMBOL
        return False, State.JOINED if joins else state
    if char is Char.APOSTROPHE and state in (State.LETTER, State.DIGIT):
        if following in (None, Char.LETTER, Char.DIGIT):
            return False, State.APOSTROPHE
        return True, State.PUNCTUATION
    if char is Char.DECIMAL and state is State.DIGIT:
        if following in (None, Char.DIGIT):
            return False, State.DECIMAL
        return True, State.PUNCTUATION
    becomes = _BECOMES[char]
    if char is Char.FLAG and state is State.FLAG:
        becomes = State.SYMBOL  # the pair is complete
    return state not in _CONTINUES[char], becomes


def _read(state: State, chars: Sequence[Char]) -> tuple[bool, State]:
    """Reads the classes of a token; returns whether its first one begins a unit, and the end."""
    begins = False
    for i, char in enumerate(chars):
        following = chars[i + 1] if i + 1 < len(chars) else None
        first, state = transition(state, char, following)
        if i == 0:
            begins = first
    return begins, state


def segment(text: str) -> list[str]:
    """Splits a text into its units; joined again they are the text.

    Args:
        text: Any text.

    Returns:
        The units, none of them empty.
    """
    units: list[str] = []
    state = State.START
    classes = [char_class(c) for c in text]
    for i, char in enumerate(text):
        following = classes[i + 1] if i + 1 < len(text) else None
        begins, state = transition(state, classes[i], following)
        if begins:
            units.append(char)
        else:
            units[-1] += char
    return units


def _expected_length(lead: int) -> int:
    """Returns how many bytes a UTF-8 character has that starts with this byte."""
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _split(token: bytes) -> tuple[bytes, str, bytes]:
    """Splits a token into leading continuation bytes, whole characters, an incomplete tail."""
    start = 0
    while start < min(len(token), 3) and 0x80 <= token[start] < 0xC0:
        start += 1
    lead, rest = token[:start], token[start:]
    tail = b""
    for back in range(1, min(3, len(rest)) + 1):
        byte = rest[-back]
        if 0xC2 <= byte <= 0xF4:
            if _expected_length(byte) > back:
                rest, tail = rest[:-back], rest[-back:]
            break
        if byte < 0x80:
            break
    return lead, rest.decode("utf-8", errors="replace"), tail


@cache
def _tail_class(tail: bytes) -> Char:
    """Returns the class that every character starting with these bytes has, else UNKNOWN."""
    missing = _expected_length(tail[0]) - len(tail)
    low = _code_point(int.from_bytes(tail + b"\x80" * missing), len(tail) + missing)
    high = _code_point(int.from_bytes(tail + b"\xbf" * missing), len(tail) + missing)
    classes = {char_class(chr(code)) for code in range(low, min(high, 0x10FFFF) + 1)}
    if len(classes) == 1:
        return classes.pop()
    return Char.IDEOGRAPH if classes == {Char.IDEOGRAPH, Char.SYMBOL} else Char.UNKNOWN


def _code_point(packed: int, length: int) -> int:
    """Decodes one UTF-8 character given as a big-endian integer."""
    code = (packed >> 8 * (length - 1)) & (0x1F, 0x0F, 0x07)[length - 2]
    for i in range(length - 2, -1, -1):
        code = code << 6 | (packed >> 8 * i) & 0x3F
    return code


def _pack(data: bytes) -> int:
    """Packs up to three bytes with their count: count * 2**24 + big-endian value."""
    return len(data) << 24 | int.from_bytes(data) if data else 0


@cache
def _transitions_after_character() -> torch.Tensor:
    """State after one character read with nothing known of the next: int64 [State, Char]."""
    return torch.tensor([[int(transition(s, c, None)[1]) for c in Char] for s in State])


@cache
def _class_table() -> torch.Tensor:
    """Class of every code point: uint8 [0x110000]."""
    table = torch.full((0x110000,), int(Char.PUNCTUATION), dtype=torch.uint8)
    table[:0x20000] = torch.tensor([int(char_class(chr(c))) for c in range(0x20000)])
    table[0x20000:0x40000] = int(Char.IDEOGRAPH)
    table[0xE0000:0xE1000] = int(Char.EXTEND)
    return table


_SENTENCE_END = re.compile("|".join(["[.?!\n]", *"…。！？।"]).encode())


class TokenTables(NamedTuple):
    """What the state machine knows of each token of a vocabulary, on the host.

    Attributes:
        begins: Whether a token begins a unit: bool [states and one for pending, vocabulary].
        after: The state after it: uint8 [states, vocabulary].
        lead: Its leading continuation bytes, packed: int64 [vocabulary].
        tail: The bytes of an incomplete character at its end, packed: int64 [vocabulary].
        ends_sentence: As of `UnitTable`.
        breaks_line: As of `UnitTable`.
        stops_repeats: As of `UnitTable`.
    """

    begins: torch.Tensor
    after: torch.Tensor
    lead: torch.Tensor
    tail: torch.Tensor
    ends_sentence: torch.Tensor
    breaks_line: torch.Tensor
    stops_repeats: torch.Tensor


def token_tables(tokens: Sequence[bytes]) -> TokenTables:
    """Reads every token of a vocabulary once.

    Args:
        tokens: The bytes of each token id; empty for special tokens.
    """
    lead, tail, only_tail, kind = [], [], [], []
    # Tokens of the same shape behave alike; there are few shapes.
    shapes: dict[tuple[tuple[Char, ...], bool], int] = {}
    for token in tokens:
        first, text, last = _split(token)
        chars = _collapse([char_class(c) for c in text])
        only_tail.append(bool(last) and not chars)
        if only_tail[-1]:
            chars = [_tail_class(last)]
        kind.append(shapes.setdefault((tuple(chars), bool(first)), len(shapes)))
        lead.append(_pack(first))
        tail.append(_pack(last))
    begins = [
        [
            (_read(state, chars)[0] and not starts_inside) or state is State.START
            for chars, starts_inside in shapes
        ]
        for state in State
    ]
    after = [[int(_read(state, chars)[1]) for chars, _ in shapes] for state in State]
    which = torch.tensor(kind, dtype=torch.int64)
    states = torch.arange(len(State), dtype=torch.uint8)[:, None]
    nothing = torch.zeros(1, len(tokens), dtype=torch.bool)
    return TokenTables(
        torch.cat([torch.tensor(begins, dtype=torch.bool)[:, which], nothing]),
        # A token that is only an incomplete tail leaves the class as it was until completed.
        torch.where(
            torch.tensor(only_tail, dtype=torch.bool),
            states,
            torch.tensor(after, dtype=torch.uint8)[:, which],
        ),
        torch.tensor(lead, dtype=torch.int64),
        torch.tensor(tail, dtype=torch.int64),
        torch.tensor([_SENTENCE_END.search(t) is not None for t in tokens], dtype=torch.bool),
        torch.tensor([Char.NEWLINE in chars for chars, _ in shapes], dtype=torch.bool)[which],
        torch.tensor([any(m in t for m in b'\n:"*') for t in tokens], dtype=torch.bool),
    )


class UnitTable:
    """The state machine over one vocabulary.

    Args:
        tokens: The bytes of each token id; empty for special tokens. Or what was read of them.
        ends: Ids of end tokens; they begin a unit whatever came before.
        device: Where the tables live.

    Attributes:
        ends_sentence: Which tokens hold a mark that ends a sentence, or a line break: bool
            [vocabulary]. A rough rule: it also takes the point of an abbreviation for an end.
        breaks_line: Which tokens hold a line break: bool [vocabulary].
        stops_repeats: Which hold a mark that no repeat reaches over: bool [vocabulary].
    """

    def __init__(
        self,
        tokens: Sequence[bytes] | TokenTables,
        ends: Iterable[int] = (),
        device: torch.device | str = "cpu",
    ) -> None:
        tables = tokens if isinstance(tokens, TokenTables) else token_tables(tokens)
        begins = tables.begins.clone()
        begins[:, list(ends)] = True
        self.ends_sentence = tables.ends_sentence.to(device)
        self.breaks_line = tables.breaks_line.to(device)
        self.stops_repeats = tables.stops_repeats.to(device)
        self._begins = begins.to(device)
        self._after = tables.after.to(device)
        self._lead = tables.lead.to(device)
        self._tail = tables.tail.to(device)

    def beside(self, other: UnitTable) -> UnitTable:
        """The state machine over this vocabulary with another one's tokens after its own."""
        device = self._after.device
        pairs = ((a, b.to(device)) for a, b in zip(self._tables, other._tables, strict=True))
        return UnitTable(TokenTables(*(torch.cat(pair, dim=-1) for pair in pairs)), (), device)

    @property
    def _tables(self) -> TokenTables:
        return TokenTables(
            self._begins,
            self._after,
            self._lead,
            self._tail,
            self.ends_sentence,
            self.breaks_line,
            self.stops_repeats,
        )

    def begins(self, states: torch.Tensor) -> torch.Tensor:
        """Returns B(q) for each row.

        Args:
            states: int64 [n].

        Returns:
            bool [n, vocabulary]: True where a token would begin a new unit.
        """
        return self._begins[self.line(states)]

    def begins_token(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Returns whether tokens would begin a new unit after the states: bool.

        Args:
            states: int64 of any shape.
            tokens: int64, of the same shape or one it broadcasts with.
        """
        return self._begins[self.line(states), tokens]

    @property
    def begins_all(self) -> torch.Tensor:
        """B(q) of every line (see `line`): bool [any, vocabulary]."""
        return self._begins

    def line(self, states: torch.Tensor) -> torch.Tensor:
        """Returns which line of `begins_all` holds for states: int64, any shape."""
        return (states & 0xFF).masked_fill(self.within(states), _PENDING)

    def on_host(self) -> UnitTable:
        """Returns the same state machine on the host."""
        if self._after.device.type == "cpu":
            return self
        return UnitTable(TokenTables(*(table.cpu() for table in self._tables)))

    def sentences(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Returns how many sentences some texts have finished: int64 [n].

        Args:
            texts: Token ids. Tokens in a row that each end a sentence end one.
        """
        counts = []
        for text in texts:
            ends = self.ends_sentence[torch.tensor(text, dtype=torch.int64)]
            counts.append(int(ends.sum()) - int((ends[1:] & ends[:-1]).sum()))
        return torch.tensor(counts, dtype=torch.int64, device=self.ends_sentence.device)

    def turn(self, turns: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Counts sentences token by token: `sentences` of a text is ``(turns + 1) >> 1``.

        Args:
            turns: How often each text has come to an end of a sentence, or gone on after one:
                int64 [n]; 0 before any text, odd at an end.
            tokens: int64 [n].

        Returns:
            The turns after one token each, int64 [n].
        """
        return turns + ((turns ^ self.ends_sentence[tokens].long()) & 1)

    def within(self, states: torch.Tensor) -> torch.Tensor:
        """Whether states are within a character that has not all its bytes yet: bool, any shape."""
        return states >> 8 != 0

    def advance(
        self, states: torch.Tensor, tokens: torch.Tensor, whole: bool | None = None
    ) -> torch.Tensor:
        """Returns the states after one token each.

        Args:
            states: int64 [n].
            tokens: int64 [n].
            whole: Whether no state is `within` a character; None if that is to be looked up.

        Returns:
            int64 [n].
        """
        last, pending = states & 0xFF, states >> 8
        if not whole and bool((pending != 0).any()):
            last, pending = self._complete(last, pending, tokens)
        else:
            pending = self._tail[tokens]
            return self._after[last, tokens].long() | pending << 8
        after = self._after[last, tokens].long()
        done = pending == 0
        return torch.where(done, after | self._tail[tokens] << 8, last | pending << 8)

    def state_after(self, tokens: Sequence[int]) -> int:
        """Returns the state after a whole text's tokens."""
        state = torch.tensor([START], device=self._after.device)
        for token in tokens:
            state = self.advance(state, torch.tensor([token], device=state.device))
        return int(state)

    def _complete(
        self, last: torch.Tensor, pending: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds the tokens' leading continuation bytes to the incomplete characters.

        Returns the states after characters that became whole, and what is still incomplete
        (0 where nothing is, also where the next token leaves a character broken).
        """
        lead = self._lead[tokens]
        have, extra = pending >> 24, lead >> 24
        value = (pending & 0xFFFFFF) << 8 * extra | lead & 0xFFFFFF
        count = have + extra
        first = (pending & 0xFFFFFF) >> 8 * (have - 1).clamp(min=0)
        need = torch.where(first < 0xE0, 2, torch.where(first < 0xF0, 3, 4))
        done = (pending != 0) & (extra > 0) & (count >= need)
        value = value >> 8 * (count - need).clamp(min=0)
        code = (
            (value >> 8 * (need - 1))
            & torch.where(need == 2, 0x1F, 0x0F)
            & torch.where(need == 4, 0x07, 0x1F)
        )
        for i in (2, 1, 0):
            code = torch.where(need - 2 >= i, code << 6 | (value >> 8 * i) & 0x3F, code)
        classes = _class_table().to(code.device)[code.clamp(0, 0x10FFFF)].long()
        whole = _transitions_after_character().to(code.device)[last, classes]
        waiting = (pending != 0) & (extra > 0) & (count < need)
        return (
            torch.where(done, whole, last),
            torch.where(waiting, count << 24 | value, 0),
        )


def _collapse(chars: list[Char]) -> list[Char]:
    """Drops repeats of classes whose second occurrence changes nothing."""
    keep = (Char.APOSTROPHE, Char.DECIMAL, Char.FLAG)
    return [c for i, c in enumerate(chars) if i == 0 or c != chars[i - 1] or c in keep]
