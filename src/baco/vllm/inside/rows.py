"""The rows of vLLM's batch, in its order: what the model, its attention and the step share."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any, NamedTuple, Protocol

import torch

from baco.engine.blend import blend
from baco.engine.request import ALIGNED, BASE
from baco.engine.router import ALONE
from baco.engine.scores import Context, Look, Nucleus, SideScores, score
from baco.engine.step import Choice, step
from baco.engine.units import START
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import nucleus
from baco.vllm.inside.requests import ProgramSpec, ResolvedRequest, codes


class Looks(Protocol):
    """Lets a side write on; see `baco.vllm.inside.ahead.PassAhead`."""

    def over(self, places: torch.Tensor, logits: Sequence[torch.Tensor]) -> Look:
        """Returns the look from where some rows stand."""
        ...


SIDES = (ALIGNED, BASE)


@dataclass(eq=False)
class RequestRow:
    """What is kept of one request for as long as it lives, in and out of the batch.

    Attributes:
        ask: The request.
        output: The emitted ids, where the runner V1 appends to this very list.
        filled: How much of the stream the runner V2 has to read before it chooses.
        limit: Most tokens of its answer, as far as the runner V2 says.
        prompts: Prompt ids of (aligned, base), padded on the left to the stream's length.
        pads: How far each side lags behind the stream.
        leads: The part of it that is whole blocks: so far along the row's blocks are its own.
        t: Emitted tokens that `state`, `source` and `turns` know of.
        state: Unit state after them.
        source: Who emitted the last of them.
        turns: Counts their sentences, see `UnitTable.turn`.
    """

    ask: ResolvedRequest
    output: list[int]
    filled: int = 0
    limit: int = sys.maxsize
    prompts: tuple[torch.Tensor, torch.Tensor] = field(init=False)
    pads: tuple[int, int] = field(init=False)
    leads: tuple[int, int] = field(init=False)
    t: int = 0
    state: int = START
    source: int = ALIGNED
    turns: int = 0

    def __post_init__(self) -> None:
        length = self.ask.length
        sides = (self.ask.aligned_prompt, self.ask.base_prompt)
        self.pads = (length - len(sides[0]), length - len(sides[1]))
        block = self.ask.block
        self.leads = (self.pads[0] // block * block, self.pads[1] // block * block)
        self.prompts = tuple(  # type: ignore[assignment]
            torch.tensor([0] * pad + list(ids)) for pad, ids in zip(self.pads, sides, strict=True)
        )


class Spans(NamedTuple):
    """Which part of each row's stream a pass feeds; int64 [n] on the CPU, but for `starts`.

    Attributes:
        starts: Where each row's tokens begin among all tokens, [n + 1].
        first: Stream position of each row's first token.
        after: Stream position after its last.
    """

    starts: torch.Tensor
    first: torch.Tensor
    after: torch.Tensor


class ReadOn(NamedTuple):
    """How far the aligned side has read behind the rows' last tokens, for the next pass.

    Attributes:
        rows: The rows that were in the batch.
        first: Stream position of the last token of each, int64 [n] on the CPU.
        counts: How many tokens the side has read, from that one on, which is how many drafts it has
            made: int64 [n] on the CPU.
        logits: What it said after each, float [n, at least the most of `counts`, v].
        state: Unit states behind the drafts, int64 [n].
        passes: How many passes of their own this took each row, int64 [n] on the CPU.
    """

    rows: Sequence[RequestRow]
    first: torch.Tensor
    counts: torch.Tensor
    logits: torch.Tensor
    state: torch.Tensor
    passes: torch.Tensor


class Lead(NamedTuple):
    """The rows for which this pass has more tokens than one: drafts, and a place for a guess.

    Attributes:
        drafted: Which rows, bool [n] on the CPU.
        has: How many drafts are the aligned side's, which has read as many tokens: int64 [n] on the
            CPU. One more token may be no draft but the place of a guess.
        dropped: How many of its tokens the side does not read again, int64 [n] on the CPU: at least
            two are left, for its last draft and the guess behind it.
        passes: As of `ReadOn`.
        state: Unit states behind the drafts, int64 [n].
        lines: Which lines the side need not compute, int64 [as many as all of `has`].
        logits: What stands there, float [as many, v].
    """

    drafted: torch.Tensor
    has: torch.Tensor
    dropped: torch.Tensor
    passes: torch.Tensor
    state: torch.Tensor
    lines: torch.Tensor
    logits: torch.Tensor | None

    @property
    def shift(self) -> torch.Tensor:
        """By how much the side reads further along than the pass has it, int64 [n] on the CPU."""
        return self.has - self.dropped


class Rows:
    """The batch.

    Args:
        vocabulary: Tables over token ids, on the device of the logits.
        device: That device.
    """

    def __init__(self, vocabulary: Vocabulary, device: torch.device) -> None:
        self.vocabulary = vocabulary
        self.device = device
        self.base_logits: torch.Tensor | None = None
        self.guesses: torch.Tensor
        self.behind: torch.Tensor
        self.spans: Spans | None
        self.lead: Lead | None
        self.lengths: torch.Tensor
        self.kept: torch.Tensor
        self.ahead: Looks | None = None
        self.read_on: ReadOn | None = None
        self._rows: dict[int, RequestRow] = {}
        self._rebuild()

    def __len__(self) -> int:
        return len(self._order)

    # --- joining and leaving -------------------------------------------------------------------

    def change(
        self,
        removed: Iterable[int],
        added: Iterable[tuple[int, RequestRow]],
        moved: Iterable[tuple[int, int, bool]],
    ) -> None:
        """Follows the batch of vLLM's runner V1.

        Args:
            removed: Places that are empty now.
            added: (place, row); may replace a row.
            moved: (from, to, whether both change places).
        """
        outputs = [len(row.output) for row in self._order]
        self._keep(torch.tensor(outputs, dtype=torch.int64, device=self.device))
        for place in removed:
            self._rows.pop(place, None)
        for place, row in added:
            self._rows[place] = row
        for here, there, swap in moved:
            a, b = self._rows.pop(here, None), self._rows.pop(there, None)
            if a is not None:
                self._rows[there] = a
            if swap and b is not None:
                self._rows[here] = b
        self._rebuild()

    def arrange(self, rows: Sequence[RequestRow], drafts: Sequence[int] | None = None) -> None:
        """Follows the batch of vLLM's runner V2, which says its order with every pass.

        Args:
            rows: The rows of the pass to come, in its order.
            drafts: How many drafts it checks for each; None for none.
        """
        if len(rows) != len(self) or not all(map(is_, rows, self._order)):
            self.write_down()
            self._rows = dict(enumerate(rows))
            self._rebuild()
        self.drafts = torch.zeros_like(self.lengths)
        if drafts is not None:
            self.drafts = torch.tensor(drafts, dtype=torch.int64)

    def write_down(self) -> None:
        """Writes down what the last pass of vLLM's runner V2 gave; before a row is said to have it.

        Else a row that comes back before any other pass would read on as if it had not been in it.
        """
        if self.spans is not None:
            emitted = torch.where(self.chosen, self.kept + self.tip - self.lengths, 0)
            self._keep(emitted.to(self.device))

    def _keep(self, outputs: torch.Tensor) -> None:
        """Writes down what is known of the rows that are here.

        Args:
            outputs: How many emitted tokens vLLM has of each, int64 [n].
        """
        self._settle(outputs)
        facts = torch.stack([self._source, self._state, self._turns, self._t], 1).tolist()
        for row, (source, state, turns, t) in zip(self._order, facts, strict=True):
            row.source, row.state, row.turns, row.t = source, state, turns, t

    def _rebuild(self) -> None:
        """Makes the tensors of the rows that are here now."""
        self._order = [self._rows[place] for place in sorted(self._rows)]
        self.spans, self.lead = None, None
        rows = self._order

        def vector(values: Iterable[int], device: torch.device | None = None) -> torch.Tensor:
            return torch.tensor(list(values), dtype=torch.int64, device=device or self.device)

        self._keys = vector(row.ask.key for row in rows)
        self._t = vector(row.t for row in rows)
        self._state = vector(row.state for row in rows)
        self._source = vector(row.source for row in rows)
        self._turns = vector(row.turns for row in rows)
        self._next: tuple[torch.Tensor, ...] | None = None
        cpu = torch.device("cpu")
        self.drafts = torch.zeros(len(rows), dtype=torch.int64)
        self.kept = torch.ones(len(rows), dtype=torch.int64)
        self.limits = vector((row.limit for row in rows), cpu)
        programs = list(dict.fromkeys(row.ask.program for row in rows))
        numbers = [programs.index(row.ask.program) for row in rows]
        self._program = vector(numbers)
        self._programs = [
            (
                program,
                slice(None)
                if len(programs) == 1
                else vector(i for i, number in enumerate(numbers) if number == k),
            )
            for k, program in enumerate(programs)
        ]
        self._may_draft = vector(program.method == "baco" and not program.router.looks_ahead
                            for program in (row.ask.program for row in rows)).bool()  # fmt: skip
        self.lengths = vector((row.ask.length for row in rows), cpu)
        self.pads = tuple(vector((row.pads[side] for row in rows), cpu) for side in SIDES)
        self.lag = tuple(any(row.pads[side] for row in rows) for side in SIDES)
        self.lags = tuple(pads.to(self.device) for pads in self.pads)
        self.leads = tuple(vector(row.leads[side] for row in rows) for side in SIDES)
        self.led = tuple(any(row.leads[side] for row in rows) for side in SIDES)
        needs = [program.needs for program in programs]
        self.runs = (
            any(aligned for _, aligned in needs) or not needs,
            any(base for base, _ in needs) or not needs,
        )

    @property
    def here(self) -> Sequence[RequestRow]:
        """The rows, in their order."""
        return self._order

    @property
    def tip(self) -> torch.Tensor:
        """Stream position after each row's last token that is no draft, int64 [n] on the CPU."""
        assert self.spans is not None
        return self.spans.after - self.drafts

    @property
    def chosen(self) -> torch.Tensor:
        """Which rows the pass reads to the end of what they have, so that it adds: bool [n]."""
        filled = torch.tensor([row.filled for row in self._order], dtype=torch.int64)
        return self.tip >= filled

    # --- before the pass -----------------------------------------------------------------------

    def fed(self, starts: torch.Tensor, seq_lens: torch.Tensor) -> Spans | None:
        """Records what the next pass feeds.

        Args:
            starts: int32 [n + 1] on the CPU.
            seq_lens: int32 [n] on the CPU: length of the stream after the pass.

        Returns:
            The spans; None in a trial run without requests.
        """
        if len(seq_lens) != len(self._order):
            self.spans = None
        elif self.spans is None or self.spans.starts is not starts:
            after = seq_lens.long()
            counts = starts.long().diff()
            self.spans = Spans(starts, after - counts, after)
            self.lead = self._find_lead(self.spans)
        return self.spans

    def _find_lead(self, spans: Spans) -> Lead | None:
        """Looks which rows have drafts, and how many of their tokens have been read already."""
        read, self.read_on = self.read_on, None
        drafted = self.drafts > 0
        if not bool(drafted.any()):
            return None
        none = torch.zeros_like(self.drafts)
        if read is None:
            return Lead(drafted, none, none, none, self._state, none[:0].to(self.device), None)
        place = {id(row): i for i, row in enumerate(read.rows)}
        at = torch.tensor([place.get(id(row), -1) for row in self._order])
        same = drafted & (at >= 0) & (read.first[at] == spans.first)
        has = torch.where(same, read.counts[at].minimum(self.drafts), 0)
        row, within = places_of(has)
        return Lead(
            drafted,
            has,
            has.minimum((self.drafts - 1).clamp(min=0)),
            torch.where(same, read.passes[at], 0),
            read.state[at.to(self.device)],
            (self._begin[row] + within).to(self.device),
            read.logits[at[row].to(self.device), within.to(self.device)],
        )

    @property
    def lines(self) -> torch.Tensor:
        """Where the tokens stand in the pass after which logits are asked for: int64 [lines]."""
        assert self.spans is not None
        row, within = places_of(self.drafts + 1)
        return ((self.spans.starts[1:].long() - 1 - self.drafts)[row] + within).to(self.device)

    def guess(self, logits: torch.Tensor) -> None:
        """Lets the base side say what it would add by itself, for the aligned side to read with it.

        Args:
            logits: The base side's, float [lines, v].
        """
        assert self.lead is not None
        self.base_logits = logits
        self._settle((self.tip - self.lengths).clamp(min=0).to(self.device))
        at = self.lead.drafted.nonzero().flatten().to(self.device)
        has = self.lead.has.to(self.device)[at]
        state = torch.where(has > 0, self.lead.state[at], self._state[at])
        line = self._begin.to(self.device)[at] + has
        tokens, _ = self.draft(BASE, at, logits[line], self._t[at] + has, state)
        self.guesses = torch.full_like(self._t, -1).index_copy_(0, at, tokens)

    @property
    def unread(self) -> torch.Tensor:
        """The lines that the aligned side has yet to compute, int64 [at most lines]."""
        assert self.lead is not None
        row, within = places_of(self.drafts + 1)
        return (within >= self.lead.dropped[row]).nonzero().flatten().to(self.device)

    def lined_up(self, logits: torch.Tensor) -> torch.Tensor:
        """Puts the aligned side's logits where the base side's stand, and keeps those of guesses.

        Args:
            logits: The aligned side's at the lines `unread`, float [at most lines, v].

        Returns:
            At all lines, float [lines, v]; nothing is told of those behind the last draft.
        """
        lead = self.lead
        assert lead is not None
        made = logits.new_zeros(len(self.drafts) + int(self.drafts.sum()), logits.shape[-1])
        made[self.unread] = logits
        begin, last = self._begin.to(self.device), len(made) - 1
        dropped, has = lead.dropped.to(self.device), lead.has.to(self.device)
        self.behind = made[(begin + dropped + 1).clamp(max=last)]
        made[begin + has] = made[begin + dropped]
        if lead.logits is not None:
            made[lead.lines] = lead.logits
        return made

    @property
    def _begin(self) -> torch.Tensor:
        """The first line of each row, int64 [n] on the CPU."""
        return (self.drafts + 1).cumsum(0) - self.drafts - 1

    def ids(self, side: int, input_ids: torch.Tensor) -> torch.Tensor:
        """Returns what one side reads: its own prompt in place of the labels.

        And the aligned side, in rows that have drafts, the base side's guess behind the last.

        Args:
            side: `ALIGNED` or `BASE`.
            input_ids: int [tokens, and padding for graphs of fixed shapes], from vLLM.

        Returns:
            int [tokens].
        """
        assert self.spans is not None
        given = input_ids[: int(self.spans.starts[-1])]
        if side == ALIGNED and self.lead is not None:
            at = self.lead.drafted.nonzero().flatten()
            begin = self.spans.starts.long()[at]
            here = (begin + self.lead.dropped[at]).to(self.device)
            draft = (begin + self.lead.has[at]).to(self.device)
            given = given.index_copy(0, here, given[draft])
            given[here + 1] = self.guesses[at.to(self.device)].to(given)
        reading = (self.spans.first < self.lengths).nonzero().flatten().tolist()
        if not reading:
            return given
        begins, first, after = (x.tolist() for x in self.spans)
        parts, places = [], []
        for i in reading:  # rows that read their prompts now
            parts.append(self._order[i].prompts[side][first[i] : after[i]])
            places.append(torch.arange(begins[i], begins[i] + len(parts[-1])))
        here = torch.cat(places).to(self.device)
        return given.index_copy(0, here, torch.cat(parts).to(given))

    # --- after the pass ------------------------------------------------------------------------

    def choose(
        self, logits: torch.Tensor, fed: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Runs THE step over all rows, and on along their drafts while these are right.

        Args:
            logits: The aligned side's, float [lines, v]: for each row one line, and one more for
                each further token of it. The base side's are in `base_logits`.
            fed: The token before each line, int [lines]; read where there are drafts.

        Returns:
            The tokens, int64 [lines], and their codes (`requests.codes`), int64 [lines]; nothing
            behind the first draft that is wrong. How many each row keeps, int64 [n].
        """
        self._settle((self.tip - self.lengths).clamp(min=0).to(self.device))
        t, state, source, turns = (
            x.clone() for x in (self._t, self._state, self._source, self._turns)
        )
        tokens = torch.zeros(len(logits), dtype=torch.int64, device=self.device)
        told, begin = torch.zeros_like(tokens), self._begin.to(self.device)
        going: torch.Tensor | None = None
        for j in range(1 if self.lead is None else int(self.lead.has.max()) + 1):
            self.looked = (torch.zeros_like(t), torch.zeros_like(t))
            if j == 0 and self.lead is not None:
                self.looked[ALIGNED].add_(self.lead.passes.to(self.device))
                self.looked[BASE].add_(self.drafts.to(self.device))
            for program, at in self._parts(going):
                lines = at if self.lead is None else begin[at] + j
                context = Context(self._keys[at], t[at], state[at], source[at])
                choice = self._take(program, at, lines, logits, context, turns[at])
                tokens[lines], source[at], state[at] = choice.token, choice.source, choice.state
                looked = (x[at] for x in self.looked)
                told[lines] = codes(choice.source, choice.begins.long(), *looked)
                turns[at] = self.vocabulary.units.turn(turns[at], choice.token)
                t[at] += 1
            if self.lead is not None:
                assert fed is not None
                more = (self.lead.has > j).to(self.device)
                going = more.nonzero().flatten() if going is None else going[more[going]]
                here = begin[going] + j
                right = (tokens[here] == fed[here + 1]) & ~self.vocabulary.is_end[tokens[here]]
                going = going[right]
        kept = t - self._t
        self.kept = torch.ones_like(self.drafts) if self.lead is None else kept.cpu()
        # It counts once vLLM has kept the token: not in the middle of a prompt.
        self._next = (source, state, turns)
        return tokens, told, kept

    def _parts(self, rows: torch.Tensor | None = None) -> Iterator[tuple[ProgramSpec, Any]]:
        """Yields the programs of some rows (None: all), and the places of their rows."""
        if rows is None:
            yield from self._programs
            return
        for number, (program, _) in enumerate(self._programs):
            at = rows if len(self._programs) == 1 else rows[self._program[rows] == number]
            if len(at):
                yield program, at

    def _take(
        self,
        program: ProgramSpec,
        at: Any,
        lines: Any,
        logits: torch.Tensor,
        context: Context,
        turns: torch.Tensor,
    ) -> Choice:
        """Runs THE step over rows of one program.

        Args:
            program: Theirs.
            at: Their places in the batch.
            lines: The lines of the logits where they stand.
            logits: As of `choose`.
            context: How they stand there.
            turns: Counts their sentences.
        """
        assert self.base_logits is not None
        both = (logits[lines], self.base_logits[lines])
        aligned, base = self._scores(program, *both)
        ahead = None
        if program.router.looks_ahead:
            assert self.ahead is not None
            ahead = self.ahead.over(torch.arange(len(self), device=self.device)[at], both)
        return step(
            base,
            aligned,
            context,
            program.router,
            program.warps,
            self.vocabulary,
            end_rule=program.end_rule,
            turn_rule=program.turn_rule,
            sentences=(turns + 1) >> 1,
            ahead=ahead,
        )

    # --- behind the rows' last tokens ----------------------------------------------------------

    def draft(
        self,
        side: int,
        at: torch.Tensor,
        logits: torch.Tensor,
        t: torch.Tensor,
        state: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Chooses what one side would say by itself, with the rows' own noise.

        Args:
            side: `ALIGNED` or `BASE`.
            at: Places of some rows, int64 [m].
            logits: The side's, float [m, v].
            t: Their positions, int64 [m].
            state: Their unit states, int64 [m].

        Returns:
            The tokens and the unit states after them, int64 [m] each.
        """
        tokens, states = torch.zeros_like(t), torch.zeros_like(state)
        here = torch.zeros_like(self._t).index_copy_(0, at, torch.arange(len(at), device=at.device))
        for program, places in self._parts(at):
            mine = here[places]
            how = program.warps[1 if side == ALIGNED else 0]
            own = score(logits[mine], how, self.vocabulary)
            context = Context(
                self._keys[places], t[mine], state[mine], torch.full_like(mine, ALIGNED)
            )
            choice = step(
                own, own, context, ALONE, (how, how), self.vocabulary, end_rule=program.end_rule
            )
            tokens[mine], states[mine] = choice.token, choice.state
        return tokens, states

    @property
    def standing(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Position, unit state and source of each row behind what it has just kept, int64 [n]."""
        assert self._next is not None
        source, state, _ = self._next
        t = (self.tip - self.lengths).to(self.device) + self.kept.to(self.device)
        return t, state.clone(), source

    def rightly_read(self, last: torch.Tensor) -> torch.Tensor:
        """Returns of which rows the aligned side has read the last token: its guess was right.

        Args:
            last: The last token of each, int64 [n].

        Returns:
            bool [n] on the CPU.
        """
        if self.lead is None:
            return torch.zeros_like(self.drafts).bool()
        all_kept = self.kept == 1 + self.lead.has
        return self.lead.drafted & all_kept & (self.guesses == last).cpu()

    @property
    def drafting(self) -> torch.Tensor:
        """Which rows may be drafted for now, bool [n] on the CPU."""
        return self._may_draft.cpu() & self.chosen

    def _scores(
        self, program: ProgramSpec, aligned: torch.Tensor, base: torch.Tensor
    ) -> tuple[SideScores, SideScores]:
        """Scores (aligned, base), or the only side that runs."""
        how_base, how_aligned = program.warps
        if program.method == "baco":
            both = (
                score(aligned, how_aligned, self.vocabulary, of="the aligned model"),
                score(base, how_base, self.vocabulary, of="the base model"),
            )
            if program.blend is None:
                return both
            raw = blend(both[1].raw, both[0].raw, program.blend)
            mixed = SideScores(raw, Nucleus(*nucleus(raw, how_aligned)), self.vocabulary.is_end)
            return mixed, mixed
        alone = score(base if program.method == "base" else aligned, how_aligned, self.vocabulary)
        return alone, alone

    def _settle(self, t: torch.Tensor) -> None:
        """Brings states up to what vLLM has kept of the last choices.

        Args:
            t: How many emitted tokens vLLM has, or feeds, of each row, int64 [n].
        """
        if self._next is None:
            return
        (source, state, turns), self._next = self._next, None
        kept = t > self._t
        self._source = torch.where(kept, source, self._source)
        self._state = torch.where(kept, state, self._state)
        self._turns = torch.where(kept, turns, self._turns)
        self._t = torch.maximum(self._t, t)


def places_of(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns for each of `counts` things in a row whose it is, and its place among them.

    Args:
        counts: How many each row has, int64 [n].
    """
    row = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return row, torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
