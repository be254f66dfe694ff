"""Labels: the ids that stand for a pair of prompts in vLLM's prefix cache.

vLLM shares the KV blocks of requests whose ids begin alike. Here a block holds the keys and
values of *both* sides, each at its own positions (padding is not stored), so it may be shared
only if it is the same on both sides. A side that lags behind the stream begins as many whole
blocks late as fit into its lag (`rows.Row.leads`), so that both prompts end within a block of each
other:

- a block that both prompts fill up to there is labelled by both prompts up to its end, by how far
  each side lags behind the stream, and by which sides run at all;
- every later block also holds a part of the answer on the shorter side, which the stream does
  not show yet, so its label is the request's own. If the lag is none, or whole blocks, there is no
  such block.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

_WORDS = 8  # of 31 bits: labels must fit into int32


def _words(digest: bytes) -> list[int]:
    return [int.from_bytes(digest[4 * i : 4 * i + 4], "little") >> 1 for i in range(_WORDS)]


def labels(
    base: Sequence[int], aligned: Sequence[int], *, block: int, kind: str, unique: str
) -> list[int]:
    """Returns the labels of a request, as many as its longer prompt has ids.

    Args:
        base: The base side's prompt.
        aligned: The aligned side's prompt.
        block: Size of a KV block, at least 8.
        kind: What else decides the contents of a block, such as which sides run.
        unique: A name that no other request has.
    """
    length = max(len(base), len(aligned))
    early = abs(len(base) - len(aligned)) % block
    digest = blake2b(f"{kind} {length - len(base)} {length - len(aligned)}".encode()).digest()
    out: list[int] = []
    for start in range(0, length, block):
        end = min(start + block, length)
        own = "" if not early or end <= length - early else unique
        here = f"{list(base[start:end])} {list(aligned[start:end])} {own}"
        digest = blake2b(digest + here.encode()).digest()
        out += (_words(digest) + [0] * (end - start))[: end - start]
    return out
