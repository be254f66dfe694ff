"""From a tokenizer to the tables of a `Vocabulary`: the bytes of each token, and its kind."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import torch

from baco.engine.units import UnitTable
from baco.engine.vocabulary import Vocabulary
from baco.errors import PairError
from baco.models.function_words import FUNCTION_WORDS

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")
_SPACE_MARK = "\u2581"  # how SentencePiece writes a space


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level BPE writes bytes: printable ones stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def token_bytes(tokenizer: Any) -> list[bytes]:
    """Returns the bytes that each token id stands for.

    Args:
        tokenizer: A fast tokenizer of transformers (byte-level BPE, or SentencePiece-like).

    Returns:
        One entry per id below `len(tokenizer)`; empty for special tokens and unused ids.

    Raises:
        PairError: If the tokenizer is of a kind whose bytes are not known.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise PairError(
            f"{type(tokenizer).__name__} is not a fast tokenizer",
            hint="load it with use_fast=True, or install the 'tokenizers' package's version of it",
        )
    decoder = repr(backend.decoder)
    added = tokenizer.added_tokens_decoder
    special = special_ids(tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    alphabet = _byte_alphabet()
    out: list[bytes] = []
    for i, piece in enumerate(pieces):
        if piece is None or i in special:
            out.append(b"")
        elif i in added:
            out.append(added[i].content.encode())
        elif "ByteLevel" in decoder:
            out.append(bytes(alphabet[c] for c in piece))
        elif match := _BYTE_TOKEN.match(piece):
            out.append(bytes([int(match[1], 16)]))
        else:
            out.append(piece.replace(_SPACE_MARK, " ").encode())
    return out


def special_ids(tokenizer: Any) -> set[int]:
    """Returns the ids of special tokens: those that never stand for text."""
    flagged = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return flagged | set(tokenizer.all_special_ids)


def vocabulary_of(
    tokenizer: Any, ends: Iterable[int], device: torch.device | str = "cpu"
) -> Vocabulary:
    """Builds the engine's tables for a tokenizer.

    Args:
        tokenizer: A fast tokenizer of transformers.
        ends: Ids of the tokens that end a response, on either side of the pair.
        device: Where the tables live: the partners' device.

    Returns:
        The vocabulary.

    Raises:
        PairError: If there is no end token, or the tokenizer is of an unknown kind.
    """
    end_ids = {i for i in ends if 0 <= i < len(tokenizer)}
    if not end_ids:
        raise PairError(
            "the pair has no end token", hint="set eos_token in the tokenizer or generation config"
        )
    tokens = token_bytes(tokenizer)
    special = special_ids(tokenizer)

    def table(values: list[bool]) -> torch.Tensor:
        return torch.tensor(values, device=device)

    return Vocabulary(
        size=len(tokens),
        units=UnitTable(tokens, end_ids, device),
        is_end=table([i in end_ids for i in range(len(tokens))]),
        allowed=table(
            [i in end_ids or (bool(b) and i not in special) for i, b in enumerate(tokens)]
        ),
        is_punctuation=table([i in end_ids or is_formatting(b) for i, b in enumerate(tokens)]),
        is_function_word=table([is_function_word(b) for b in tokens]),
    )


def is_formatting(token: bytes) -> bool:
    """Whether a token is nothing but punctuation, signs or white space."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return False
    return bool(text) and all(
        unicodedata.category(c)[0] in "PSZC" and unicodedata.category(c) != "So" for c in text
    )


def is_function_word(token: bytes) -> bool:
    """Whether a token is a whole function word, with or without its leading space."""
    return token.decode(errors="replace").strip().lower().replace("\u2019", "'") in FUNCTION_WORDS
