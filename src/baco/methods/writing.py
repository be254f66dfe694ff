"""Lets one model go on with texts: for methods in which models exchange text, not tokens.

Each side is asked to continue an answer given as text. It keeps what it has read (prompts are read
once, shared by all samples), so that only what has changed since is computed. Noise is a function
of a row's key and of the place it is asked for, whatever is asked beside it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from baco.engine import noise
from baco.engine.lazy import inference_mode, torch
from baco.engine.penalties import Past
from baco.engine.prefix_cache import CachedTexts, Spent
from baco.engine.scores import score
from baco.engine.session import TURN, Turn
from baco.engine.warp import Warp
from baco.errors import InputError
from baco.models.sides import Side, answer_ids
from baco.prompts import Conversation


class WrittenToken(NamedTuple):
    """One token that a model wrote.

    Attributes:
        id: Its id.
        data: Its bytes.
        top_prob: The largest probability where it was drawn, before temperature and filters.
    """

    id: int
    data: bytes
    top_prob: float


@dataclass(frozen=True)
class WriteRequest:
    """What a side is asked to do.

    Attributes:
        row: The row.
        text: The answer so far.
        count: Most tokens to write.
        start: Place of the first one's noise; the next tokens take the next places.
        given: Tokens that this side has written after the text already.
        floor: Tokens are written up to the first whose top probability is below this; that one
            is not written.
    """

    row: int
    text: str
    count: int
    start: int
    given: tuple[WrittenToken, ...] = ()
    floor: float = 0.0


class Reply(NamedTuple):
    """What a side wrote.

    Attributes:
        tokens: The tokens; an end token is not among them.
        over: Why there are no more: ``end`` (its own end), ``floor``, ``window`` (its context is
            full), or empty if all that was asked is there.
        top_prob: The top probability where it stopped for ``end`` or ``floor``; else that of the
            last token.
    """

    tokens: tuple[WrittenToken, ...]
    over: str
    top_prob: float


class Writer:
    """One side that writes.

    Args:
        side: The side.
        warp: Temperature and filters.
    """

    def __init__(self, side: Side, warp: Warp) -> None:
        self.side = side
        self.warp = warp
        self.texts = CachedTexts(side.partner)
        self.drawn: dict[int, int] = {}
        self._prompts: dict[int, tuple[int, ...]] = {}
        self._keys: dict[int, int] = {}

    def add(self, row: int, prompt: Conversation, key: int) -> None:
        """Takes a row on.

        Raises:
            InputError: If the prompt fills the context window.
        """
        ids = self.side.ids(prompt)
        window = self.side.partner.context_window
        if not ids or len(ids) >= window:
            raise InputError(
                f"the prompt has {len(ids)} tokens, the context window {window}",
                hint="shorten the prompt or use a model with a longer context",
            )
        self._prompts[row], self._keys[row], self.drawn[row] = ids, key, 0

    def prompt_length(self, row: int) -> int:
        """Returns the number of tokens of a row's prompt."""
        return len(self._prompts[row])

    def drop(self, row: int) -> Spent:
        """Forgets a row; returns what it cost."""
        spent = self.texts.spent.get(row, Spent())
        self.texts.forget([row])
        del self._prompts[row], self._keys[row], self.drawn[row]
        return spent

    @inference_mode
    def write(self, asks: Sequence[WriteRequest]) -> Generator[Turn, None, list[Reply]]:
        """Writes on for some rows together, each at most once; yields a turn before each pass."""
        yield TURN
        new = [ask.row for ask in asks if ask.text and ask.row not in self.texts.spent]
        if new:  # their texts differ already, but rows of one prompt share its computation
            self.texts.read([(row, self._prompts[row]) for row in new])
        read = [(*self._prompts[a.row], *answer_ids(self.side, a.text)) for a in asks]
        tokens = [list(ask.given) for ask in asks]
        over = [""] * len(asks)
        last = [ask.given[-1].top_prob if ask.given else 0.0 for ask in asks]
        for k in range(max(ask.count for ask in asks)):
            going = []
            for i, ask in enumerate(asks):
                if not over[i] and k < ask.count:
                    length = len(read[i]) + len(tokens[i])
                    if length > self.side.partner.context_window:
                        over[i] = "window"
                    else:
                        going.append(i)
            if not going:
                break
            if k:
                yield TURN
            chosen, tops = self._draw(asks, read, tokens, going, k)
            for i, token, top in zip(going, chosen, tops, strict=True):
                last[i] = top
                if top < asks[i].floor:
                    over[i] = "floor"
                    continue
                self.drawn[asks[i].row] += 1
                if bool(self.side.partner.vocabulary.is_end[token]):
                    over[i] = "end"
                else:
                    tokens[i].append(WrittenToken(token, self.side.token_bytes[token], top))
        return [Reply(tuple(t), o, p) for t, o, p in zip(tokens, over, last, strict=True)]

    def _draw(
        self,
        asks: Sequence[WriteRequest],
        read: Sequence[tuple[int, ...]],
        tokens: Sequence[Sequence[WrittenToken]],
        going: Sequence[int],
        k: int,
    ) -> tuple[list[int], list[float]]:
        """Draws the k-th token of the rows that go on: (ids, top probabilities)."""
        texts = [(asks[i].row, (*read[i], *(t.id for t in tokens[i]))) for i in going]
        logits = torch.stack(self.texts.read(texts))
        partner = self.side.partner
        partial = partner.abilities.gives == "top-k"
        past = None
        if self.warp.penalties.on:
            prompts = [len(self._prompts[row]) for row, _ in texts]
            past = [Past.of(x[:p], x[p:]) for (_, x), p in zip(texts, prompts, strict=True)]
        scores = score(
            logits,
            self.warp,
            partner.vocabulary,
            past=past,
            partial=partial,
            of=partner.label,
        )
        device = logits.device
        keys = torch.tensor([self._keys[asks[i].row] for i in going], device=device)
        places = torch.tensor([asks[i].start + k for i in going], device=device)
        ids, log_probs = scores.nucleus
        gumbel = noise.gumbel(keys, places, ids).to(log_probs.dtype)
        best = (log_probs + gumbel).argmax(-1, keepdim=True)
        chosen = ids.gather(-1, best)[:, 0]
        return chosen.tolist(), scores.top_prob.tolist()


def text_of(tokens: Sequence[WrittenToken]) -> str:
    """Returns the text of some tokens, without a character that is left incomplete at the end."""
    data = b"".join(token.data for token in tokens)
    for cut in range(min(4, len(data) + 1)):
        try:
            return data[: len(data) - cut].decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                break
    return data.decode(errors="replace")
