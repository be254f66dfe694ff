"""NUDGING: the base model writes, the aligned model gives it a few words where it is unsure.

The algorithm of its published code (version for APIs), told in our words; it is text-level, so the
two models need not share a tokenizer. Its threshold runs against BaCo's -P: a base model that is
*sure* (top-1 probability at least γ) writes on; a larger γ means more of the aligned model.

Where the published version asks the base model for a chunk at every word of a proposal, only the
first token of it matters for the decision; this one computes no more than that, and reads no text
twice. The samples are the same.

Paper: §4 (the baseline NUDGING, arXiv 2410.09300), with the paper's sampling for both models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from baco.engine.lazy import torch
from baco.engine.loop import Stats
from baco.engine.noise import row_key
from baco.engine.request import ALIGNED, BASE, SOURCE_NAMES, Cost
from baco.engine.units import START
from baco.methods.base import Chunk, Done, Method, Setting, Task, Update
from baco.methods.outcome import sample_of, too_short
from baco.methods.reader import Reader
from baco.methods.writing import Reply, Writer, WriteRequest, text_of
from baco.models.sides import answer_ids
from baco.prompts import identity

if TYPE_CHECKING:
    from baco.models.sides import Models

CHUNK = 16
"""Tokens that a model is asked for at once."""

ROUNDS = 150
"""Most rounds of an answer."""

SAME_NUDGES = 4
"""So many rounds with the same words in a row end the answer."""

SHORT = 5
"""A chunk of the base model is only taken for a repetition if it has more words than this."""

SHORTEST_REPEAT = 30
"""Characters from which on a repeated end of the answer is taken off."""

THRESHOLD = 0.4
"""The published recommendation for γ."""


class NudgingStep(NamedTuple):
    """What an answer needs to go on: one side writes."""

    side: int
    ask: WriteRequest


End = Literal["stop", "length"]


@dataclass
class NudgedAnswer:
    """One answer on its way.

    Attributes:
        row: Its row.
        gamma: The base model's threshold.
        limit: Most tokens, counted with the aligned model's tokenizer.
        count: Counts the tokens of a text.
        stop: Strings that end an answer.
        parts: What was written so far, with who wrote it.
        asked: Asks so far; each has its own noise.
    """

    row: int
    gamma: float
    limit: int
    count: Callable[[str], int]
    stop: tuple[str, ...] = ()
    parts: list[tuple[str, int]] = field(default_factory=list)
    asked: int = 0

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(text for text, _ in self.parts)

    def write(self) -> Generator[NudgingStep, Reply, End]:
        """Writes the answer.

        Yields:
            What is needed; the reply is sent back.

        Returns:
            ``stop`` if the aligned model ended it, ``length`` if a limit did: tokens, rounds, a
            full context window, or the same words over and over.
        """
        nudges: list[str] = []
        while self._goes_on() and len(nudges) < ROUNDS:
            # 1) The aligned model proposes; only it may end the answer.
            proposal = yield self._ask(ALIGNED, self.text, CHUNK)
            words = split(text_of(proposal.tokens))
            if proposal.over == "end":
                self._add("".join(words), ALIGNED)
                return "stop"
            if not words:
                return "length"
            # 2) Its words are taken one by one until the base model can go on from there.
            accepted, base = yield from self._accept(words)
            self._add(accepted, ALIGNED)
            nudges.append(accepted)
            if len(nudges) >= SAME_NUDGES and len(set(nudges[-SAME_NUDGES:])) == 1:
                return "length"
            # 3) The base model goes on as long as it is sure.
            if base is not None:
                yield from self._follow(base)
        return "length"

    def _goes_on(self) -> bool:
        text = self.text
        return self.count(text) < self.limit and not any(s in text for s in self.stop)

    def _ask(self, side: int, text: str, count: int, *, floor: float = 0.0) -> NudgingStep:
        ask = WriteRequest(self.row, text, count, start=self.asked * CHUNK, floor=floor)
        self.asked += 1
        return NudgingStep(side, ask)

    def _add(self, text: str, side: int) -> None:
        if text:
            self.parts.append((text, side))

    def _accept(
        self, words: Sequence[str]
    ) -> Generator[NudgingStep, Reply, tuple[str, NudgingStep | None]]:
        """Takes the words of a proposal.

        Returns:
            The accepted text; and how the base model goes on, None if it does not.
        """
        accepted = words[0]
        for word in words[1:]:
            step = self._ask(BASE, self.text + accepted, 1)
            reply = yield step
            if takes_over(word, reply, self.gamma):
                return accepted, self._rest(step.ask, reply)
            accepted += word
        return "".join(words[:-1]) if len(words) > 1 else accepted, None

    def _rest(self, first: WriteRequest, reply: Reply) -> NudgingStep | None:
        """Returns the rest of a chunk whose first token is known; None if not even that stays."""
        if reply.over or reply.top_prob < self.gamma:
            return None
        ask = replace(
            first,
            count=CHUNK - 1,
            start=first.start + 1,
            given=reply.tokens,
            floor=self.gamma,
        )
        return NudgingStep(BASE, ask)

    def _follow(self, step: NudgingStep) -> Generator[NudgingStep, Reply, None]:
        """Lets the base model write chunk by chunk."""
        while True:
            reply = yield step
            text = text_of(reply.tokens)
            if not text or repeats(text, self.text):
                return
            self._add(text, BASE)
            if reply.over or not self._goes_on():
                return
            step = self._ask(BASE, self.text, CHUNK, floor=self.gamma)


def split(text: str) -> list[str]:
    """Splits a text at spaces; each word keeps those before it, and the last those at the end."""
    return re.findall(r" *[^ ]+(?: +$)?|^ +$", text)


def takes_over(word: str, base: Reply, gamma: float) -> bool:
    """Whether the base model can go on: it would write the proposed word, or is sure.

    Args:
        word: The aligned model's next word.
        base: One token of the base model there.
        gamma: The threshold.
    """
    first = base.tokens[0].data.decode(errors="replace").strip() if base.tokens else ""
    match = bool(first) and word.lstrip().startswith(first)
    return match or (base.over != "window" and base.top_prob >= gamma)


def repeats(chunk: str, text: str) -> bool:
    """Whether a chunk of more than a few words stands in the text already."""
    return len(chunk.split()) > SHORT and chunk.strip() in text


def without_repeats(text: str) -> str:
    """Takes off ends of at least 30 characters that stand in the text before, the longest first."""
    while True:
        size = next(
            (
                size
                for size in range(len(text) // 2, SHORTEST_REPEAT - 1, -1)
                if text[-size:] in text[:-size]
            ),
            0,
        )
        if not size:
            return text
        text = text[:-size]


# --- many answers at once ---------------------------------------------------------------------


class NudgingDraw(NamedTuple):
    """One draw of one task: its answer, the generator that writes it, what it waits for."""

    task: int
    attempt: int
    answer: NudgedAnswer
    steps: Generator[NudgingStep, Reply, End]
    spent: Cost
    drawn: int


class Nudging:
    """Tasks on their way.

    Args:
        pair: The pair.
        tasks: What to make.
        setting: How.
    """

    def __init__(self, pair: Models, tasks: Sequence[Task], setting: Setting) -> None:
        warp = setting.sampling.warp
        self._tasks = tasks
        self._setting = setting
        self._writers = {BASE: Writer(pair.sides[0], warp), ALIGNED: Writer(pair.sides[1], warp)}
        self._side = pair.sides[1]
        self._boundary = pair.sides[0].boundary if setting.sampling.turn_rule else ""
        self._draws: dict[int, NudgingDraw] = {}
        self._steps: dict[int, NudgingStep] = {}
        self._rows = 0
        self._tokens = 0

    def updates(self) -> Iterator[Update]:
        """Makes everything.

        Yields:
            Each sample with its tokens when it is finished, a turn before each pass, and in the
            end what it all cost.
        """
        waiting = iter(range(len(self._tasks)))
        while True:
            while len(self._draws) < self._setting.max_rows:
                task = next(waiting, None)
                if task is None:
                    break
                yield from self._begin(task, 0, Cost(), 0)
            if not self._steps:
                break
            yield from self._turn()
        base, aligned = (self._writers[side].texts for side in (BASE, ALIGNED))
        yield Stats(base.passes, aligned.passes, base.fed, aligned.fed, self._tokens)

    def _begin(self, task: int, attempt: int, spent: Cost, drawn: int) -> Iterator[Update]:
        """Starts a draw of a task."""
        sampling = self._setting.sampling
        prompt, index = self._tasks[task].prompt, self._tasks[task].index
        row, self._rows = self._rows, self._rows + 1
        key = row_key(sampling.seed, identity(prompt), index, attempt)
        for writer in self._writers.values():
            writer.add(row, prompt, key)
        room = self._side.partner.context_window - self._writers[ALIGNED].prompt_length(row)
        gamma = self._setting.control
        answer = NudgedAnswer(
            row,
            THRESHOLD if gamma is None else float(gamma),
            min(sampling.max_new_tokens, room),
            lambda text: len(answer_ids(self._side, text)),
            sampling.stop,
        )
        self._draws[row] = NudgingDraw(task, attempt, answer, answer.write(), spent, drawn)
        yield from self._advance(row, None)

    def _turn(self) -> Iterator[Update]:
        """Lets the side write that most answers wait for."""
        sides = [step.side for step in self._steps.values()]
        side = ALIGNED if 2 * sides.count(ALIGNED) >= len(sides) else BASE
        rows = [row for row, step in self._steps.items() if step.side == side]
        asks = [self._steps.pop(row).ask for row in rows]
        replies = yield from self._writers[side].write(asks)
        for row, reply in zip(rows, replies, strict=True):
            yield from self._advance(row, reply)

    def _advance(self, row: int, reply: Reply | None) -> Iterator[Update]:
        """Lets an answer go on to its next step, or finishes it."""
        try:
            steps = self._draws[row].steps
            self._steps[row] = next(steps) if reply is None else steps.send(reply)
        except StopIteration as end:
            yield from self._finish(row, end.value)

    def _finish(self, row: int, end: End) -> Iterator[Update]:
        """Makes the sample of a finished answer, or draws it again."""
        draw, sampling = self._draws.pop(row), self._setting.sampling
        reader, end = self._read(draw.answer, end)
        drawn = draw.drawn + sum(writer.drawn[row] for writer in self._writers.values())
        cost = draw.spent + self._cost(row) + Cost(tokens=len(reader.ids))
        self._tokens += len(reader.ids)
        if too_short(reader, end, draw.attempt, sampling):
            yield from self._begin(draw.task, draw.attempt + 1, cost, drawn)
            return
        task, setting = self._tasks[draw.task], self._setting
        for i in reader.ready(final=True):
            said = reader.strings[i], reader.sources[i], reader.ids[i], reader.begins[i]
            yield Chunk(draw.task, *said)
        yield Done(
            draw.task,
            sample_of(
                reader,
                end,
                task.prompt,
                task.index,
                setting,
                cost=cost,
                attempts=draw.attempt + 1,
                details={"drawn_tokens": drawn},
            ),
        )

    def _cost(self, row: int) -> Cost:
        """Forgets a row on both sides; returns what it cost."""
        length = {side: writer.prompt_length(row) for side, writer in self._writers.items()}
        base, aligned = (self._writers[side].drop(row) for side in (BASE, ALIGNED))
        return Cost(
            base_passes=base.passes,
            aligned_passes=aligned.passes,
            base_token_rows=base.tokens,
            aligned_token_rows=aligned.tokens,
            base_prompt_tokens=min(length[BASE], base.tokens) if base.prefilled else 0,
            aligned_prompt_tokens=min(length[ALIGNED], aligned.tokens) if aligned.prefilled else 0,
        )

    def _read(self, answer: NudgedAnswer, end: End) -> tuple[Reader, End]:
        """Reads an answer as tokens of the aligned side, repeated ends taken off."""
        side, sampling = self._side, self._setting.sampling
        text = without_repeats(answer.text)
        owners = owners_of(answer.parts)
        reader = Reader(side.token_bytes, sampling.stop, 0, self._boundary, SOURCE_NAMES[ALIGNED])
        units = side.partner.vocabulary.units
        state = torch.tensor([START], device=side.partner.device)
        ids = answer_ids(side, text)
        place = 0
        for number in ids[: answer.limit]:
            token = torch.tensor([number], device=state.device)
            begins = bool(units.begins_token(state, token)[0])
            reader.add(number, SOURCE_NAMES[owners[place]], begins)
            state = units.advance(state, token)
            place += len(side.token_bytes[number])
        reader.finish()
        return reader, "length" if len(ids) > answer.limit else end


def owners_of(parts: Sequence[tuple[str, int]]) -> list[int]:
    """Returns who wrote each byte of an answer."""
    return [side for text, side in parts for _ in text.encode()]


def run_nudging(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The aligned model nudges the base model.

    Raises:
        InputError: If a prompt does not fit into a context window.
    """
    yield from Nudging(pair, tasks, setting).updates()


METHODS = (
    Method(
        "nudging",
        "collaboration",
        "threshold γ of the base model's top-1 probability (larger: more aligned)",
        "§4; NUDGING",
        run_nudging,
        default=THRESHOLD,
        low=0.0,
        high=1.0,
        needs=frozenset({"base top-k", "aligned top-k"}),
        keeps_caches=True,
        bans=False,
    ),
)
