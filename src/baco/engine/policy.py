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

import torch

THIRD = 2
"""The number of a third party that guesses, beside the two sides."""

_MEMORY = 0.98  # of a running mean, per observation


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
        self.accepts = (Rate(0.9), Rate(0.85), Rate(0.5))
        self.resolves = (Rate(0.2), Rate(0.2))

    def choose(
        self,
        missing: tuple[torch.Tensor, torch.Tensor],
        source: torch.Tensor,
        drafted: torch.Tensor,
        closed: torch.Tensor,
        waited: torch.Tensor,
    ) -> int:
        """Picks the side to run next.

        Args:
            missing: For each side, rows that have no score of it at their next position and
                may need one, bool [n].
            source: Current sources, int64 [n].
            drafted: Length of each row's draft, int64 [n].
            closed: Rows whose draft ends with an end token, bool [n].
            waited: Cycles that each row has gone without a token, int64 [n]; what waits gains
                weight, so that no row waits for ever.

        Returns:
            The side's number.
        """
        values = [
            float((self._worth(side, missing, source, drafted, closed) * (1 + waited)).sum())
            / self.costs[side]
            for side in (0, 1)
        ]
        return int(values[1] > values[0])

    def _worth(
        self,
        side: int,
        missing: tuple[torch.Tensor, torch.Tensor],
        source: torch.Tensor,
        drafted: torch.Tensor,
        closed: torch.Tensor,
    ) -> torch.Tensor:
        """Expected tokens, now or by a guess, from one pass of a side: float [n]."""
        mine, other = missing[side], missing[1 - side]
        guess = self.accepts[side].value if self.longest else 0.0
        trust = self.accepts[1 - side].value
        # The other side has led: this pass resolves its guesses as far as they are right.
        chain = (1 - trust ** (drafted + 1).double()) / (1 - min(trust, 0.999))
        # Nobody has spoken: the current source may resolve alone, and leaves a guess.
        alone = torch.where(source == side, self.resolves[side].value, 0.0) + guess
        # This side has led already: one more guess on top of its own.
        more = torch.where(closed | (drafted >= self.longest), 0.0, guess ** (drafted + 1).double())
        return torch.where(mine, torch.where(other, alone, chain), more)
