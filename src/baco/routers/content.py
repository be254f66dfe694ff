"""Rules that look at what kind of token comes next. Paper: §3.1, App. A.2.

They need no probabilities, only top-1 tokens.
"""

from __future__ import annotations

from baco.engine.lazy import torch
from baco.engine.router import BOTH, Rule, View


def punc(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`punc`: aligned where its own top-1 token is punctuation or formatting."""
    return ~view.vocabulary.is_punctuation[view.aligned.top_token]


def fc(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`fc`: aligned where its own top-1 token is a whole function word."""
    return ~view.vocabulary.is_function_word[view.aligned.top_token]


def base_is_punctuation(view: View) -> torch.Tensor:
    """Whether the base model's top-1 token is punctuation or formatting: bool [n]."""
    return view.vocabulary.is_punctuation[view.base.top_token]


def base_is_function_word(view: View) -> torch.Tensor:
    """Whether the base model's top-1 token is a whole function word: bool [n]."""
    return view.vocabulary.is_function_word[view.base.top_token]


def punc_both(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`punc-both`: A.2's reading, both top-1 tokens must be neither."""
    return punc(view, gamma) & ~base_is_punctuation(view)


def fc_both(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`fc-both`: A.2's reading, both top-1 tokens must be content words."""
    return fc(view, gamma) & ~base_is_function_word(view)


def open_(view: View, gamma: torch.Tensor) -> torch.Tensor:
    """`open`: no veto; the rules after it are asked of an answer's first unit too."""
    return torch.ones_like(view.asked)


ALIGNED_ONLY = frozenset({"aligned"})

RULES = (
    Rule(
        "open",
        "always, at the first word too",
        open_,
        BOTH,
        reach="fixed: all",
        source="BaCo's own, without A.1's first token",
        opens=True,
    ),
    Rule(
        "punc",
        "the aligned top-1 token is not punctuation or formatting",
        punc,
        ALIGNED_ONLY,
        reach="fixed: all but punctuation",
        source="§3.1",
        level="text",
    ),
    Rule(
        "fc",
        "the aligned top-1 token is not a whole function word",
        fc,
        ALIGNED_ONLY,
        reach="fixed: all but function words",
        source="§3.1",
        level="text",
    ),
    Rule(
        "punc-both",
        "neither partner's top-1 token is punctuation or formatting",
        punc_both,
        BOTH,
        reach="fixed",
        source="A.2, literally",
        level="top-k",
    ),
    Rule(
        "fc-both",
        "neither partner's top-1 token is a function word",
        fc_both,
        BOTH,
        reach="fixed",
        source="A.2, literally",
        level="top-k",
    ),
)
