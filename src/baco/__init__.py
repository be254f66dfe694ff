"""BaCo: base-aligned model collaboration for diverse answers that are all good.

    import baco

    pair = baco.load("tiny")
    ask = "My comic has a wise wizard without a name. Suggest one."
    group = pair.generate(ask, n=10, router="p-punc@0.3")
    print(group.texts, group.base_share)

``import baco`` is light: torch and transformers are imported when a name is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baco.engine.router import Router, Rule, View
    from baco.engine.schedule import Schedule
    from baco.engine.scores import Context, SideScores
    from baco.engine.vocabulary import Vocabulary
    from baco.errors import BacoError, InputError, PairError, UnsupportedError
    from baco.group import Group, Sample
    from baco.methods import METHODS
    from baco.methods.settings import GenerateSettings as Settings
    from baco.models.endpoint import Endpoint
    from baco.models.sides import Side
    from baco.pair import Pair, Stream, Token, load
    from baco.prompts import PlainTemplate
    from baco.routers import ROUTERS
    from baco.routers import custom as router

__version__ = "0.1.0"

_NAMES = {
    "BacoError": "baco.errors:BacoError",
    "Context": "baco.engine.scores:Context",
    "Endpoint": "baco.models.endpoint:Endpoint",
    "Group": "baco.group:Group",
    "InputError": "baco.errors:InputError",
    "METHODS": "baco.methods:METHODS",
    "Pair": "baco.pair:Pair",
    "PairError": "baco.errors:PairError",
    "PlainTemplate": "baco.prompts:PlainTemplate",
    "ROUTERS": "baco.routers:ROUTERS",
    "Router": "baco.engine.router:Router",
    "Rule": "baco.engine.router:Rule",
    "Sample": "baco.group:Sample",
    "Schedule": "baco.engine.schedule:Schedule",
    "SideScores": "baco.engine.scores:SideScores",
    "Settings": "baco.methods.settings:GenerateSettings",
    "Side": "baco.models.sides:Side",
    "Stream": "baco.pair:Stream",
    "Token": "baco.pair:Token",
    "UnsupportedError": "baco.errors:UnsupportedError",
    "View": "baco.engine.router:View",
    "Vocabulary": "baco.engine.vocabulary:Vocabulary",
    "load": "baco.pair:load",
    "router": "baco.routers:custom",
}

__all__ = [
    "METHODS",
    "ROUTERS",
    "BacoError",
    "Context",
    "Endpoint",
    "Group",
    "InputError",
    "Pair",
    "PairError",
    "PlainTemplate",
    "Router",
    "Rule",
    "Sample",
    "Schedule",
    "Settings",
    "Side",
    "SideScores",
    "Stream",
    "Token",
    "UnsupportedError",
    "View",
    "Vocabulary",
    "load",
    "router",
]


def __getattr__(name: str) -> Any:
    """Imports what is first used: a name of `__all__`, or a module, such as ``baco.hf``."""
    if name in _NAMES:
        module, _, attribute = _NAMES[name].partition(":")
        return getattr(import_module(module), attribute)
    if not name.startswith("_") and find_spec(f"baco.{name}"):
        return import_module(f"baco.{name}")
    raise AttributeError(f"module 'baco' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "hf", "metrics"])
