"""Tables over token ids: all that the engine and the routers know of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baco.engine.lazy import cached_property, torch
from baco.engine.units import UnitTable


class HostTables(NamedTuple):
    """Tables on the host.

    Attributes:
        tables: As `Vocabulary.tables`, as arrays.
        units: The unit state machine.
    """

    tables: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    units: UnitTable


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Facts about each token id, as tensors of shape [size].

    Attributes:
        size: Number of token ids the tokenizer knows (padded logit rows beyond it are dropped).
        units: The unit state machine over this vocabulary's bytes.
        is_end: bool [size]; tokens that end a response.
        allowed: bool [size]; False for special tokens that are not ends.
        is_punctuation: bool [size]; punctuation or formatting, ends included (router `punc`).
        is_function_word: bool [size]; a whole function word (router `fc`).
    """

    size: int
    units: UnitTable
    is_end: torch.Tensor
    allowed: torch.Tensor
    is_punctuation: torch.Tensor
    is_function_word: torch.Tensor

    @cached_property
    def forbidden(self) -> torch.Tensor:
        """What is not allowed: bool [size]."""
        return ~self.allowed

    @cached_property
    def tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Which tokens are ends, and which break a line: bool [size] each."""
        return self.is_end, self.units.breaks_line

    @cached_property
    def on_host(self) -> HostTables:
        """What is read on the host."""
        is_end, breaks_line = (table.cpu().numpy() for table in self.tables)
        return HostTables((is_end, breaks_line), self.units.on_host())

    @cached_property
    def _kinds(self) -> torch.Tensor:
        begins = self.units.begins_all
        return begins.to(torch.uint8) + (begins & self.is_end)

    def kinds(self, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Returns 0 for tokens that continue the unit, 1 for those that begin one, 2 for ends.

        Args:
            states: Unit states, int64 [n].
            tokens: int64 [n, k].

        Returns:
            uint8 [n, k]. An end that continues a unit (there is none by default) is a 0.
        """
        return self._kinds[self.units.line(states)[:, None], tokens]

    @cached_property
    def stops_repeats(self) -> NDArray[np.bool_]:
        """Tokens that no repeat reaches over (see `Penalties`): bool [size], on the host."""
        return (self.units.stops_repeats | self.is_end | self.forbidden).cpu().numpy()

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """The end tokens as a set of ids."""
        return frozenset(self.is_end.nonzero().flatten().tolist())
