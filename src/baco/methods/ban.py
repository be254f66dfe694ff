"""Phrases that no answer may hold: finding them in a text that grows, and where they began.

A phrase is found in any case and either Unicode normal form; where it has white space any white
space may stand; where it begins or ends with a letter or digit it must begin or end a word. So what
has been written last may be waiting for the next character.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache
from typing import Self

from baco.engine.units import Char, char_class
from baco.errors import InputError, clipped

MOST_PHRASES = 1000
LONGEST = 200
"""Characters of a phrase at most."""

MOST_REWINDS = 100
"""How often one draw of an answer is taken back at most; then it ends before the phrase."""

_SPACE = re.compile(r"\s+")
_WORD = frozenset({Char.LETTER, Char.DIGIT, Char.EXTEND})


def check_phrases(phrases: Iterable[str]) -> None:
    """Checks phrases and their number.

    Raises:
        InputError: If there are too many, or one is empty, too long or no text.
    """
    given = tuple(phrases)
    if len(given) > MOST_PHRASES:
        raise InputError(
            f"ban has {len(given)} phrases", hint=f"give at most {MOST_PHRASES:,} phrases"
        )
    for phrase in given:
        if not isinstance(phrase, str) or not phrase.strip():
            raise InputError("a phrase of ban is empty", hint="leave it out, or give some text")
        if len(phrase) > LONGEST:
            raise InputError(
                f"the phrase {clipped(phrase)!r} of ban has {len(phrase)} characters",
                hint=f"give phrases of at most {LONGEST} characters",
            )


def folded(text: str) -> str:
    """Returns a text for comparison: no case, decomposed, single spaces.

    Decomposed, because then what is written later only ever adds to it.
    """
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())
    return _SPACE.sub(" ", plain)


def in_word(char: str) -> bool:
    """Whether a character is part of a word that has edges: a letter, digit or mark."""
    return char_class(char) in _WORD


class Phrases:
    """Phrases, ready to be looked for.

    Args:
        phrases: Each not empty.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._sorted = sorted({folded(phrase.strip()) for phrase in phrases})
        self._all = frozenset(self._sorted)
        self._lengths = sorted({len(phrase) for phrase in self._sorted})

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, phrases: tuple[str, ...]) -> Self:
        """Returns the same object for the same phrases."""
        return cls(phrases)

    def begins(self, text: str, *, final: bool) -> bool:
        """Whether a folded text begins with a phrase; at its end a word may still go on.

        Args:
            text: The text from some place on, folded.
            final: Whether nothing follows it.
        """
        for length in self._lengths:
            if length > len(text):
                return False
            if text[:length] in self._all and not (
                in_word(text[length - 1])
                and (in_word(text[length]) if length < len(text) else not final)
            ):
                return True
        return False

    def may_begin(self, text: str) -> bool:
        """Whether a folded text is the beginning of a phrase, or all of one."""
        place = bisect_left(self._sorted, text)
        return place < len(self._sorted) and self._sorted[place].startswith(text)


class Watch:
    """Looks for phrases in a text that grows.

    Args:
        phrases: The phrases.

    Attributes:
        found: Where the first phrase began, in characters; None while there is none.
    """

    def __init__(self, phrases: Phrases) -> None:
        self._phrases = phrases
        self._text = ""
        self._open: list[int] = []
        self.found: int | None = None

    @property
    def open(self) -> int | None:
        """Where the earliest phrase begins that what follows may complete; None for nowhere."""
        return self._open[0] if self._open else None

    def add(self, string: str) -> None:
        """Reads on; nothing happens once a phrase was found."""
        if self.found is not None or not string:
            return
        before = len(self._text)
        self._text += string
        starts = self._open + [i for i in range(before, len(self._text)) if self._is_start(i)]
        self._look(starts, final=False)

    def finish(self, length: int) -> None:
        """Says that the text has so many characters and no more."""
        self.found, self._text = None, self._text[:length]
        self._look([i for i in self._open if i < length], final=True)

    def _is_start(self, i: int) -> bool:
        """Whether a phrase may begin at a character."""
        char = self._text[i]
        return not char.isspace() and not (i and in_word(char) and in_word(self._text[i - 1]))

    def _look(self, starts: list[int], *, final: bool) -> None:
        self._open = []
        for i in starts:
            text = folded(self._text[i:])
            whole = self._phrases.begins(text, final=final)
            if whole and self.found is None:
                self.found = i
            if whole or self._phrases.may_begin(text):
                self._open.append(i)
