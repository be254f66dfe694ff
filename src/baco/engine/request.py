"""What goes into the engine, what comes out, and the state of a row in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from baco.engine.blend import Blend
from baco.engine.router import Router
from baco.engine.warp import Warp
from baco.errors import InputError

ALIGNED = 0
BASE = 1
"""Sources as integers, so that the mean of sources is a share of the base model."""

SOURCE_NAMES = ("aligned", "base")

Finish = Literal["stop", "length"]
"""Why the engine ended a row. (`stop_string` is decided outside: the engine sees no text.)"""


@dataclass(frozen=True)
class Request:
    """One sample to decode.

    Rows with equal prompts share one prefill per partner, whichever run submitted them.

    Attributes:
        base_prompt: Token ids of the base partner's prompt; at least one.
        aligned_prompt: Token ids of the aligned partner's prompt; at least one.
        router: The bound router that picks the partner at each unit.
        key: The row's 64-bit noise key (`baco.engine.noise.row_key`).
        warp: Temperature and filters, the same on both sides unless `base_warp` is given.
        base_warp: The base side's own warps, or None for `warp`.
        max_new_tokens: Limit on emitted tokens (the end token excluded); at least 1.
        end_rule: Whether ends need the aligned model's consent (A.1); off for single models.
        turn_rule: Whether a line that the base model breaks is an end too, which needs the same
            consent: a base model ends its answer by going on to the next turn of its plain
            template.
        blend: Makes one distribution of both partners', from which every token is drawn as from a
            single model; None to let them take turns.
        degree: Where between the base (0) and the aligned model (1) its weights are, for partners
            that slide (`Abilities.slides`); None for the partner's own.
        barred: (position, token id): tokens that neither side may choose at a place, as if their
            logits were -inf after penalties. A side that is left with nothing may have them.
    """

    base_prompt: tuple[int, ...]
    aligned_prompt: tuple[int, ...]
    router: Router
    key: int
    warp: Warp = field(default_factory=Warp)
    base_warp: Warp | None = None
    max_new_tokens: int = 512
    end_rule: bool = True
    turn_rule: bool = False
    blend: Blend | None = None
    degree: float | None = None
    barred: tuple[tuple[int, int], ...] = ()

    @property
    def warps(self) -> tuple[Warp, Warp]:
        """The warps of (base, aligned)."""
        return (self.base_warp or self.warp, self.warp)

    def limit_within(self, windows: tuple[int, int]) -> int:
        """Returns the most tokens that can be emitted for it, at least 1.

        Args:
            windows: The context windows of (base, aligned), in tokens.

        Raises:
            InputError: If a prompt is empty or fills its context window, or the limit is < 1.
        """
        limit = self.max_new_tokens
        if limit < 1:
            raise InputError(f"max_new_tokens {limit} is out of range", hint="use at least 1")
        for prompt, window in zip((self.base_prompt, self.aligned_prompt), windows, strict=True):
            if not prompt:
                raise InputError("the prompt is empty", hint="give at least one token")
            if len(prompt) >= window:
                raise InputError(
                    f"the prompt has {len(prompt)} tokens, the context window {window}",
                    hint="shorten the prompt or use a model with a longer context",
                )
            limit = min(limit, window - len(prompt))
        return limit


class Begun(NamedTuple):
    """What a row has emitted elsewhere before: a fresh engine goes on from there.

    Attributes:
        tokens: Its token ids.
        sources: `BASE` or `ALIGNED` for each.
        begins: Whether each began a unit.
    """

    tokens: list[int]
    sources: list[int]
    begins: list[bool]


class Cost(NamedTuple):
    """What one row cost, or the sum over rows.

    Attributes:
        base_passes: Forward passes of the base partner that served the row, prefill included.
        aligned_passes: The same for the aligned partner.
        drafted: Tokens that were guessed ahead by a partner.
        accepted: Guesses that turned out right.
        base_token_rows: Tokens fed to the base partner for the row, prompt included. A prompt
            that rows share is fed once, and counts for the first of them.
        aligned_token_rows: The same for the aligned partner.
        base_prompt_tokens: How many of the base partner's were of the prompt.
        aligned_prompt_tokens: The same for the aligned partner.
        tokens: Tokens emitted, those of draws that were thrown away included.
        draft_passes: Passes of a third party that guessed while the row asked it to, each counted
            by its size: in passes of the aligned partner.
    """

    base_passes: int = 0
    aligned_passes: int = 0
    drafted: int = 0
    accepted: int = 0
    base_token_rows: int = 0
    aligned_token_rows: int = 0
    base_prompt_tokens: int = 0
    aligned_prompt_tokens: int = 0
    tokens: int = 0
    draft_passes: float = 0.0

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]


class Event(NamedTuple):
    """What one engine step did to one row: the tokens it emitted, in order, and its end.

    Attributes:
        row: The row id that `Engine.submit` returned.
        tokens: Emitted token ids (an end token is never among them).
        sources: `BASE` or `ALIGNED` for each token.
        begins: Whether each token began a new unit.
        finish: Why the row ended with this event, or None while it goes on.
        cost: What the row has cost, given with its last event.
        end: The end token that stopped the row, with its last event; an engine need not tell.
    """

    row: int
    tokens: list[int]
    sources: list[int]
    begins: list[bool]
    finish: Finish | None
    cost: Cost | None = None
    end: int | None = None
