"""The rows of vLLM's batch, in its order: what the model, its attention and the step share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import NamedTuple, Protocol

import torch

from baco.engine.blend import blend
from baco.engine.request import ALIGNED, BASE
from baco.engine.scores import Context, Look, Nucleus, SideScores, score
from baco.engine.step import step
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
        self.spans: Spans | None = None
        self.ahead: Looks | None = None
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

    def arrange(self, rows: Sequence[RequestRow]) -> None:
        """Follows the batch of vLLM's runner V2, which says its order with every pass.

        Args:
            rows: The rows of the pass to come, in its order.
        """
        if len(rows) == len(self) and all(map(is_, rows, self._order)):
            return
        if self.spans is not None:
            filled = torch.tensor([row.filled for row in self._order], dtype=torch.int64)
            chosen = self.spans.after >= filled
            emitted = torch.where(chosen, self.spans.after - self.lengths + 1, 0)
            self._keep(emitted.to(self.device))
        self._rows = dict(enumerate(rows))
        self._rebuild()

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
        self.spans = None
        rows = self._order

        def vector(values: Iterable[int], device: torch.device | None = None) -> torch.Tensor:
            return torch.tensor(list(values), dtype=torch.int64, device=device or self.device)

        self._keys = vector(row.ask.key for row in rows)
        self._t = vector(row.t for row in rows)
        self._state = vector(row.state for row in rows)
        self._source = vector(row.source for row in rows)
        self._turns = vector(row.turns for row in rows)
        self._next: tuple[torch.Tensor, ...] | None = None
        programs: dict[ProgramSpec, list[int]] = {}
        for i, row in enumerate(rows):
            programs.setdefault(row.ask.program, []).append(i)
        self._programs = [
            (program, slice(None) if len(programs) == 1 else vector(places))
            for program, places in programs.items()
        ]
        cpu = torch.device("cpu")
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
        return self.spans

    def ids(self, side: int, input_ids: torch.Tensor) -> torch.Tensor:
        """Returns what one side reads: its own prompt in place of the labels.

        Args:
            side: `ALIGNED` or `BASE`.
            input_ids: int [tokens, and padding for graphs of fixed shapes], from vLLM.

        Returns:
            int [tokens].
        """
        assert self.spans is not None
        given = input_ids[: int(self.spans.starts[-1])]
        reading = (self.spans.first < self.lengths).nonzero().flatten().tolist()
        if not reading:
            return given
        starts, first, after = (x.tolist() for x in self.spans)
        parts, places = [], []
        for i in reading:  # rows that read their prompts now
            parts.append(self._order[i].prompts[side][first[i] : after[i]])
            places.append(torch.arange(starts[i], starts[i] + len(parts[-1])))
        here = torch.cat(places).to(self.device)
        return given.index_copy(0, here, torch.cat(parts).to(given))

    # --- after the pass ------------------------------------------------------------------------

    def choose(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs THE step over all rows.

        Args:
            logits: The aligned side's, float [n, v]. The base side's are in `base_logits`.

        Returns:
            The tokens, int64 [n], and their codes (`requests.codes`), int64 [n].
        """
        assert self.base_logits is not None
        assert self.spans is not None
        self._settle((self.spans.after - self.lengths).clamp(min=0).to(self.device))
        tokens = torch.zeros_like(self._t)
        source, begins, state = tokens.clone(), tokens.clone(), tokens.clone()
        self.looked = (tokens.clone(), tokens.clone())
        for program, at in self._programs:
            both = (logits[at], self.base_logits[at])
            aligned, base = self._scores(program, *both)
            ahead = None
            if program.router.looks_ahead:
                assert self.ahead is not None
                ahead = self.ahead.over(torch.arange(len(tokens), device=self.device)[at], both)
            choice = step(
                base,
                aligned,
                Context(self._keys[at], self._t[at], self._state[at], self._source[at]),
                program.router,
                program.warps,
                self.vocabulary,
                end_rule=program.end_rule,
                turn_rule=program.turn_rule,
                sentences=(self._turns[at] + 1) >> 1,
                ahead=ahead,
            )
            tokens[at], source[at], state[at] = choice.token, choice.source, choice.state
            begins[at] = choice.begins.long()
        # It counts once vLLM has kept the token: not in the middle of a prompt.
        self._next = (source, state, self.vocabulary.units.turn(self._turns, tokens))
        return tokens, codes(source, begins, *self.looked)

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
