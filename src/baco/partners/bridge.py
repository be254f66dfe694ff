"""Partners with different tokenizers: they exchange text, unit by unit.

Both vocabularies are laid side by side: ids of the aligned side first, then those of the base
side. Each partner gives probability to its own ids only, so the same step, loop and oracle serve.
What the other side wrote reaches a partner as text, each unit encoded by itself with the
partner's own tokenizer; its own tokens stay as they were drawn. A plain prompt ends in a word
(`Answer:`), a chat prompt before a new line: where the aligned side begins the answer, the base
side reads a space before it, as its template has one there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from baco.engine.lazy import torch
from baco.engine.partner import Partner, RowCache, SequenceOfIds, feed_tail
from baco.engine.penalties import Past
from baco.engine.units import START
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp
from baco.errors import PairError

_READERS = 1024
"""So many texts of rows with penalties are kept, to go on with."""

Encode = Callable[[str], list[int]]
"""Text to token ids, without special tokens."""


def bridge(
    base: Partner,
    aligned: Partner,
    tokens: tuple[Sequence[bytes], Sequence[bytes]],
    encode: tuple[Encode, Encode],
    opening: str = "",
) -> tuple[BridgedPartner, BridgedPartner]:
    """Makes two partners with different tokenizers into two that share ids.

    Args:
        base: The base partner, with its own vocabulary.
        aligned: The aligned partner, with its own.
        tokens: The bytes of each token id, of (base, aligned).
        encode: How text becomes ids, for (base, aligned).
        opening: What stands before an answer at the end of the base side's prompts, see
            `PlainTemplate.opening`.

    Returns:
        The wrapped (base, aligned). Their prompts must go through `BridgedPartner.to_shared`.
    """
    sides = (aligned.vocabulary, base.vocabulary)
    joined = [*tokens[1], *tokens[0]]
    device = aligned.device
    vocabulary = Vocabulary(
        size=len(joined),
        units=aligned.vocabulary.units.beside(base.vocabulary.units),
        is_end=torch.cat([v.is_end.to(device) for v in sides]),
        allowed=torch.cat([v.allowed.to(device) for v in sides]),
        is_punctuation=torch.cat([v.is_punctuation.to(device) for v in sides]),
        is_function_word=torch.cat([v.is_function_word.to(device) for v in sides]),
    )
    return (
        BridgedPartner(base, vocabulary, joined, aligned.vocabulary.size, encode[0], opening),
        BridgedPartner(aligned, vocabulary, joined, 0, encode[1]),
    )


def encoder_of(tokenizer: Any, tokens: Sequence[bytes]) -> Encode:
    """Returns how a tokenizer encodes a piece of running text.

    Tokenizers that put a space before every text are asked with a line break in front, which is
    taken off again.

    Args:
        tokenizer: A tokenizer of transformers.
        tokens: The bytes of each of its ids.
    """

    def encode(text: str) -> list[int]:
        data = text.encode()
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        if b"".join(tokens[i] for i in ids) == data:
            return ids
        ids = tokenizer.encode("\n" + text, add_special_tokens=False)
        for start in range(len(ids)):
            if b"".join(tokens[i] for i in ids[start:]) == data:
                return ids[start:]
        raise PairError(
            f"a tokenizer cannot write {text!r}", hint="use a pair whose tokenizers cover all text"
        )

    return encode


class BridgedPartner(Partner):
    """One partner as seen over the shared ids.

    Args:
        partner: The partner itself.
        vocabulary: Over all shared ids.
        tokens: The bytes of each shared id.
        offset: Where this side's own ids begin among the shared ones.
        encode: How this side encodes text.
        opening: Where this side's prompt ends in this, an answer that the other side begins is
            read after a space; "" for never.
    """

    def __init__(
        self,
        partner: Partner,
        vocabulary: Vocabulary,
        tokens: Sequence[bytes],
        offset: int,
        encode: Encode,
        opening: str = "",
    ) -> None:
        self.partner = partner
        self.vocabulary = vocabulary
        self.offset = offset
        # A guess would have to be put into the other side's tokens first.
        self.abilities = partner.abilities._replace(rewinds=False)
        self.context_window = partner.context_window
        self.device = partner.device
        self.parameters = partner.parameters
        self.tokens = tokens
        self._encode = encode
        self._opening = opening.encode()
        self._read: dict[tuple[int, ...], SideReader] = {}

    @property
    def inner(self) -> Partner:
        """The partner itself."""
        return self.partner

    def account(self, texts: Iterable[Sequence[int]], warp: Warp) -> dict[str, Any] | None:
        """Tells what the partner itself did, in its own ids."""
        return self.partner.account((self.to_own(text) for text in texts), warp)

    def to_shared(self, ids: Sequence[int]) -> tuple[int, ...]:
        """Own ids as shared ids; prompts are given so."""
        return tuple(i + self.offset for i in ids)

    def encode(self, unit: bytes) -> list[int]:
        """A unit that the other side wrote, as own ids."""
        return self._encode(unit.decode(errors="replace"))

    def gap(self, prompt: Sequence[int], first: bytes) -> bytes:
        """What this side reads between a prompt of own ids and an answer that the other begins."""
        if not self._opening or not first or first[:1].isspace():
            return b""
        # So many tokens hold at least as many bytes: one without text stands only at the front.
        end = b"".join(self.tokens[i + self.offset] for i in prompt[-len(self._opening) :])
        return b" " if end.endswith(self._opening) else b""

    def is_own(self, shared: int) -> bool:
        """Whether a shared id is this side's."""
        return 0 <= shared - self.offset < self.partner.vocabulary.size

    def to_own(self, shared: Sequence[int]) -> list[int]:
        """Shared ids as this side's ids: others' units are decoded and encoded, one by one."""
        return SideReader(self, shared).own()

    def widen(self, logits: torch.Tensor) -> torch.Tensor:
        """Own logits [..., own] over all shared ids [..., shared]."""
        size = self.partner.vocabulary.size
        out = logits.new_full((*logits.shape[:-1], self.vocabulary.size), -torch.inf)
        out[..., self.offset : self.offset + size] = logits[..., :size]
        return out

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Next-token logits over shared ids after a sequence of shared ids."""
        return self.widen(self.partner.logits(self.to_own(ids)))

    def past(self, prompt: SequenceOfIds, answer: SequenceOfIds) -> Past:
        """What it has read, in its own tokens; readers go on from where they were."""
        key = (*map(int, prompt), *map(int, answer))
        reader = self._read.pop(key[:-1], None)
        if reader is None or len(answer) == 0:
            reader = SideReader(self, key)
        else:
            reader.push(key[-1])
        self._read[key] = reader
        if len(self._read) > _READERS:
            del self._read[next(iter(self._read))]
        own = self.to_shared(reader.own())
        return Past.of(own[: len(prompt)], own[len(prompt) :])

    def own_cache(self) -> BridgedCache:
        """Returns an empty cache whose logits are over this side's own ids."""
        return BridgedCache(self)

    def new_cache(self) -> WideCache:
        """Returns an empty cache whose logits are over all shared ids."""
        return WideCache(self)


