"""BaCo on models that give nothing but text: the content routers, unit by unit.

The aligned model's likeliest next unit, as text, is what `punc` and `fc` look at; the model that
they name writes the next unit, drawn by its server. The first unit is the aligned model's, and an
answer ends only where the aligned model's likeliest next unit is its end. What differs from tokens:
a limit counts units; nothing keeps a model from continuing the last word instead of beginning one;
and where an end is refused, the aligned model's likeliest unit stands in for a second draw.

Paper: §3.1 (content routers need no probabilities), A.1 (first token, end rule).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from baco.engine.loop import Stats
from baco.engine.noise import row_key
from baco.engine.request import ALIGNED, BASE, SOURCE_NAMES, Cost
from baco.engine.session import TURN
from baco.engine.units import segment
from baco.engine.warp import Warp
from baco.errors import InputError, PairError
from baco.group import Sample, base_share, switches
from baco.methods.base import Chunk, Done, Setting, Task, Update
from baco.models.text_only import TextAsk, TextPartner, TextReply
from baco.models.tokens import is_formatting, is_function_word
from baco.prompts import as_json, identity

if TYPE_CHECKING:
    from baco.models.sides import Models

CHUNK = 16
"""Tokens that a model is asked for at once."""

LONGEST_UNIT = 8
"""Chunks after which a unit is taken as it is."""

VETOES = {"punc": is_formatting, "fc": is_function_word}
"""The aligned model's next unit, as bytes -> whether it is left to the aligned model."""


class TextStep(NamedTuple):
    """What an answer needs to go on: one side continues it."""

    side: int
    ask: TextAsk


class TextDraft(NamedTuple):
    """What a side wrote from some place on: the whole text then, and whether it ends there."""

    text: str
    over: bool


Next = Generator[TextStep, TextReply, str | None]
TextEnding = Literal["stop", "length", "stop_string"]
Writing = Generator[TextStep, TextReply, TextEnding]


@dataclass
class RoutedAnswer:
    """One answer on its way.

    Attributes:
        task: What it answers.
        rules: Names of the rules that may keep a unit for the aligned model.
        warp: Temperature and filters.
        key: Decides the seeds that servers are given.
        limit: Most units.
        stop: Strings that end an answer.
        turn_rule: Whether a line that the base model breaks is an end, as in `Request`.
        units: What was written.
        sources: Who wrote each unit.
        asked: Requests to each side.
    """

    task: Task
    rules: Sequence[str]
    warp: Warp
    key: int
    limit: int
    stop: Sequence[str] = ()
    turn_rule: bool = False
    units: list[str] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=lambda: [0, 0])
    drafts: dict[tuple[int, bool], TextDraft] = field(default_factory=dict)

    def write(self) -> Writing:
        """Writes the answer; yields what is needed, and the reply is sent back."""
        while len(self.units) < self.limit:
            likeliest = yield from self._next(ALIGNED, greedy=True)
            side = BASE if self.units and self._to_base(likeliest) else ALIGNED
            unit = yield from self._next(side, greedy=self.warp.temperature == 0)
            if self.turn_rule and side == BASE and "\n" in (unit or ""):
                unit = unit if "\n" in (likeliest or "") else None
            if unit is None and likeliest is None:
                return "stop"
            if unit is None:  # an end that the aligned model does not agree to
                side, unit = ALIGNED, likeliest
            assert unit is not None
            self.units.append(unit)
            self.sources.append(side)
            if self._stopped():
                return "stop_string"
        return "length"

    def _to_base(self, likeliest: str | None) -> bool:
        """Asks the rules; the end counts as punctuation."""
        if likeliest is None:
            return "punc" not in self.rules
        return not any(VETOES[rule](likeliest.encode()) for rule in self.rules)

    def _next(self, side: int, *, greedy: bool) -> Next:
        """Returns the next unit that a side would write, or None if it would end.

        What it wrote before is used as long as the answer has gone the same way.
        """
        text = "".join(self.units)
        draft = self.drafts.get((side, greedy), TextDraft("", False))
        if not draft.text.startswith(text) or (draft.text == text and not draft.over):
            draft = TextDraft(text, False)
        for _ in range(LONGEST_UNIT):
            units = segment(draft.text[len(text) :])
            if draft.over or len(units) > 1:
                break
            how = Warp(temperature=0) if greedy else self.warp
            seed = (self.key + sum(self.asked)) & 0x7FFFFFFF
            self.asked[side] += 1
            reply = yield TextStep(side, TextAsk(self.task.prompt, draft.text, CHUNK, how, seed))
            if not reply.text and not reply.over:
                raise PairError(
                    "a server wrote nothing and did not end the answer",
                    hint="check that it can continue an answer that has begun (docs/remote.md)",
                )
            draft = TextDraft(draft.text + reply.text, reply.over)
        self.drafts[side, greedy] = draft
        units = segment(draft.text[len(text) :])
        return units[0] if units else None

    def _stopped(self) -> bool:
        """Cuts the answer before a stop string; whether there was one."""
        text = "".join(self.units)
        places = [at for at in (text.find(s) for s in self.stop) if at >= 0]
        if not places:
            return False
        extra = len(text) - min(places)
        while extra:
            last = self.units.pop()
            if len(last) > extra:
                self.units.append(last[: len(last) - extra])
                break
            extra -= len(last)
            self.sources.pop()
        return True


