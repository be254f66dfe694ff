"""What every judge model does, wherever it runs: asks, reads strictly, asks again."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from baco.metrics import rubrics
from baco.metrics.spec import Item

T = TypeVar("T")


class Judge(ABC):
    """A chat model that is asked for marks and annotations.

    Args:
        name: Its name, with all that its answers depend on.
        retries: How often a question is asked again if the reply has the wrong form.
    """

    def __init__(self, name: str, retries: int) -> None:
        self.name = name
        self._retries = retries

    @property
    def label(self) -> str:
        """Name for outputs."""
        return f"judge {self.name}"

    @property
    def settings(self) -> str:
        """All that a mark depends on besides the texts."""
        return f"{self.name}|{rubrics.version()}"

    @property
    @abstractmethod
    def cost(self) -> str:
        """What was used so far, in words."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""

    @abstractmethod
    def over(self, function: Callable[[Item], T], items: Sequence[Item]) -> Iterator[T]:
        """Applies a function that asks to items; yields in order."""

    @abstractmethod
    def _reply(self, messages: rubrics.Messages, *, turn: int) -> str:
        """One reply: the likeliest one in the first turn, a drawn one in later turns."""

    def marks(self, items: Sequence[Item]) -> Iterator[list[float]]:
        """Yields the mark of each (prompt, output), 1 to 10; NaN if no reply held one."""
        yield from self.over(self._mark, items)

    def _mark(self, item: Item) -> list[float]:
        found = self.ask_for(rubrics.reward(*item), _read_mark)
        return [math.nan if found is None else float(found)]

    def ask_for(self, messages: rubrics.Messages, read: Callable[[object], T | None]) -> T | None:
        """Asks until the reply holds what is looked for.

        Args:
            messages: The conversation.
            read: Takes what is looked for out of the JSON in a reply; None if it is not there.

        Returns:
            What was found; None if no reply held it.

        Raises:
            BacoError: If the judge cannot be reached or refuses.
        """
        for turn in range(self._retries + 1):
            found = read(first_json(self._reply(messages, turn=turn)))
            if found is not None:
                return found
        return None


def first_json(text: str) -> object:
    """The first JSON object in a reply, whatever stands around it; None if there is none."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found: object = decoder.raw_decode(text, start)[0]
        except json.JSONDecodeError:
            start = text.find("{", start + 1)
        else:
            return found
    return None


def _read_mark(reply: object) -> int | None:
    found = reply.get("mark") if isinstance(reply, dict) else None
    if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= 10:
        return found
    return None
