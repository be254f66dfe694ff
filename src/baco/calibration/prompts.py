"""The prompts that curves are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TypeVar

T = TypeVar("T")


def general_prompts() -> list[str]:
    """Returns the prompts that come with BaCo."""
    text = files("baco").joinpath("data", "calibration", "general.txt").read_text(encoding="utf-8")
    return text.splitlines()


def prompts_for(pair: str) -> list[str]:
    """Returns the default calibration prompts of a pair.

    The bundled pairs know nothing but their own small world, so its calibration prompts are used.
    """
    pair = pair.partition("~")[0]
    if pair == "tiny" or pair.startswith("tiny-"):
        from baco.tiny.world import prompts

        return [prompt.text for prompt in prompts("calibration")]
    return general_prompts()


def spread(texts: Sequence[T], count: int) -> Sequence[T]:
    """Picks at most `count` items, evenly over the list."""
    if len(texts) <= count:
        return texts
    return [texts[i * len(texts) // count] for i in range(count)]
