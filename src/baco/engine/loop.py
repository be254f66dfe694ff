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
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from baco.engine import noise
from baco.engine.ahead import Ahead
from baco.engine.batch import Batch, Flags, Integers, Row
from baco.engine.blend import Blend
from baco.engine.costs import Costs
from baco.engine.drafts import Draft, DraftQuery, make_drafter
from baco.engine.lazy import inference_mode, torch
from baco.engine.noise import Draws
from baco.engine.partner import Lookahead, Partner
from baco.engine.policy import LEADING, RETRYING, SITUATIONS, TAKING_OVER, THIRD, Policy
from baco.engine.request import ALIGNED, BASE, SOURCE_NAMES, Begun, Cost, Event, Request
from baco.engine.router import ALONE, Router, View
from baco.engine.scores import Context, SideScores, blended
from baco.engine.side import EngineSide, Strand, run_together, score_window
from baco.engine.step import (
    ENDS,
    TOP,
    Decision,
    Rules,
    decide,
    held,
    offer,
    proposals,
    settle,
)
from baco.engine.warp import Warp
from baco.errors import BacoError, InputError, UnsupportedError, not_finite

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

    @property
    def rules(self) -> Rules:
        """What holds for its rows."""
        return Rules.of(self.router, self.end_rule, self.turn_rule)

    @property
    def both(self) -> bool:
        """Whether nothing is decided before both sides have scored a place."""
        router = self.router
        return router.needs_history or router.looks_ahead or self.blend is not None


class Traits(NamedTuple):
    """What programs say, as arrays [programs] that rows look up.

    Attributes:
        both: As of `Program`.
        in_turn: Whether the router must be asked of one place at a time.
        reads: Whether the router looks at the scores of (aligned, base), [2, programs].
        rules: Their `Rules`, [5, programs].
    """

    both: Flags
    in_turn: Flags
    reads: Flags
    rules: Flags

    @classmethod
    def of(cls, programs: Sequence[Program]) -> Traits:
        """Asks all programs."""
        return cls(
            np.array([p.both for p in programs]),
            np.array([p.router.in_turn for p in programs]),
            np.array([[name in p.router.reads for p in programs] for name in SOURCE_NAMES]),
            np.array([p.rules for p in programs]).T,
        )


class Places(NamedTuple):
    """Places of rows that may be resolved, as arrays [m].

    Attributes:
        row: Whose place.
        t: Its position.
        have_base: Whether the base partner has scored it.
        have_aligned: The same for the aligned partner.
        program: The row's program.
    """

    row: Integers
    t: Integers
    have_base: Flags
    have_aligned: Flags
    program: Integers

    def some(self, at: Any) -> Places:
        """Returns some of them."""
        arrays: list[Any] = [x[at] for x in self]
        return Places(*arrays)


