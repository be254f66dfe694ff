"""The methods that run on the engine: the pair together, and each of its models alone.

Paper: §3 (BaCo), §4 (the single-model baselines).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from baco.engine.loop import Stats
from baco.engine.router import ALONE
from baco.errors import InputError
from baco.methods.base import HOTTEST, Done, Method, Setting, Task, Update
from baco.methods.needs import abilities
from baco.methods.run import Decoding
from baco.methods.text_routing import run_text
from baco.prompts import Conversation
from baco.routers.judge import bind
from baco.routers.judges import aligned_judge
from baco.routers.learned import strangers

if TYPE_CHECKING:
    from baco.engine.router import Router
    from baco.models.sides import Models, Side


logger = logging.getLogger("baco")


def run_baco(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """Both models together; the router decides at each unit who writes it.

    Raises:
        InputError: If the setting has no router.
    """
    router = setting.router
    if router is None:
        raise InputError("the method 'baco' needs a router", hint="for example p-punc@0.3")

    if not {"base top-k", "aligned top-k"} <= abilities(pair):
        yield from run_text(pair, tasks, setting)
        return

    for learned in strangers(router, pair.revision):
        logger.warning(
            "the router was trained on the pair %s, not on %s: its thresholds mean something else",
            learned.pair,
            pair.name,
        )

    judge = pair.judge or aligned_judge(pair)

    def router_for(prompt: Conversation) -> Router:
        return bind(router, judge(prompt)) if router.needs_text else router

    yield from Decoding(tasks, setting, sides=pair.sides, router_for=router_for).updates()


def run_alone(
    pair: Models, name: str, tasks: Sequence[Task], setting: Setting, **how: Any
) -> Iterator[Update]:
    """One model alone: it is both sides, and its ends need nobody's consent.

    Args:
        pair: The pair.
        name: Which model: ``base`` or ``aligned``.
        tasks: What to make.
        setting: How.
        **how: Further arguments of `Decoding`.
    """
    for update in run_side(pair.sides[0 if name == "base" else 1], name, tasks, setting, **how):
        yield _as_base(update) if name == "base" else update


def run_side(
    side: Side, name: str, tasks: Sequence[Task], setting: Setting, **how: Any
) -> Iterator[Update]:
    """One side alone, as `run_alone`; what it does is booked on the aligned model."""
    yield from Decoding(
        tasks,
        setting,
        sides=(side, side),
        router_for=lambda _: ALONE,
        source_names=(name, name),
        end_rule=False,
        **how,
    ).updates()


def _as_base(update: Update) -> Update:
    """Books what the engine's aligned side did on the base model, which it was."""
    if isinstance(update, Stats):
        return update._replace(
            base_passes=update.aligned_passes,
            aligned_passes=update.base_passes,
            base_token_rows=update.aligned_token_rows,
            aligned_token_rows=update.base_token_rows,
        )
    if isinstance(update, Done) and (cost := update.sample.cost):
        cost = cost._replace(
            base_passes=cost.aligned_passes,
            aligned_passes=cost.base_passes,
            base_token_rows=cost.aligned_token_rows,
            aligned_token_rows=cost.base_token_rows,
            base_prompt_tokens=cost.aligned_prompt_tokens,
            aligned_prompt_tokens=cost.base_prompt_tokens,
        )
        return update._replace(sample=replace(update.sample, cost=cost))
    return update


def run_base(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The base model alone."""
    yield from run_alone(pair, "base", tasks, setting)


def run_aligned(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The aligned model alone."""
    yield from run_alone(pair, "aligned", tasks, setting)


SINGLES = (
    Method(
        "base",
        "single model",
        "temperature",
        "§4",
        run_base,
        default=1.0,
        low=0.0,
        high=HOTTEST,
        alias="temperature",
        needs=frozenset({"base top-k"}),
    ),
    Method(
        "aligned",
        "single model",
        "temperature",
        "§4",
        run_aligned,
        default=1.0,
        low=0.0,
        high=HOTTEST,
        alias="temperature",
        needs=frozenset({"aligned top-k"}),
    ),
)

METHODS = (
    Method(
        "baco",
        "collaboration",
        "the router's threshold γ",
        "§3",
        run_baco,
        alias="gamma",
        needs=frozenset({"base text", "aligned text"}),  # the router may need more
    ),
    *SINGLES,
)
