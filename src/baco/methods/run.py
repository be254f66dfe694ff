"""Runs tasks through the engine: submits rows, reads tokens, draws short stops again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from baco.engine.lazy import torch
from baco.engine.noise import rewound_key, row_key
from baco.engine.request import ALIGNED, BASE, SOURCE_NAMES, Begun, Cost, Event, Finish, Request
from baco.engine.session import TURN, EngineKey, Seat, Session
from baco.errors import InputError
from baco.group import Sample
from baco.methods.accounting import tell
from baco.methods.ban import MOST_REWINDS, Phrases
from baco.methods.base import MAX_ASKS, MAX_ATTEMPTS, Chunk, Done, Setting, Task, Update
from baco.methods.outcome import Find, cut, failed, sample_of, too_short
from baco.methods.reader import Reader
from baco.prompts import Conversation, identity, in_short, is_raw

if TYPE_CHECKING:
    from baco.engine.blend import Blend
    from baco.engine.router import Router
    from baco.methods.stems import Stems
    from baco.models.memory import Workload
    from baco.models.sides import Side


@dataclass
class DrawnRow:
    """One draw of one task.

    Attributes:
        task: Number of the task.
        reader: Reads the tokens.
        attempt: Number of the draw, from 0.
        cost: What all draws of the task cost so far; None once that is not known.
        key: Its noise key.
        stems: What its sentences begin with, if that is given.
        rewinds: How often it was taken back.
        barred: What must not be chosen again, as `Request.barred`.
    """

    task: int
    reader: Reader
    attempt: int
    cost: Cost | None
    key: int
    stems: Stems | None = None
    rewinds: int = 0
    barred: tuple[tuple[int, int], ...] = ()


def job_of(prompts: Sequence[tuple[int, int]], rows: int, setting: Setting) -> Workload:
    """What a setting has to do, for predicting its memory.

    Args:
        prompts: Tokens of each distinct prompt, for (base, aligned).
        rows: Samples in all.
        setting: How they are made.
    """
    from baco.models.memory import Workload

    reads = setting.router.reads if setting.router else SOURCE_NAMES
    lags = len(reads) < len(SOURCE_NAMES)
    warp = setting.sampling.warp
    filtered = warp.top_p < 1 or warp.top_k > 0 or warp.min_p > 0 or warp.temperature == 0
    limit = setting.sampling.max_new_tokens
    penalised = warp.penalties.on or bool(setting.sampling.ban)
    return Workload(
        prompts, rows, limit, setting.lookahead, lags, filtered, penalised, setting.draft
    )


def new_session(max_rows: int, *, alone: bool = False) -> Session[Update]:
    """Makes a session whose engines decode so many rows at a time, or as many as memory allows."""
    from baco.models.memory import Memory

    return Session(max_rows, Memory(), alone=alone)


class Draw(NamedTuple):
    """A draw of a task that is to be submitted."""

    task: int
    attempt: int
    cost: Cost | None


class Decoding:
    """Tasks on their way through one engine.

    Args:
        tasks: What to make.
        setting: How.
        sides: The base and the aligned side; the same one twice for a single model.
        router_for: Makes the router of a prompt.
        source_names: What the engine's sources (0, 1) are called.
        end_rule: Whether ends need the aligned model's consent.
        blend: Makes one distribution of both models'.
        find: Finds the answer in what was written; where there is none it is written again.
        room: How many more tokens than the answer the models may write around it.
        stems: Makes what the sentences of a draw of a task begin with.
        degree: As `Request`: of sides whose rows stand between the two models.

    Raises:
        InputError: If a prompt does not fit into a context window.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        setting: Setting,
        *,
        sides: tuple[Side, Side],
        router_for: Callable[[Conversation], Router],
        source_names: tuple[str, str] = SOURCE_NAMES,
        end_rule: bool = True,
        blend: Blend | None = None,
        find: Find | None = None,
        room: int = 0,
        stems: Callable[[Task, int], Stems] | None = None,
        degree: float | None = None,
    ) -> None:
        self._tasks = tasks
        self._setting = setting
        self._sides = sides
        self._router_for = router_for
        self._source_names = source_names
        self._end_rule = end_rule
        self._blend = blend
        self._find = find
        self._room = room
        self._stems = stems
        self._degree = degree
        self._requests: dict[Conversation, Request] = {}
        self._rows: dict[int, DrawnRow] = {}
        self._waiting = deque(Draw(i, 0, task.spent) for i, task in enumerate(tasks))
        job = self._job()  # it reads every prompt, so that one that does not fit is found at once
        seat = setting.seat or Seat(new_session(setting.max_rows, alone=True))
        partners = (sides[0].partner, sides[1].partner)
        self._engine = seat.port(EngineKey(*partners, setting.lookahead, setting.draft), job)

    def updates(self) -> Iterator[Update]:
        """Decodes everything.

        Yields:
            Chunks as soon as they may be shown, each sample when it is finished, turns, and in
            the end what the engine did.
        """
        try:
            while self._waiting or self._rows:
                while self._waiting and len(self._rows) < self._setting.max_rows:
                    self._submit(self._waiting.popleft())
                yield TURN
                for event in self._engine.step():
                    yield from self._read(event)
            yield self._engine.stats
        finally:
            self._engine.close()

    def _job(self) -> Workload:
        """What there is to do, for predicting its memory."""
        windows = (self._sides[0].partner.context_window, self._sides[1].partner.context_window)
        for prompt, task in {task.asked or task.prompt: task for task in self._tasks}.items():
            try:
                self._request(prompt).limit_within(windows)
            except InputError as error:
                words = f"{error.message} (prompt: {in_short(task.prompt)!r})"
                raise InputError(words, hint=error.hint) from None
        requests = self._requests.values()
        lengths = [(len(r.base_prompt), len(r.aligned_prompt)) for r in requests]
        return job_of(lengths, len(self._tasks), self._setting)

    def _submit(self, draw: Draw) -> None:
        task, sampling = self._tasks[draw.task], self._setting.sampling
        turns = sampling.turn_rule and not is_raw(task.prompt)
        boundary = self._sides[0].boundary if turns else ""
        key = row_key(sampling.seed, identity(task.prompt), task.index, draw.attempt)
        may_restart = draw.attempt < MAX_ATTEMPTS - 1
        row = DrawnRow(
            draw.task,
            Reader(
                self._sides[1].token_bytes,
                () if self._find else sampling.stop,
                sampling.restart_shorter_than if may_restart else 0,
                boundary,
                self._source_names[ALIGNED] if self._end_rule else None,
                Phrases.of(sampling.ban) if sampling.ban else None,
            ),
            draw.attempt,
            draw.cost,
            key,
            self._stems(task, draw.attempt) if self._stems else None,
        )
        first = row.stems.first() if row.stems else ()
        self._start(row, first if len(first) < sampling.max_new_tokens else ())

    def _start(self, row: DrawnRow, given: Sequence[int] = ()) -> None:
        """Lets the engine decode a row, from what it has read on.

        Args:
            row: The row.
            given: Tokens that come next, by nobody's choice.
        """
        reader, units = row.reader, self._sides[1].partner.vocabulary.units
        for token in given:
            state = torch.tensor([units.state_after(reader.ids)])
            at = state.to(self._sides[1].partner.device)
            begins = units.begins_token(at, torch.tensor([token], device=at.device))
            reader.add(token, self._source_names[ALIGNED], bool(begins[0]))
        if row.cost is not None:  # the tokens that are there are counted at the end
            row.cost = row.cost._replace(tokens=row.cost.tokens - len(reader.ids))
        task = self._tasks[row.task]
        request = replace(
            self._request(task.asked or task.prompt),
            key=rewound_key(row.key, row.rewinds) if row.rewinds else row.key,
            barred=row.barred,
        )
        sources = [self._source_names.index(source) for source in reader.sources]
        begun = Begun(list(reader.ids), sources, list(reader.begins)) if reader.ids else None
        self._rows[self._engine.submit(request, begun)] = row

    def _request(self, prompt: Conversation) -> Request:
        """Returns what all rows of a prompt have in common, made once."""
        if prompt not in self._requests:
            base, aligned = self._sides
            self._requests[prompt] = Request(
                base_prompt=base.ids(prompt),
                aligned_prompt=aligned.ids(prompt),
                router=self._router_for(prompt),
                key=0,
                warp=self._setting.sampling.warp,
                max_new_tokens=self._setting.sampling.max_new_tokens + self._room,
                end_rule=self._end_rule,
                turn_rule=self._setting.sampling.turn_rule
                and not is_raw(prompt)
                and "\n" in base.boundary,
                blend=self._blend,
                degree=self._degree,
            )
        return self._requests[prompt]

    def _read(self, event: Event) -> Iterator[Update]:
        """Reads what one event tells of its row."""
        if event.row not in self._rows:  # a stop string has ended it
            return
        row = self._rows[event.row]
        reader = row.reader
        for token, source, begins in zip(event.tokens, event.sources, event.begins, strict=True):
            reader.add(token, self._source_names[source], begins)
            if row.stems and not reader.stopped and reader.banned is None:
                stem = row.stems.after(reader.strings)
                place = len(reader.ids) - 1
                if stem and place + len(stem) < self._setting.sampling.max_new_tokens:
                    self._spend(row, event)
                    row.reader = reader.taken_back(place)
                    self._start(row, stem)
                    yield from self._show(row)
                    return
        over = event.finish is not None or reader.stopped
        if over and reader.banned is None:
            reader.finish()
        over = over or reader.banned is not None
        if over:
            self._spend(row, event)
            if reader.banned is not None:
                if self._take_back(row, reader.banned):
                    return
                reader.end_at(reader.banned)
            if too_short(reader, event.finish, row.attempt, self._setting.sampling):
                self._waiting.append(Draw(row.task, row.attempt + 1, row.cost))
                return
        if self._find:
            yield from self._search(row, event.finish, self._find) if over else ()
            return
        yield from self._show(row, final=over)
        if over:
            yield Done(row.task, self._sample(row, event.finish), event.end)

    def _spend(self, row: DrawnRow, event: Event) -> None:
        """Takes a row out of the engine and keeps what it has cost."""
        del self._rows[event.row]
        spent = event.cost if event.finish else self._engine.cancel(event.row)
        known = row.cost is not None and spent is not None
        row.cost = row.cost + spent if known else None  # type: ignore[operator]

    def _show(self, row: DrawnRow, *, final: bool = False) -> Iterator[Update]:
        """Tells the tokens that may be shown."""
        reader = row.reader
        for i in reader.ready(final=final):
            said = reader.strings[i], reader.sources[i], reader.ids[i], reader.begins[i]
            yield Chunk(row.task, *said)

    def _take_back(self, row: DrawnRow, place: int) -> bool:
        """Goes on from where a banned phrase began, without the token that began it.

        Returns:
            False if it was taken back too often, or if nothing else can be chosen there.
        """
        reader = row.reader
        barred = tuple(bar for bar in row.barred if bar[0] <= place)
        bar = (place, reader.ids[place])
        if bar in barred or row.rewinds >= MOST_REWINDS:
            return False
        row.barred, row.rewinds = (*barred, bar), row.rewinds + 1
        row.reader = reader.taken_back(place)
        self._start(row)
        return True

    def _search(self, row: DrawnRow, finish: Finish | None, find: Find) -> Iterator[Update]:
        """Looks for the answer in what a finished row wrote; asks again where there is none."""
        sample, sampling = self._sample(row, finish), self._setting.sampling
        found = find(sample.text)
        if found is None and row.attempt < MAX_ASKS - 1:
            self._waiting.append(Draw(row.task, row.attempt + 1, row.cost))
            return
        if found is None:
            sample = failed(sample)
        else:
            sample = cut(sample, found, sampling.stop, sampling.max_new_tokens)
        yield from tell(row.task, sample)

    def _details(self, row: DrawnRow) -> dict[str, Any] | None:
        """What the task says, and what partners that know only top tokens did for the row."""
        task = self._tasks[row.task]
        request = self._request(task.asked or task.prompt)
        prompts = (request.base_prompt, request.aligned_prompt)
        names = [self._source_names[source] for source in (BASE, ALIGNED)]
        found = {
            name: told
            for name, side, prompt in zip(names, self._sides, prompts, strict=True)
            if (told := side.partner.account(self._prefixes(prompt, row.reader.ids), request.warp))
        }
        more: dict[str, Any] = {"remote": found} if found else {}
        if row.rewinds:
            more["rewinds"] = row.rewinds
        if row.stems:
            more["stems"] = row.stems.given
        return (task.details or {}) | more if more else task.details

    @staticmethod
    def _prefixes(prompt: tuple[int, ...], answer: Sequence[int]) -> Iterator[tuple[int, ...]]:
        return ((*prompt, *answer[:end]) for end in range(len(answer) + 1))

    def _sample(self, row: DrawnRow, finish: Finish | None) -> Sample:
        """Makes the sample of a finished row."""
        task = self._tasks[row.task]
        return sample_of(
            row.reader,
            finish,
            task.prompt,
            task.index,
            self._setting,
            cost=row.cost,
            attempts=row.attempt + 1,
            details=self._details(row),
        )
