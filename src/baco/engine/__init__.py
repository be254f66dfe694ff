"""The engine: token ids in, token ids and sources out. It knows nothing of text."""

from __future__ import annotations

from baco.engine.loop import Engine, Stats
from baco.engine.partner import Lookahead
from baco.engine.request import ALIGNED, BASE, SOURCE_NAMES, Cost, Event, Finish, Request
from baco.engine.vocabulary import Vocabulary
from baco.engine.warp import Warp

__all__ = [
    "ALIGNED",
    "BASE",
    "SOURCE_NAMES",
    "Cost",
    "Engine",
    "Event",
    "Finish",
    "Lookahead",
    "Request",
    "Stats",
    "Vocabulary",
    "Warp",
]
