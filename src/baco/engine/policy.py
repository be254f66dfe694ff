"""Which partner to run next, and whether guesses pay: what yields most tokens for its cost.

A schedule never changes a result, only what it costs. The unit of account is one forward pass of
one partner, which serves all rows at once.

When a partner has run, each row that is not resolved may hold its guess of the next token. Running
the *other* partner over the guesses then resolves them, and where the last guess was right it has
already scored the position after it, so it makes the next guess itself. How long one side should
lead before the other checks depends on what their passes cost, with and without guesses, and on
how often guesses are right: `plan` works it out. Where all passes cost the same, the partners
alternate, at 2 minus the acceptance rate passes per token; where one is cheap, it leads for longer;
where checking costs more than it saves nobody guesses, which is lock-step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baco.engine.batch import Flags, Integers
from baco.engine.costs import Costs

LEADING, RETRYING, TAKING_OVER = 0, 1, 2
"""When a side guesses: after its own or checked tokens; after its own guess has just failed; after
the other side's has. A side whose guess has just failed is the better one to go on, as a rule."""

SITUATIONS = 3
THIRD = 2 * SITUATIONS
"""The drafter number of a third party; side k in situation m has number k * SITUATIONS + m."""

Floats = NDArray[np.float64]

_PRIOR = 6.0  # observations that the first guess of a mean is worth
_MEMORY = 50.0  # observations that a mean remembers, about
_FADES = 1 / 512  # of what a mean knows, per cycle in which it could not learn
_SOON = 0.2  # worth of opening a row now that must be opened anyway: its first guess comes free
_LEAST = 0.05  # worth of a pass to a row that misses it, so that no row waits for ever
_START = (0.88, 0.9, 0.8)  # acceptance by situation, before anything is known
_EVERY = 8  # cycles for which a plan holds


class Rate:
    """A running mean of a yes/no outcome, starting from a guess."""

    def __init__(self, start: float) -> None:
        self.value = self._start = start
        self._weight = _PRIOR

    def add(self, hits: int, trials: int) -> None:
        """Counts outcomes."""
        if trials:
            self.value += (hits - trials * self.value) / (self._weight + trials)
            self._weight = min(self._weight + trials, _MEMORY)

    def fade(self) -> None:
        """Moves a little towards the first guess: nothing was seen for a while."""
        self.value += _FADES * (self._start - self.value)


class StateValues(NamedTuple):
    """What the states of a row are worth, in tokens, beyond one whose next position nobody scored.

    A side that has scored a row's next position alone *leads* it, with 0 to `longest` guesses.

    Attributes:
        rate: Tokens per cost of the best schedule.
        worth: For each leading side, by guesses, float [longest + 1].
        checked: What the other side's pass then gains, float [longest + 1].
        led_on: What one more pass of the leading side gains, float [longest + 1].
    """

    rate: float
    worth: tuple[Floats, Floats]
    checked: tuple[Floats, Floats]
    led_on: tuple[Floats, Floats]


def plan(
    costs: Sequence[Sequence[float]],
    accepts: Sequence[float],
    lock_step: float,
    longest: int,
) -> StateValues:
    """Finds the schedule of most tokens per cost, and what a row is worth on its way.

    A round: one side leads k times, the other checks its k guesses in one pass. If all were right
    it has scored one position more, which the first side checks in turn. The better of all rounds
    and lock-step sets the rate; what a state is worth follows by taking the better of checking now
    and leading once more, where time counts at that rate. A guess is worth making if the row is
    then worth more than without it.

    Args:
        costs: What a pass of each side costs by tokens per row, from 0 (as 1) to `longest` + 1.
        accepts: How often each side's guesses are right, 0 to 1.
        lock_step: What a token costs without guesses.
        longest: The longest draft; 0 for none.
    """
    rate = 1 / lock_step
    rounds = []
    for lead in (0, 1):
        led, check, accept = costs[lead], costs[1 - lead], min(accepts[lead], 0.999)
        # What it takes to check the position that the other side has scored beyond the guesses:
        # a plain pass, or one that also checks its guess and may save the next lead.
        after = min(led[1], max(0.0, led[min(2, longest + 1)] - accepts[1 - lead] * led[1]))
        sure = accept ** np.arange(longest + 1)
        right = np.cumsum(sure)  # expected tokens of a round with 0, 1, ... guesses
        for k in range(1, longest + 1):
            rate = max(rate, right[k] / (k * led[1] + check[k + 1] + sure[k] * after))
        rounds.append((led, check, sure, right, after))
    worths, checked, led_on = [], [], []
    for led, check, sure, right, after in rounds:
        gains = np.maximum(right - sure, 1) + sure * (1 - rate * after)
        gains[0] = 1
        now = gains - rate * np.array(check[1 : longest + 2])
        worth = now.copy()
        for d in range(longest - 1, 0, -1):
            worth[d] = max(now[d], worth[d + 1] - rate * led[1])
        worths.append(worth)
        checked.append(gains - worth)
        more = np.append(np.diff(worth), 0)
        more[0] = 0  # without a guess of its own there is nothing to feed it
        led_on.append(more)
    return StateValues(
        rate, (worths[0], worths[1]), (checked[0], checked[1]), (led_on[0], led_on[1])
    )


