"""Combined rules: the paper's cascades by name, and A.2's literal 'any of' readings.

Paper: §3.1 ("applies the function-word strategy before falling back to the probability-based
strategy"), App. A.2.
"""

from __future__ import annotations

from baco.engine.lazy import torch
from baco.engine.router import BOTH, Decide, Rule, View
from baco.routers import content, logit

CASCADES = {
    "p-punc": ("punc", "p"),
    "h-punc": ("punc", "h"),
    "p-fc": ("fc", "p"),
    "h-fc": ("fc", "h"),
    "p-punc-open": ("open", "punc", "p"),
    "h-punc-open": ("open", "punc", "h"),
}
"""Names that stand for a cascade: the content rule vetoes first, then the logit rule decides."""


def _punc_any(decide: Decide) -> Decide:
    """A.2's condition 1 for -PUNC, or the logit rule."""

    def either(view: View, gamma: torch.Tensor) -> torch.Tensor:
        return ~content.base_is_punctuation(view) | decide(view, gamma)

    return either


def _fc_any(decide: Decide) -> Decide:
    """A.2's conditions 1 and 2 for -FC, or the logit rule."""

    def either(view: View, gamma: torch.Tensor) -> torch.Tensor:
        both_content = content.fc_both(view, gamma)
        return content.base_is_function_word(view) | both_content | decide(view, gamma)

    return either


def _any_of(name: str, logit_name: str, wrap: str) -> Rule:
    """Makes one 'any of' rule from a logit rule."""
    rule = next(r for r in logit.RULES if r.name == logit_name)
    if wrap == "punc":
        decide, words = _punc_any(rule.decide), "the base top-1 token is not punctuation"
        reads = frozenset({"base"})
    else:
        decide, words = (
            _fc_any(rule.decide),
            "the base top-1 token is a function word, or both are content words",
        )
        reads = BOTH
    return Rule(
        name,
        f"{words}, or {rule.formula}",
        decide,
        reads,
        rule.low,
        rule.high,
        default=rule.default,
        reach="most to all",
        up=rule.up,
        source="A.2, literally",
        level="top-k",
    )


RULES = (
    _any_of("p-punc-any", "p", "punc"),
    _any_of("h-punc-any", "h", "punc"),
    _any_of("p-fc-any", "p", "fc"),
    _any_of("h-fc-any", "h", "fc"),
)
