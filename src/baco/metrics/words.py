"""Words of a text, as the lexical metrics see them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from baco.errors import missing_extra

UNTRAINED = "NLTK words, untrained Punkt"
TRAINED = "NLTK word_tokenize, punkt_tab"

UNSPACED = "; UAX #29 in scripts without spaces"
"""What follows a tokenizer's name where it also splits scripts that put no spaces between words."""


@functools.cache
def _untrained() -> tuple[Any, Any]:
    try:
        from nltk.tokenize.destructive import NLTKWordTokenizer
        from nltk.tokenize.punkt import PunktSentenceTokenizer
    except ImportError as error:
        raise missing_extra("nltk", "metrics") from error
    return PunktSentenceTokenizer(), NLTKWordTokenizer()


@functools.cache
def tokenizer_name() -> str:
    """Which word tokenizer this machine uses: the trained one if its data is installed.

    Returns:
        `TRAINED` or `UNTRAINED`, which differ at abbreviations only, with `UNSPACED`.
    """
    _untrained()
    from nltk.data import find

    try:
        find("tokenizers/punkt_tab/english/")
    except (LookupError, OSError):
        return UNTRAINED + UNSPACED
    return TRAINED + UNSPACED


def sentences(text: str) -> list[str]:
    """Splits a text into sentences with the untrained Punkt rules, on every machine alike."""
    return list(_untrained()[0].tokenize(text))


def words(text: str, tokenizer: str = "") -> list[str]:
    """Splits a text into words and punctuation; case is kept.

    Args:
        text: Any text.
        tokenizer: `TRAINED` or `UNTRAINED`, perhaps with `UNSPACED`; empty for this machine's.

    Returns:
        The tokens, none for an empty or blank text.
    """
    name, also, _ = (tokenizer or tokenizer_name()).partition(UNSPACED)
    if name == TRAINED:
        from nltk.tokenize import word_tokenize

        found = list(word_tokenize(text))
    else:
        punkt, treebank = _untrained()
        found = [word for part in punkt.tokenize(text) for word in treebank.tokenize(part)]
    return split_unspaced(found) if also else found


def split_unspaced(tokens: Sequence[str]) -> list[str]:
    """Splits tokens in scripts that put no spaces between words at Unicode's word boundaries.

    Source: Unicode Standard Annex #29, default rules without a dictionary: Han and Hiragana
    character by character, runs of Katakana whole; Thai, Lao, Khmer and Burmese by letters with
    their marks. Tokens of other scripts stay as they are.
    """
    if all(token.isascii() for token in tokens):
        return list(tokens)
    unspaced, boundary = _boundaries()
    found: list[str] = []
    for token in tokens:
        parts = boundary.split(token) if unspaced.search(token) else [token]
        found += [part for part in parts if part.strip()]
    return found


@functools.cache
def _boundaries() -> tuple[Any, Any]:
    try:
        import regex
    except ImportError as error:
        raise missing_extra("regex", "metrics") from error
    return (
        regex.compile(r"[\p{Line_Break=Complex_Context}\p{Han}\p{Hiragana}\p{Katakana}]"),
        regex.compile(r"(?wV1)\b"),
    )


def mostly_not_ascii(text: str) -> bool:
    """Whether more letters of a text lie beyond ASCII than within it."""
    letters = [letter.isascii() for letter in text if letter.isalpha()]
    return 2 * sum(letters) < len(letters)
