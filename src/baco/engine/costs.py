"""What a forward pass costs each side: counted by the models' sizes, or tried out on this machine.

How much dearer a pass gets when it is fed a guess differs. While reading the weights takes longer
than the arithmetic, a second token per row is all but free; in a large batch, and on some
processors even for a single row, it costs what the first one did. So passes of one and of two
tokens per row are timed on a scratch cache, once in a process for each partner and kind of batch:
fewer passes than loading the model took time for. What comes out is rounded so coarsely that it
comes out alike every time, whatever else the machine does: the engine then makes the same passes,
and a run repeats to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch

from baco.engine.partner import Partner

Clock = Callable[[], float]
"""Seconds since some moment."""

_TIMES = 3  # of which the fastest counts: other work on the machine only ever slows a pass down
_GRAIN = 0.25  # of slopes
_LARGEST = 256  # rows that are tried out; more are taken to behave alike
_LEAST_WINDOW = 4  # tokens that a trial needs


class Speed(NamedTuple):
    """How fast a partner's passes are for some number of rows.

    Attributes:
        seconds: What a pass takes that is fed one token per row.
        slope: By what share of that each further token per row adds to it: 0 where it is free, 1
            where two tokens take twice as long as one.
    """

    seconds: float
    slope: float


_known: WeakKeyDictionary[Partner, dict[int, Speed | None]] = WeakKeyDictionary()


def kind_of(rows: int) -> int:
    """The kind of a batch of so many rows: the next of 1, 4, 16, 64 and 256."""
    kind = 1
    while kind < min(rows, _LARGEST):
        kind *= 4
    return kind


def speed(partner: Partner, rows: int, clock: Clock) -> Speed | None:
    """Tries out what a partner's passes take; remembered as long as the partner lives.

    Args:
        partner: The partner.
        rows: Rows in the batch; batches of one kind count as alike.
        clock: Tells the time.

    Returns:
        How fast it is, or None where that cannot be told: no memory for it, or a clock too coarse.
    """
    known, kind = _known.setdefault(partner, {}), kind_of(rows)
    if kind not in known:
        try:
            # No more rows than the batch has: so many fit into memory.
            known[kind] = _tried(partner, min(rows, _LARGEST), clock)
        except torch.OutOfMemoryError:
            known[kind] = None
    return known[kind]


def _tried(partner: Partner, rows: int, clock: Clock) -> Speed | None:
    if partner.context_window < _LEAST_WINDOW:
        return None
    cache = partner.new_cache()
    cache.add(rows)
    cache.open([(0,)] * rows, range(rows))
    fastest = {1: math.inf, 2: math.inf}
    for k in range(_TIMES + 1):
        for width in fastest:
            tokens = torch.zeros(rows, width, dtype=torch.int64)
            start = clock()
            logits = cache.feed(tokens, torch.full((rows,), width))
            float(logits.flatten()[0])  # a device computes beside the host until it is asked
            if k:  # the first ones make tables
                fastest[width] = min(fastest[width], clock() - start)
            cache.truncate(torch.ones(rows, dtype=torch.int64))
    one, two = fastest.values()
    if not one > 0:
        return None
    return Speed(one, _GRAIN * round(max(0.0, two / one - 1) / _GRAIN))


class Costs:
    """What passes of both sides cost: in passes of the base side, or in weights where no clock is.

    Args:
        partners: Both partners, aligned first.
        clock: By which passes are tried out; None counts the models' weights, whatever the width.
    """

    def __init__(self, partners: Sequence[Partner], clock: Clock | None = None) -> None:
        self._partners = partners
        self.clock = clock
        self._free = 0  # the most rows for which further tokens were found to be free

    def of(self, rows: int, widths: int) -> list[list[float]]:
        """Returns for each side what its passes cost, by tokens per row: 0 (as 1) to `widths`."""
        flat, slopes = self._by_rows(rows)
        return [
            [one * (1 + slope * max(0, width - 1)) for width in range(widths + 1)]
            for one, slope in zip(flat, slopes, strict=True)
        ]

    def _by_rows(self, rows: int) -> tuple[list[float], list[float]]:
        """What a pass of one token per row costs each side, and its slopes."""
        if self.clock:
            # What is free for many rows is free for few: that needs no trial.
            rows = max(rows, self._free)
            found = [speed(partner, rows, self.clock) for partner in self._partners]
            aligned, base = found
            if aligned and base:
                slopes = [aligned.slope, base.slope]
                if not any(slopes):
                    self._free = rows
                # In steps of a half octave, for the same reason as slopes are rounded.
                octaves = round(2 * math.log2(aligned.seconds / base.seconds)) / 2
                return [2.0**octaves, 1.0], slopes
        return [float(partner.parameters) for partner in self._partners], [0.0, 0.0]
