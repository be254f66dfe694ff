"""Moderation: a user's function looks at every answer before anyone else does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from baco.errors import BacoError
from baco.group import Sample
from baco.user_functions import load_function

if TYPE_CHECKING:
    from baco.methods.base import Update

Filter = Callable[[str | list[dict[str, str]], str], bool | str]
"""(prompt, text) -> whether the text may be shown, or a text to show instead."""


def load_filter(spec: str) -> Filter:
    """Imports a filter.

    Args:
        spec: ``module:function``; modules of the current folder are found too.

    Raises:
        InputError: If there is no such function.
    """
    checked: Filter = load_function(spec, "filter")
    return checked


def moderate(sample: Sample, keep: Filter) -> Sample:
    """Asks a filter about a sample.

    Args:
        sample: The sample.
        keep: The filter.

    Returns:
        The sample itself; or one with another text, or none and the finish reason `withheld`.
        These carry no tokens, which would tell what the filter hides.

    Raises:
        BacoError: If the filter fails or returns something else; nothing is shown then.
    """
    try:
        verdict = keep(sample.prompt, sample.text)
    except Exception as error:
        raise BacoError(
            f"the filter failed: {type(error).__name__}: {error}", hint="nothing unchecked is shown"
        ) from error
    if verdict is True:
        return sample
    hidden = replace(sample, token_ids=(), tokens=(), sources=())
    if verdict is False:
        return replace(hidden, text="", finish_reason="withheld")
    if isinstance(verdict, str):
        return sample if verdict == sample.text else replace(hidden, text=verdict)
    raise BacoError(
        f"the filter returned {type(verdict).__name__}",
        hint="it must return True, False or a text to show instead",
    )


def filtered(updates: Iterable[Update], keep: Filter) -> Iterator[Update]:
    """Holds a sample's tokens back until the filter has passed it.

    Args:
        updates: What a method makes.
        keep: The filter.

    Yields:
        The same; what is withheld or replaced comes without its tokens.
    """
    from baco.methods.base import Chunk, Done

    held: dict[int, list[Chunk]] = {}
    for update in updates:
        if isinstance(update, Chunk):
            held.setdefault(update.task, []).append(update)
        elif isinstance(update, Done):
            sample = moderate(update.sample, keep)
            chunks = held.pop(update.task, [])
            if sample is update.sample:
                yield from chunks
            yield Done(update.task, sample)
        else:
            yield update
