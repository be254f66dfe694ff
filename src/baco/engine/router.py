"""What a router is: a pure, vectorised function of one decoding step.

A *rule* says for each row "base" or "aligned", given a threshold. A *router* is one rule, or a
cascade of rules in which an earlier rule's "aligned" is final: `punc>p` asks `p` only where
`punc` has no veto.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from baco.engine import noise
from baco.engine.lazy import cached_property, torch
from baco.engine.partner import Level
from baco.engine.schedule import Schedule
from baco.engine.scores import Context, Look, SideScores, Stretch
from baco.engine.vocabulary import Vocabulary
from baco.errors import InputError, UnsupportedError

BOTH = frozenset({"base", "aligned"})


@dataclass(frozen=True, eq=False)
class View:
    """What a rule may look at: both partners' scores at the end of a unit.

    A side that the rule does not name in `reads` may hold nonsense.

    Attributes:
        base: The base partner's scores, n rows.
        aligned: The aligned partner's scores.
        vocabulary: Tables over token ids.
        context: Keys, positions, unit states, current sources of the rows.
        asked: Rows whose answer counts, bool [n]; the others may be answered anyhow.
        history: Emitted token ids of each row, for rules that judge text; None where unneeded.
        proposals: The tokens (base, aligned) that each side would emit here; as `history`.
        sentences: How many sentences each row has finished, int64 [n]; None where unneeded.
        ahead: Lets a side write on, for rules that look ahead; None where unneeded.
        drawn: `u_route` where it is known already.
    """

    base: SideScores
    aligned: SideScores
    vocabulary: Vocabulary
    context: Context
    asked: torch.Tensor
    history: list[list[int]] | None = None
    proposals: tuple[torch.Tensor, ...] | None = None
    sentences: torch.Tensor | None = None
    ahead: Look | None = None
    drawn: torch.Tensor | None = None

    @cached_property
    def u_route(self) -> torch.Tensor:
        """U_route(t): float64 [n] in (0, 1)."""
        if self.drawn is not None:
            return self.drawn
        return noise.uniform(self.context.keys, noise.ROUTE, self.context.t)

    @property
    def sentence(self) -> torch.Tensor:
        """`sentences`, for thresholds that go by them.

        Raises:
            UnsupportedError: If the engine does not count them.
        """
        if self.sentences is None:
            raise UnsupportedError(
                "thresholds by sentence need the text so far, which this engine does not keep",
                hint="use a schedule over tokens: linear or step",
            )
        return self.sentences

    def stretch(self, side: int, depth: int) -> Stretch:
        """Returns what a side would write next, see `baco.engine.ahead`.

        Args:
            side: `BASE` or `ALIGNED`.
            depth: Tokens, or `SENTENCE`.

        Raises:
            UnsupportedError: If the engine cannot look ahead.
        """
        if self.ahead is None:
            raise UnsupportedError(
                "this engine cannot let a partner write ahead",
                hint="use a router that looks at one token, such as p-punc",
            )
        return self.ahead(side, depth, self.asked)


Decide: TypeAlias = "Callable[[View, torch.Tensor], torch.Tensor]"
"""A rule's function: (view, threshold float64 [n]) -> bool [n], True where base speaks."""


@dataclass(frozen=True)
class Rule:
    """A named routing rule.

    Attributes:
        name: Its name in specs.
        formula: When it goes to base, in words or symbols.
        decide: The function.
        reads: Which partners' scores it looks at: a subset of {"base", "aligned"}.
        low: Smallest allowed threshold; None for a rule without threshold.
        high: Largest allowed threshold (may be infinite).
        default: The threshold used when none is given.
        reach: The base share it can reach, in words.
        up: Whether a larger threshold means more base.
        source: Where it comes from.
        level: What partners must give for it: ``text``; the likeliest tokens with their
            probabilities, ``top-k``; or whole distributions, ``logits``.
        likeliest: How many of the likeliest tokens it looks at.
        needs_text: Whether it needs the view's `history` and `proposals`.
        looks_ahead: Whether it lets a partner write on (`View.stretch`).
        in_turn: Whether it may look at the current source, or at who is asked: then it is asked
            of one place at a time.
        opens: Whether the router is asked of an answer's first unit too, which is the aligned
            model's otherwise (A.1); see `baco.engine.step.held`.
    """

    name: str
    formula: str
    decide: Decide
    reads: frozenset[str]
    low: float | None = None
    high: float | None = None
    default: float | None = None
    reach: str = "0 to all"
    up: bool = True
    source: str = ""
    level: Level = "logits"
    likeliest: int = 1
    needs_text: bool = False
    looks_ahead: bool = False
    in_turn: bool = False
    opens: bool = False

    @property
    def has_threshold(self) -> bool:
        """Whether the rule takes a threshold."""
        return self.low is not None

    @property
    def span(self) -> str:
        """The threshold's range as text, such as ``[0, 1]``."""
        if self.low is None or self.high is None:
            return "none"
        if math.isinf(self.low):
            return "any number"
        return f"[{self.low:g}, {'inf' if math.isinf(self.high) else f'{self.high:g}'}]"

    def check(self, gamma: float) -> None:
        """Raises InputError if a threshold is not in the rule's range."""
        if self.low is None or self.high is None:
            raise InputError(
                f"router {self.name!r} takes no threshold", hint="leave out gamma and @"
            )
        if math.isnan(gamma) or not self.low <= gamma <= self.high:
            raise InputError(
                f"threshold {gamma:g} is out of range for router {self.name!r}",
                hint=f"use a value in {self.span}",
            )


