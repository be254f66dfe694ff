"""Rules that look at how sure the partners are. Paper: §3.1, App. A.2."""

from __future__ import annotations

import math
from functools import cache

from baco.engine.lazy import torch
from baco.engine.router import BOTH, Rule, View

INF = math.inf


def rand(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`rand`: by chance."""
    return view.u_route < gamma


def p(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`p`: the base model's largest probability is small."""
    return (view.base.top_prob < gamma) | (gamma >= 1)


def p_a(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`p-a`: the aligned model's largest probability is small."""
    return (view.aligned.top_prob < gamma) | (gamma >= 1)


@cache
def p_top(k: int) -> Rule:
    """Makes the rule `p-topk` for one k."""

    def decide(view: View, gamma: torch.Tensor) -> torch.Tensor:
        return view.base.top_mean(k) < gamma

    return Rule(
        "p-topk" if k == TOP_K else f"p-top{k}",
        f"mean of the {k} largest P_base < γ",
        decide,
        frozenset({"base"}),
        0,
        1,
        default=0.1,
        source="§3.1",
        level="top-k",
        likeliest=k,
    )


def h(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`h`: the base model's entropy is large."""
    return view.base.entropy > gamma


def h_a(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`h-a`: the aligned model's entropy is large."""
    return view.aligned.entropy > gamma


def pr(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`pr`: the base model is less sure than the aligned one."""
    return view.base.top_prob / view.aligned.top_prob < gamma


def hr(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`hr`: the base model's entropy is large beside the aligned one's; 0/0 goes to aligned."""
    return view.base.entropy > gamma * view.aligned.entropy


TOP_K = 5
"""The k of `p-topk`; `p-top3` and so on give another."""

RULES = (
    Rule(
        "rand", "U_route(t) < γ", rand, frozenset(), 0, 1, default=0.3, source="A.2", level="top-k"
    ),
    Rule(
        "p",
        "max P_base < γ (γ = 1: always)",
        p,
        frozenset({"base"}),
        0,
        1,
        default=0.3,
        source="§3.1, A.2",
        level="top-k",
    ),
    Rule(
        "p-a",
        "max P_aligned < γ (γ = 1: always)",
        p_a,
        frozenset({"aligned"}),
        0,
        1,
        default=0.5,
        source="A.2",
        level="top-k",
    ),
    p_top(TOP_K),
    Rule(
        "h",
        "H(P_base) > γ",
        h,
        frozenset({"base"}),
        0,
        INF,
        default=2.5,
        reach="0 to all (but where the base model is certain)",
        up=False,
        source="§3.1, A.2",
        level="top-k",
    ),
    Rule(
        "h-a",
        "H(P_aligned) > γ",
        h_a,
        frozenset({"aligned"}),
        0,
        INF,
        default=1.0,
        reach="0 to all (but where the aligned model is certain)",
        up=False,
        source="A.2",
        level="top-k",
    ),
    Rule(
        "pr",
        "max P_base / max P_aligned < γ",
        pr,
        BOTH,
        0,
        INF,
        default=0.5,
        source="A.2",
        level="top-k",
    ),
    Rule(
        "hr",
        "H(P_base) / H(P_aligned) > γ (0/0: aligned)",
        hr,
        BOTH,
        0,
        INF,
        default=2.0,
        reach="0 to all (but where the base model is certain)",
        up=False,
        source="A.2",
        level="top-k",
    ),
)
