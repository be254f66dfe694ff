"""Third parties that guess ahead, so that both partners only verify.

Their guesses join the same drafts as the partners' own, so results stay what they are; only the
cost changes. Where text repeats, several tokens pass per two passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from baco.engine.lazy import torch
from baco.engine.partner import Partner
from baco.engine.prefix_cache import CachedTexts
from baco.engine.router import ALONE
from baco.engine.scores import Context, score
from baco.engine.step import step
from baco.engine.warp import Warp
from baco.errors import InputError


class DraftQuery(NamedTuple):
    """A row that could use a guess.

    Attributes:
        row: The row's number, the same over its life.
        text: The aligned prompt, the emitted tokens and the present draft.
        key: The row's noise key.
        t: Position of the token to guess first.
        state: Unit state there.
        warp: The aligned side's warps.
        room: Most tokens to guess.
    """

    row: int
    text: tuple[int, ...]
    key: int
    t: int
    state: int
    warp: Warp
    room: int


@runtime_checkable
class Drafter(Protocol):
    """Guesses how rows go on.

    Attributes:
        cost: What one of its passes costs, in passes of the aligned partner.
    """

    cost: float

    @property
    def passes(self) -> int:
        """Passes made so far."""
        ...

    def guess(self, asks: Sequence[DraftQuery]) -> list[list[int]]:
        """Guesses the next tokens of some rows: at most `room` each, none where unsure."""
        ...

    def forget(self, row: int) -> None:
        """Drops what is kept of a row that has left."""
        ...


class PromptLookup:
    """Guesses that what followed the last few tokens before follows them again.

    Args:
        longest: The longest run of tokens that is looked up first.
        shortest: The shortest run worth a guess.
    """

    def __init__(self, longest: int = 3, shortest: int = 2) -> None:
        self.longest = longest
        self.shortest = shortest
        self.cost = 0.0
        self.passes = 0

    def guess(self, asks: Sequence[DraftQuery]) -> list[list[int]]:
        """Guesses the tokens after the latest earlier occurrence of each text's last tokens."""
        return [self._after(ask.text)[: ask.room] for ask in asks]

    def _after(self, text: tuple[int, ...]) -> list[int]:
        for size in range(min(self.longest, len(text) - 1), self.shortest - 1, -1):
            tail = text[-size:]
            for start in range(len(text) - size - 1, -1, -1):
                if text[start : start + size] == tail:
                    return list(text[start + size :])
        return []

    def forget(self, row: int) -> None:
        """Nothing is kept."""


class ModelDrafter:
    """A small model that decodes ahead with the rows' own noise.

    Args:
        partner: The small model; it must share the pair's vocabulary.
        parameters: Weights of the aligned partner, for the cost of a pass.
    """

    def __init__(self, partner: Partner, parameters: int) -> None:
        self.partner = partner
        self.cost = partner.parameters / max(parameters, 1)
        self._texts = CachedTexts(partner)
        self._own = ALONE

    @property
    def passes(self) -> int:
        """Passes made so far."""
        return self._texts.passes

    def guess(self, asks: Sequence[DraftQuery]) -> list[list[int]]:
        """Decodes ahead for all rows at once."""
        logits = self._texts.read([(ask.row, ask.text) for ask in asks])
        out: list[list[int]] = [[] for _ in asks]
        states = [ask.state for ask in asks]
        for k in range(max(ask.room for ask in asks)):
            if k:
                texts = [(a.row, a.text + tuple(o)) for a, o in zip(asks, out, strict=True)]
                logits = self._texts.read(texts)
            for i, ask in enumerate(asks):
                done = out[i] and bool(self.partner.vocabulary.is_end[out[i][-1]])
                if k >= ask.room or done:
                    continue
                token, states[i] = self._step(ask, out[i], states[i], logits[i])
                out[i].append(token)
        return out

    def _step(
        self, ask: DraftQuery, guessed: list[int], state: int, logits: torch.Tensor
    ) -> tuple[int, int]:
        """One token of one row, after those that are guessed, and the unit state after it."""

        def vector(value: int) -> torch.Tensor:
            return torch.tensor([value], device=logits.device)

        vocabulary = self.partner.vocabulary
        read, prompt = (*ask.text, *guessed), len(ask.text) - ask.t
        past = [self.partner.past(read[:prompt], read[prompt:])]
        scores = score(logits[None], ask.warp, vocabulary, past=past, of=self.partner.label)
        context = Context(vector(ask.key), vector(ask.t + len(guessed)), vector(state), vector(0))
        choice = step(scores, scores, context, self._own, (ask.warp, ask.warp), vocabulary)
        after = vocabulary.units.advance(vector(state), choice.token)
        return int(choice.token), int(after)

    def forget(self, row: int) -> None:
        """Drops a row that has left."""
        self._texts.forget([row])


Draft = Drafter | Partner | str | None
"""Who guesses: ``prompt-lookup``, a small model as a partner, a drafter, or nobody else."""

PROMPT_LOOKUP = "prompt-lookup"


def make_drafter(draft: Draft, aligned: Partner) -> Drafter | None:
    """Reads the engine's `draft` argument.

    Args:
        draft: ``prompt-lookup``, a small model as a partner, a drafter, or None.
        aligned: The aligned partner.

    Raises:
        InputError: If the name is unknown or the small model has other token ids.
    """
    if draft == PROMPT_LOOKUP:
        return PromptLookup()
    if isinstance(draft, str):
        raise InputError(f"unknown draft {draft!r}", hint="use prompt-lookup or give a small model")
    if draft is None or isinstance(draft, Drafter):
        return draft
    if draft.vocabulary is not aligned.vocabulary:
        raise InputError(
            "the draft model has another vocabulary", hint="use one with the pair's tokenizer"
        )
    return ModelDrafter(draft, aligned.parameters)
