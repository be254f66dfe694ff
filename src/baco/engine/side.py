"""One partner's side of the batch: its cache, what it has been fed, what it said lately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from baco.engine.batch import Batch, Integers
from baco.engine.lazy import torch
from baco.engine.noise import Draws
from baco.engine.partner import Partner, RowCache, SlidingCache, feed_tail, tail_places
from baco.engine.penalties import Past
from baco.engine.request import Request
from baco.engine.scores import SideScores, broken, score
from baco.engine.step import TOP, offer
from baco.engine.warp import Warp

UNOPENED = -1

CATCH_UP = 2048
"""Most tokens, over all rows, with which a partner that lags behind catches up in one pass."""


def score_window(longest: int) -> int:
    """How many positions of a row can still matter: the longest draft plus two."""
    return longest + 2


class Ring:
    """What a partner said of the latest positions of each row, one line per row and slot.

    Args:
        lines: How many there are.
        like: Scores of the kind that it holds.

    Attributes:
        raw: log P of the partner's own ids, float [lines, own].
        offers: The offers (`baco.engine.step.offer`), int64 [lines, 5].
        biased: log P after penalties, as `raw`; None until a row has penalties.
    """

    def __init__(self, lines: int, like: SideScores) -> None:
        self.raw = like.lines.new_zeros(lines, like.lines.shape[1])
        self.offers = torch.zeros(lines, TOP + 1, dtype=torch.int64, device=self.raw.device)
        self.biased: torch.Tensor | None = None

    def reserve(self, lines: int) -> None:
        """Makes room for so many lines."""
        missing = lines - len(self.raw)
        if missing > 0:
            self._each(lambda x: torch.cat([x, x.new_zeros(missing, x.shape[1])]))

    def keep(self, source: torch.Tensor, target: torch.Tensor, lines: int) -> None:
        """Moves lines to other places and gives memory back that is not needed for `lines`."""

        def kept(x: torch.Tensor) -> torch.Tensor:
            x[target] = x[source]
            return x if 2 * lines >= len(x) else x[:lines].clone()

        self._each(kept)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Changes every tensor."""
        self.raw, self.offers = change(self.raw), change(self.offers)
        self.biased = None if self.biased is None else change(self.biased)

    def write(self, at: torch.Tensor, scores: SideScores, offers: torch.Tensor) -> None:
        """Puts scores into some lines."""
        if scores.biased is not None and self.biased is None:
            self.biased = self.raw.clone()
        self.raw.index_copy_(0, at, scores.lines)
        self.offers.index_copy_(0, at, offers)
        if self.biased is not None:
            biased = scores.lines if scores.biased is None else scores.biased
            self.biased.index_copy_(0, at, biased)


