"""What methods need of a pair, and what a pair can do: checked before any work.

A partner that gives `logits` can do everything. One behind an interface may give only the most
likely tokens with their probabilities (`top-k`), or nothing but `text`: its `Abilities` say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from baco.engine.loop import cannot_look_ahead
from baco.engine.partner import Level, Partner
from baco.engine.router import Router
from baco.errors import InputError
from baco.methods.base import METHODS
from baco.prompts import is_raw
from baco.routers import names, parse

if TYPE_CHECKING:
    from baco.methods.base import Method, Setting, Task
    from baco.models.sides import Models

LEVELS = get_args(Level)
"""What a partner may give, each including the ones before."""

ONE_TOKENIZER = "one tokenizer"
"""The need of a method that computes with both models' probabilities of one token."""


def abilities(pair: Models) -> frozenset[str]:
    """Returns what a pair can do: ``base text``, ``aligned logits``, ``one tokenizer``, ..."""
    found = {ONE_TOKENIZER} if pair.one_tokenizer else set()
    for name, partner in _partners(pair).items():
        level = LEVELS.index(partner.abilities.gives)
        found |= {f"{name} {gift}" for gift in LEVELS[: level + 1]}
    return frozenset(found)


def _partners(pair: Models) -> dict[str, Partner]:
    """Returns the partners by name, without the bridge between them."""
    return {"base": pair.base.inner, "aligned": pair.aligned.inner}


def lacking(pair: Models, router: Router) -> list[str]:
    """Returns what a router needs and a pair does not have, such as ``base logits``."""
    able, partners = abilities(pair), _partners(pair)
    missing = set()
    for rule in router.rules:
        if rule.level != "text":  # for either choice: sides that give only text cannot be sampled
            missing |= {f"{side} top-k" for side in partners} - able
        for side in rule.reads:
            known = partners[side].abilities.top
            if f"{side} {rule.level}" not in able:
                missing.add(f"{side} {rule.level}")
            elif known is not None and known < rule.likeliest:
                missing.add(f"{side} top-{rule.likeliest} (it has top-{known})")
    if router.opens:
        missing |= {ONE_TOKENIZER} - able
    return sorted(missing)


def unmet(pair: Models, method: Method) -> list[str]:
    """Returns what a method needs and a pair does not have."""
    found = set(method.needs - abilities(pair))
    if method.keeps_caches and not all(
        partner.abilities.lends_caches for partner in _partners(pair).values()
    ):
        found.add("caches beside the engine's")
    return sorted(found)


def check(pair: Models, setting: Setting, tasks: Sequence[Task]) -> None:
    """Checks that a pair can do what a method needs, and that the tasks suit the method.

    Args:
        pair: The pair.
        setting: With the method.
        tasks: What is to be made.

    Raises:
        InputError: If the pair lacks something (methods or routers that would do are named), or if
            a method that makes whole groups is not told their size, or told too small a one.
    """
    method = setting.method
    if missing := unmet(pair, method):
        others = [name for name, other in METHODS.items() if not unmet(pair, other)]
        raise _lacks(f"the method {method.name!r}", missing, pair.name, "methods", others)
    if setting.router and (missing := lacking(pair, setting.router)):
        able = [name for name in names() if not lacking(pair, parse(name))]
        raise _lacks(f"the router {setting.router.name!r}", missing, pair.name, "routers", able)
    router = setting.router
    for rule, given in zip(router.rules, router.schedules, strict=True) if router else ():
        if rule.has_threshold and given is None:
            raise InputError(
                f"the router {rule.name!r} has a threshold, and none is given",
                hint=f"for example {rule.name}@0.3",
            )
    if method.mixes_weights:
        from baco.models import interpolate

        interpolate.check(pair)
    _check_penalties(pair, setting)
    _check_ban(pair, setting)
    if method.rewords and any(is_raw(task.prompt) for task in tasks):
        raise InputError(
            f"the method {method.name!r} puts a question into other words, and raw text has none",
            hint="ask it as a conversation",
        )
    if not method.whole_group:
        return
    if setting.n is None:
        raise InputError(
            f"the method {method.name!r} makes whole groups and is not told their size",
            hint="give n to make_setting",
        )
    last = max((task.index for task in tasks), default=0)
    if last >= setting.n:
        raise InputError(
            f"sample {last} is asked of groups of {setting.n}",
            hint="give make_setting an n above every index",
        )


