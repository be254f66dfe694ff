"""Counter-based noise: every random number is a pure function of (key, stream, t, token).

Nothing is drawn in sequence, so a row's numbers do not depend on its neighbours, on the order
of computation, or on drafts that were thrown away. The generator is SplitMix64: a Weyl sequence
through a 64-bit finaliser, computed with wrapping int64 arithmetic on any torch device.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from baco.engine.lazy import torch

Bits = TypeVar("Bits", "torch.Tensor", NDArray[Any])

UNIT = 1
"""Stream of U_unit(t): does the unit end here?"""
ROUTE = 2
"""Stream of U_route(t): the router `rand`."""
TOKEN = 3
"""Stream of G(t, v): which token?"""
TURN = 4
"""Stream of G'(t, v): which token instead of a line break that was refused?"""

_GOLDEN = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB


def row_key(seed: int, prompt: str, index: int, attempt: int = 0) -> int:
    """Hashes what identifies a sample into its 64-bit noise key.

    Args:
        seed: The user's seed, any integer.
        prompt: The prompt's text (a conversation: its canonical JSON).
        index: Sample index within the group, from 0.
        attempt: Restart number, from 0.

    Returns:
        A signed 64-bit integer.
    """
    return hashed(f"{seed}\x1f{index}\x1f{attempt}\x1f{prompt}")


def rewound_key(key: int, count: int) -> int:
    """Returns the key of a row that was taken back: all its later noise is fresh.

    Args:
        key: The row's own, from `row_key`.
        count: How often it was taken back, from 1.
    """
    return hashed(f"{key}\x1f{count}")


def hashed(text: str) -> int:
    """Returns a signed 64-bit integer that depends on nothing but a text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class Draws(NamedTuple):
    """The noise of a side's offers, as far as it does not depend on token ids.

    Attributes:
        unit: U_unit(t), float64 [n]; -1 at t = 0, where the unit ends whatever the chances.
        token: `counter` of the stream `TOKEN`, int64 [n].
    """

    unit: torch.Tensor
    token: torch.Tensor

    @classmethod
    def of(cls, keys: torch.Tensor, t: torch.Tensor) -> Draws:
        """Makes them where keys and positions are, int64 [n]."""
        return cls(uniform(keys, UNIT, t).masked_fill(t == 0, -1), counter(keys, TOKEN, t))

    @staticmethod
    def on_host(keys: NDArray[np.int64], t: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same from arrays on the host; U_unit by its bits: int64 [2, n]."""
        counters = _counter(keys, np.array([[_stride(UNIT)], [_stride(TOKEN)]]), t)
        unit = _unit_interval(_mix(counters[0]))
        counters[0] = np.where(t == 0, -1.0, unit).view(np.int64)
        return counters


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _stride(stream: int) -> int:
    """How far apart the states of a stream begin from those of stream 0."""
    return _signed(stream * _GOLDEN & (1 << 64) - 1)


def _shift(x: Bits, bits: int) -> Bits:
    """Logical right shift of int64 (the sign is kept by the plain one)."""
    y = x >> bits
    y &= (1 << (64 - bits)) - 1
    return y


def _mix(x: Bits) -> Bits:
    """SplitMix64's finaliser on int64 of any shape."""
    x = x ^ _shift(x, 30)
    x *= _signed(_MIX1)
    x ^= _shift(x, 27)
    x *= _signed(_MIX2)
    x ^= _shift(x, 31)
    return x


def _unit_interval(x: Bits) -> Bits:
    """Maps int64 bits to float64 in the open interval (0, 1)."""
    y = _shift(x, 11)
    y = y.astype(np.float64) if isinstance(y, np.ndarray) else y.to(torch.float64)
    y += 0.5
    y *= 2.0**-53
    return y


def counter(keys: Bits, stream: int, t: Bits) -> Bits:
    """Returns the state that all numbers of (key, stream, t) start from, int64 [n].

    Args:
        keys: int64 [n], from `row_key`; a tensor, or an array on the host.
        stream: `UNIT`, `ROUTE`, `TOKEN` or `TURN`.
        t: int64 [n], number of tokens emitted before this step.
    """
    return _counter(keys, _stride(stream), t)


def _counter(keys: Bits, stride: Any, t: Bits) -> Bits:
    """As `counter`, by the stride of a stream, or strides [streams, 1] of several."""
    start: Bits = keys + stride
    return _mix(_mix(start) + t * _signed(_GOLDEN))


def uniform(keys: Bits, stream: int, t: Bits) -> Bits:
    """Returns U(t) of a stream: float64 [n] in (0, 1). Arguments as in `counter`."""
    return _unit_interval(_mix(counter(keys, stream, t)))


def gumbel(
    keys: torch.Tensor, t: torch.Tensor, ids: torch.Tensor, stream: int = TOKEN
) -> torch.Tensor:
    """Returns G(t, v) of some token ids v: standard Gumbel, float64 [n, k].

    Args:
        keys: int64 [n], from `row_key`.
        t: int64 [n], number of tokens emitted before this step.
        ids: int64 [n, k], or [k] for the same in all rows.
        stream: `TOKEN` or `TURN`.
    """
    return gumbel_of(counter(keys, stream, t), ids)


def gumbel_of(counters: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Returns `gumbel` from counters, int64 [n]."""
    bits = _mix((ids + 1) * _signed(_GOLDEN) + counters[:, None])
    return _unit_interval(bits).log_().neg_().log_().neg_()
