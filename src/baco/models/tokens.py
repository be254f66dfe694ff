"""From a tokenizer to the tables of a `Vocabulary`: the bytes of each token, and its kind."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from baco.engine.lazy import torch
from baco.engine.units import TokenTables, UnitTable, token_tables
from baco.engine.vocabulary import Vocabulary
from baco.errors import PairError
from baco.models.folders import cache_folder
from baco.models.function_words import FUNCTION_WORDS

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")

_PROBES = (
    "the quick brown fox, it's a dog: 10,000 words.",
    "two  spaces and\ttabs\n\nand lines",
    "naïve café, 漢字 und öl 👍",
)
"""Texts that a tokenizer must give back; the first with all its spaces. No capital letters: there
are tokenizers that make all letters small, and are right about it."""


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level BPE writes bytes: printable ones stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


class Tables(NamedTuple):
    """What is known of each token of a tokenizer, ends of answers aside.

    Attributes:
        tokens: Its bytes; empty for special tokens and unused ids.
        units: What the unit state machine knows of it.
        formatting: `is_formatting`, bool [vocabulary].
        function_words: `is_function_word`, bool [vocabulary].
    """

    tokens: list[bytes]
    units: TokenTables
    formatting: torch.Tensor
    function_words: torch.Tensor


def tables_of(tokenizer: Any) -> Tables:
    """Returns the tables of a tokenizer: worked out once, then read from the user's cache.

    Raises:
        PairError: If the tokenizer is of a kind whose bytes are not known, or loses text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    key = "" if backend is None else _content(tokenizer)
    if key in _KNOWN:
        return _KNOWN[key]
    found = read_tables(key) if key else None
    if found is None:
        found = tables_over(_token_bytes(tokenizer))
        if len(found.tokens) >= LARGE:
            write_tables(key, found)
    while len(_KNOWN) >= 4:
        del _KNOWN[next(iter(_KNOWN))]
    _KNOWN[key] = found
    return found


def tables_over(tokens: Sequence[bytes]) -> Tables:
    """Works out the tables of the bytes of all token ids."""
    return Tables(
        list(tokens),
        token_tables(tokens),
        torch.tensor([is_formatting(b) for b in tokens], dtype=torch.bool),
        torch.tensor([is_function_word(b) for b in tokens], dtype=torch.bool),
    )


_KNOWN: dict[str, Tables] = {}

LARGE = 8192
"""Vocabularies from this size on are kept on disk; smaller ones are read in no time."""


def _content(tokenizer: Any) -> str:
    """A hash of all that the tables come from, this code included."""
    state = hashlib.blake2b(digest_size=16)
    special = sorted(i for i in special_ids(tokenizer) if i is not None)
    code = (_VERSION, unicodedata.unidata_version)
    for part in (tokenizer.backend_tokenizer.to_str(), repr((special, *code))):
        state.update(part.encode())
    return state.hexdigest()


_VERSION = 1
"""Raised when the same tokenizer gets other tables."""


def _file(key: str) -> Path:
    return cache_folder() / "tokens" / f"{key}.safetensors"


def read_tables(key: str) -> Tables | None:
    """Reads tables that were worked out before; None where there are none that can be read."""
    from safetensors.torch import load_file

    try:
        held = load_file(_file(key))
        data, ends = held["bytes"].numpy().tobytes(), held["ends"].tolist()
        tokens = [data[a:b] for a, b in itertools.pairwise([0, *ends])]
        units = TokenTables(*(held[name] for name in TokenTables._fields))
        return Tables(tokens, units, held["formatting"], held["function_words"])
    except Exception:  # it is not there, or cut off, or somebody else's
        return None


