"""Moderation: a user's function looks at every answer before anyone else does."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from baco.engine.session import TURN
from baco.errors import BacoError
from baco.group import Sample
from baco.registry import load_function

if TYPE_CHECKING:
    from baco.methods.base import Update

_PATIENCE = 0.002
"""Seconds that a run waits for a filter before it lets others go on."""

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
    except Exception as error:  # what it says may quote the answer, so only its place is told
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise BacoError(
            f"the filter failed: {type(error).__name__} "
            f"({Path(place.filename).name}, line {place.lineno})",
            hint="nothing unchecked is shown",
        ) from None
    if verdict is True:
        return sample
    hidden = replace(sample, token_ids=(), tokens=(), sources=(), base_share=0.0, switches=0)
    hidden = replace(hidden, details=None)
    if verdict is False:
        return replace(hidden, text="", finish_reason="withheld")
    if isinstance(verdict, str):
        return sample if verdict == sample.text else replace(hidden, text=verdict)
    raise BacoError(
        f"the filter returned {type(verdict).__name__}",
        hint="it must return True, False or a text to show instead",
    )


_ASIDE = ThreadPoolExecutor(1, "baco-filter")
"""Where filters run while others go on decoding: one call at a time, they need not expect more."""


def filtered(updates: Iterable[Update], keep: Filter, *, aside: bool = False) -> Iterator[Update]:
    """Holds a sample's tokens back until the filter has passed it.

    Args:
        updates: What a method makes.
        keep: The filter.
        aside: Whether others take turns while the filter works, as in a session.

    Yields:
        The same; what is withheld or replaced comes without its tokens.
    """
    from baco.methods.base import Chunk, Done

    held: dict[int, list[Chunk]] = {}
    for update in updates:
        if isinstance(update, Chunk):
            held.setdefault(update.task, []).append(update)
        elif isinstance(update, Done):
            if aside:
                verdict = _ASIDE.submit(moderate, update.sample, keep)
                while not wait([verdict], _PATIENCE).done:
                    yield TURN
                sample = verdict.result()
            else:
                sample = moderate(update.sample, keep)
            chunks = held.pop(update.task, [])
            if sample is update.sample:
                yield from chunks
            yield Done(update.task, sample)
        else:
            yield update
