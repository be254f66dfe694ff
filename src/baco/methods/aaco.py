"""Two aligned models: which of them is more diverse, and so plays the base.

Both models answer calibration prompts alone; how different a model's answers to one prompt are is
averaged over prompts. The model with the larger mean plays the base. Everything is decided by
the prompts and the seed, so that the order is the same whenever it is measured.

Paper: §5.3 ("We measure each aligned model's diversity on the tasks. The model with better
diversity serves as the role of the base model in BACO to contribute diversity.").
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from baco.calibration.prompts import prompts_for, spread
from baco.engine.session import Seat, Turn, finish
from baco.errors import BacoError, InputError
from baco.group import Sample
from baco.methods.accounting import Account
from baco.methods.base import Done, Method, Sampling, Setting, Task, Update
from baco.methods.models import SINGLES, run_baco
from baco.methods.running import run
from baco.prompts import Conversation, Prompt, as_json, conversation_of, question_of
from baco.registry import number_of

if TYPE_CHECKING:
    from baco.models.sides import Models

logger = logging.getLogger("baco")

Measure = Callable[[str | list[dict[str, str]], list[str]], float]
"""(prompt, texts of a group) -> how different they are; larger is more different."""

PROMPTS, SAMPLES, TOKENS = 16, 6, 128


@dataclass(frozen=True)
class Order:
    """What was measured, and what follows.

    Attributes:
        base: Label of the model that plays the base: the more diverse one.
        aligned: Label of the other.
        diversity: Mean diversity of (base, aligned).
        swapped: Whether this is not the order that the pair was given in.
        measure: Name of the measure.
        prompts: How many prompts it was measured on.
        samples: Samples per prompt and model.
        seed: Decides the samples.
    """

    base: str
    aligned: str
    diversity: tuple[float, float]
    swapped: bool
    measure: str
    prompts: int
    samples: int
    seed: int


def distinct_word_pairs(prompt: str | list[dict[str, str]], texts: list[str]) -> float:
    """Distinct-2 over words of lower case: different word pairs / all word pairs, in [0, 1]."""
    found = [pair for text in texts for pair in pairwise(text.lower().split())]
    return len(set(found)) / len(found) if found else 0.0


def distinct_meanings(prompt: str | list[dict[str, str]], texts: list[str]) -> float:
    """How many different things the answers say, by the bundled world's exact judge."""
    from baco.tiny.judge import semantic_class

    question = question_of(conversation_of(prompt))
    return float(len({semantic_class(question, text) for text in texts}))


def order(
    pair: Models, prompts: Sequence[Prompt | Conversation] | None = None, **how: Any
) -> Order:
    """Measures at one go which of two aligned models is more diverse; as `ordering`."""
    return finish(ordering(pair, prompts, **how))


def ordering(
    pair: Models,
    prompts: Sequence[Prompt | Conversation] | None = None,
    *,
    measure: Measure | None = None,
    name: str = "",
    samples: int = SAMPLES,
    max_new_tokens: int = TOKENS,
    seed: int = 0,
    seat: Seat | None = None,
) -> Generator[Turn, None, Order]:
    """Measures which of a pair's two aligned models is more diverse.

    Args:
        pair: Both sides must be prompted as aligned models (``base_prompt="chat"``).
        prompts: Calibration prompts; by default those of the pair, at most 16.
        measure: How different a group's answers are; by default `distinct_meanings` for bundled
            pairs and `distinct_word_pairs` for others.
        name: Name of the measure, for the record.
        samples: Samples per prompt and model, at least 2.
        max_new_tokens: Limit per sample.
        seed: Decides the samples.
        seat: A place in a session, as `Setting`'s.

    Yields:
        Turns.

    Returns:
        The order; on a tie the order that was given.

    Raises:
        InputError: If a side is prompted as a base model, or an argument is out of range.
        BacoError: If the measure gives no number.
    """
    if pair.base_prompt != "chat":
        raise InputError(
            f"the pair {pair.name!r} has a base model, so there is nothing to order",
            hint="load two aligned models: --base-prompt chat, or base_prompt='chat'",
        )
    if samples < 2:
        raise InputError(f"{samples} samples are too few", hint="use at least 2 per prompt")
    bundled = pair.known is not None and pair.known.bundled
    if measure is None:
        measure = distinct_meanings if bundled else distinct_word_pairs
    asked = list(spread(prompts_for(pair.name), PROMPTS)) if prompts is None else list(prompts)
    if not asked:
        raise InputError("there are no prompts to measure on", hint="give at least one")
    tasks = [
        Task(conversation_of(prompt), index)  # type: ignore[arg-type]  # it takes checked ones too
        for prompt in asked
        for index in range(samples)
    ]
    sampling = Sampling(max_new_tokens=max_new_tokens, seed=seed)
    found = []
    for method in SINGLES:
        setting = Setting(method, None, sampling, control=1.0, n=samples, seat=seat)
        found.append((yield from _mean(pair, tasks, setting, measure)))
    swapped = found[1] > found[0]
    labels, values = [side.label for side in pair.sides], list(found)
    if swapped:
        labels.reverse()
        values.reverse()
    return Order(
        labels[0],
        labels[1],
        (round(values[0], 4), round(values[1], 4)),
        swapped,
        name or getattr(measure, "__name__", "measure"),
        len(asked),
        samples,
        seed,
    )


def _mean(
    pair: Models, tasks: Sequence[Task], setting: Setting, measure: Measure
) -> Generator[Turn, None, float]:
    """Returns the mean diversity of one model's groups."""
    made: dict[int, Sample] = {}
    yield from Account().collect(run(pair, tasks, setting), made)
    values = []
    for start in range(0, len(tasks), setting.n or 1):
        texts = [made[i].text for i in range(start, start + (setting.n or 1))]
        values.append(number_of("measure", measure, as_json(tasks[start].prompt), texts))
    mean = math.fsum(values) / len(values)
    if not math.isfinite(mean):
        raise BacoError(f"the measure gave {mean}", hint="it must return finite numbers")
    return mean


def ordered(pair: Models, found: Order) -> Models:
    """Returns the pair in the order that was found; the pair itself if it was right."""
    if not found.swapped:
        return pair
    turned = type(pair).from_sides(pair.name, pair.sides[1], pair.sides[0])
    turned.base_prompt, turned.template = pair.base_prompt, pair.template
    turned.judge, turned.known = pair.judge, pair.known
    return turned


_ORDERS: WeakKeyDictionary[Models, Order] = WeakKeyDictionary()


def run_aaco(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """Two aligned models together; the more diverse one, measured once, plays the base.

    Raises:
        InputError: If a side is prompted as a base model.
    """
    if pair not in _ORDERS:
        logger.info("measuring which of the two aligned models is more diverse")
        _ORDERS[pair] = yield from ordering(pair, seat=setting.seat)
    found = _ORDERS[pair]
    details: dict[str, Any] = {
        "plays_base": found.base,
        "plays_aligned": found.aligned,
        "diversity": list(found.diversity),
        "measure": found.measure,
    }
    for update in run_baco(ordered(pair, found), tasks, setting):
        if isinstance(update, Done):
            merged = (update.sample.details or {}) | details
            yield Done(update.task, replace(update.sample, details=merged))
        else:
            yield update


METHODS = (
    Method("aaco", "collaboration", "the router's threshold γ", "§5.3", run_aaco, alias="gamma"),
)