class EngineSide:
    """What the loop knows of one partner; row i here is row i of the batch.

    Position p of a row is the place of its p-th response token. A partner that was fed p
    response tokens has said what it thinks of position p. These scores stand in a ring, position
    p in slot p modulo the window, because only positions from the row's t on matter. They are over
    the partner's own ids, where it shares the engine's with another vocabulary.

    Accounts are kept on the host, in numpy; scores stay on the partner's device.

    Args:
        partner: The partner.
        which: Which of a request's prompts and warps are this side's: 0 base, 1 aligned.
        window: Width of the ring: the longest draft plus two.
        cache: The partner's cache, if it is not the partner's own to make.

    Attributes:
        fed: Response tokens each row was fed, `UNOPENED` before its prompt, int64 [n].
        row_passes: Passes that served each row, int64 [n].
        row_tokens: Tokens fed for each row, int64 [n].
        row_prompts: How many of them were of its prompt, int64 [n].
        passes: Passes made.
        token_rows: Tokens fed, over all rows.
    """

    def __init__(
        self, partner: Partner, which: int, window: int, cache: RowCache | None = None
    ) -> None:
        self.partner = partner
        self.window = window
        self.passes = 0
        self.token_rows = 0
        self.fed = np.zeros(0, dtype=np.int64)
        self.row_passes = self.fed
        self.row_tokens = self.fed
        self.row_prompts = self.fed
        self._which = which
        self._partial = partner.abilities.gives == "top-k"
        self._cache: RowCache = cache or partner.own_cache()
        self._prompts: list[tuple[int, ...]] = []
        self._warps: list[Warp] = []
        self._barred: list[dict[int, list[int]]] = []
        self._prompt_lengths = self.fed
        self._ring: Ring | None = None
        self._broken: list[torch.Tensor] = []

    def add(self, requests: Sequence[Request]) -> None:
        """Appends rows; they are opened when the partner first runs for them."""
        prompts = [(r.base_prompt, r.aligned_prompt)[self._which] for r in requests]
        self._prompts += prompts
        self._warps += [r.warps[self._which] for r in requests]
        self._barred += [_by_position(r.barred, self.partner) for r in requests]
        lengths = np.array([len(p) for p in prompts], dtype=np.int64)
        zero = np.zeros_like(lengths)
        self._prompt_lengths = np.concatenate([self._prompt_lengths, lengths])
        self.fed = np.concatenate([self.fed, zero + UNOPENED])
        self.row_passes = np.concatenate([self.row_passes, zero])
        self.row_tokens = np.concatenate([self.row_tokens, zero])
        self.row_prompts = np.concatenate([self.row_prompts, zero])
        self._cache.add(len(prompts))
        degrees = [r.degree for r in requests]
        if self.partner.abilities.slides and any(d is not None for d in degrees):
            cast("SlidingCache", self._cache).slide(degrees)
        if self._ring is not None:
            self._ring.reserve(len(self.fed) * self.window)

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps these rows, in this order."""
        index = np.array(rows, dtype=np.int64)
        self._prompts = [self._prompts[i] for i in rows]
        self._warps = [self._warps[i] for i in rows]
        self._barred = [self._barred[i] for i in rows]
        self._prompt_lengths = self._prompt_lengths[index]
        self.fed = self.fed[index]
        self.row_passes = self.row_passes[index]
        self.row_tokens = self.row_tokens[index]
        self.row_prompts = self.row_prompts[index]
        self._cache.keep(rows)
        if self._ring is not None:
            moved = np.flatnonzero(index != np.arange(len(index)))
            both = np.stack([index[moved], moved])[..., None] * self.window
            lines = self._on_device((both + np.arange(self.window)).reshape(2, -1))
            self._ring.keep(lines[0], lines[1], len(index) * self.window)

    def forget_after(self, positions: Integers) -> None:
        """Forgets response tokens beyond the first `positions[i]` of each row, int64 [n]."""
        self.fed = np.minimum(self.fed, positions)
        kept = self._prompt_lengths + np.maximum(self.fed, 0)
        self._cache.truncate(torch.from_numpy(kept))

    def run(self, batch: Batch, until: Integers) -> None:
        """Runs the partner once: opens new rows, feeds the others all they have not seen.

        Args:
            batch: The rows. A row is opened with its emitted tokens.
            until: How many response tokens each row has, drafts included, int64 [n].
        """
        new = self.unopened()
        if len(new):
            prompts = self.openings(new, batch)
            self.opened(new, prompts, self._cache.open(prompts, new.tolist()), batch)
            self.passes += 1
            until = until.copy()
            until[new] = batch.t[new]  # their drafts wait for the next run
        behind = int((until - self.fed).max())
        width = max(self.window, CATCH_UP // max(1, len(self.fed)))
        while behind > 0:
            fresh, counts = self.unseen(batch.tokens, until, min(behind, width))
            wanted = self.wanted(counts, batch)
            fed = [torch.from_numpy(x) for x in (fresh, counts, wanted)]
            self.heard(feed_tail(self._cache, *fed), counts, wanted, batch)
            self.passes += 1
            behind -= width

    def unopened(self) -> Integers:
        """The rows that the partner has not seen yet: int64 [k]."""
        return np.flatnonzero(self.fed == UNOPENED)

    def openings(self, rows: Integers, batch: Batch) -> list[tuple[int, ...]]:
        """What new rows are opened with: their prompts and emitted tokens."""
        tokens, t = batch.tokens, batch.t
        return [(*self._prompts[i], *tokens[i, : t[i]].tolist()) for i in rows.tolist()]

    def opened(
        self,
        rows: Integers,
        openings: Sequence[tuple[int, ...]],
        logits: torch.Tensor,
        batch: Batch,
    ) -> None:
        """Records a prefill: logits [k, v] after the openings."""
        computed = set()
        for i, opening in zip(rows.tolist(), openings, strict=True):
            if opening not in computed:  # rows that open alike share one computation
                computed.add(opening)
                self.token_rows += len(opening)
                self.row_tokens[i] += len(opening)
                self.row_prompts[i] += len(self._prompts[i])
        self.row_passes[rows] += 1
        self.fed[rows] = batch.t[rows]
        self._remember(rows, logits, batch.t[rows], batch)

    def unseen(self, tokens: Integers, until: Integers, width: int) -> tuple[Integers, Integers]:
        """The next tokens for each row, padded [n, width], and how many count [n]."""
        counts = np.clip(until - self.fed, 0, width)
        places = np.maximum(self.fed, 0)[:, None] + np.arange(width)
        places = np.minimum(places, tokens.shape[1] - 1)
        return np.take_along_axis(tokens, places, 1), counts

    def wanted(self, counts: Integers, batch: Batch) -> Integers:
        """After how many of the tokens that are fed, from the last back, scores matter: int64 [n].

        They are those of the places that are not emitted yet.
        """
        wanted: Integers = np.minimum(counts, self.fed + counts - batch.t + 1).clip(0)
        return wanted

    def heard(self, logits: torch.Tensor, counts: Integers, wanted: Integers, batch: Batch) -> None:
        """Records a feed of `counts` tokens: the `wanted` logits [m, v], as of `feed_tail`."""
        self.token_rows += int(counts.sum())
        self.row_tokens = self.row_tokens + counts
        self.row_passes = self.row_passes + (counts > 0)
        rows, places = tail_places(counts, wanted)
        positions = self.fed[rows] + places + 1
        self.fed = self.fed + counts
        if len(rows):
            self._remember(rows, logits, positions, batch)

    def _on_device(self, index: Integers) -> torch.Tensor:
        return torch.from_numpy(index).to(self.partner.device)

    def _remember(
        self, rows: Integers, logits: torch.Tensor, positions: Integers, batch: Batch
    ) -> None:
        """Scores logits [m, v] of rows [m] at positions [m] and puts them into the ring.

        What a penalty counts is what was fed: where that was a wrong guess, so are the logits, and
        both are scored anew. So is the unit state that an offer rests on.
        """
        noise = Draws.on_host(batch.keys[rows], positions)
        facts = self._on_device(
            np.stack([self.line(rows, positions), batch.states[rows, positions], *noise])
        )
        lines, states, unit, token = facts.unbind()
        for how, members in self._by_warp(rows):
            mine = slice(None) if members is None else self._on_device(members)
            past, barred = None, None
            some = range(len(rows)) if members is None else members
            if any(self._barred):
                barred = [self._barred[rows[k]].get(int(positions[k]), []) for k in some]
                barred = barred if any(barred) else None
            if how.penalties.on:
                past = [
                    self._past(self._prompts[rows[k]], batch.tokens[rows[k], : positions[k]])
                    for k in some
                ]
            scores = score(
                logits[mine],
                how,
                self.partner.own,
                past=past,
                barred=barred,
                partial=self._partial,
                check=False,
            ).among(self.partner.vocabulary, self.partner.offset)
            self._broken.append(broken(scores).any()[None])
            draws = Draws(unit[mine].view(torch.float64), token[mine])
            offers = offer(scores, states[mine], draws, self.partner.vocabulary)
            if self._ring is None:
                self._ring = Ring(len(self.fed) * self.window, scores)
            self._ring.write(lines[mine], scores, offers)

    def broken(self) -> list[torch.Tensor]:
        """Returns, once, whether anything that was remembered is no number: bool [1] each."""
        found, self._broken = self._broken, []
        return found

    def _past(self, prompt: tuple[int, ...], answer: Integers) -> Past:
        """What the partner has read, in its own ids."""
        return Past(*(ids - self.partner.offset for ids in self.partner.past(prompt, answer)))

    def _by_warp(self, rows: Integers) -> list[tuple[Warp, Integers | None]]:
        """Groups rows by their warps: (warp, indices into `rows`; None for all of them)."""
        if self._warps.count(self._warps[0]) == len(self._warps):
            return [(self._warps[0], None)]
        groups: dict[Warp, list[int]] = {}
        for k, i in enumerate(rows.tolist()):
            groups.setdefault(self._warps[i], []).append(k)
        return [(how, np.array(ks)) for how, ks in groups.items()]

    def line(self, rows: Integers, positions: Integers) -> Integers:
        """Returns where what the partner said of some positions is kept, one per row: int64 [n]."""
        return rows * self.window + positions % self.window

    def offers(self, at: torch.Tensor) -> torch.Tensor | None:
        """Returns the offers of some lines, int64 [n, 5]; None before the partner ever ran."""
        return None if self._ring is None else self._ring.offers[at]

    def scores(self, at: torch.Tensor, how: Warp) -> SideScores | None:
        """Returns what the partner said, by lines of rows of one warp; None before it ever ran.

        Lines that it has not scored hold nonsense.
        """
        if self._ring is None:
            return None
        ring, partner = self._ring, self.partner
        top, ends = ring.offers[at, TOP], partner.vocabulary.is_end
        return SideScores(ring.raw, how, ends, at, self._partial, ring.biased, top, partner.offset)


def _by_position(barred: Sequence[tuple[int, int]], partner: Partner) -> dict[int, list[int]]:
    """Sorts barred tokens by their place, in the partner's own ids; it has no others."""
    found: dict[int, list[int]] = {}
    for position, token in barred:
        if 0 <= token - partner.offset < partner.own.size:
            found.setdefault(position, []).append(token - partner.offset)
    return found


