"""What a method is: anything that turns prompts into samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from baco.engine.loop import Stats
from baco.engine.partner import Lookahead
from baco.engine.request import Cost
from baco.engine.session import Turn
from baco.engine.warp import Warp
from baco.errors import InputError
from baco.group import Sample, check_size
from baco.methods.ban import check_phrases
from baco.prompts import Conversation
from baco.registry import Registry

if TYPE_CHECKING:
    from baco.engine.partner import Partner
    from baco.engine.router import Router
    from baco.engine.session import Seat
    from baco.models.sides import Models

PAIR_OF_MODELS = frozenset({"base logits", "aligned logits"})
"""The needs of a method that decodes with both models."""

COLDEST, HOTTEST = 1e-3, 1e3
"""Temperatures between which logits in single precision neither overflow nor vanish."""

MAX_ATTEMPTS = 4
"""A short stop is drawn again at most three times."""

MAX_ASKS = 11
"""Where no answer is found in what a model wrote, it is asked again at most ten times."""


@dataclass(frozen=True)
class Task:
    """One sample to make.

    Attributes:
        prompt: The checked prompt.
        index: The sample's place in its group.
        paraphrases: Other wordings of the prompt's last message that its data set has.
        asked: What the models are given in the prompt's place; None for the prompt. Methods
            set it, and the rest.
        details: What the sample is to tell of it.
        spent: What was spent on the task before.
    """

    prompt: Conversation
    index: int
    paraphrases: tuple[str, ...] = ()
    asked: Conversation | None = None
    details: dict[str, Any] | None = field(default=None, hash=False)
    spent: Cost | None = field(default_factory=Cost, compare=False)


class Chunk(NamedTuple):
    """A token of a sample that is still being made.

    Attributes:
        task: Number of the task, by its place in the list of tasks.
        text: The token's string; perhaps empty, see `baco.group.TokenText`.
        source: ``base`` or ``aligned``.
        id: The token's id; None where models exchange text.
        begins: Whether it begins a unit; None where a sample is told of as a whole.
    """

    task: int
    text: str
    source: str
    id: int | None = None
    begins: bool | None = None


class Done(NamedTuple):
    """A task is finished; no chunk of it follows.

    Attributes:
        task: Number of the task.
        sample: Its sample.
        end: The end token that stopped it, where the engine tells it.
    """

    task: int
    sample: Sample
    end: int | None = None


Update = Chunk | Done | Stats | Turn
"""What comes out of a run: chunks, finished samples, turns for others, and in the end what its
engines have done meanwhile."""


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn, whatever the method.

    Attributes:
        warp: Temperature and filters, the same on both sides.
        max_new_tokens: Limit on tokens per sample.
        stop: Strings before which a sample is cut off.
        restart_shorter_than: Samples that stop by themselves with fewer tokens are drawn again.
        seed: Decides all noise.
        ban: Phrases that no answer may hold, see `baco.methods.ban`.
        turn_rule: Whether an answer ends where the base model goes on to the next turn of its plain
            template; False for the paper's literal reading, in which it runs on.

    Raises:
        InputError: If a value is out of its range.

    Paper: §4 (defaults), §6.2 (short stops).
    """

    warp: Warp = field(default_factory=Warp)
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()
    restart_shorter_than: int = 0
    seed: int = 0
    turn_rule: bool = True
    ban: tuple[str, ...] = ()

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
        check_phrases(self.ban)


Alike = Literal["text", "meaning"]
"""What two answers may have in common to be alike."""


@dataclass(frozen=True)
class Setting:
    """A method with everything that decides its samples, but for pair and prompt.

    Attributes:
        method: The method.
        router: The router of a method that has one, else None.
        sampling: How samples are drawn.
        lookahead: How far partners may guess ahead; changes speed, never samples.
        max_rows: Rows decoded at the same time; changes speed and memory, never samples.
        control: The value of the method's control (text for a schedule or infinity), or None.
        n: Samples per group; None where it is not known. Methods whose samples depend on each
            other need it.
        draft: A third party that guesses ahead, as `make_setting`; changes speed, never samples.
        distinct: What no two answers to a prompt may have in common (`baco.methods.distinct`).
        seat: A place in a session, whose engines other runs use too; None for engines of its own.
            Changes speed, never samples.
    """

    method: Method
    router: Router | None
    sampling: Sampling
    lookahead: Lookahead = "auto"
    max_rows: int = 256
    control: float | str | None = None
    n: int | None = None
    draft: str | Partner | None = field(default=None, compare=False)
    distinct: Alike | None = field(default=None, kw_only=True)
    seat: Seat | None = field(default=None, repr=False, compare=False, kw_only=True)

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