class Decided(NamedTuple):
    """What the step decides, on the host; see `Choice` of `baco.engine.step`; arrays [n].

    Attributes:
        decision: What it decides.
        state: Unit state after the token.
    """

    decision: Decision
    state: Integers

    def rows(self, at: Any) -> Decided:
        """Returns the decisions about some rows."""
        return Decided(Decision(*(x[at] for x in self.decision)), self.state[at])


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
                raise cannot_look_ahead()
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
        self._emitted = 0
        self._numbers = 0
        self._waiting: deque[Row] = deque()
        self._cancelled: set[int] = set()
        self._rows: list[Row] = []
        self._programs: list[Program] = []
        self._traits = Traits.of([])
        self._is_end = self.vocabulary.on_host.tables[0]
        self._guessed: tuple[Integers, Decided] | None = None  # rows, and what a side would add
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
            self._traits = Traits.of(self._programs)
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
        self._traits = Traits.of(self._programs)
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
            row.state = int(self._batch.states[i, self._batch.t[i]])
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
            (side.fed < 0) & reads[batch.program]
            for side, reads in zip(self.sides, self._traits.reads, strict=True)
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
                run_together(self.sides, self._shared, batch, until)
            else:
                self.sides[number].run(batch, until)
        except torch.OutOfMemoryError as error:
            self._preempt(error)
            return False
        return True

    def _resolve(self, number: int) -> None:
        """Resolves, row by row and position by position, what can be.

        Both sides' offers and what the routers say come to the host in one copy, for all places
        that are scored. As only the source of each depends on the place before, the step decides
        for either source, and the rows then walk along.
        """
        batch = self._batch
        alone = self._alone & (batch.source == number)
        trials = int(alone.sum())
        tip = batch.t + batch.drafted
        leads = (self.sides[number].fed == tip) & (batch.closed == 0) & (self.longest > 0)
        guessing, rows, first = np.flatnonzero(leads), np.arange(len(self._rows)), True
        side, self._guessed = self.sides[number], None
        while len(rows):
            places, begin, count = self._places(rows)
            if not len(places.row) + len(guessing):
                break
            base, aligned, says, own = self._fetch(places, side, guessing, tip[guessing])
            m = len(places.row)
            made = self._decided(
                np.concatenate([base, base, own]),
                np.concatenate([aligned, aligned, own]),
                np.concatenate([says, says, np.zeros(len(own), dtype=np.bool_)]),
                np.arange(2 * m + len(own)) // max(m, 1) == 1,
                np.concatenate([places.row, places.row, guessing]),
                np.concatenate([places.t, places.t, tip[guessing]]),
            )
            if first:
                self._guessed = guessing, made.rows(slice(2 * m, None))
                guessing = guessing[:0]
            at, left = begin[count > 0], count[count > 0]
            going = []
            while len(at):
                rows = places.row[at]
                choice = made.rows(at + m * batch.source[rows])
                needs = choice.decision
                ready = (places.have_base[at] | ~needs.needs_base) & (
                    places.have_aligned[at] | ~needs.needs_aligned
                )
                at, left, rows, choice = at[ready], left[ready], rows[ready], choice.rows(ready)
                if first:
                    self.policy.resolves[number].add(int(alone[rows].sum()), trials)
                    first = False
                if not len(rows):
                    break
                self._settle(places, at, choice, (base, aligned, says))
                hit = self._commit(rows, choice) & (batch.over[rows] == 0)
                going.append(rows[hit & (left == 1)])
                at, left = at[hit & (left > 1)] + 1, left[hit & (left > 1)] - 1
            rows = np.sort(np.concatenate([rows[:0], *going]))
            t = batch.t[rows]
            rows = rows[(self.sides[0].fed[rows] >= t) | (self.sides[1].fed[rows] >= t)]
        if first:
            self.policy.resolves[number].add(0, trials)

    def _places(self, rows: Integers) -> tuple[Places, Integers, Integers]:
        """Lists the places of some rows that are scored, in order.

        Returns:
            The places, and for each row where its own begin and how many they are.
        """
        batch, t = self._batch, self._batch.t[rows]
        aligned, base = (side.fed[rows] for side in self.sides)
        program = batch.program[rows]
        both, in_turn = self._traits.both[program], self._traits.in_turn[program]
        count = np.where(both, np.minimum(aligned, base), np.maximum(aligned, base)) - t + 1
        count = np.where(in_turn, np.minimum(count, 1), count).clip(0)
        begin = np.cumsum(count) - count
        which = np.repeat(np.arange(len(rows)), count)
        t = t[which] + np.arange(len(which)) - begin[which]
        places = Places(rows[which], t, base[which] >= t, aligned[which] >= t, program[which])
        return places, begin, count

    def _fetch(
        self, places: Places, side: EngineSide, guessing: Integers, tip: Integers
    ) -> tuple[Any, Any, Flags, Any]:
        """Brings what the step needs to the host, in one copy.

        Args:
            places: Where it is taken.
            side: Who guesses.
            guessing: For which rows.
            tip: At which positions.

        Returns:
            Both sides' offers, base first; what the routers say, bool [m]; the guesses' offers.
        """
        m, fives = len(places.row), TOP + 1
        lines = [s.line(places.row, places.t) for s in self.sides]
        at = self._on_device(np.concatenate([*lines, side.line(guessing, tip)]))[0]
        parts, asked = [], []
        if m:
            aligned, base = self.sides[0].offers(at[:m]), self.sides[1].offers(at[m : 2 * m])
            aligned = base if aligned is None else aligned
            base = aligned if base is None else base
            assert base is not None
            assert aligned is not None
            for k in sorted(set(places.program.tolist())):
                router, mine = self._programs[k].router, places.program == k
                if self._programs[k].blend:
                    some = self._on_device(np.flatnonzero(mine))[0]
                    mixed = self._mixed(places.some(mine))
                    base = base.index_copy(0, some, mixed)
                    aligned = aligned.index_copy(0, some, mixed)
                first = mine & (places.t == 0) & places.have_base & places.have_aligned
                if router.opens and first.any():
                    some = self._on_device(np.flatnonzero(first))[0]
                    base = base.index_copy(0, some, self._held(places.some(first)))
                if router is ALONE:
                    continue
                mine &= (places.t > 0) | router.opens
                mine &= places.have_base | ("base" not in router.reads)
                mine &= places.have_aligned | ("aligned" not in router.reads)
                if mine.any():
                    asked.append(np.flatnonzero(mine))
                    parts.append(self._asked(places.some(mine), base, aligned, asked[-1]))
            parts += [base.flatten(), aligned.flatten()]
        if len(guessing):
            parts.append(self._guess_offers(side, at[2 * m :], guessing, tip).flatten())
        broken = [s.broken() for s in self.sides]
        told = torch.cat([*parts, *broken[0], *broken[1]]).cpu().numpy()
        sizes = (sum(map(len, asked)), m * fives, m * fives, len(guessing) * fives, len(broken[0]))
        ends = np.cumsum((0, *sizes, len(broken[1]))).tolist()
        said, *offers, own, bad_aligned, bad_base = (told[a:b] for a, b in pairwise(ends))
        for s, bad in zip(self.sides, (bad_aligned, bad_base), strict=True):
            if bad.any():
                raise not_finite(s.partner.label)
        says = np.zeros(m, dtype=np.bool_)
        if asked:
            says[np.concatenate(asked)] = said
        of_base, of_aligned = (x.reshape(m, fives) for x in offers)
        return of_base, of_aligned, says, own.reshape(-1, fives)

    def _mixed(self, places: Places) -> torch.Tensor:
        """The offers of a blend, int64 [n, 5], at places of one program."""
        mixture, _, context, _ = self._view(places)
        draws = Draws.of(context.keys, context.t)
        return offer(mixture, context.state, draws, self.vocabulary)

    def _held(self, places: Places) -> torch.Tensor:
        """What base may begin answers with, int64 [n, 5], at places of one program."""
        base, aligned, context, _ = self._view(places)
        warp = self._programs[places.program[0]].warps[0]
        scores = held(base, aligned, context.t == 0, warp)
        draws = Draws.of(context.keys, context.t)
        return offer(scores, context.state, draws, self.vocabulary)

    def _asked(
        self, places: Places, base: torch.Tensor, aligned: torch.Tensor, at: Integers
    ) -> torch.Tensor:
        """What a router says at places of one program, int64 [n]; their offers are at `at`."""
        router, units = self._programs[places.program[0]].router, self.vocabulary.units
        of_base, of_aligned, context, drawn = self._view(places)
        asked = torch.ones_like(context.t, dtype=torch.bool)
        if router.in_turn:
            some = self._on_device(at)[0]
            base, aligned = base[some], aligned[some]
            from_base = context.source == BASE
            asked = torch.where(from_base, base[:, ENDS], aligned[:, ENDS]) != 0
        knows = router.needs_history or router.looks_ahead
        rows = [self._rows[i] for i in places.row] if knows else []
        view = View(
            of_base,
            of_aligned,
            self.vocabulary,
            context,
            asked,
            history=[row.tokens for row in rows] if router.needs_text else None,
            proposals=proposals(base, aligned) if router.needs_text else None,
            sentences=units.sentences([row.tokens for row in rows])
            if router.counts_sentences
            else None,
            ahead=self._ahead.over(rows) if router.looks_ahead else None,
            drawn=drawn,
        )
        says: torch.Tensor = router.decide(view).long()
        return says

    def _view(self, places: Places) -> tuple[SideScores, SideScores, Context, torch.Tensor]:
        """Both sides' scores, base first, context and U_route of places, in one upload.

        They are of one program; of a blend both scores are the mixture.
        """
        program, rows, t = self._programs[places.program[0]], places.row, places.t
        batch = self._batch
        lines = [side.line(rows, t) for side in self.sides]
        drawn = noise.uniform(batch.keys[rows], noise.ROUTE, t).view(np.int64)
        *at, keys, t_, states, source, luck = self._on_device(
            *lines, batch.keys[rows], t, batch.states[rows, t], batch.source[rows], drawn
        )
        context = Context(keys, t_, states, source)
        aligned, base = (
            side.scores(each, how)
            for side, each, how in zip(self.sides, at, program.warps[::-1], strict=True)
        )
        base, aligned = base or aligned, aligned or base
        assert base is not None
        assert aligned is not None
        if program.blend:
            base = aligned = blended(base, aligned, program.blend, program.warps[1])
        return base, aligned, context, luck.view(torch.float64)

    def _on_device(self, *arrays: Integers) -> tuple[torch.Tensor, ...]:
        """Brings arrays [n] to the device, in one copy."""
        device = self.vocabulary.is_end.device
        return torch.from_numpy(np.stack(arrays)).to(device).unbind()

    def _decided(
        self, base: Any, aligned: Any, says: Flags, from_base: Flags, rows: Integers, t: Integers
    ) -> Decided:
        """Takes the step on the host."""
        rules = Rules(*self._traits.rules[:, self._batch.program[rows]])
        tables = self.vocabulary.on_host.tables
        made = decide(base, aligned, says, from_base, t == 0, rules, tables)
        return Decided(made, self._states_after(rows, t, made.token))

    def _states_after(self, rows: Integers, t: Integers, tokens: Integers) -> Integers:
        states = self._batch.states[rows, t]
        after = self.vocabulary.on_host.units.advance(
            torch.from_numpy(states),
            torch.from_numpy(np.maximum(tokens, 0)),
            whole=not (states >> 8).any(),
        )
        known: Integers = after.numpy()
        return known

    def _settle(
        self, places: Places, at: Integers, choice: Decided, known: tuple[Any, Any, Any]
    ) -> None:
        """Decides what offers are not enough for, in place; which is seldom."""
        rare = choice.decision.stuck | choice.decision.turned
        for k in sorted(set(places.program[at[rare]].tolist())):
            some = np.flatnonzero(rare & (places.program[at] == k))
            mine = places.some(at[some])
            program, device = self._programs[k], self.vocabulary.is_end.device
            base, aligned, says = (torch.from_numpy(x[at[some]]).to(device) for x in known)
            of_base, of_aligned, context, _ = self._view(mine)
            made = settle(
                (base, aligned),
                says,
                (of_base, of_aligned),
                context,
                Rules(*program.rules),
                program.warps,
                self.vocabulary,
            )
            for mended, new in zip(choice.decision, made, strict=True):
                mended[some] = new.cpu().numpy()
            choice.state[some] = self._states_after(mine.row, mine.t, choice.decision.token[some])

    def _commit(self, rows: Integers, made: Decided) -> Flags:
        """Emits one token per row and squares it with the drafts; tells where a guess was right."""
        batch, choice = self._batch, made.decision
        source = np.where(choice.to_base, BASE, ALIGNED)
        t = batch.t[rows]
        is_end = self._is_end[choice.token]
        had = batch.drafted[rows] > 0
        hit: Flags = had & (batch.tokens[rows, t] == choice.token)
        failed = had & ~hit
        if had.any():
            self._count(rows, t, had, hit)
        by = batch.drafter[rows, t] // SITUATIONS
        batch.tokens[rows, t] = choice.token
        batch.t[rows] = t + 1
        batch.states[rows, t + 1] = made.state
        batch.source[rows] = source
        batch.drafted[rows] = np.where(hit, batch.drafted[rows] - 1, 0)
        batch.closed[rows] *= hit
        batch.failed[rows] = np.where(failed & (by < 2), by, -1)
        batch.over[rows] = is_end | (t + 1 >= batch.limit[rows])
        if failed.any():
            valid = np.full_like(batch.t, 1 << 60)
            valid[rows[failed]] = t[failed]
            for side in self.sides:
                side.forget_after(valid)

        emitted = (rows, choice.token, source, choice.begins, is_end)
        for i, token, speaker, begins, end in zip(*(x.tolist() for x in emitted), strict=True):
            row = self._rows[i]
            if end:
                row.finish, row.end = "stop", token
                continue
            row.tokens.append(token)
            row.sources.append(speaker)
            row.begins.append(begins)
            self._emitted += 1
            if len(row.tokens) >= row.limit:
                row.finish = "length"
        return hit

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
        if self._guessed is None:
            return
        guessing, made = self._guessed
        # Where it takes the last resort, it does not guess.
        mine = np.flatnonzero(able[guessing] & (made.decision.token >= 0))
        rows = guessing[mine]
        if not len(rows):
            return
        token, at, failed = made.decision.token[mine], tip[rows], batch.failed[rows]
        situation = np.where(failed == number, RETRYING, TAKING_OVER)
        situation[(failed < 0) | (batch.drafted[rows] > 0)] = LEADING
        batch.tokens[rows, at] = token
        batch.drafter[rows, at] = number * SITUATIONS + situation
        batch.states[rows, at + 1] = made.state[mine]
        batch.closed[rows] = self._is_end[token]
        batch.drafted[rows] += 1

    def _extensible(self) -> Flags:
        """Rows whose draft has room for one more guess."""
        batch = self._batch
        room: Flags = (batch.closed == 0) & (batch.drafted < self.longest)
        room &= batch.t + batch.drafted < batch.limit
        return room

    def _guess_offers(
        self, side: EngineSide, at: torch.Tensor, rows: Integers, positions: Integers
    ) -> torch.Tensor:
        """What a side offers where it may guess; benchmarks override it to show what noise does.

        Args:
            side: Who guesses.
            at: The lines of its ring, int64 [g].
            rows: Of these rows.
            positions: At these positions.
        """
        offers = side.offers(at)
        assert offers is not None
        return offers

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
                DraftQuery(row.number, text, row.request.key, tip, int(batch.states[i, tip]),
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
        batch = self._batch
        for place, token in enumerate(guesses, ask.t):
            batch.tokens[i, place] = token
            batch.drafter[i, place] = THIRD
            batch.drafted[i] += 1
            after = self._states_after(np.array([i]), np.array([place]), np.array([token]))
            batch.states[i, place + 1] = after[0]
            if self._is_end[token]:
                batch.closed[i] = 1
                break

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


def cannot_look_ahead() -> UnsupportedError:
    """What is wrong with look-ahead where a guess cannot be forgotten."""
    return UnsupportedError(
        "this pair cannot look ahead: a partner's cache cannot forget guesses",
        hint="leave look-ahead at auto, which goes in lock-step here, without a draft",
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
