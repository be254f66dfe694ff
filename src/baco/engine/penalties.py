"""Penalties and biases: warps of a side's logits that depend on what the side has read.

They come before temperature and filters, in the order of vLLM: logit bias, repetition, frequency,
presence, then DRY. Routers and the end rule still read P as the model gave it.

What counts is the answer as the side itself reads it, in its own tokens, whoever wrote it. The
repetition penalty and DRY count the side's own prompt, too, as their authors have it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baco.engine.lazy import cached_property, torch
from baco.errors import InputError

if TYPE_CHECKING:
    from baco.engine.vocabulary import Vocabulary

MOST = 1e4
"""DRY takes at most so much off a logit: nothing is left of the token long before."""


class Past(NamedTuple):
    """What a side has read before the place that is scored.

    Attributes:
        prompt: Its prompt, int64 [any].
        answer: The answer so far, int64 [any].
    """

    prompt: NDArray[np.int64]
    answer: NDArray[np.int64]

    @classmethod
    def of(
        cls, prompt: Sequence[int] | NDArray[np.int64], answer: Sequence[int] | NDArray[np.int64]
    ) -> Past:
        """Makes one of any sequences of ids."""
        return cls(np.array(prompt, dtype=np.int64), np.array(answer, dtype=np.int64))


@dataclass(frozen=True)
class Penalties:
    """What is taken off logits, or added to them.

    Attributes:
        repetition_penalty: A logit above 0 is divided by it, one below multiplied, for every token
            of the prompt or the answer; 0.01 to 100, 1 is off.
        frequency_penalty: Taken off for each time that the answer holds the token; -2 to 2.
        presence_penalty: Taken off once if it does; -2 to 2.
        logit_bias: (token id, what is added), each once, -100 to 100.
        dry_multiplier: Strength of DRY, 0 to 100; 0 is off. A token that would go on with a repeat
            of length n loses multiplier · base ** (n - allowed length) if n is at least that
            length: n tokens before it, and the token, stand in the prompt or the answer already. A
            repeat does not reach over a token with a line break, a colon, a double quote or an
            asterisk, or over a special token; none of these is penalised.
        dry_base: 1.05 to 10, or 1.
        dry_allowed_length: 1 to 100.

    Raises:
        InputError: If a value is out of its range.

    Sources: repetition: arXiv 1909.05858, as in transformers and vLLM; frequency, presence and
    bias: OpenAI's API reference; DRY: text-generation-webui, pull request 5677.
    """

    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high and not (name == "dry_base" and value == 1):
                raise InputError(
                    f"{name} {value:g} is out of range", hint=f"use {low:g} to {high:g}"
                )
        for token, bias in self.logit_bias:
            if not -100 <= bias <= 100:
                raise InputError(
                    f"the logit_bias {bias:g} of token {token} is out of range",
                    hint="use -100 to 100",
                )

    @property
    def told(self) -> dict[str, object]:
        """The values that are not the default, by name, ready for JSON."""
        return {
            f.name: {str(k): v for k, v in value} if f.name == "logit_bias" else value
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default
        }

    @cached_property
    def on(self) -> bool:
        """Whether anything is changed."""
        return bool(self.told.keys() - {"dry_base", "dry_allowed_length"})


RANGES = {
    "repetition_penalty": (0.01, 100.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "dry_multiplier": (0.0, 100.0),
    "dry_base": (1.05, 10.0),
    "dry_allowed_length": (1, 100),
}

OFF = Penalties()


def penalised(
    logits: torch.Tensor, pasts: Sequence[Past], how: Penalties, vocabulary: Vocabulary
) -> torch.Tensor:
    """Returns logits [n, v] after the penalties.

    Args:
        logits: Float [n, v]; -inf where a token is forbidden, which it stays.
        pasts: What came before each.
        how: The penalties.
        vocabulary: The side's.
    """
    rows: list[int] = []
    ids: list[int] = []
    added: list[float] = []
    divided: list[bool] = []
    taken: list[float] = []
    bias = dict(how.logit_bias)
    for row, past in enumerate(pasts):
        counts = Counter(past.answer.tolist())
        seen = {*past.prompt.tolist(), *counts} if how.repetition_penalty != 1 else set()
        dry = _dry(past, how, vocabulary) if how.dry_multiplier else {}
        for token in {*bias, *counts, *seen, *dry}:
            rows.append(row)
            ids.append(token)
            added.append(bias.get(token, 0.0))
            divided.append(token in seen)
            count = counts.get(token, 0)
            off = how.frequency_penalty * count + how.presence_penalty * (count > 0)
            taken.append(off + dry.get(token, 0.0))
    if not ids:
        return logits
    device, dtype = logits.device, logits.dtype
    at = torch.tensor([rows, ids], device=device)
    plus, minus = torch.tensor([added, taken], dtype=dtype, device=device)
    x = logits[at[0], at[1]] + plus
    scaled = torch.where(x > 0, x / how.repetition_penalty, x * how.repetition_penalty)
    x = torch.where(torch.tensor(divided, device=device), scaled, x) - minus
    return logits.index_put((at[0], at[1]), x)


def _dry(past: Past, how: Penalties, vocabulary: Vocabulary) -> dict[int, float]:
    """Returns what DRY takes off each token that would go on with a repeat."""
    read = np.concatenate([past.prompt, past.answer])
    stops = vocabulary.stops_repeats[read]
    if len(read) < 2 or stops[-1]:
        return {}
    reach = len(read) - 1 - int(stops.nonzero()[0][-1]) if stops.any() else len(read)
    # Repeats that are longer cost no more: their penalty is the largest already.
    most = how.dry_allowed_length
    if how.dry_base > 1:
        most += math.ceil(max(0.0, math.log(MOST / how.dry_multiplier, how.dry_base)))
    ends = (read[:-1] == read[-1]).nonzero()[0]  # where a repeat may end before
    ends = ends[~stops[ends + 1]]
    lengths: dict[int, int] = {}
    for n in range(1, min(reach, most) + 1):
        ends = ends[ends >= n - 1]
        ends = ends[read[ends - n + 1] == read[len(read) - n]]
        if not len(ends):
            break
        if n >= how.dry_allowed_length:
            lengths |= dict.fromkeys(read[ends + 1].tolist(), n)
    return {
        token: min(MOST, how.dry_multiplier * how.dry_base ** (n - how.dry_allowed_length))
        for token, n in lengths.items()
    }
