"""A scripted partner: distributions by hand, for tests and for trying routers without models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from baco.engine.lazy import torch
from baco.engine.partner import IdCache, Partner
from baco.engine.units import UnitTable
from baco.engine.vocabulary import Vocabulary

Script = Callable[[tuple[int, ...]], Sequence[float]]
"""All token ids so far, prompt included -> next-token probabilities (need not sum to 1)."""


def fake_vocabulary(
    tokens: Sequence[str],
    ends: Sequence[str] = ("<end>",),
    function_words: Sequence[str] = (),
    forbidden: Sequence[str] = (),
) -> Vocabulary:
    """Makes a vocabulary from token strings.

    Args:
        tokens: The text of each id.
        ends: Which of them end a response.
        function_words: Which are whole function words (with their leading space).
        forbidden: Which may never be emitted (other special tokens).

    Returns:
        The vocabulary; punctuation is what has no letter or digit.
    """
    special = {*ends, *forbidden}
    end_ids = [i for i, t in enumerate(tokens) if t in ends]
    return Vocabulary(
        size=len(tokens),
        units=UnitTable([b"" if t in special else t.encode() for t in tokens], end_ids),
        is_end=torch.tensor([t in ends for t in tokens]),
        allowed=torch.tensor([t not in forbidden for t in tokens]),
        is_punctuation=torch.tensor([t in ends or not any(c.isalnum() for c in t) for t in tokens]),
        is_function_word=torch.tensor([t in function_words for t in tokens]),
    )


class FakePartner(Partner):
    """A partner that answers from a script and counts what it is asked.

    Args:
        vocabulary: From `fake_vocabulary`.
        script: The distribution after any sequence of ids.
        context_window: Longest sequence in tokens.
    """

    def __init__(
        self, vocabulary: Vocabulary, script: Script, context_window: int = 1 << 20
    ) -> None:
        self.vocabulary = vocabulary
        self.script = script
        self.context_window = context_window
        self.device = torch.device("cpu")
        self.parameters = 1

    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """Returns the log of the scripted probabilities: float64 [vocabulary]."""
        probs = torch.tensor(list(self.script(tuple(ids))), dtype=torch.float64)
        return probs.log()

    def new_cache(self) -> FakeCache:
        """Returns an empty cache."""
        return FakeCache(self)


class FakeCache(IdCache):
    """Remembers each row's ids; see `baco.engine.partner.RowCache`."""

    def __init__(self, partner: FakePartner) -> None:
        super().__init__()
        self.partner = partner

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        """Takes whole prompts."""
        self._put(prompts, rows)
        return torch.stack([self.partner.logits(self._ids[row]) for row in rows])

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Takes the next tokens of every row."""
        n, q = tokens.shape
        out = torch.zeros(n, q, self.partner.vocabulary.size, dtype=torch.float64)
        for i in range(n):
            for j in range(int(counts[i])):
                self._ids[i] = (*self._ids[i], int(tokens[i, j]))
                out[i, j] = self.partner.logits(self._ids[i])
        return out
