"""Log-probabilities of tokens that were emitted: each under the partner that wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from baco.engine import Warp
from baco.engine.request import SOURCE_NAMES
from baco.engine.scores import score
from baco.methods.base import Chunk, Task

if TYPE_CHECKING:
    from baco.models.sides import Models

SCORED = {"baco": SOURCE_NAMES, "base": ("base",), "aligned": ("aligned",)}
"""The methods whose tokens the sides draw after the prompt itself, and these sides."""

_PLAIN = Warp(top_p=1.0)


class Logprob(NamedTuple):
    """What the partner that wrote a token thought of it, before temperature and filters.

    Attributes:
        logprob: log P of the token.
        top: The most likely tokens and their log P, best first.
    """

    logprob: float
    top: list[tuple[int, float]]


class Scorer:
    """Follows the samples of one request with caches of its own: a pass per side and call.

    Args:
        pair: The pair.
        tasks: The samples.
        method: One of `SCORED`.
        top: How many alternatives are reported.
    """

    def __init__(self, pair: Models, tasks: Sequence[Task], method: str, top: int) -> None:
        self._top = top
        self._partners = {"base": pair.base, "aligned": pair.aligned}
        self._caches = {}
        self._next: dict[str, torch.Tensor] = {}
        sides = {"base": pair.sides[0], "aligned": pair.sides[1]}
        for name in SCORED[method]:
            prompts = {task.prompt: sides[name].ids(task.prompt) for task in tasks}
            cache = self._partners[name].new_cache()
            cache.add(len(tasks))
            opened = cache.open([prompts[task.prompt] for task in tasks], range(len(tasks)))
            self._caches[name] = cache
            self._next[name] = self._raw(name, opened)

    def _raw(self, side: str, logits: torch.Tensor) -> torch.Tensor:
        partner = self._partners[side]
        return score(logits, _PLAIN, partner.vocabulary, of=partner.label).raw

    def push(self, news: Mapping[int, Sequence[Chunk]]) -> dict[int, list[Logprob]]:
        """Scores the next tokens of some samples.

        Args:
            news: New tokens by number of the task.

        Returns:
            One entry per token.
        """
        if not news:
            return {}
        rows = len(next(iter(self._next.values())))
        width = max(map(len, news.values()))
        device = next(iter(self._next.values())).device
        tokens = torch.zeros(rows, width, dtype=torch.int64)
        counts = torch.zeros(rows, dtype=torch.int64)
        for row, chunks in news.items():
            counts[row] = len(chunks)
            tokens[row, : len(chunks)] = torch.tensor([chunk.id for chunk in chunks])
        before: dict[str, torch.Tensor] = {}
        for side, cache in self._caches.items():
            raw = self._raw(side, cache.feed(tokens.to(device), counts.to(device)))
            before[side] = torch.cat([self._next[side][:, None], raw], 1)  # [rows, width + 1, v]
            fed = before[side][torch.arange(rows), counts]
            self._next[side] = fed
        return {
            row: [
                self._describe(before[chunk.source][row, at], chunk.id)
                for at, chunk in enumerate(chunks)
                if chunk.id is not None
            ]
            for row, chunks in news.items()
        }

    def _describe(self, raw: torch.Tensor, token: int) -> Logprob:
        best = raw.topk(self._top) if self._top else None
        top = zip(best.indices.tolist(), best.values.tolist(), strict=True) if best else ()
        return Logprob(float(raw[token]), list(top))
