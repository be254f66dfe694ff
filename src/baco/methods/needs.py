"""What methods need of a pair, and what a pair can do: checked before any work.

A partner that gives `logits` can do everything. One behind an interface may give only the most
likely tokens with their probabilities (`top-k`), or nothing but `text`. It says so in an attribute
`gives`; without one it gives logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from baco.errors import InputError
from baco.partners.bridge import BridgedPartner

if TYPE_CHECKING:
    from baco.methods.base import Setting, Task
    from baco.pair import Pair

LEVELS = ("text", "top-k", "logits")
"""What a partner may give, each including the ones before."""

ONE_TOKENIZER = "one tokenizer"
"""The need of a method that computes with both models' probabilities of one token."""


def abilities(pair: Pair) -> frozenset[str]:
    """Returns what a pair can do: ``base text``, ``aligned logits``, ``one tokenizer``, ..."""
    found = {ONE_TOKENIZER} if pair.one_tokenizer else set()
    for name, partner in (("base", pair.base), ("aligned", pair.aligned)):
        inner = partner.partner if isinstance(partner, BridgedPartner) else partner
        level = LEVELS.index(getattr(inner, "gives", "logits"))
        found |= {f"{name} {gift}" for gift in LEVELS[: level + 1]}
    return frozenset(found)


def check(pair: Pair, setting: Setting, tasks: Sequence[Task]) -> None:
    """Checks that a pair can do what a method needs, and that the tasks suit the method.

    Args:
        pair: The pair.
        setting: With the method.
        tasks: What is to be made.

    Raises:
        InputError: If the pair lacks something (methods that would do are named), or if a method
            that makes whole groups is not told their size, or told too small a one.
    """
    method, able = setting.method, abilities(pair)
    if missing := sorted(method.needs - able):
        from baco.methods import METHODS

        others = [name for name, other in METHODS.items() if other.needs <= able]
        raise InputError(
            f"the method {method.name!r} needs {' and '.join(missing)}, "
            f"which the pair {pair.name!r} does not have",
            hint=f"methods that would do: {', '.join(others) or 'none'}",
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
