"""Which partner to run next: whichever promises the most tokens for its cost.

A schedule never changes a result, only what it costs. The unit of account is one forward pass of
one partner, which serves all rows at once.

When a partner has run, each row that is not resolved holds its guess of the next token. Running
the *other* partner over the guesses then resolves them, and where the last guess was right it has
already scored the position after it, so it makes the next guess itself: with equal costs the
partners alternate, each checking the other and then leading, at 2 minus the acceptance rate
passes per token. Where one partner is cheap it leads for longer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from baco.engine.batch import Flags, Integers

LEADING, RETRYING, TAKING_OVER = 0, 1, 2
"""When a side guesses: after its own or checked tokens; after its own guess has just failed; after
the other side's has. A side whose guess has just failed is the better one to go on, as a rule."""

SITUATIONS = 3
THIRD = 2 * SITUATIONS
"""The drafter number of a third party; side k in situation m has number k * SITUATIONS + m."""

_MEMORY = 0.98  # of a running mean, per observation
_SOON = 0.2  # worth of opening a row now that must be opened anyway: its first guess comes free
_START = (0.88, 0.9, 0.8)  # acceptance by situation, before anything is known


class Rate:
    """A running mean of a yes/no outcome, starting from a guess."""

    def __init__(self, start: float) -> None:
        self.value = start

    def add(self, hits: int, trials: int) -> None:
        """Counts outcomes."""
        if trials:
            keep = _MEMORY**trials
            self.value = keep * self.value + (1 - keep) * hits / trials


class Policy:
    """Running means of what each partner's guesses are worth, and the choice they lead to.

    Sides are numbered by source: `ALIGNED` = 0, `BASE` = 1.

    Args:
        costs: Relative cost of a pass of each side.
        longest: Longest draft; 0 switches guessing off.
    """

    def __init__(self, costs: tuple[float, float], longest: int) -> None:
        self.costs = costs
        self.longest = longest
        self.accepts = [Rate(start) for start in (*_START, *_START, 0.5)]
        self.resolves = (Rate(0.05), Rate(0.05))

    def choose(
        self,
        missing: Sequence[Flags],
        opening: Sequence[Flags],
        source: Integers,
        drafted: Integers,
        closed: Integers,
        failed: Integers,
        waited: Integers,
    ) -> int:
        """Picks the side to run next.

        Args:
            missing: For each side, rows that have no score of it at their next position and
                may need one, bool [n].
            opening: For each side, rows that it will have to open sooner or later, bool [n].
            source: Current sources, int64 [n].
            drafted: Length of each row's draft, int64 [n].
            closed: 1 for rows whose draft ends with an end token, int64 [n].
            failed: The side whose guess failed last, -1 if none has since, int64 [n].
            waited: Cycles that each row has gone without a token, int64 [n]; what waits gains
                weight, so that no row waits for ever.

        Returns:
            The side's number.
        """
        values = []
        for side in (0, 1):
            worth = self._worth(side, missing, source, drafted, closed, failed)
            worth = worth + _SOON * opening[side]
            values.append(float((worth * (1 + waited)).sum()) / self.costs[side])
        return int(values[1] > values[0])

    def _worth(
        self,
        side: int,
        missing: Sequence[Flags],
        source: Integers,
        drafted: Integers,
        closed: Integers,
        failed: Integers,
    ) -> NDArray[np.float64]:
        """Expected tokens, now or by a guess, from one pass of a side: float [n]."""
        mine, other = missing[side], missing[1 - side]
        trust = min(self.accepts[(1 - side) * SITUATIONS + LEADING].value, 0.999)
        # The other side has led: this pass resolves its guesses as far as they are right.
        chain = (1 - trust ** (drafted + 1.0)) / (1 - trust)
        # Nobody has spoken: the current source may resolve alone, and leaves a guess.
        alone = np.where(source == side, self.resolves[side].value, 0.0)
        more = np.zeros_like(alone)
        if self.longest:
            leading, retrying, taking_over = (
                rate.value for rate in self.accepts[side * SITUATIONS : (side + 1) * SITUATIONS]
            )
            guess = np.where(failed == side, retrying, leading)
            alone = alone + np.where(failed == 1 - side, taking_over, guess)
            # This side has led already: one more guess on top of its own.
            open_ = (closed == 0) & (drafted < self.longest)
            more = np.where(open_, leading ** (drafted + 1.0), 0.0)
        return np.where(mine, np.where(other, alone, chain), more)