class Policy:
    """Running means of what each partner's guesses are worth, and the choices they lead to.

    Sides are numbered by source: `ALIGNED` = 0, `BASE` = 1.

    Args:
        costs: What passes cost.
        longest: Longest draft; 0 switches guessing off.
        together: Whether one pass serves both sides.
    """

    def __init__(self, costs: Costs, longest: int, *, together: bool = False) -> None:
        self.costs = costs
        self.longest = longest
        self._together = together
        self.forget()

    def forget(self) -> None:
        """Starts anew: what was seen in earlier rows must not tell in later ones."""
        self.accepts = [Rate(start) for start in (*_START, *_START, 0.5)]
        self.resolves = (Rate(0.05), Rate(0.05))
        self._cycles = 0

    def renew(self, source: Integers) -> None:
        """Makes a new plan now and then, from what is known by now.

        Args:
            source: Current sources, int64 [n].
        """
        self._cycles += 1
        if self._cycles % _EVERY != 1:
            return
        self._costs = self.costs.of(len(source), self.longest + 2)
        base_share = float(source.mean())
        apart = 0.0
        for side, share in enumerate((1 - base_share, base_share)):
            other = (1 - self.resolves[side].value) * self._costs[1 - side][1]
            apart += share * (self._costs[side][1] + other)
        accepts = [self.accepts[side * SITUATIONS + LEADING].value for side in (0, 1)]
        self.plan = plan(self._costs, accepts, apart, self.longest)

    def guess_pays(self, side: int, drafted: Integers) -> Flags:
        """Whether a side should add a guess to drafts of these lengths, bool [n]."""
        worth = self.plan.worth[side]
        pays = np.append(np.diff(worth) > 0, False)
        if self.longest and not pays[0]:
            self.accepts[side * SITUATIONS + LEADING].fade()
        return pays[np.minimum(drafted, self.longest)]

    def draft_length(self, price: float) -> int:
        """How many guesses of a third party pay, beyond a guess of a partner's own: 0 to `longest`.

        Both sides check them, so a round of d guesses takes a pass of each. It gives the token
        that the checks themselves decide, the partner's guess where that is right, and as many of
        the d as are right in sequence.

        Args:
            price: What a guess costs, in passes of the aligned side.
        """
        accept, own = self.accepts[THIRD], self.accepts[LEADING].value
        aligned, base = self._costs
        guesses = np.arange(self.longest + 1)
        tokens = np.cumsum(accept.value**guesses)
        checks = np.array(aligned[1:-1])
        if not self._together:
            tokens, checks = 1 + own * tokens, checks + np.array(base[2:])
        length = int(np.argmax(tokens / (checks + guesses * price * aligned[1])))
        if not length:
            accept.fade()
        return length

    def choose(
        self,
        missing: Sequence[Flags],
        opening: Sequence[Flags],
        source: Integers,
        drafted: Integers,
        extensible: Flags,
        failed: Integers,
        waited: Integers,
        widths: Sequence[int],
    ) -> int:
        """Picks the side to run next.

        Args:
            missing: For each side, rows that have no score of it at their next position and
                may need one, bool [n].
            opening: For each side, rows that it will have to open sooner or later, bool [n].
            source: Current sources, int64 [n].
            drafted: Length of each row's draft, int64 [n].
            extensible: Rows whose draft has room for one more guess, bool [n].
            failed: The side whose guess failed last, -1 if none has since, int64 [n].
            waited: Cycles that each row has gone without a token, int64 [n]; what waits gains
                weight, so that no row waits for ever.
            widths: For each side, the most tokens that a row would be fed.

        Returns:
            The side's number.
        """
        values = []
        for side in (0, 1):
            worth = self._worth(side, missing, source, drafted, extensible, failed)
            worth = worth + _SOON * opening[side]
            # What it lags behind must be fed some time; only guesses make a pass cost more.
            cost = self._costs[side][min(widths[side], 1 + int(drafted.max()))]
            values.append(float((worth * (1 + waited)).sum()) / cost)
        return int(values[1] > values[0])

    def _worth(
        self,
        side: int,
        missing: Sequence[Flags],
        source: Integers,
        drafted: Integers,
        extensible: Flags,
        failed: Integers,
    ) -> Floats:
        """Expected tokens, now or by what it prepares, from one pass of a side: float [n]."""
        mine, other = missing[side], missing[1 - side]
        # The other side has led: this pass resolves its guesses as far as they are right.
        checked = self.plan.checked[1 - side][drafted]
        # Nobody has spoken: the current source may resolve alone, or else leads.
        leads = np.full(len(drafted), self.plan.worth[side][:2].max())
        if self.longest:
            leading, retrying, taking_over = (
                rate.value for rate in self.accepts[side * SITUATIONS : (side + 1) * SITUATIONS]
            )
            trust = np.where(failed == side, retrying, leading)
            leads *= np.where(failed == 1 - side, taking_over, trust) / max(leading, 0.01)
        resolves = np.where(source == side, self.resolves[side].value, 0.0)
        alone = resolves + (1 - resolves) * leads
        # This side has led already: one more guess on top of its own.
        more = np.where(extensible, self.plan.led_on[side][drafted], 0.0)
        needed = np.maximum(np.where(other, alone, checked), _LEAST)
        return np.where(mine, needed, np.maximum(more, 0.0))
