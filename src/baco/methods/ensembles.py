"""The ensembles: answers of both models side by side, or one distribution made of two.

Paper: §4 (ensemble baselines).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from baco.engine.blend import Blend, BlendKind
from baco.engine.router import ALONE
from baco.methods.accounting import Account
from baco.methods.base import HOTTEST, PAIR_OF_MODELS, Method, Setting, Task, Update
from baco.methods.models import run_alone
from baco.methods.needs import ONE_TOKENIZER
from baco.methods.run import Decoding

if TYPE_CHECKING:
    from baco.models.sides import Models


def run_response_ensemble(
    pair: Models, tasks: Sequence[Task], setting: Setting
) -> Iterator[Update]:
    """Half of the answers by each model: by turns, the aligned one first."""
    account = Account()
    for name, rest in (("aligned", 0), ("base", 1)):
        numbers = [i for i, task in enumerate(tasks) if task.index % 2 == rest]
        if numbers:
            run = run_alone(pair, name, [tasks[i] for i in numbers], setting)
            yield from account.pass_on(run, numbers)
    yield account.stats


BLENDS: Mapping[str, BlendKind] = {
    "logit-ensemble": "linear",
    "logit-ensemble-geometric": "geometric",
    "contrastive": "contrast",
    "dynamic-ensemble": "overlap",
}
"""Methods that draw every token from one distribution made of both models', and how it is made."""


def blend_of(setting: Setting) -> Blend:
    """Returns the distribution of a setting of one of `BLENDS`."""
    assert isinstance(setting.control, float)
    return Blend(BLENDS[setting.method.name], setting.control)


def _run_blend(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """Every token from one distribution made of both models'; it counts as the aligned model's."""
    yield from Decoding(
        tasks,
        setting,
        sides=pair.sides,
        router_for=lambda _: ALONE,
        end_rule=False,
        blend=blend_of(setting),
    ).updates()


def run_logit_ensemble(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The mean of both models' probabilities, weighted."""
    yield from _run_blend(pair, tasks, setting)


def run_geometric(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The mean of both models' logits, weighted."""
    yield from _run_blend(pair, tasks, setting)


def run_contrastive(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The aligned model's logits, moved further away from the base model's."""
    yield from _run_blend(pair, tasks, setting)


def run_dynamic(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """A mixture of both models' probabilities; the base model weighs as much as the two agree."""
    yield from _run_blend(pair, tasks, setting)


_BOTH = PAIR_OF_MODELS | {ONE_TOKENIZER}

METHODS = (
    Method(
        "response-ensemble",
        "ensemble",
        "temperature",
        "§4",
        run_response_ensemble,
        default=1.0,
        low=0.0,
        high=HOTTEST,
        alias="temperature",
        multiple=2,
    ),
    Method(
        "logit-ensemble",
        "ensemble",
        "weight of the aligned model",
        "§4",
        run_logit_ensemble,
        default=0.5,
        low=0.0,
        high=1.0,
        needs=_BOTH,
    ),
    Method(
        "logit-ensemble-geometric",
        "ensemble",
        "weight of the aligned model",
        "§4, product of experts",
        run_geometric,
        default=0.5,
        low=0.0,
        high=1.0,
        needs=_BOTH,
    ),
    Method(
        "dynamic-ensemble",
        "ensemble",
        "weight of the base model where both agree",
        "after arXiv 2604.07622",
        run_dynamic,
        default=0.5,
        low=0.0,
        high=1.0,
        needs=_BOTH,
    ),
    Method(
        "contrastive",
        "ensemble",
        "strength",
        "arXiv 2309.09117",
        run_contrastive,
        default=0.5,
        low=0.0,
        high=10.0,
        needs=_BOTH,
    ),
)