class SideReader:
    """Reads shared ids one after another and keeps them as one side's own ids.

    Args:
        partner: The side.
        shared: What to read at once.
    """

    def __init__(self, partner: BridgedPartner, shared: Sequence[int] = ()) -> None:
        self.partner = partner
        self.shared: list[int] = []
        self._closed: list[int] = []
        self._unit = b""
        self._state = torch.tensor([START], device=partner.device)
        self._responding = False
        for i in shared:
            self.push(i)

    def push(self, i: int) -> None:
        """Reads one more id."""
        partner, units = self.partner, self.partner.vocabulary.units
        self.shared.append(i)
        own = partner.is_own(i)
        if own and not self._responding:  # the prompt, all of it this side's own
            self._closed.append(i - partner.offset)
            return
        piece = b"" if own else partner.tokens[i]
        gap = b"" if self._responding else partner.gap(self._closed, piece)
        self._responding = True
        token = torch.tensor([i], device=partner.device)
        if self._unit and (own or bool(units.begins_token(self._state, token))):
            self._closed += partner.encode(self._unit)
            self._unit = b""
        if own:
            self._closed.append(i - partner.offset)
        else:
            self._unit += gap + piece
        self._state = units.advance(self._state, token)

    def own(self) -> list[int]:
        """All own ids; the last unit is encoded as far as it has come."""
        return self._closed + (self.partner.encode(self._unit) if self._unit else [])


