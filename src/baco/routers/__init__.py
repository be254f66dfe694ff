"""Routers by name: `parse("p-punc@0.3")`, cascades such as `fc>h@2`, and users' own functions."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from baco.engine.lazy import torch
from baco.engine.router import BOTH, Router, Rule, View
from baco.engine.schedule import Schedule
from baco.errors import InputError, UnknownNameError, clipped
from baco.registry import Registry, load_object
from baco.routers import ahead, combine, content, judge, learned, logit

__all__ = ["CASCADES", "ROUTERS", "Router", "Rule", "Schedule", "View", "custom", "parse"]

ROUTERS: Registry[Rule] = Registry("router")
"""Every rule by name; plug-ins add theirs through the entry-point group ``baco.routers``."""

for _rule in (*logit.RULES, *content.RULES, judge.RULE, *combine.RULES, *ahead.RULES):
    ROUTERS.add(_rule.name, _rule)

CASCADES = combine.CASCADES | ahead.CASCADES
"""Cascade names and the rules they stand for."""


MOST_CHARACTERS, MOST_RULES, MOST_TOP = 1000, 16, 1000
"""Bounds of a spec: its length, its rules, and the number of a name such as `p-top3`."""


def names() -> list[str]:
    """Every name that `parse` takes: rules and cascades."""
    return [*ROUTERS, *CASCADES]


def _rule_named(name: str, load: Callable[[str], Rule]) -> Rule:
    """Looks a rule up; `p-top3` and `p-ahead3` make rules of numbers."""
    if _is_local(name):
        return load(name)
    looking = ahead.named(name)
    if looking is not None:
        return looking
    top = re.fullmatch(r"p-top([1-9][0-9]*)", name)
    if top:
        if int(top[1]) > MOST_TOP:
            raise InputError(
                f"router {clipped(name)!r} looks at too many tokens", hint=f"use 1 to {MOST_TOP}"
            )
        return logit.p_top(int(top[1]))
    if name not in ROUTERS:
        raise UnknownNameError("router", name, names())
    return ROUTERS[name]


def _is_local(name: str) -> bool:
    """Whether a name is that of a file or of a function."""
    return name.endswith(learned.SUFFIX) or ":" in name


def load_local(name: str) -> Rule:
    """Makes a rule of a file that `baco router train` wrote, or of a user's own function.

    Args:
        name: A path that ends in ``.json``, or ``module:name``: a function (see `custom`) or a
            `Rule`; modules of the current folder are found too.

    Raises:
        InputError: If there is no such thing.
    """
    if name.endswith(learned.SUFFIX):
        return learned.load(name)
    found = load_object(name, "router")
    if isinstance(found, Rule):
        return replace(found, name=name)
    if not callable(found):
        raise InputError(
            f"{name} is {type(found).__name__} and no router", hint="name a function or a Rule"
        )
    return _own_rule(found, name, BOTH)


def parse(
    spec: str,
    gamma: float | str | Schedule | None = None,
    *,
    load: Callable[[str], Rule] = load_local,
) -> Router:
    """Makes a router from its spec string.

    Args:
        spec: ``name``, ``name@threshold``, or a cascade such as ``punc>p@0.3``. A threshold is
            a number or a schedule (`Schedule.parse`). A name that ends in ``.json`` is the file
            of a learned router, and ``module:name`` a function or a rule of your own.
        gamma: The threshold, when the spec gives none. Without either, the rule's default.
        load: What makes a rule of such a name, where it must not be opened or imported here.

    Returns:
        The router.

    Raises:
        UnknownNameError: If a name is unknown.
        InputError: If a threshold is malformed, out of range, given twice, or not taken, or the
            spec is longer than `MOST_CHARACTERS` or has more than `MOST_RULES` rules.
    """
    if len(spec) > MOST_CHARACTERS or spec.count(">") >= MOST_RULES:
        raise InputError(
            f"the router spec {clipped(spec)!r} is too long",
            hint=f"use at most {MOST_RULES} rules and {MOST_CHARACTERS} characters",
        )
    if not spec.strip():
        raise InputError("the router spec is empty", hint="use a name such as p-punc")
    rules: list[Rule] = []
    schedules: list[Schedule | None] = []
    parts: list[str] = []
    last_given = False
    for part in spec.strip().split(">"):
        name, at, text = _split(part.strip())
        parts.append(name)
        members = CASCADES.get(name) or ahead.members(name) or (name,)
        for rule in (_rule_named(member, load) for member in members):
            rules.append(rule)
            schedules.append(Schedule.constant(rule.default) if rule.default is not None else None)
        last_given = bool(at)
        if at:
            _set(rules, schedules, len(rules) - 1, Schedule.parse(text))
    router = Router(">".join(parts), tuple(rules), tuple(schedules))
    if gamma is None:
        return router
    if last_given:
        raise InputError(
            f"router {spec!r} names its threshold and gamma gives another",
            hint="leave out one of the two",
        )
    return router.with_gamma(Schedule.parse(gamma) if isinstance(gamma, str) else gamma)


def _split(part: str) -> tuple[str, str, str]:
    """Splits a part of a spec into name, ``@`` and threshold; a file's path may hold an ``@``."""
    file = re.fullmatch(rf"(.+?{re.escape(learned.SUFFIX)})(@?)(.*)", part)
    return (file[1], file[2], file[3]) if file else part.partition("@")