def run_text(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """Both models together, as text.

    Raises:
        InputError: If a side is no `TextPartner`, or short answers are to be drawn again.
    """
    partners = {BASE: pair.base, ALIGNED: pair.aligned}
    writers = {k: p for k, p in partners.items() if isinstance(p, TextPartner)}
    if len(writers) < len(partners) or setting.router is None:
        raise InputError(
            f"one side of the pair {pair.name!r} gives text only and the other does not",
            hint="use two remote models without tokenizers",
        )
    sampling = setting.sampling
    if sampling.restart_shorter_than:
        raise InputError(
            "restart-shorter-than counts tokens, and this pair gives text only",
            hint="leave it out",
        )
    for writer in writers.values():
        writer.endpoint.window(writer.client)
    rules = [rule.name for rule in setting.router.rules]
    answers = {
        number: RoutedAnswer(
            task,
            rules,
            sampling.warp,
            row_key(sampling.seed, identity(task.prompt), task.index, 0),
            sampling.max_new_tokens,
            sampling.stop,
            sampling.turn_rule and "\n" in pair.sides[0].boundary,
        )
        for number, task in enumerate(tasks)
    }
    waiting = iter(answers.items())
    running: dict[int, Writing] = {}
    replies: dict[int, TextReply | None] = {}
    while True:
        while len(running) < setting.max_rows and (new := next(waiting, None)):
            running[new[0]], replies[new[0]] = new[1].write(), None
        if not running:
            break
        steps: dict[int, TextStep] = {}
        for number, reply in replies.items():
            try:
                steps[number] = running[number].send(reply)  # type: ignore[arg-type]
            except StopIteration as end:
                del running[number]
                sample = _sample(answers[number], end.value, setting)
                for text, source in zip(sample.tokens, sample.sources, strict=True):
                    yield Chunk(number, text, source)
                yield Done(number, sample)
        replies = {}
        for side, writer in writers.items():
            mine = [number for number, step in steps.items() if step.side == side]
            yield TURN
            said = writer.write([steps[number].ask for number in mine])
            replies |= dict(zip(mine, said, strict=True))
    base, aligned = (sum(a.asked[side] for a in answers.values()) for side in (BASE, ALIGNED))
    yield Stats(base, aligned, 0, 0, sum(len(a.units) for a in answers.values()))


def _sample(answer: RoutedAnswer, finish: TextEnding, setting: Setting) -> Sample:
    """Makes the sample of a finished answer; its tokens are units."""
    names = [SOURCE_NAMES[source] for source in answer.sources]
    begins = [True] * len(names)
    return Sample(
        prompt=as_json(answer.task.prompt),
        index=answer.task.index,
        text="".join(answer.units),
        finish_reason=finish,
        seed=setting.sampling.seed,
        method=setting.method.name,
        router=setting.router_name,
        gamma=setting.gamma,
        control=setting.control,
        tokens=tuple(answer.units),
        sources=tuple(names),
        base_share=base_share(names, begins),
        switches=switches(names, begins),
        cost=Cost(base_passes=answer.asked[BASE], aligned_passes=answer.asked[ALIGNED]),
    )