class BridgedCache:
    """Rows of shared ids over a cache of own ids; see `baco.engine.partner.RowCache`.

    Logits are over own ids. After each feed the row's own ids are worked out anew; what changed at
    the end (a unit that has grown) is set back and fed again.
    """

    def __init__(self, partner: BridgedPartner) -> None:
        self.partner = partner
        self._cache: RowCache = partner.partner.new_cache()
        self._readers: list[SideReader] = []
        self._own: list[list[int]] = []

    def add(self, count: int) -> None:
        """Appends empty rows."""
        self._cache.add(count)
        self._readers += [SideReader(self.partner) for _ in range(count)]
        self._own += [[] for _ in range(count)]

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Feeds whole prompts into empty rows."""
        for row, prompt in zip(rows, prompts, strict=True):
            self._readers[row] = SideReader(self.partner, prompt)
            self._own[row] = self._readers[row].own()
        return self._cache.open([self._own[row] for row in rows], rows)

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Feeds the next shared tokens; only logits after each row's last one are defined."""
        last = self.feed_tail(tokens, counts, torch.ones_like(counts))
        out = last.new_zeros(len(tokens), last.shape[-1])
        out[(counts > 0).to(out.device)] = last
        return out[:, None].expand(-1, tokens.shape[1], -1)

    def feed_tail(
        self, tokens: torch.Tensor, counts: torch.Tensor, most: torch.Tensor
    ) -> torch.Tensor:
        """Feeds the next shared tokens; logits after the last one of rows that have any."""
        assert most.max() <= 1, "own tokens end where shared ones do only at the end of a feed"
        keep = [len(own) for own in self._own]
        fresh: list[list[int]] = [[] for _ in self._own]
        for row, (new, count) in enumerate(zip(tokens.tolist(), counts.tolist(), strict=True)):
            if not count:
                continue
            old, reader = self._own[row], self._readers[row]
            for i in new[:count]:
                reader.push(i)
            own = self._own[row] = reader.own()
            pairs = enumerate(zip(old, own, strict=False))
            same = next((k for k, (a, b) in pairs if a != b), len(old))
            keep[row] = min(same, len(own) - 1)  # at least one token, to have logits
            fresh[row] = own[keep[row] :]
        self._cache.truncate(torch.tensor(keep))
        width = max(map(len, fresh))
        padded = torch.tensor([f + [0] * (width - len(f)) for f in fresh])
        return feed_tail(self._cache, padded, torch.tensor([len(f) for f in fresh]), most)

    def truncate(self, lengths: torch.Tensor) -> None:
        """Forgets later shared tokens; the next feed sets the own ids back."""
        for row, length in enumerate(lengths.tolist()):
            if length < len(self._readers[row].shared):
                self._readers[row] = SideReader(self.partner, self._readers[row].shared[:length])

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the given rows, in this order."""
        self._cache.keep(rows)
        self._readers = [self._readers[i] for i in rows]
        self._own = [self._own[i] for i in rows]


class WideCache(BridgedCache):
    """The same, with logits over all shared ids."""

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Feeds whole prompts into empty rows."""
        return self.partner.widen(super().open(prompts, rows))

    def feed_tail(
        self, tokens: torch.Tensor, counts: torch.Tensor, most: torch.Tensor
    ) -> torch.Tensor:
        """Feeds the next shared tokens."""
        return self.partner.widen(super().feed_tail(tokens, counts, most))
