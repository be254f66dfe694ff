"""The kinds of prompts that the bundled pair knows."""

from __future__ import annotations

from baco.tiny.kinds.facts import FACT_KINDS
from baco.tiny.kinds.model import CATEGORIES, PromptKind
from baco.tiny.kinds.naming import NAMING_KINDS
from baco.tiny.kinds.recommend import RECOMMENDATION_KINDS
from baco.tiny.kinds.stories import STORY_KINDS

KINDS: tuple[PromptKind, ...] = (*NAMING_KINDS, *FACT_KINDS, *RECOMMENDATION_KINDS, *STORY_KINDS)
"""Every kind, in a fixed order."""

__all__ = ["CATEGORIES", "KINDS", "PromptKind"]
