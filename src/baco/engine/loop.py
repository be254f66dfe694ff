"""THE decode loop: rows join, two partners take turns, tokens come out.

It takes and returns token ids and knows nothing of text. One cycle (`Engine.step`) runs one
partner once over all rows:

1. Rows that wait join while there is room.
2. The policy picks the partner to run; it is fed all that it has not seen, drafts included.
3. Every position whose needed scores are there is resolved by THE step, in order. A draft that
   equals the resolved token stays; one that differs is forgotten by both partners.
4. Where this partner has scored the place after the draft, it adds its own guess of that token.
5. Finished rows leave; events tell what came out.

With noise shared between the partners a guess is right whenever both partners' choices coincide,
whichever the router picks; a result never depends on what was guessed, by whom, or beside which
other rows.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np

from baco.engine.ahead import Ahead
from baco.engine.batch import Batch, Flags, Integers, Row
from baco.engine.blend import Blend
from baco.engine.costs import Costs
from baco.engine.drafts import Draft, DraftQuery, make_drafter
from baco.engine.lazy import inference_mode, torch
from baco.engine.partner import Lookahead, Partner
from baco.engine.policy import LEADING, RETRYING, SITUATIONS, TAKING_OVER, THIRD, Policy
from baco.engine.request import ALIGNED, BASE, SOURCE_NAMES, Begun, Cost, Event, Request
from baco.engine.router import ALONE, Router
from baco.engine.scores import Context, blended
from baco.engine.side import EngineSide, Strand, run_together, score_window
from baco.engine.step import Choice, step
from baco.engine.warp import Warp
from baco.errors import BacoError, InputError, UnsupportedError

LONGEST_DRAFT = 8
"""The longest draft under ``auto``."""

_MANY_PROGRAMS = 64  # from here on it is worth looking for programs that no row uses


class Program(NamedTuple):
    """How a row is decoded; rows of one program go through the step together."""

    router: Router
    warps: tuple[Warp, Warp]
    end_rule: bool
    turn_rule: bool
    blend: Blend | None


class Decided(NamedTuple):
    """A `Choice` on the host; the same fields, as arrays [n]."""

    token: Integers
    source: Integers
    begins: Flags
    state: Integers
    needs_base: Flags
    needs_aligned: Flags

    @classmethod
    def of(cls, choice: Choice) -> Decided:
        """Brings a choice from the device, in one copy."""
        token, source, begins, state, *needs = torch.stack([x.long() for x in choice]).cpu().numpy()
        return cls(token, source, begins != 0, state, *(need != 0 for need in needs))

    def rows(self, mask: Flags) -> Decided:
        """Returns the decisions about some rows."""
        arrays: list[Any] = [x[mask] for x in self]
        return Decided(*arrays)


class Stats(NamedTuple):
    """What an engine has done so far.

    Attributes:
        base_passes: Forward passes of the base partner, prefills included.
        aligned_passes: The same for the aligned partner.
        base_token_rows: Tokens fed to the base partner, over all rows.
        aligned_token_rows: The same for the aligned partner.
        tokens: Tokens emitted.
        draft_cost: Passes of a third party that guesses, in passes of the aligned partner.
    """

    base_passes: int
    aligned_passes: int
    base_token_rows: int
    aligned_token_rows: int
    tokens: int
    draft_cost: float = 0.0

    def __add__(self, other: object) -> Stats:
        if not isinstance(other, Stats):
            return NotImplemented
        return Stats(*(a + b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]

    def __sub__(self, other: Stats) -> Stats:
        return Stats(*(a - b for a, b in zip(self, other, strict=True)))  # type: ignore[arg-type]


class Engine:
    """Decodes many rows at once; they may join and leave at any time.

    Args:
        base: The base partner.
        aligned: The aligned partner; may be the same object, for single-model methods.
        lookahead: ``auto``, ``off`` (no guessing; a partner that is not needed still rests), or
            the longest draft.
        max_rows: Rows decoded at the same time; more wait their turn.
        draft: A third party that guesses: ``prompt-lookup``, or a small model as a partner.

    Raises:
        InputError: If an argument is out of range, the partners do not share their ids, or a
            draft is given with look-ahead off.
        UnsupportedError: If look-ahead or a draft is asked for and a partner cannot forget guesses.
    """

    def __init__(
        self,
        base: Partner,
        aligned: Partner,
        *,
        lookahead: Lookahead = "auto",
        max_rows: int = 256,
        draft: Draft = None,
    ) -> None:
        if base.vocabulary is not aligned.vocabulary:
            raise InputError(
                "the two partners have different tokenizers",
                hint="wrap them: baco.partners.bridge",
            )
        if max_rows < 1:
            raise InputError(f"max_rows {max_rows} is out of range", hint="use at least 1")
        self._shared = aligned.shared_cache(base)
        strands = [self._shared and Strand(self._shared, which) for which in (0, 1)]
        self.longest = longest_draft(lookahead)
        if not (base.abilities.rewinds and aligned.abilities.rewinds):
            if isinstance(lookahead, int) or draft is not None:
                raise UnsupportedError(
                    "this pair cannot look ahead: a partner's cache cannot forget guesses",
                    hint="leave look-ahead at auto, which goes in lock-step here, without a draft",
                )
            self.longest = 0
        elif draft is not None and not self.longest:
            raise draft_is_useless()
        self.drafter = make_drafter(draft, aligned)
        self._together = base is aligned or self._shared is not None
        if self._together and not self.drafter:
            # A pass scores all that is needed at the same place: there is no time to guess in.
            self.longest = 0
        self.max_rows = max_rows
        self.vocabulary = aligned.vocabulary
        window = score_window(self.longest)
        self.sides = (
            EngineSide(aligned, 1, window, strands[0]),
            EngineSide(base, 0, window, strands[1]),
        )
        self.policy = Policy(Costs((aligned, base)), self.longest, together=self._together)
        self._ahead = Ahead(base, aligned)
        self._own = ALONE  # guesses ask no router: both sides are the drafter's
        self._emitted = 0
        self._numbers = 0
        self._waiting: deque[Row] = deque()
        self._cancelled: set[int] = set()
        self._rows: list[Row] = []
        self._programs: list[Program] = []
        self._is_end = self.vocabulary.is_end.cpu().numpy()
        self._batch = Batch.of([])

    @property
    def idle(self) -> bool:
        """Whether nothing is left to decode."""
        return not self._rows and not self._waiting

    @property
    def stats(self) -> Stats:
        """What the engine has done so far."""
        aligned, base = self.sides
        drafts = self.drafter.passes * self.drafter.cost if self.drafter else 0.0
        return Stats(
            base.passes + self._ahead.passes(BASE),
            aligned.passes + self._ahead.passes(ALIGNED),
            base.token_rows + self._ahead.tokens(BASE),
            aligned.token_rows + self._ahead.tokens(ALIGNED),
            self._emitted,
            drafts,
        )

    def submit(self, request: Request, begun: Begun | None = None) -> int:
        """Adds a row.

        Args:
            request: What to decode.
            begun: What it has emitted in another engine; events tell of what comes after.

        Returns:
            The row's number, by which events name it.

        Raises:
            InputError: If a prompt is empty or fills its context window, or the limit is < 1.
        """
        aligned, base = (side.partner.context_window for side in self.sides)
        limit = request.limit_within((base, aligned))
        program = Program(
            request.router, request.warps, request.end_rule, request.turn_rule, request.blend
        )
        if program not in self._programs:
            self._programs.append(program)
        if self.idle:
            self.policy.forget()  # a request makes the same passes whatever came before it
        row = Row(self._numbers, request, limit, self._programs.index(program))
        if begun is not None:
            row.tokens, row.sources = list(begun.tokens), list(begun.sources)
            row.begins = list(begun.begins)
            row.reported = len(row.tokens)
            row.state = self.vocabulary.units.state_after(row.tokens)
        self._numbers += 1
        self._waiting.append(row)
        return row.number

    def cancel(self, number: int) -> Cost | None:
        """Drops a row before the next cycle; no further event tells of it.

        Returns:
            What it has cost, or None if no such row is being decoded.
        """
        for i, row in enumerate(self._rows):
            if row.number == number:
                self._cancelled.add(number)
                return self._cost(i)
        for row in self._waiting:
            if row.number == number:
                self._cancelled.add(number)
                return row.cost + row.account
        return None

    @inference_mode
    def step(self) -> list[Event]:
        """Runs one cycle.

        Returns:
            What happened to each row that emitted tokens or finished.

        Raises:
            BacoError: If not even one row fits into memory.
        """
        self._drop_cancelled()
        # 1) Rows that wait join while there is room.
        self._admit()
        if not self._rows:
            return []
        # 2) One partner runs.
        before = self._batch.t.copy()
        side = self._choose()
        if not self._run(side):
            return []
        # 3) Positions are resolved in order; 4) the partner guesses the next one.
        self._resolve(side)
        self._guess(side)
        self._ask_drafter()
        self._batch.waited = np.where(self._batch.t > before, 0, self._batch.waited + 1)
        # 5) Finished rows leave.
        events = [event for i in range(len(self._rows)) if (event := self._event(i))]
        self._leave([i for i, row in enumerate(self._rows) if row.finish])
        return events

    # --- joining and leaving -------------------------------------------------------------------

    def _admit(self) -> None:
        new: list[Row] = []
        while self._waiting and len(self._rows) + len(new) < self.max_rows:
            new.append(self._waiting.popleft())
        if new:
            self._rows += new
            self._batch = self._batch.joined(Batch.of(new))
            for side in self.sides:
                side.add([row.request for row in new])

    def _leave(self, gone: list[int]) -> None:
        """Removes rows; the last ones move into their places, so that little is copied."""
        if not gone:
            return
        left = len(self._rows) - len(gone)
        spare = [i for i in range(left, len(self._rows)) if i not in set(gone)]
        if self.drafter:
            for i in gone:
                self.drafter.forget(self._rows[i].number)
        self._ahead.forget([self._rows[i].number for i in gone])
        keep = list(range(left))
        for i in gone:
            if i < left:
                keep[i] = spare.pop()
        self._rows = [self._rows[i] for i in keep]
        self._batch = self._batch.kept(keep)
        for side in self.sides:
            side.keep(keep)
        if len(self._programs) > _MANY_PROGRAMS:
            self._forget_programs()

    def _forget_programs(self) -> None:
        """Drops the programs that no row uses any more, so that a long life costs no memory."""
        rows = [*self._rows, *self._waiting]
        used = sorted({row.program for row in rows})
        number = {old: new for new, old in enumerate(used)}
        self._programs = [self._programs[old] for old in used]
        for row in rows:
            row.program = number[row.program]
        self._batch.program = np.array([row.program for row in self._rows], dtype=np.int64)

    def _drop_cancelled(self) -> None:
        if self._cancelled:
            self._waiting = deque(r for r in self._waiting if r.number not in self._cancelled)
            self._leave([i for i, r in enumerate(self._rows) if r.number in self._cancelled])
            self._cancelled.clear()

    def _preempt(self, cause: Exception) -> None:
        """Takes half of the rows out of the batch; they go on later where they were."""
        if len(self._rows) == 1:
            raise BacoError(
                "out of memory with a single row",
                hint="use a smaller model, a shorter prompt, half precision or 8-bit loading",
            ) from cause
        half = len(self._rows) // 2
        out = list(range(half, len(self._rows)))
        for i in reversed(out):
            row = self._rows[i]
            row.state = int(self._batch.state[i])
            row.cost = self._cost(i)._replace(drafted=0, accepted=0, tokens=0)  # still counted
            self._waiting.appendleft(row)
        self._leave(out)
        self.max_rows = half

    # --- one cycle -----------------------------------------------------------------------------

    def _choose(self) -> int:
        """Picks the side to run, by what the rows are missing."""
        batch = self._batch
        # A row that one side has scored and that is unresolved waits for the other side.
        missing = tuple(side.fed < batch.t for side in self.sides)
        self._alone = missing[ALIGNED] & missing[BASE]
        self.policy.renew(batch.source)
        if self._together:
            return ALIGNED
        opening = tuple(
            (side.fed < 0)
            & np.array([name in p.router.reads for p in self._programs])[batch.program]
            for name, side in zip(SOURCE_NAMES, self.sides, strict=True)
        )
        return self.policy.choose(
            missing,
            opening,
            batch.source,
            batch.drafted,
            self._extensible(),
            batch.failed,
            batch.waited,
            (self._width(ALIGNED), self._width(BASE)),
        )

    def _width(self, number: int) -> int:
        """Most tokens that a side would be fed for a row; 0 where it would read a prompt."""
        side = self.sides[number]
        if len(side.unopened()):
            return 0
        return int((self._until() - side.fed).max())

    def _until(self) -> Integers:
        """How many response tokens each row has, drafts included, as far as they are fed."""
        return self._batch.t + self._batch.drafted - self._batch.closed

    def _run(self, number: int) -> bool:
        """Feeds a side all it has not seen; False if memory ran out and rows had to leave."""
        batch = self._batch
        width, needed = batch.tokens.shape[1], int((batch.t + batch.drafted).max()) + 2
        if needed > width:
            batch.widen(max(needed, width * 3 // 2))
        until = self._until()
        try:
            if self._shared:
                run_together(self.sides, self._shared, batch.tokens, batch.t, until)
            else:
                self.sides[number].run(batch.tokens, batch.t, until)
        except torch.OutOfMemoryError as error:
            self._preempt(error)
            return False
        return True

    def _resolve(self, number: int) -> None:
        """Resolves, row by row and position by position, what can be."""
        batch = self._batch
        alone = self._alone & (batch.source == number)
        trials, first = int(alone.sum()), True
        rows = np.arange(len(self._rows))
        while len(rows):
            rows = np.concatenate([self._resolve_program(k, rows) for k in self._present(rows)])
            if first:
                self.policy.resolves[number].add(int(alone[rows].sum()), trials)
                first = False
            rows = rows[batch.over[rows] == 0]
            t = batch.t[rows]
            rows = rows[(self.sides[0].fed[rows] >= t) | (self.sides[1].fed[rows] >= t)]

    def _present(self, rows: Integers) -> list[int]:
        """The programs of some rows."""
        if len(self._programs) == 1:
            return [0]
        return sorted(set(self._batch.program[rows].tolist()))

    def _resolve_program(self, program: int, rows: Integers) -> Integers:
        """Resolves one position of the rows of one program; returns those that could be."""
        batch = self._batch
        router, warps, end_rule, turn_rule, how = self._programs[program]
        if len(self._programs) > 1:
            rows = rows[batch.program[rows] == program]
        t = batch.t[rows]
        have_aligned, have_base = (side.fed[rows] >= t for side in self.sides)
        if router.needs_history or router.looks_ahead or how:
            both = have_aligned & have_base
            rows, t = rows[both], t[both]
            have_aligned = have_base = both[both]
        if not len(rows):
            return rows
        aligned, base = (side.scores(rows, t) for side in self.sides)
        aligned = aligned or base
        base = base or aligned
        assert aligned is not None
        assert base is not None
        if how:
            base = aligned = blended(base, aligned, how, warps[1])
        knows = router.needs_history or router.looks_ahead
        members = [self._rows[i] for i in rows] if knows else []
        choice = Decided.of(
            step(
                base,
                aligned,
                self._context(batch.keys[rows], t, batch.state[rows], batch.source[rows]),
                router,
                warps,
                self.vocabulary,
                end_rule=end_rule,
                turn_rule=turn_rule,
                history=[row.tokens for row in members] if router.needs_text else None,
                sentences=self.vocabulary.units.sentences([row.tokens for row in members])
                if router.counts_sentences
                else None,
                ahead=self._ahead.over(members) if router.looks_ahead else None,
            )
        )
        ready = (have_base | ~choice.needs_base) & (have_aligned | ~choice.needs_aligned)
        if not ready.all():
            rows, choice = rows[ready], choice.rows(ready)
        if len(rows):
            self._commit(rows, choice)
        return rows

    def _context(self, *facts: Integers) -> Context:
        """Brings keys, positions, unit states and sources to the device."""
        together = torch.from_numpy(np.stack(facts)).to(self.vocabulary.is_end.device)
        return Context(*together.unbind())

    def _commit(self, rows: Integers, choice: Decided) -> None:
        """Emits one token per row and squares it with the drafts."""
        batch = self._batch
        t = batch.t[rows]
        is_end = self._is_end[choice.token]
        had = batch.drafted[rows] > 0
        hit = had & (batch.tokens[rows, t] == choice.token)
        failed = had & ~hit
        if had.any():
            self._count(rows, t, had, hit)
        by = batch.drafter[rows, t] // SITUATIONS
        batch.tokens[rows, t] = choice.token
        batch.t[rows] = t + 1
        batch.state[rows] = choice.state
        batch.source[rows] = choice.source
        batch.drafted[rows] = np.where(hit, batch.drafted[rows] - 1, 0)
        batch.closed[rows] *= hit
        batch.failed[rows] = np.where(failed & (by < 2), by, -1)
        batch.tip_state[rows] = np.where(hit, batch.tip_state[rows], choice.state)
        batch.over[rows] = is_end | (t + 1 >= batch.limit[rows])
        if failed.any():
            valid = np.full_like(batch.t, 1 << 60)
            valid[rows[failed]] = t[failed]
            for side in self.sides:
                side.forget_after(valid)

        emitted = zip(
            rows.tolist(), *(x.tolist() for x in choice[:3]), is_end.tolist(), strict=True
        )
        for i, token, source, begins, end in emitted:
            row = self._rows[i]
            if end:
                row.finish, row.end = "stop", token
                continue
            row.tokens.append(token)
            row.sources.append(source)
            row.begins.append(begins)
            self._emitted += 1
            if len(row.tokens) >= row.limit:
                row.finish = "length"

    def _count(
        self,
        rows: Integers,
        t: Integers,
        had: Flags,
        hit: Flags,
    ) -> None:
        """Keeps the account of guesses."""
        by = self._batch.drafter[rows, t][had]
        trials = np.bincount(by, minlength=THIRD + 1)
        hits = np.bincount(by, weights=hit[had], minlength=THIRD + 1)
        for rate, right, tried in zip(self.policy.accepts, hits, trials.tolist(), strict=True):
            rate.add(int(right), tried)
        for i, h in zip(rows[had].tolist(), hit[had].tolist(), strict=True):
            row = self._rows[i]
            row.drafted += 1
            row.accepted += h

    def _guess(self, number: int) -> None:
        """Lets the side that ran add its guess where it has scored the place after the draft."""
        if not self.longest:
            return
        batch, side = self._batch, self.sides[number]
        tip = batch.t + batch.drafted
        able = (side.fed == tip) & self._extensible() & (batch.over == 0)
        able &= self.policy.guess_pays(number, batch.drafted)
        rows = np.flatnonzero(able)
        for program in self._present(rows) if len(rows) else ():
            mine = rows[batch.program[rows] == program]
            at = tip[mine]
            scores = side.scores(mine, at)
            assert scores is not None
            keys = self._noise_of_guesses(batch.keys[mine])
            context = self._context(keys, at, batch.tip_state[mine], batch.source[mine])
            _, warps, end_rule, *_ = self._programs[program]
            choice = Decided.of(
                step(scores, scores, context, self._own, warps, self.vocabulary, end_rule=end_rule)
            )
            failed = batch.failed[mine]
            situation = np.where(failed == number, RETRYING, TAKING_OVER)
            situation[(failed < 0) | (batch.drafted[mine] > 0)] = LEADING
            batch.tokens[mine, at] = choice.token
            batch.drafter[mine, at] = number * SITUATIONS + situation
            batch.tip_state[mine] = choice.state
            batch.closed[mine] = self._is_end[choice.token]
            batch.drafted[mine] += 1

    def _extensible(self) -> Flags:
        """Rows whose draft has room for one more guess."""
        batch = self._batch
        room: Flags = (batch.closed == 0) & (batch.drafted < self.longest)
        room &= batch.t + batch.drafted < batch.limit
        return room

    def _noise_of_guesses(self, keys: Integers) -> Integers:
        """Guesses share the rows' noise; benchmarks override this to show what that is worth."""
        return keys

    def _ask_drafter(self) -> None:
        """Lets a third party go on from where the partners' guesses end."""
        if self.drafter is None:
            return
        batch = self._batch
        length = self.policy.draft_length(self.drafter.cost)
        room = np.minimum(self.longest, batch.limit - batch.t) - batch.drafted
        room = np.minimum(room, length)
        able = (batch.over == 0) & (batch.closed == 0) & (batch.drafted <= 1) & (room > 0)
        places = np.flatnonzero(able).tolist()
        if not places:
            return
        asks = []
        for i in places:
            row, t = self._rows[i], int(batch.t[i])
            tip = t + int(batch.drafted[i])
            text = (*row.request.aligned_prompt, *row.tokens, *batch.tokens[i, t:tip].tolist())
            asks.append(
                DraftQuery(row.number, text, row.request.key, tip, int(batch.tip_state[i]),
                    row.request.warp, int(room[i]))
            )  # fmt: skip
        batch.widen(max(ask.t + ask.room for ask in asks) + 2)
        before = self.drafter.passes
        found = self.drafter.guess(asks)
        spent = Cost(draft_passes=(self.drafter.passes - before) * self.drafter.cost)
        for i, ask, guesses in zip(places, asks, found, strict=True):
            self._rows[i].cost += spent
            self._take(i, ask, guesses)

    def _take(self, i: int, ask: DraftQuery, guesses: list[int]) -> None:
        """Adds a third party's guesses to the draft of row i, up to an end token."""
        batch, device = self._batch, self.vocabulary.is_end.device
        state = torch.tensor([ask.state], device=device)
        for k, token in enumerate(guesses):
            batch.tokens[i, ask.t + k] = token
            batch.drafter[i, ask.t + k] = THIRD
            batch.drafted[i] += 1
            state = self.vocabulary.units.advance(state, torch.tensor([token], device=device))
            if self._is_end[token]:
                batch.closed[i] = 1
                break
        batch.tip_state[i] = int(state)

    # --- telling -------------------------------------------------------------------------------

    def _cost(self, i: int) -> Cost:
        """What a row has cost so far, also before it joined the batch this time."""
        row = self._rows[i]
        aligned, base = self.sides
        passes = Cost(
            base_passes=int(base.row_passes[i]),
            aligned_passes=int(aligned.row_passes[i]),
            base_token_rows=int(base.row_tokens[i]),
            aligned_token_rows=int(aligned.row_tokens[i]),
            base_prompt_tokens=int(base.row_prompts[i]),
            aligned_prompt_tokens=int(aligned.row_prompts[i]),
        )
        return row.cost + row.account + passes

    def _event(self, i: int) -> Event | None:
        row = self._rows[i]
        start, row.reported = row.reported, len(row.tokens)
        if row.finish is None and start == row.reported:
            return None
        return Event(
            row.number,
            row.tokens[start:],
            row.sources[start:],
            row.begins[start:],
            row.finish,
            self._cost(i) if row.finish else None,
            row.end,
        )


def draft_is_useless() -> InputError:
    """What is wrong with a draft where look-ahead is off."""
    return InputError(
        "a draft guesses ahead, and look-ahead is off", hint="leave out one of the two"
    )


def longest_draft(lookahead: Lookahead) -> int:
    """Reads the look-ahead option as the longest draft."""
    if lookahead == "auto":
        return LONGEST_DRAFT
    if lookahead == "off":
        return 0
    if isinstance(lookahead, int) and not isinstance(lookahead, bool) and 1 <= lookahead <= 64:
        return lookahead
    raise InputError(
        f"look-ahead {lookahead!r} is out of range", hint="use auto, off, or 1 to 64 tokens"
    )