def _lacks(
    what: str, missing: Sequence[str], pair: str, kind: str, others: Sequence[str]
) -> InputError:
    """What is wrong where a pair lacks something, and what it could do instead."""
    return InputError(
        f"{what} needs {' and '.join(missing)}, which the pair {pair!r} does not have",
        hint=f"{kind} that would do: {', '.join(others) or 'none'}",
    )


def check_tokenizers(pair: str, one_tokenizer: bool, setting: Setting) -> None:
    """Checks a setting for a pair whose weights are not loaded yet: what `check` would refuse.

    Args:
        pair: Its name.
        one_tokenizer: Whether both sides have one tokenizer.
        setting: What is asked of it.

    Raises:
        InputError: If it has two tokenizers, and one is needed.
        UnsupportedError: If it has two tokenizers, and is to look ahead.
    """
    if one_tokenizer:
        return
    if ONE_TOKENIZER in setting.method.needs:
        others = [name for name, other in METHODS.items() if ONE_TOKENIZER not in other.needs]
        what = f"the method {setting.method.name!r}"
        raise _lacks(what, [ONE_TOKENIZER], pair, "methods", others)
    if setting.router and setting.router.opens:
        able = [name for name in names() if not parse(name).opens]
        what = f"the router {setting.router.name!r}"
        raise _lacks(what, [ONE_TOKENIZER], pair, "routers", able)
    if setting.sampling.warp.penalties.logit_bias:
        raise _bias_needs_one()
    if setting.router and (setting.draft is not None or isinstance(setting.lookahead, int)):
        raise cannot_look_ahead()


def _bias_needs_one() -> InputError:
    return InputError(
        "logit_bias names ids of one tokenizer, and this pair has two", hint="leave it out"
    )


def _check_ban(pair: Models, setting: Setting) -> None:
    """Refuses banned phrases where nothing can be taken back, or no token left out.

    Raises:
        InputError: If that is so.
    """
    if not setting.sampling.ban:
        return
    used = {need.split()[0] for need in setting.method.needs}
    for name, partner in _partners(pair).items():
        if partner.abilities.brings_engine:
            raise InputError(
                f"the engine of the pair {pair.name!r} takes nothing back",
                hint="leave out ban, or use the engine baco",
            )
        if name in used and partner.abilities.gives != "logits":
            raise InputError(
                f"ban needs {name} logits, which the pair {pair.name!r} does not have",
                hint="leave it out",
            )


def _check_penalties(pair: Models, setting: Setting) -> None:
    """Refuses penalties, biases and XTC that a side cannot apply, and ids that do not exist.

    Raises:
        InputError: If there are any.
    """
    warp = setting.sampling.warp
    if not warp.asks_for:
        return
    penalties = warp.penalties
    used = {need.split()[0] for need in setting.method.needs}
    for name, partner in _partners(pair).items():
        if name in used and partner.abilities.gives != "logits":
            raise InputError(
                f"{warp.asks_for} needs {name} logits, which the pair {pair.name!r} does not have",
                hint="leave it out",
            )
    if not penalties.logit_bias:
        return
    if not pair.one_tokenizer:
        raise _bias_needs_one()
    token, size = penalties.logit_bias[-1][0], pair.aligned.vocabulary.size
    if token >= size or penalties.logit_bias[0][0] < 0:
        raise InputError(
            f"logit_bias names a token id that is not below {size}, the vocabulary's size",
            hint="use ids of the pair's tokenizer",
        )
