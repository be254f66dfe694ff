"""Words of a text, as the lexical metrics see them."""

from __future__ import annotations

import functools
from typing import Any

from baco.errors import missing_extra

UNTRAINED = "NLTK words, untrained Punkt"
TRAINED = "NLTK word_tokenize, punkt_tab"


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
        `TRAINED` or `UNTRAINED`; the two differ at abbreviations only.
    """
    _untrained()
    from nltk.data import find

    try:
        find("tokenizers/punkt_tab/english/")
    except (LookupError, OSError):
        return UNTRAINED
    return TRAINED


def sentences(text: str) -> list[str]:
    """Splits a text into sentences with the untrained Punkt rules, on every machine alike."""
    return list(_untrained()[0].tokenize(text))


def words(text: str, tokenizer: str = "") -> list[str]:
    """Splits a text into words and punctuation; case is kept.

    Args:
        text: Any text.
        tokenizer: `TRAINED` or `UNTRAINED`; empty for this machine's.

    Returns:
        The tokens, none for an empty or blank text.
    """
    if (tokenizer or tokenizer_name()) == TRAINED:
        from nltk.tokenize import word_tokenize

        return list(word_tokenize(text))
    punkt, treebank = _untrained()
    return [word for sentence in punkt.tokenize(text) for word in treebank.tokenize(sentence)]
