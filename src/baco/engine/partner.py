"""What the engine asks of a partner: token ids in, next-token logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from baco.engine.vocabulary import Vocabulary


class RowCache(Protocol):
    """The state of one partner for a batch of rows: what each row has been fed so far.

    Rows are numbered 0..n-1 without gaps; the engine keeps both partners' numbering the same.
    """

    def add(self, count: int) -> None:
        """Appends empty rows."""
        ...

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Feeds whole prompts into rows that are empty; equal prompts are computed once.

        Args:
            prompts: One non-empty id sequence per row.
            rows: The row numbers.

        Returns:
            Logits after each prompt's last token, float [len(rows), vocabulary].
        """
        ...

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Feeds the next tokens of every row in one forward pass.

        Args:
            tokens: int64 [n, q], on the host; row i's first `counts[i]` entries count, the rest
                is padding.
            counts: int64 [n], 0..q, on the host.

        Returns:
            Logits after each fed token, float [n, q, vocabulary]; padding rows are undefined.
        """
        ...

    def truncate(self, lengths: torch.Tensor) -> None:
        """Forgets everything after the first `lengths[i]` fed tokens of each row.

        Args:
            lengths: int64 [n], on the host.
        """
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps the given rows, in this order, and frees the others."""
        ...


class Partner(Protocol):
    """One of the two models as the engine sees it.

    Attributes:
        device: Where logits live.
        parameters: Number of weights, for cost accounts.
        can_look_ahead: Whether its cache can forget guesses; if not, it goes in lock-step.
    """

    device: torch.device
    parameters: int
    can_look_ahead: bool

    @property
    def vocabulary(self) -> Vocabulary:
        """Tables over token ids; two partners with the same object share ids."""
        ...

    @property
    def context_window(self) -> int:
        """The longest sequence the model takes, in tokens."""
        ...

    def new_cache(self) -> RowCache:
        """Returns an empty cache for a new batch."""
        ...

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Next-token logits after a whole sequence, without any cache: the oracle's view.

        Args:
            ids: Prompt and response so far; at least one id.

        Returns:
            Float tensor [vocabulary].
        """
        ...


def is_partial(partner: Partner) -> bool:
    """Whether a partner knows only its likeliest tokens.

    Its logits are then true log-probabilities, -inf for all other tokens: they need not sum to 1,
    and must not be normalised again. Such a partner says so by ``gives = "top-k"``.
    """
    return getattr(partner, "gives", "logits") == "top-k"
