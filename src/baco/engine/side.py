"""One partner's side of the batch: its cache, what it has been fed, what it said lately."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from baco.engine.rows import Request
from baco.engine.step import Scores, score
from baco.engine.warp import Warp
from baco.partners.base import Partner, RowCache

UNOPENED = -1

_CHUNK = 256  # a partner that lags further behind than this catches up in several passes


class Side:
    """What the loop knows of one partner; row i here is row i of the batch.

    Position p of a row is the place of its p-th response token. A partner that was fed p
    response tokens has said what it thinks of position p. These scores stand in a ring, position
    p in slot p modulo the window, because only positions from the row's t on matter.

    Args:
        partner: The partner.
        which: Which of a request's prompts and warps are this side's: 0 base, 1 aligned.
        window: Width of the ring: the longest draft plus one.
    """

    def __init__(self, partner: Partner, which: int, window: int) -> None:
        self.partner = partner
        self.window = window
        self.passes = 0
        self.token_rows = 0
        self.fed = torch.zeros(0, dtype=torch.int64, device=partner.device)
        self.row_passes = self.fed
        self._which = which
        self._cache: RowCache = partner.new_cache()
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
        self.row_passes = torch.cat([self.row_passes, torch.zeros_like(lengths)])
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
        new = (self.fed == UNOPENED).nonzero().flatten()
        if len(new):
            self._open(new, tokens, t)
            until = until.clone()
            until[new] = t[new]
        behind = int((until - self.fed).max())
        while behind > 0:
            self._feed(tokens, (until - self.fed).clamp(0, _CHUNK), min(behind, _CHUNK))
            behind -= _CHUNK

    def _open(self, rows: torch.Tensor, tokens: torch.Tensor, t: torch.Tensor) -> None:
        numbers = rows.tolist()
        emitted = t.tolist()
        prompts = [
            (*self._prompts[i], *tokens[i, : emitted[i]].tolist())
            if emitted[i]
            else self._prompts[i]
            for i in numbers
        ]
        logits = self._cache.open(prompts, numbers)
        self.passes += 1
        self.token_rows += sum(len(p) for p in set(prompts))
        self.row_passes[rows] += 1
        self.fed[rows] = t[rows]
        self._remember(rows, logits[:, None], t[rows][:, None])

    def _feed(self, tokens: torch.Tensor, counts: torch.Tensor, width: int) -> None:
        offsets = torch.arange(width, device=tokens.device)
        places = self.fed.clamp(min=0)[:, None] + offsets
        fresh = tokens.gather(1, places.clamp(max=tokens.shape[1] - 1))
        logits = self._cache.feed(fresh, counts)
        self.passes += 1
        self.token_rows += int(counts.sum())
        self.row_passes += counts > 0
        # Only the last positions can still matter: the ring holds no more.
        self.fed = self.fed + counts
        depth = min(width, self.window)
        for back in range(depth):
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
