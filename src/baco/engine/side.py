"""One partner's side of the batch: its cache, what it has been fed, what it said lately."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from baco.engine.rows import Request
from baco.engine.step import Scores, score
from baco.engine.warp import Warp
from baco.partners.base import Partner, RowCache

UNOPENED = -1

CATCH_UP = 2048
"""Most tokens, over all rows, with which a partner that lags behind catches up in one pass."""


def score_window(longest: int) -> int:
    """How many positions of a row can still matter: the longest draft plus two."""
    return longest + 2


class Side:
    """What the loop knows of one partner; row i here is row i of the batch.

    Position p of a row is the place of its p-th response token. A partner that was fed p
    response tokens has said what it thinks of position p. These scores stand in a ring, position
    p in slot p modulo the window, because only positions from the row's t on matter.

    Args:
        partner: The partner.
        which: Which of a request's prompts and warps are this side's: 0 base, 1 aligned.
        window: Width of the ring: the longest draft plus two.
        cache: The partner's cache, if it is not the partner's own to make.
    """

    def __init__(
        self, partner: Partner, which: int, window: int, cache: RowCache | None = None
    ) -> None:
        self.partner = partner
        self.window = window
        self.passes = 0
        self.token_rows = 0
        self.fed = torch.zeros(0, dtype=torch.int64, device=partner.device)
        self.row_passes = self.fed
        self.row_tokens = self.fed
        self.row_prompts = self.fed
        self._which = which
        self._cache: RowCache = cache or partner.new_cache()
        self._prompts: list[tuple[int, ...]] = []
        self._warps: list[Warp] = []
        self._prompt_lengths = self.fed
        self._ring: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, requests: Sequence[Request]) -> None:
        """Appends rows; they are opened when the partner first runs for them."""
        prompts = [(r.base_prompt, r.aligned_prompt)[self._which] for r in requests]
        self._prompts += prompts
        self._warps += [r.warps[self._which] for r in requests]
        lengths = torch.tensor([len(p) for p in prompts], device=self.fed.device)
        self._prompt_lengths = torch.cat([self._prompt_lengths, lengths])
        self.fed = torch.cat([self.fed, torch.full_like(lengths, UNOPENED)])
        zero = torch.zeros_like(lengths)
        self.row_passes = torch.cat([self.row_passes, zero])
        self.row_tokens = torch.cat([self.row_tokens, zero])
        self.row_prompts = torch.cat([self.row_prompts, zero])
        self._cache.add(len(prompts))
        if self._ring is not None:
            self._ring = tuple(  # type: ignore[assignment]
                torch.cat([x, x.new_zeros(len(prompts), *x.shape[1:])]) for x in self._ring
            )

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps these rows, in this order."""
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.fed.device)
        self._prompts = [self._prompts[i] for i in rows]
        self._warps = [self._warps[i] for i in rows]
        self._prompt_lengths = self._prompt_lengths[index]
        self.fed = self.fed[index]
        self.row_passes = self.row_passes[index]
        self.row_tokens = self.row_tokens[index]
        self.row_prompts = self.row_prompts[index]
        self._cache.keep(rows)
        if self._ring is not None:
            self._ring = (self._ring[0][index], self._ring[1][index])

    def forget_after(self, positions: torch.Tensor) -> None:
        """Forgets response tokens beyond the first `positions[i]` of each row, int64 [n]."""
        self.fed = torch.minimum(self.fed, positions)
        self._cache.truncate(self._prompt_lengths + self.fed.clamp(min=0))

    def run(self, tokens: torch.Tensor, t: torch.Tensor, until: torch.Tensor) -> None:
        """Runs the partner once: opens new rows, feeds the others all they have not seen.

        Args:
            tokens: Response tokens, emitted ones and drafts, int64 [n, any].
            t: Emitted tokens per row, int64 [n]. A row is opened with its emitted tokens.
            until: How many response tokens each row has, drafts included, int64 [n].
        """
        new = self.unopened()
        if len(new):
            prompts = self.openings(new, tokens, t)
            self.opened(new, t, prompts, self._cache.open(prompts, new.tolist()))
            self.passes += 1
            until = until.index_copy(0, new, t[new])  # their drafts wait for the next run
        behind = int((until - self.fed).max())
        width = max(self.window, CATCH_UP // max(1, len(self.fed)))
        while behind > 0:
            fresh, counts = self.unseen(tokens, until, min(behind, width))
            self.heard(self._cache.feed(fresh, counts), counts)
            self.passes += 1
            behind -= width

    def unopened(self) -> torch.Tensor:
        """The rows that the partner has not seen yet: int64 [k]."""
        return (self.fed == UNOPENED).nonzero().flatten()

    def openings(
        self, rows: torch.Tensor, tokens: torch.Tensor, t: torch.Tensor
    ) -> list[tuple[int, ...]]:
        """What new rows are opened with: their prompts and emitted tokens."""
        emitted = t.tolist()
        return [(*self._prompts[i], *tokens[i, : emitted[i]].tolist()) for i in rows.tolist()]

    def opened(
        self,
        rows: torch.Tensor,
        t: torch.Tensor,
        openings: Sequence[tuple[int, ...]],
        logits: torch.Tensor,
    ) -> None:
        """Takes note of a prefill: logits [k, v] after the openings."""
        computed = set()
        for i, opening in zip(rows.tolist(), openings, strict=True):
            if opening not in computed:  # rows that open alike share one computation
                computed.add(opening)
                self.token_rows += len(opening)
                self.row_tokens[i] += len(opening)
                self.row_prompts[i] += len(self._prompts[i])
        self.row_passes[rows] += 1
        self.fed[rows] = t[rows]
        self._remember(rows, logits[:, None], t[rows][:, None])

    def unseen(
        self, tokens: torch.Tensor, until: torch.Tensor, width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The next tokens for each row, padded [n, width], and how many count [n]."""
        counts = (until - self.fed).clamp(0, width)
        places = self.fed.clamp(min=0)[:, None] + torch.arange(width, device=tokens.device)
        return tokens.gather(1, places.clamp(max=tokens.shape[1] - 1)), counts

    def heard(self, logits: torch.Tensor, counts: torch.Tensor) -> None:
        """Takes note of a feed: logits [n, q, v] after each of the `counts` tokens."""
        self.token_rows += int(counts.sum())
        self.row_tokens += counts
        self.row_passes += counts > 0
        self.fed = self.fed + counts
        # Only the last positions can still matter: the ring holds no more.
        for back in range(min(logits.shape[1], self.window)):
            rows = (counts > back).nonzero().flatten()
            if len(rows):
                at = counts[rows] - 1 - back
                self._remember(rows, logits[rows, at][:, None], (self.fed[rows] - back)[:, None])

    def _remember(self, rows: torch.Tensor, logits: torch.Tensor, positions: torch.Tensor) -> None:
        """Scores logits [k, m, v] at positions [k, m] and puts them into the ring."""
        for how, members in self._by_warp(rows):
            scores = score(logits[members], how, self.partner.vocabulary)
            if self._ring is None:
                shape = (len(self.fed), self.window, scores.raw.shape[-1])
                self._ring = (scores.raw.new_zeros(shape), scores.raw.new_zeros(shape))
            slots = positions[members] % self.window
            self._ring[0][rows[members][:, None], slots] = scores.raw
            self._ring[1][rows[members][:, None], slots] = scores.warped

    def _by_warp(self, rows: torch.Tensor) -> list[tuple[Warp, torch.Tensor | slice]]:
        """Groups rows by their warps: (warp, indices into `rows`)."""
        if self._warps.count(self._warps[0]) == len(self._warps):
            return [(self._warps[0], slice(None))]
        groups: dict[Warp, list[int]] = {}
        for k, i in enumerate(rows.tolist()):
            groups.setdefault(self._warps[i], []).append(k)
        return [(how, torch.tensor(ks, device=rows.device)) for how, ks in groups.items()]

    def scores(self, rows: torch.Tensor, positions: torch.Tensor) -> Scores | None:
        """Returns what the partner said of one position per row; None before it ever ran.

        Rows that it has not scored there hold nonsense.
        """
        if self._ring is None:
            return None
        slots = positions % self.window
        return Scores(
            self._ring[0][rows, slots],
            self._ring[1][rows, slots],
            self.partner.vocabulary.is_end,
        )


def run_together(
    sides: Sequence[Side],
    cache: RowCache,
    tokens: torch.Tensor,
    t: torch.Tensor,
    until: torch.Tensor,
) -> None:
    """Runs both sides in one forward pass of shared weights; arguments as for `Side.run`.

    Row i of side k is row 2 i + k of the shared cache. The pass counts once, on the first side.
    """
    first, second = sides
    new = first.unopened()
    if len(new):
        both = [side.openings(new, tokens, t) for side in sides]
        prompts = [p for pair in zip(*both, strict=True) for p in pair]
        rows = [2 * i + k for i in new.tolist() for k in (0, 1)]
        logits = cache.open(prompts, rows)
        for k, side in enumerate(sides):
            side.opened(new, t, both[k], logits[k::2])
        first.passes += 1
        second.row_passes[new] -= 1
        until = until.index_copy(0, new, t[new])
    width = int(max((until - side.fed).max() for side in sides))
    if width <= 0:
        return
    fed = [side.unseen(tokens, until, width) for side in sides]
    fresh = torch.stack([f for f, _ in fed], 1).flatten(0, 1)
    counts = torch.stack([c for _, c in fed], 1).flatten()
    logits = cache.feed(fresh, counts)
    before = second.row_passes.clone()
    for k, side in enumerate(sides):
        side.heard(logits[k::2], counts[k::2])
    second.row_passes = before
    first.passes += 1