def write_tables(key: str, tables: Tables) -> None:
    """Keeps tables for the next time, where that is possible."""
    from safetensors.torch import save_file

    held = {
        "bytes": torch.frombuffer(bytearray(b"".join(tables.tokens)), dtype=torch.uint8),
        "ends": torch.tensor([len(t) for t in tables.tokens]).cumsum(0),
        "formatting": tables.formatting,
        "function_words": tables.function_words,
        **tables.units._asdict(),
    }
    path = _file(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            save_file(held, Path(work) / path.name)
            (Path(work) / path.name).replace(path)


def token_bytes(tokenizer: Any) -> list[bytes]:
    """Returns the bytes that each token id stands for; arguments and errors as of `tables_of`."""
    return tables_of(tokenizer).tokens


def _token_bytes(tokenizer: Any) -> list[bytes]:
    """Works out the bytes that each token id stands for.

    Args:
        tokenizer: A fast tokenizer of transformers (byte-level BPE, or SentencePiece-like).

    Returns:
        One entry per id up to the largest; empty for special tokens and unused ids.

    Raises:
        PairError: If the tokenizer is of a kind whose bytes are not known, or loses text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise PairError(
            f"{type(tokenizer).__name__} is not a fast tokenizer",
            hint="load it with use_fast=True, or install the 'tokenizers' package's version of it",
        )
    steps = _decoder(backend)
    added = tokenizer.added_tokens_decoder
    special = special_ids(tokenizer)
    pieces = tokenizer.convert_ids_to_tokens(list(range(vocabulary_size(tokenizer))))
    alphabet = _byte_alphabet()
    out: list[bytes] = []
    for i, piece in enumerate(pieces):
        if piece is None or i in special:
            out.append(b"")
        elif i in added:
            out.append(added[i].content.encode())
        else:
            out.append(_bytes_of(piece, steps, alphabet))
    _check_probes(tokenizer, out)
    return out


def vocabulary_size(tokenizer: Any) -> int:
    """Returns the largest token id plus one; there may be gaps below it."""
    return 1 + max(tokenizer.get_vocab().values(), default=-1)


def shares_ids(one: Sequence[bytes], other: Sequence[bytes], ends: Iterable[int]) -> bool:
    """Whether two models can read each other's tokens as they are.

    They can if all ids that both have are the same, and what one has beyond the other (a chat
    model's special tokens) is never written, or ends the answer.

    Args:
        one: The bytes of one model's token ids.
        other: The bytes of the other's.
        ends: The ids that end an answer on either side.
    """
    shared = min(len(one), len(other))
    if one[:shared] != other[:shared]:
        return False
    longer, last = max(one, other, key=len), set(ends)
    return all(i in last or not longer[i] for i in range(shared, len(longer)))


def cuts_alike(one: Any, other: Any) -> bool:
    """Whether two tokenizers cut text into the same ids, so that each model knows the other's cuts.

    Post-trained models of one family may split digits, capitals or spaces otherwise, with the same
    ids (some previews of OLMo 2 do).

    Args:
        one: A tokenizer.
        other: Another one.
    """
    ids = [
        [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in _CUTS]
        for tokenizer in (one, other)
    ]
    return ids[0] == ids[1]


_CUTS = (
    "I'LL say it's 1234567.890, don't you think?",
    "\n\n\n    two  spaces\tand a tab   \r\n",
    "naïve Straße: 東京 is not 서울 👍🏽 (__init__);",
    "ONE OneTwo one_two http://a.b/c?d=1&e=22 50% x^2",
    "e\u0301 decomposed, \uff11\uff12 \uff41 wide, \ufb01 and \u00bd composed",
)
"""What tokenizers are known to cut in different ways."""


def _decoder(backend: Any) -> list[dict[str, Any]]:
    """Returns the steps by which a tokenizer makes text of tokens.

    Raises:
        PairError: If they are not known to work on each token for itself.
    """
    if backend.decoder is None:
        raise PairError(
            "the tokenizer does not say how its tokens become text: it has no decoder",
            hint="use a model with a byte-level or SentencePiece tokenizer",
        )
    steps = [json.loads(backend.decoder.__getstate__())]
    while any("decoders" in step for step in steps):
        steps = [inner for step in steps for inner in step.get("decoders", [step])]
    fused = False
    for step in steps:
        kind = step["type"]
        fused = fused or kind == "Fuse"
        replaces = kind == "Replace" and "String" in step["pattern"]
        if not (
            replaces
            or kind in ("ByteLevel", "ByteFallback", "Metaspace", "Fuse")
            or (kind == "Strip" and fused)
        ):
            raise PairError(
                f"tokens that become text by {kind} (WordPiece, word ends, patterns) are not "
                "supported: what a token stands for depends on its neighbours",
                hint="use a model with a byte-level or SentencePiece tokenizer",
            )
    return steps


def _bytes_of(piece: str, steps: list[dict[str, Any]], alphabet: dict[str, int]) -> bytes:
    """Decodes one token."""
    for step in steps:
        kind = step["type"]
        if kind == "ByteLevel":
            known = all(c in alphabet for c in piece)  # a raw character stands for itself
            return bytes(alphabet[c] for c in piece) if known else piece.encode()
        if kind == "ByteFallback" and (match := _BYTE_TOKEN.match(piece)):
            return bytes([int(match[1], 16)])
        if kind == "Replace":
            piece = piece.replace(step["pattern"]["String"], step["content"])
        elif kind == "Metaspace":
            piece = piece.replace(step["replacement"], " ")
    return piece.encode()


def _check_probes(tokenizer: Any, tokens: Sequence[bytes]) -> None:
    """Raises PairError unless the bytes of a text's tokens are the text.

    A space in front is allowed, and so is what the tokenizer itself cannot write.
    """
    for number, probe in enumerate(_PROBES):
        ids = tokenizer.encode(probe, add_special_tokens=False)
        if tokenizer.unk_token_id in ids:
            continue
        found = b"".join(tokens[i] for i in ids).removeprefix(b" ")
        own = tokenizer.decode(ids, clean_up_tokenization_spaces=False).encode()
        if found != probe.encode() and (number == 0 or found != own.removeprefix(b" ")):
            raise PairError(
                f"the tokenizer loses text: {probe!r} becomes {found.decode(errors='replace')!r}",
                hint="use a model with a byte-level or SentencePiece tokenizer",
            )


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
    return vocabulary_from(tables_of(tokenizer), ends, device)


def vocabulary_over(
    tokens: Sequence[bytes], ends: Iterable[int], device: torch.device | str = "cpu"
) -> Vocabulary:
    """Builds the engine's tables for the bytes of all token ids.

    Args:
        tokens: The bytes of each token id; empty for those that never stand for text.
        ends: As `vocabulary_of`.
        device: As `vocabulary_of`.

    Raises:
        PairError: If there is no end token.
    """
    return vocabulary_from(tables_over(tokens), ends, device)


def vocabulary_from(
    known: Tables, ends: Iterable[int], device: torch.device | str = "cpu"
) -> Vocabulary:
    """Builds the engine's tables from those of a tokenizer; arguments as of `vocabulary_of`."""
    size = len(known.tokens)
    end_ids = {i for i in ends if 0 <= i < size}
    if not end_ids:
        raise PairError(
            "the pair has no end token", hint="set eos_token in the tokenizer or generation config"
        )
    is_end = torch.zeros(size, dtype=torch.bool)
    is_end[sorted(end_ids)] = True
    written = torch.tensor([bool(b) for b in known.tokens], dtype=torch.bool)
    return Vocabulary(
        size=size,
        units=UnitTable(known.units, end_ids, device),
        is_end=is_end.to(device),
        allowed=(is_end | written).to(device),
        is_punctuation=(is_end | known.formatting).to(device),
        is_function_word=known.function_words.to(device),
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