RunMethod = Callable[["Models", Sequence[Task], Setting], Iterator[Update]]
"""(pair, tasks, setting) -> updates; every task ends with its `Done`. A method that computes by
itself yields `TURN` before each forward pass, so that it holds up nobody in a session."""


@dataclass(frozen=True)
class Method:
    """A way of making samples.

    Attributes:
        name: Its name.
        category: What family it belongs to.
        control: What trades diversity for quality in it, in words.
        source: Where it comes from.
        run: The function.
        default: The control's default; None where the router has its own.
        low: The control's smallest value; None where the router has its own range.
        high: Its largest.
        up: Whether a larger control means more diversity; None where `diversity` does not stand for
            the control of a method without a router.
        alias: The setting that the control is another name of, such as ``temperature``; None for
            a control of its own.
        needs: What the pair must be able to do, see `baco.methods.needs`.
        keeps_caches: Whether it reads with caches of its own, beside the engine.
        rewords: Whether it puts the conversation into other words; raw text has none.
        whole_group: Whether a sample may depend on the others of its group, and on their number.
        multiple: The group's size must be a multiple of this.
        top_p: The top-p it uses unless told otherwise.
        restarts: Whether it can draw short stops again.
        mixes_weights: Whether it decodes with a model whose weights lie between the two.
        penalises: Whether it honours penalties, biases and XTC.
        bans: Whether it can take banned phrases back.
    """

    name: str
    category: str
    control: str
    source: str
    run: RunMethod
    default: float | None = None
    low: float | None = None
    high: float | None = None
    up: bool | None = None
    alias: str | None = None
    needs: frozenset[str] = PAIR_OF_MODELS
    keeps_caches: bool = False
    rewords: bool = False
    whole_group: bool = False
    multiple: int = 1
    top_p: float = 0.9
    restarts: bool = True
    mixes_weights: bool = False
    penalises: bool = True
    bans: bool = True

    @property
    def takes_router(self) -> bool:
        """Whether a router's threshold is its control."""
        return self.alias == "gamma"

    @property
    def span(self) -> str:
        """The control's range, as text."""
        if self.low is None or self.high is None:
            return "the router's"
        return f"[{self.low:g}, {'inf)' if math.isinf(self.high) else f'{self.high:g}]'}"

    def check_n(self, n: int) -> None:
        """Checks the size of a group.

        Raises:
            InputError: If the method cannot make groups of this size.
        """
        check_size(n)
        if n % self.multiple:
            raise InputError(
                f"n = {n} does not suit the method {self.name!r}",
                hint=f"n must be a multiple of {self.multiple}",
            )

    def check_control(self, value: float) -> None:
        """Checks a value of the control.

        Raises:
            InputError: If it is out of range.
        """
        if self.low is None or self.high is None:
            return  # the router looks after its own
        if not (self.low <= value <= self.high and math.isfinite(value)):
            raise InputError(
                f"the {self.control} {value:g} is out of range for the method {self.name!r}",
                hint=f"use a value in {self.span}",
            )


METHODS: Registry[Method] = Registry("method")
"""Every method by name; plug-ins add theirs through the entry-point group ``baco.methods``."""


def tasks_for(conversations: Sequence[Conversation], n: int) -> list[Task]:
    """Lists the tasks of whole groups: all samples of the first prompt, then of the next.

    Raises:
        InputError: If n is out of range, or there is no prompt.
    """
    check_size(n)
    if not conversations:
        raise InputError("there is no prompt", hint="give at least one")
    return [Task(conversation, index) for conversation in conversations for index in range(n)]
