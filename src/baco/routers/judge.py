"""The rule `judge`: a language model decides, given text, whether the base model may speak.

The rule itself calls a function bound to a pair and a prompt (`baco.routers.judges` makes one from
the aligned model or from an OpenAI-compatible endpoint). It is the paper's expensive comparison:
one judgement per unit.

Paper: App. A.2 (-JUDGE), §5.2; the paper's own prompt (Table A16) is not at hand, ours is in
`baco.routers.judges`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from baco.engine.lazy import torch
from baco.engine.router import BOTH, Router, Rule, View
from baco.errors import InputError

WordJudge = Callable[[list[int], int, int], bool]
"""(emitted token ids, base's proposal, aligned's proposal) -> whether the base model may speak."""


def _unbound(view: View, gamma: torch.Tensor) -> torch.Tensor:
    raise InputError(
        "the router 'judge' needs a judge", hint="generate through a pair, or bind one yourself"
    )


RULE = Rule(
    "judge",
    "a judge says there is room to diverge and the base continuation is acceptable",
    _unbound,
    BOTH,
    reach="what the judge allows",
    source="A.2",
    needs_text=True,
)


def bind(router: Router, judge: WordJudge) -> Router:
    """Returns the router with its `judge` rule asking this judge.

    Args:
        router: A router that contains the rule `judge`.
        judge: The function to ask, once per unit and row.
    """

    def decide(view: View, gamma: torch.Tensor) -> torch.Tensor:
        assert view.history is not None
        assert view.proposals is not None
        base, aligned = (proposal.tolist() for proposal in view.proposals)
        says = torch.zeros_like(view.asked)
        for i in view.asked.nonzero().flatten().tolist():
            says[i] = judge(view.history[i], base[i], aligned[i])
        return says

    rules = tuple(
        replace(rule, decide=decide) if rule.name == RULE.name else rule for rule in router.rules
    )
    return Router(router.name, rules, router.schedules)