def is_local(spec: str) -> bool:
    """Whether a spec names a file or a function; a server opens none that its clients name."""
    return len(spec) <= MOST_CHARACTERS and any(
        _is_local(_split(part.strip())[0]) for part in spec.split(">")
    )


def _set(
    rules: list[Rule], schedules: list[Schedule | None], index: int, schedule: Schedule
) -> None:
    """Gives one rule its threshold, after checking its range."""
    for value in schedule.values:
        rules[index].check(value)
    schedules[index] = schedule


def custom(
    function: Callable[..., torch.Tensor],
    *,
    name: str = "custom",
    reads: Iterable[str] = BOTH,
    gamma: float | str | Schedule | None = None,
) -> Router:
    """Wraps a function as a router.

    Args:
        function: Takes a `View` of n rows, returns bool [n], True where base speaks. It must
            be a pure function of the view. With a second parameter it has a threshold, which
            it gets there for each row, float64 [n]; that parameter's default is the threshold's.
        name: The name shown in results.
        reads: The sides whose scores it looks at; fewer sides need fewer forward passes.
        gamma: The threshold: a number, or a schedule as in specs.

    Returns:
        The router.

    Raises:
        InputError: If `reads` names anything but ``base`` and ``aligned``, or a threshold is given
            to a function that takes none.
    """
    sides = frozenset(reads)
    if not sides <= BOTH:
        raise InputError(f"a router cannot read {sorted(sides)}", hint="use 'base', 'aligned'")
    rule = _own_rule(function, name, sides)
    default = None if rule.default is None else Schedule.constant(rule.default)
    router = Router(name, (rule,), (default,))
    if gamma is None:
        return router
    return router.with_gamma(Schedule.parse(gamma) if isinstance(gamma, str) else gamma)


def _own_rule(function: Any, name: str, reads: frozenset[str]) -> Rule:
    """Makes a rule of a function of a view, and perhaps of a threshold."""
    words = (inspect.getdoc(function) or "a function").partition("\n")[0]
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < 2:
        return Rule(name, words, lambda view, _: function(view), reads, reach="its own",
                    in_turn=True)  # fmt: skip
    default = parameters[1].default
    return Rule(
        name,
        words,
        function,
        reads,
        low=-math.inf,
        high=math.inf,
        default=None if default is inspect.Parameter.empty else float(default),
        reach="its own",
        in_turn=True,
    )
