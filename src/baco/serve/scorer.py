"""Log-probabilities of tokens that were emitted: each under the partner that wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from baco.engine import Warp
from baco.engine.partner import Partner
from baco.engine.scores import score
from baco.serve.samples import Logprob, Piece, Plan

_PLAIN = Warp(top_p=1.0)


class Scorer:
    """Follows the samples of one plan with caches of its own; it costs a pass per side and call.

    Args:
        base: The base partner.
        aligned: The aligned partner.
        plan: The plan; its `top_logprobs` says how many alternatives are reported.
    """

    def __init__(self, base: Partner, aligned: Partner, plan: Plan) -> None:
        self._top = plan.top_logprobs or 0
        self._partners = {"aligned": aligned, "base": base}
        wanted = ("aligned", "base") if plan.method == "baco" else (plan.method,)
        prompts = {"aligned": plan.aligned_prompt, "base": plan.base_prompt}
        self._caches = {}
        self._next: dict[str, torch.Tensor] = {}
        for side in wanted:
            cache = self._partners[side].new_cache()
            cache.add(plan.n)
            logits = cache.open([prompts[side]] * plan.n, range(plan.n))
            self._caches[side] = cache
            self._next[side] = self._raw(side, logits)

    def _raw(self, side: str, logits: torch.Tensor) -> torch.Tensor:
        return score(logits, _PLAIN, self._partners[side].vocabulary).raw

    def push(self, news: Mapping[int, Sequence[Piece]]) -> dict[int, list[Logprob]]:
        """Scores the next tokens of some samples.

        Args:
            news: New pieces by sample number; not empty.

        Returns:
            One entry per piece.
        """
        rows = len(next(iter(self._next.values())))
        width = max(map(len, news.values()))
        device = next(iter(self._next.values())).device
        tokens = torch.zeros(rows, width, dtype=torch.int64)
        counts = torch.zeros(rows, dtype=torch.int64)
        for row, pieces in news.items():
            counts[row] = len(pieces)
            tokens[row, : len(pieces)] = torch.tensor([p.token for p in pieces])
        before: dict[str, torch.Tensor] = {}
        for side, cache in self._caches.items():
            raw = self._raw(side, cache.feed(tokens.to(device), counts.to(device)))
            before[side] = torch.cat([self._next[side][:, None], raw], 1)  # [rows, width + 1, v]
            fed = before[side][torch.arange(rows), counts]
            self._next[side] = fed
        return {
            row: [
                self._describe(before[piece.source][row, at], piece.token)
                for at, piece in enumerate(pieces)
            ]
            for row, pieces in news.items()
        }

    def _describe(self, raw: torch.Tensor, token: int) -> Logprob:
        best = raw.topk(self._top) if self._top else None
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True) if best else ()
        return Logprob(float(raw[token]), list(top))