def run_together(
    sides: Sequence[EngineSide],
    cache: RowCache,
    batch: Batch,
    until: Integers,
) -> None:
    """Runs both sides in one forward pass of shared weights; arguments as for `EngineSide.run`.

    Row i of side k is row 2 i + k of the shared cache. The pass counts once, on the first side.
    """
    first, second = sides
    new = first.unopened()
    if len(new):
        both = [side.openings(new, batch) for side in sides]
        prompts = [p for pair in zip(*both, strict=True) for p in pair]
        rows = [2 * i + k for i in new.tolist() for k in (0, 1)]
        logits = cache.open(prompts, rows)
        for k, side in enumerate(sides):
            side.opened(new, both[k], logits[k::2], batch)
        first.passes += 1
        second.row_passes[new] -= 1
        until = until.copy()
        until[new] = batch.t[new]
    width = int(max((until - side.fed).max() for side in sides))
    if width <= 0:
        return
    fed = [side.unseen(batch.tokens, until, width) for side in sides]
    fresh = np.stack([f for f, _ in fed], 1).reshape(-1, width)
    counts = np.stack([c for _, c in fed], 1).ravel()
    each = [side.wanted(c, batch) for side, (_, c) in zip(sides, fed, strict=True)]
    wanted = np.stack(each, 1).ravel()
    logits = feed_tail(cache, *(torch.from_numpy(x) for x in (fresh, counts, wanted)))
    whose = tail_places(counts, wanted)[0] % 2
    before = second.row_passes
    for k, side in enumerate(sides):
        mine = torch.from_numpy(np.flatnonzero(whose == k)).to(logits.device)
        side.heard(logits[mine], counts[k::2], wanted[k::2], batch)
    second.row_passes = before
    first.passes += 1


class Strand:
    """One side's view of a shared cache: every second row."""

    def __init__(self, shared: RowCache, which: int) -> None:
        self._shared = shared
        self._which = which

    def add(self, count: int) -> None:
        """Appends empty rows, once for both sides."""
        if self._which == 0:
            self._shared.add(2 * count)

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the given rows, once for both sides."""
        if self._which == 0:
            self._shared.keep([2 * i + k for i in rows for k in (0, 1)])

    def truncate(self, lengths: torch.Tensor) -> None:
        """Forgets later tokens of this side's rows."""
        both = torch.full((2 * len(lengths),), 1 << 60, device=lengths.device)
        both[self._which :: 2] = lengths
        self._shared.truncate(both)

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Not for one side alone."""
        raise NotImplementedError("both sides of a shared cache run together")

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Not for one side alone."""
        raise NotImplementedError("both sides of a shared cache run together")
