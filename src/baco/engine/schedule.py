"""Thresholds that move with the position in the response.

Paper: §6.1 (base contribution varies with position).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from baco.engine.lazy import torch
from baco.errors import InputError, clipped

MOST_VALUES = 100
"""Thresholds of one schedule."""

LAST = 1_000_000_000
"""The largest position: more than any answer has tokens."""


@dataclass(frozen=True)
class Schedule:
    """A threshold as a function of t, the number of tokens emitted so far, or of sentences.

    Attributes:
        kind: ``constant``; ``linear`` (from the first value to the last over the given
            positions, then constant); ``step`` (each value from its position on); ``sentence``
            (as ``step``, but positions are numbers of finished sentences).
        values: The thresholds.
        positions: The position of each value, increasing, the first 0.

    Raises:
        InputError: If there are more than `MOST_VALUES` values, a position beyond `LAST`, or a
            line whose slope is not finite.
    """

    kind: str
    values: tuple[float, ...]
    positions: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if len(self.values) > MOST_VALUES:
            raise InputError(
                f"a schedule of {len(self.values)} thresholds is too long",
                hint=f"use at most {MOST_VALUES}",
            )
        if self.positions[-1] > LAST:
            raise InputError(
                "a schedule goes beyond the end of every answer",
                hint=f"use positions up to {LAST}",
            )
        if self.kind == "linear" and not math.isfinite(self.values[1] - self.values[0]):
            raise InputError(
                "a linear schedule needs finite ends", hint="write linear:0.5..0.1/100"
            )

    @classmethod
    def constant(cls, gamma: float) -> Schedule:
        """Returns the schedule that is the same everywhere."""
        return cls("constant", (float(gamma),))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Reads a schedule.

        Args:
            text: A number; ``linear:0.5..0.1/100`` (from 0.5 to 0.1 over 100 tokens);
                ``step:0.5,0.2/20,0.1/60`` (0.5, from token 20 on 0.2, from token 60 on 0.1);
                ``sentence:0.5,0.2/1,0.1/3`` (0.5 in the first sentence, 0.2 after one sentence,
                0.1 after three).

        Raises:
            InputError: If the text is none of these.
        """
        kind, colon, rest = text.partition(":")
        try:
            if not colon:
                return cls.constant(float(text))
            if kind == "linear":
                ends, _, length = rest.partition("/")
                first, last = ends.split("..")
                return cls("linear", (float(first), float(last)), (0, _position(length)))
            if kind in ("step", "sentence"):
                values, positions = [], []
                for i, part in enumerate(rest.split(",")):
                    value, _, position = part.partition("/")
                    values.append(float(value))
                    positions.append(_position(position) if i else 0)
                if positions != sorted(set(positions)):
                    raise ValueError
                return cls(kind, tuple(values), tuple(positions))
            raise ValueError
        except InputError:
            raise
        except ValueError:
            raise InputError(
                f"threshold {clipped(text)!r} is neither a number nor a schedule",
                hint="write 0.3, linear:0.5..0.1/100, step:0.5,0.2/20 or sentence:0.5,0.2/1",
            ) from None

    @property
    def first(self) -> float:
        """The value at t = 0."""
        return self.values[0]

    def at(self, t: torch.Tensor) -> torch.Tensor:
        """Returns the threshold of each row.

        Args:
            t: Tokens emitted (of a schedule by sentence: sentences finished), int64 [n].

        Returns:
            float64 [n].
        """
        if self.kind == "constant":
            return torch.full(t.shape, self.first, dtype=torch.float64, device=t.device)
        values = torch.tensor(self.values, dtype=torch.float64, device=t.device)
        if self.kind == "linear":
            share = (t.double() / self.positions[1]).clamp(max=1)
            return values[0] + (values[1] - values[0]) * share
        positions = torch.tensor(self.positions, device=t.device)
        return values[torch.searchsorted(positions, t, right=True) - 1]

    def __str__(self) -> str:
        if self.kind == "constant":
            return _written(self.first)
        if self.kind == "linear":
            first, last = map(_written, self.values)
            return f"linear:{first}..{last}/{self.positions[1]}"
        rest = zip(self.values[1:], self.positions[1:], strict=True)
        return f"{self.kind}:{_written(self.first)}" + "".join(
            f",{_written(v)}/{p}" for v, p in rest
        )


def _written(value: float) -> str:
    """Writes a number as shortly as it can be read again exactly."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _position(text: str) -> int:
    """Reads a position: a positive integer."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value
