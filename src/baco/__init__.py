"""BaCo: base-aligned model collaboration for diverse answers that are all good.

    import baco

    pair = baco.load("tiny")
    group = pair.generate("Suggest a summer trip destination.", n=10, router="p-punc@0.3")
    print(group.texts, group.base_share)

``import baco`` is light: torch and transformers are imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baco.errors import BacoError, InputError, PairError
    from baco.group import Group, Sample
    from baco.methods import METHODS
    from baco.models.endpoint import Endpoint
    from baco.models.sides import Side
    from baco.pair import Pair, Stream, load
    from baco.prompts import PlainTemplate
    from baco.routers import ROUTERS
    from baco.routers import custom as router

__version__ = "0.1.0"

_NAMES = {
    "BacoError": "baco.errors:BacoError",
    "Endpoint": "baco.models.endpoint:Endpoint",
    "Group": "baco.group:Group",
    "InputError": "baco.errors:InputError",
    "METHODS": "baco.methods:METHODS",
    "Pair": "baco.pair:Pair",
    "PairError": "baco.errors:PairError",
    "PlainTemplate": "baco.prompts:PlainTemplate",
    "ROUTERS": "baco.routers:ROUTERS",
    "Sample": "baco.group:Sample",
    "Side": "baco.models.sides:Side",
    "Stream": "baco.pair:Stream",
    "load": "baco.pair:load",
    "router": "baco.routers:custom",
}

__all__ = [
    "METHODS",
    "ROUTERS",
    "BacoError",
    "Endpoint",
    "Group",
    "InputError",
    "Pair",
    "PairError",
    "PlainTemplate",
    "Sample",
    "Side",
    "Stream",
    "load",
    "router",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'baco' has no attribute {name!r}")
    module, _, attribute = _NAMES[name].partition(":")
    return getattr(import_module(module), attribute)
