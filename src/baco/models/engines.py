"""Engines by name: who loads the models of a pair and decodes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from baco.engine.lazy import torch
from baco.models.sides import Models
from baco.registry import Registry

OURS = "baco"
"""The engine that is used where none is named."""


@dataclass(frozen=True)
class Backend:
    """An engine that users pick by name.

    Attributes:
        load: Loads both sides: (base, aligned or None, **options as of `baco.Pair`). Their partners
            say by `baco.engine.partner.Abilities` what they can do.
        options: Whether it takes options of its own, beside those of `baco.Pair`.
        in_process: Whether its models are transformers' and live in this process.
        likelihood: Makes what computes log-probabilities of given texts for metrics: (model,
            scoring options) -> as `baco.metrics.hf.Likelihood`; None if it cannot.
        spread: Its options by whose product one engine takes more than one device.
    """

    load: Callable[..., Models]
    options: bool = False
    in_process: bool = False
    likelihood: Callable[[Any, Any], Any] | None = None
    spread: tuple[str, ...] = ()


ENGINES: Registry[Backend] = Registry("engine")
"""Every engine by name, ours included: the entry-point group ``baco.engines``."""


def use_threads(count: int) -> None:
    """Lets this process compute with so many threads, unless OMP_NUM_THREADS says how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(count)
