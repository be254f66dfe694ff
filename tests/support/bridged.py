"""Two scripted partners with different tokenizers, and the bridge between them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from baco.partners.bridge import BridgedPartner, bridge
from baco.partners.fake import FakePartner, fake_vocabulary

# The aligned side writes whole words, the base side letters and pieces.
ALIGNED = ["<end>", " cat", " dog", " sat", ".", ",", " is", " it", "n't", "\n"]
BASE = ["<eos>", " ", "c", "a", "t", "d", "o", "g", "s", ".", ",", "i", "n", "'", "\n", " d", "og"]


def encoder(tokens: Sequence[str]):  # type: ignore[no-untyped-def]
    """Longest match from the left; unknown characters become the first visible token."""

    def encode(text: str) -> list[int]:
        ids = []
        while text:
            best = max(
                (i for i, t in enumerate(tokens) if i and text.startswith(t)),
                key=lambda i: len(tokens[i]),
                default=None,
            )
            if best is None:
                ids.append(1)
                text = text[1:]
            else:
                ids.append(best)
                text = text[len(tokens[best]) :]
        return ids

    return encode


def script(tag: str, size: int):  # type: ignore[no-untyped-def]
    def after(ids: tuple[int, ...]) -> Sequence[float]:
        digest = hashlib.blake2b(repr((tag, ids[-4:])).encode(), digest_size=8).digest()
        p = np.exp(np.random.default_rng(int.from_bytes(digest, "little")).normal(size=size) * 1.5)
        p[0] *= 0.3
        return list(p / p.sum())

    return after


def pair(opening: str = "") -> tuple[BridgedPartner, BridgedPartner]:
    base = FakePartner(fake_vocabulary(BASE, ends=("<eos>",)), script("b", len(BASE)))
    aligned = FakePartner(fake_vocabulary(ALIGNED), script("a", len(ALIGNED)))
    tokens = ([t.encode() for t in BASE], [t.encode() for t in ALIGNED])
    return bridge(base, aligned, tokens, (encoder(BASE), encoder(ALIGNED)), opening)
