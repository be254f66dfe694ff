"""What a side's model reads of each pass, always in the same memory.

A captured CUDA graph reads the memory that it was captured with, whatever tensors a later call
names. vLLM keeps its own inputs in place for that; there, labels stand instead of token ids, and
the stream's positions instead of the side's.
"""

from __future__ import annotations

import torch


class Inputs:
    """Token ids and positions of one side.

    Args:
        size: The most tokens of a pass.
        device: Where the model is.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._ids = torch.zeros(size, dtype=torch.int32, device=device)
        self._positions = torch.zeros(size, dtype=torch.int64, device=device)

    def write(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        """Writes a pass; what is beyond its tokens becomes zeros, which every model can read.

        Args:
            ids: int [tokens].
            positions: int64 [tokens].
        """
        for memory, given in ((self._ids, ids), (self._positions, positions)):
            memory[: len(given)] = given
            memory[len(given) :] = 0

    def first(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the first ids, int32 [length], and positions, int64 [length]."""
        return self._ids[:length], self._positions[:length]
