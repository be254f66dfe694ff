"""What a method is: anything that turns prompts into samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from baco.engine.loop import Lookahead, Stats
from baco.engine.warp import Warp
from baco.errors import InputError
from baco.group import Sample
from baco.prompts import Conversation

if TYPE_CHECKING:
    from baco.methods.sharing import Engines
    from baco.pair import Pair
    from baco.routers.base import Router

MAX_ATTEMPTS = 4
"""A short stop is drawn again at most three times."""


@dataclass(frozen=True)
class Task:
    """One sample to make.

    Attributes:
        prompt: The checked prompt.
        index: The sample's place in its group.
    """

    prompt: Conversation
    index: int


class Chunk(NamedTuple):
    """A token of a sample that is still being made.

    Attributes:
        task: Number of the task, by its place in the list of tasks.
        text: The token's string; perhaps empty, see `baco.group.TokenText`.
        source: ``base`` or ``aligned``.
    """

    task: int
    text: str
    source: str


class Done(NamedTuple):
    """A task is finished; no chunk of it follows."""

    task: int
    sample: Sample


Update = Chunk | Done | Stats
"""What comes out of a run: chunks, finished samples, and the engine's account at the end."""


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn, whatever the method.

    Attributes:
        warp: Temperature and filters, the same on both sides.
        max_new_tokens: Limit on tokens per sample.
        stop: Strings before which a sample is cut off.
        restart_shorter_than: Samples that stop by themselves with fewer tokens are drawn again.
        seed: Decides all noise.

    Raises:
        InputError: If a value is out of its range.

    Paper: §4 (defaults), §6.2 (short stops).
    """

    warp: Warp = field(default_factory=Warp)
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    restart_shorter_than: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise InputError(
                f"max-new-tokens {self.max_new_tokens} is out of range", hint="use at least 1"
            )
        if self.restart_shorter_than < 0:
            raise InputError(
                f"restart-shorter-than {self.restart_shorter_than} is out of range",
                hint="use 0 (off) or a positive number of tokens",
            )
        if self.restart_shorter_than > self.max_new_tokens:
            raise InputError(
                f"restart-shorter-than {self.restart_shorter_than} is more than "
                f"max-new-tokens {self.max_new_tokens}",
                hint="make one smaller or the other larger",
            )
        if "" in self.stop:
            raise InputError("a stop string is empty", hint="leave it out, or give some text")


@dataclass(frozen=True)
class Setting:
    """A method with everything that decides its samples, but for pair and prompt.

    Attributes:
        method: The method.
        router: The router of a method that has one, else None.
        sampling: How samples are drawn.
        lookahead: How far partners may guess ahead; changes speed, never samples.
        max_rows: Rows decoded at the same time; changes speed and memory, never samples.
        engines: Engines to share with other runs, or None; changes speed, never samples.
    """

    method: Method
    router: Router | None
    sampling: Sampling
    lookahead: Lookahead = "auto"
    max_rows: int = 256
    engines: Engines | None = field(default=None, repr=False, compare=False, kw_only=True)

    @property
    def router_name(self) -> str | None:
        """The router's spec without its threshold; None without a router."""
        return None if self.router is None else split_spec(self.router)[0]

    @property
    def gamma(self) -> float | str | None:
        """The threshold (a schedule or infinity as text, for JSON); None where there is none."""
        return None if self.router is None else split_spec(self.router)[1]


def split_spec(router: Router) -> tuple[str, float | str | None]:
    """Splits a router's spec into the part before the control threshold, and that threshold."""
    gamma = router.gamma
    if gamma is None:
        return router.spec, None
    head, _, text = router.spec.rpartition("@")
    return head, text if ":" in text or math.isinf(gamma) else gamma


Run = Callable[["Pair", Sequence[Task], Setting], Iterator[Update]]
"""(pair, tasks, setting) -> updates; every task ends with its `Done`."""


@dataclass(frozen=True)
class Method:
    """A way of making samples.

    Attributes:
        name: Its name.
        category: What family it belongs to.
        control: What trades diversity for quality in it, in words.
        span: The control's range, as text.
        source: Where it comes from.
        run: The function.
        takes_router: Whether a router is its control.
    """

    name: str
    category: str
    control: str
    span: str
    source: str
    run: Run
    takes_router: bool = False