@dataclass(frozen=True)
class Router:
    """One rule or a cascade of rules, each with its threshold.

    Attributes:
        name: The name it was asked for by, without thresholds, such as ``p-punc``.
        rules: The rules in the order they are asked.
        schedules: Each rule's threshold over positions, or None.
    """

    name: str
    rules: tuple[Rule, ...]
    schedules: tuple[Schedule | None, ...]

    @cached_property
    def reads(self) -> frozenset[str]:
        """Which partners' scores the router looks at."""
        return frozenset().union(*(rule.reads for rule in self.rules))

    @cached_property
    def needs_text(self) -> bool:
        """Whether any rule judges text."""
        return any(rule.needs_text for rule in self.rules)

    @cached_property
    def counts_sentences(self) -> bool:
        """Whether any threshold goes by sentence."""
        return any(s and s.kind == "sentence" for s in self.schedules)

    @property
    def needs_history(self) -> bool:
        """Whether it must know the tokens so far: to judge text, or to count sentences."""
        return self.needs_text or self.counts_sentences

    @cached_property
    def looks_ahead(self) -> bool:
        """Whether any rule lets a partner write on."""
        return any(rule.looks_ahead for rule in self.rules)

    @cached_property
    def in_turn(self) -> bool:
        """Whether it must be asked of one place at a time."""
        return self.needs_history or self.looks_ahead or any(r.in_turn for r in self.rules)

    @cached_property
    def opens(self) -> bool:
        """Whether it is asked of an answer's first unit too."""
        return any(rule.opens for rule in self.rules)

    @property
    def control(self) -> int | None:
        """Index of the rule whose threshold is the router's control, or None."""
        for i in range(len(self.rules) - 1, -1, -1):
            if self.rules[i].has_threshold:
                return i
        return None

    @property
    def gamma(self) -> float | None:
        """The control's threshold at t = 0; None for a router without threshold."""
        i = self.control
        schedule = None if i is None else self.schedules[i]
        return None if schedule is None else schedule.first

    @property
    def spec(self) -> str:
        """The spec string that makes this router again."""
        i = self.control
        schedule = None if i is None else self.schedules[i]
        if schedule is None:
            return self.name
        head = self.name
        if ">" in self.name:
            parts = [
                rule.name if s is None or j == i else f"{rule.name}@{s}"
                for j, (rule, s) in enumerate(zip(self.rules, self.schedules, strict=True))
            ]
            head = ">".join(parts)
        return f"{head}@{schedule}"

    @property
    def curve_name(self) -> str:
        """The name that its calibration goes by: all that decides the curve but the control.

        That is its name; where a rule before the control has a threshold that is not the rule's
        default, the spec without the control's threshold, such as ``p@0.5>h``.
        """
        fixed = [
            schedule != Schedule.constant(rule.default)
            for j, (rule, schedule) in enumerate(zip(self.rules, self.schedules, strict=True))
            if j != self.control and schedule is not None and rule.default is not None
        ]
        return self.spec.rpartition("@")[0] if any(fixed) else self.name

    def with_gamma(self, gamma: float | Schedule) -> Router:
        """Returns this router with another control threshold.

        Raises:
            InputError: If the router has no threshold or the value is out of range.
        """
        i = self.control
        if i is None:
            raise InputError(
                f"router {self.name!r} takes no threshold", hint="leave out gamma and @"
            )
        schedule = gamma if isinstance(gamma, Schedule) else Schedule.constant(gamma)
        for value in schedule.values:
            self.rules[i].check(value)
        schedules = list(self.schedules)
        schedules[i] = schedule
        return Router(self.name, self.rules, tuple(schedules))

    def decide(self, view: View) -> torch.Tensor:
        """Asks the rules in order.

        Args:
            view: n rows.

        Returns:
            bool [n]: True where the base model speaks.
        """
        to_base: torch.Tensor | None = None
        for rule, schedule in zip(self.rules, self.schedules, strict=True):
            t = view.context.t
            if schedule is None:
                gamma = torch.zeros_like(t, dtype=torch.float64)
            else:
                gamma = schedule.at(view.sentence if schedule.kind == "sentence" else t)
            says = rule.decide(view, gamma)
            to_base = says if to_base is None else to_base & says
        assert to_base is not None
        return to_base


def _stay(view: View, gamma: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(view.asked)


ALONE = Router("alone", (Rule("alone", "never", _stay, frozenset(), level="top-k"),), (None,))
"""For a model that speaks alone, as both sides of a step: nobody is asked."""
