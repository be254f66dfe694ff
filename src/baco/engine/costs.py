"""What a forward pass costs each side: timed while decoding, or counted by the models' sizes.

How much dearer a pass gets when it is fed guesses differs from machine to machine: on a GPU two
tokens cost what one does, on a processor they may cost twice as much. So passes are timed, by
side and by tokens per row, from the choice of the side to the last decision that its scores allow.
The host waits for these decisions anyway, also where a device computes beside it.

Costs that nobody times stay what they are at first: the numbers of weights, whatever the width.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since some moment."""

_KEPT = 7  # passes of a kind whose median counts: a slow one now and then does not
_ENOUGH = 3  # fewer say nothing
_FRESH = 256  # passes; what was not seen for longer is tried anew
_TICK = 1e-9  # seconds; a clock may be too coarse to see a pass


def kind_of(width: int) -> int:
    """Rounds tokens per row up to one of few numbers: 1 to 4, then powers of two."""
    return max(1, width) if width <= 4 else 1 << (width - 1).bit_length()


class Costs:
    """Running medians of the seconds of passes.

    Args:
        sizes: What a pass of each side costs while not both were timed: their numbers of weights.
    """

    def __init__(self, sizes: tuple[float, float]) -> None:
        self._sizes = sizes
        self._times: tuple[dict[int, deque[float]], ...] = ({}, {})
        self._seen: tuple[dict[int, int], ...] = ({}, {})
        self._passes = 0

    def add(self, side: int, width: int, seconds: float) -> None:
        """Tells what a pass of a side took that fed up to `width` tokens to a row."""
        self._passes += 1
        kind = kind_of(width)
        if self._is_old(side, kind):
            self._times[side][kind] = deque(maxlen=_KEPT)
        self._times[side][kind].append(max(seconds, _TICK))
        self._seen[side][kind] = self._passes

    def of(self, side: int, widths: int) -> list[float]:
        """Returns what passes of a side cost, by tokens per row: 0 (as 1) to `widths`.

        A width that was not tried lately is taken to cost what the next narrower one does: so it is
        tried, and then known.
        """
        known = [self._known(0), self._known(1)]
        if not (known[0] and known[1]):
            return [self._sizes[side]] * (widths + 1)
        mine = known[side]
        least = min(mine)
        return [
            mine[max((kind for kind in mine if kind <= kind_of(width)), default=least)]
            for width in range(widths + 1)
        ]

    def _is_old(self, side: int, kind: int) -> bool:
        return self._passes - self._seen[side].get(kind, -_FRESH - 1) > _FRESH

    def _known(self, side: int) -> dict[int, float]:
        """The median seconds of the kinds of passes that were seen often enough, and lately."""
        return {
            kind: statistics.median(times)
            for kind, times in self._times[side].items()
            if len(times) >= _ENOUGH and not self._is_old(side, kind)
        }
