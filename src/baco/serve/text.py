"""From tokens to text as it streams: whole characters only, and nothing that a stop may yet cut.

The engine knows no text. One `TextStream` follows one sample: it decodes bytes, watches for stop
strings and releases tokens as soon as it is certain that they belong to the answer. Each released
token has its piece of text; the pieces joined are the answer.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Piece:
    """One token of an answer.

    Attributes:
        token: The token id.
        source: `BASE` or `ALIGNED`.
        begins: Whether it began a unit.
        text: Its text; empty while a character that spans several tokens is incomplete.
    """

    token: int
    source: int
    begins: bool
    text: str


class TextStream:
    """Turns the tokens of one sample into released pieces.

    Args:
        token_bytes: The bytes of each token id.
        stops: Stop strings; the answer ends before the first that appears.
    """

    def __init__(self, token_bytes: Sequence[bytes], stops: Sequence[str] = ()) -> None:
        self._bytes = token_bytes
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held: list[Piece] = []
        self._open = False
        self.stopped = False

    def push(self, token: int, source: int, begins: bool) -> list[Piece]:
        """Reads one token.

        Args:
            token: The token id.
            source: `BASE` or `ALIGNED`.
            begins: Whether it began a unit.

        Returns:
            The pieces that are now certain, in order. When a stop string is complete, `stopped`
            is true and these are the last ones; later tokens must not be pushed.
        """
        text = self._decoder.decode(self._bytes[token])
        self._held.append(Piece(token, source, begins, text))
        self._open = bool(self._decoder.getstate()[0])
        if not self._stops:
            return [] if self._open else self._release(len(self._held))
        held = "".join(piece.text for piece in self._held)
        found = [at for s in self._stops if (at := held.find(s)) >= 0]
        if found:
            return self._cut(min(found))
        return [] if self._open else self._release(self._whole(len(held) - self._doubtful(held)))

    def flush(self) -> list[Piece]:
        """Releases what is left when the sample has ended; a broken character becomes U+FFFD."""
        rest = self._decoder.decode(b"", final=True)
        if rest and self._held:
            self._held[-1].text += rest
        return self._release(len(self._held))

    def _release(self, count: int) -> list[Piece]:
        out, self._held = self._held[:count], self._held[count:]
        return out

    def _doubtful(self, held: str) -> int:
        """Length of the longest end of the text that may be the beginning of a stop string."""
        longest = min(len(held), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            if any(s.startswith(held[-length:]) for s in self._stops if len(s) > length):
                return length
        return 0

    def _whole(self, length: int) -> int:
        """Number of held tokens whose text lies within the first `length` characters."""
        total = 0
        for i, piece in enumerate(self._held):
            total += len(piece.text)
            if total > length:
                return i
        return len(self._held)

    def _cut(self, length: int) -> list[Piece]:
        """Ends the answer after `length` held characters."""
        self.stopped = True
        kept: list[Piece] = []
        for piece in self._held:
            if length <= 0:
                break
            piece.text = piece.text[:length]
            length -= len(piece.text)
            kept.append(piece)
        self._held = []
        return kept
