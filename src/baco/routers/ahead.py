"""Rules that look further than one token: at what a partner would write next by itself.

`p-ahead3` looks at three tokens, `p-ahead-sentence` at the rest of the sentence (at most 32
tokens), `p-ahead` at four. At one token they are `p`, `h` and `punc`. A partner's stretch is its
likeliest tokens one after another (`baco.engine.ahead`).

Paper: §3.1 ("a router with deeper look-ahead (e.g., n-grams or sentences) might make more
context-aware routing decision").
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from baco.engine.lazy import torch
from baco.engine.router import Rule, View
from baco.errors import InputError
from baco.routers.logit import INF

if TYPE_CHECKING:
    from baco.engine.scores import Stretch

DEPTH = 4
"""Tokens that are looked at where the name gives no number."""

DEEPEST = 64
"""More tokens than that are refused."""

_NAME = re.compile(r"(p|h|punc)-ahead([0-9]{1,4}|-sentence)?")
_CASCADE = re.compile(r"(p|h)-(punc|fc)-(ahead(?:[0-9]{1,4}|-sentence)?)")


def members(name: str) -> tuple[str, ...] | None:
    """Returns the rules that a cascade with look-ahead stands for; None for other names.

    The content rule looks at one token: it is about the next word. `p-punc-ahead3` is
    ``punc>p-ahead3``.
    """
    found = _CASCADE.fullmatch(name)
    return None if found is None else (found[2], f"{found[1]}-{found[3]}")


def named(name: str) -> Rule | None:
    """Returns the rule of a name; None for names of other rules.

    Raises:
        InputError: If the depth is out of range, or makes no sense for the rule.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    kind, text = found[1], found[2]
    if text == "-sentence":
        if kind == "punc":
            raise InputError(
                "a sentence always ends in punctuation, so 'punc-ahead-sentence' never asks base",
                hint="give a number of tokens, such as punc-ahead2",
            )
        return _rule(kind, 0)
    depth = DEPTH if text is None else int(text)
    if not 1 <= depth <= DEEPEST:
        raise InputError(
            f"router {name!r} looks {depth} tokens ahead", hint=f"use 1 to {DEEPEST}, or -sentence"
        )
    return _rule(kind, depth, plain=text is None)


# Imported late: the engine needs this package.


def _base(view: View, depth: int) -> Stretch:
    from baco.engine.request import BASE

    return view.stretch(BASE, depth)


def _aligned(view: View, depth: int) -> Stretch:
    from baco.engine.request import ALIGNED

    return view.stretch(ALIGNED, depth)


@cache
def _rule(kind: str, depth: int, *, plain: bool = False) -> Rule:
    """Makes one rule."""
    suffix = "" if plain else str(depth) if depth else "-sentence"
    span = f"next {depth} tokens" if depth else "rest of the sentence"
    name = f"{kind}-ahead{suffix}"

    def p(view: View, gamma: torch.Tensor) -> torch.Tensor:
        stretch = _base(view, depth)
        return (stretch.mean(stretch.top_prob) < gamma) | (gamma >= 1)

    def h(view: View, gamma: torch.Tensor) -> torch.Tensor:
        stretch = _base(view, depth)
        return stretch.mean(stretch.entropy) > gamma

    def punc(view: View, gamma: torch.Tensor) -> torch.Tensor:
        stretch = _aligned(view, depth)
        return ~(view.vocabulary.is_punctuation[stretch.tokens] & stretch.counts).any(-1)

    if kind == "p":
        return Rule(
            name,
            f"mean of max P_base over base's {span} < γ (γ = 1: always)",
            p,
            frozenset({"base"}),
            0,
            1,
            default=0.5,
            source="§3.1",
            looks_ahead=True,
        )
    if kind == "h":
        return Rule(
            name,
            f"mean of H(P_base) over base's {span} > γ",
            h,
            frozenset({"base"}),
            0,
            INF,
            default=1.5,
            reach="0 to all (but where the base model is certain)",
            up=False,
            source="§3.1",
            looks_ahead=True,
        )
    return Rule(
        name,
        f"none of the aligned model's {span} is punctuation or formatting",
        punc,
        frozenset({"aligned"}),
        reach="fixed: less than punc",
        source="§3.1",
        looks_ahead=True,
    )


RULES = tuple(_rule(kind, DEPTH, plain=True) for kind in ("p", "h", "punc"))

CASCADES = {name: ("punc", f"{name[0]}-ahead") for name in ("p-punc-ahead", "h-punc-ahead")}
"""Cascades that are listed; `p-fc-ahead` and other depths are understood too."""
