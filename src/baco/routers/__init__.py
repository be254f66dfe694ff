"""Routers by name: `parse("p-punc@0.3")`, cascades such as `fc>h@2`, and users' own functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import torch

from baco.engine.router import Router, Rule, View
from baco.engine.schedule import Schedule
from baco.errors import InputError, UnknownNameError, clipped
from baco.registry import Registry
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
    """Looks a rule up; `p-top3` and `p-ahead3` make rules of numbers, a file a learned one."""
    if name.endswith(learned.SUFFIX):
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


def parse(
    spec: str,
    gamma: float | str | Schedule | None = None,
    *,
    load: Callable[[str], Rule] = learned.load,
) -> Router:
    """Makes a router from its spec string.

    Args:
        spec: ``name``, ``name@threshold``, or a cascade such as ``punc>p@0.3``. A threshold is
            a number or a schedule (`Schedule.parse`). A name that ends in ``.json`` is the file
            of a learned router.
        gamma: The threshold, when the spec gives none. Without either, the rule's default.
        load: What makes a rule of a file's path, where the path must not be opened here.

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


def names_file(spec: str) -> bool:
    """Whether a spec names a file; a server must not read files that its clients name."""
    return len(spec) <= MOST_CHARACTERS and any(
        _split(part.strip())[0].endswith(learned.SUFFIX) for part in spec.split(">")
    )


def _set(
    rules: list[Rule], schedules: list[Schedule | None], index: int, schedule: Schedule
) -> None:
    """Gives one rule its threshold, after checking its range."""
    for value in schedule.values:
        rules[index].check(value)
    schedules[index] = schedule


def custom(
    function: Callable[[View], torch.Tensor],
    *,
    name: str = "custom",
    reads: Iterable[str] = ("base", "aligned"),
) -> Router:
    """Wraps a function as a router.

    Args:
        function: Takes a `View` of n rows, returns bool [n], True where base speaks. It must
            be a pure function of the view.
        name: The name shown in results.
        reads: The sides whose scores it looks at; fewer sides need fewer forward passes.

    Returns:
        The router.

    Raises:
        InputError: If `reads` names anything but ``base`` and ``aligned``.
    """
    sides = frozenset(reads)
    if not sides <= {"base", "aligned"}:
        raise InputError(f"a router cannot read {sorted(sides)}", hint="use 'base', 'aligned'")
    rule = Rule(
        name,
        getattr(function, "__doc__", None) or "a function",
        lambda view, _: function(view),
        sides,
        reach="its own",
    )
    return Router(name, (rule,), (None,))
