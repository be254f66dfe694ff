"""What recoding takes its words from: nouns, and letters that begin sentences; chance is seeded."""

from __future__ import annotations

import re
from collections.abc import Sequence

from baco.engine.noise import hashed
from baco.methods.base import Task
from baco.models.sides import Side, answer_ids
from baco.prompts import identity

_WORDS = """
    accident acorn actor airport album anchor animal apple apron arrow artist attic autumn baker
    balcony ballad bamboo banner barn basket beach beard bicycle bird blanket boat bottle branch
    bread brick bridge broom brother bucket butter button cabin cactus camera candle canyon captain
    carpet castle cattle cave cellar chair chalk cheese cherry circus clock cloud coast coffee coin
    comet compass copper corner cotton cousin cradle crane crown dancer desert diamond dinner doctor
    dolphin donkey door dragon drum eagle engine fabric factory farmer feather festival fiddle
    fisher flag flute forest fountain fox frost garden ghost giant glass glove goat grain grape
    guitar hammer harbor harvest hat hedge herb hill honey horse hotel house ice ink island ivory
    jacket jewel journey judge jungle kettle key king kitchen kite ladder lake lamp lantern leaf
    lemon letter library lion lizard map market mask meadow medal melon mirror monk moon mountain
    museum music needle nest night nurse oak ocean office olive onion orchard oven owl palace paper
    parade parrot path pearl pepper piano pilot planet pocket poem potato prince puppet queen rabbit
    radio rain ribbon river road robot rocket roof rope sailor salt sand school scissors shadow
    sheep shell ship shoe silver sister sky smoke snow soldier song spice spider spoon stone storm
    street sugar summer swan table tailor teacher temple theater thunder ticket tiger tower train
    tree tunnel turtle umbrella uncle uniform valley vase velvet village violin volcano wagon walnut
    wedding whale wheat wheel widow window winter wizard wolf wood yard zebra
"""

NOUNS = tuple(_WORDS.split())
"""What priming phrases name."""

STEMS = tuple(sorted({noun[:3].capitalize() for noun in NOUNS}))
"""What sentences begin with."""

_BOUNDARY = re.compile(r"(?:[.!?…。！？][\"'”’)\]]*\s+|\n\s*)$")
"""Where a sentence begins, by a rough rule: an abbreviation's point ends one, too."""


def chance(seed: int, task: Task, what: str, number: int = 0) -> int:
    """Returns a number that depends on nothing but its arguments, at least 0 and below 2**64."""
    text = f"{seed}\x1f{task.index}\x1f{what}\x1f{number}\x1f{identity(task.prompt)}"
    return hashed(text) % 2**64


class Stems:
    """The stems of one draw of an answer.

    Args:
        side: Who writes.
        task: What is written.
        seed: Decides them.
        share: How many sentences get one, in [0, 1].
        attempt: Number of the draw.

    Attributes:
        given: The stems so far.
    """

    def __init__(self, side: Side, task: Task, seed: int, share: float, attempt: int) -> None:
        self.given: list[str] = []
        self._side, self._task, self._seed = side, task, seed
        self._share, self._attempt = share, attempt
        self._sentences = 0

    def first(self) -> tuple[int, ...]:
        """Returns the ids that an answer begins with; none where its first sentence is free."""
        return self._ids("")

    def after(self, strings: Sequence[str]) -> tuple[int, ...]:
        """Returns the ids of the stem that takes the last token's place; none if it stays.

        Args:
            strings: The tokens so far. If the last begins a sentence, that may get a stem.
        """
        last = strings[-1]
        word = last.lstrip()
        before = "".join(strings[-16:-1])
        if not word or not before.strip():
            return ()
        if not _BOUNDARY.search(before + last[: len(last) - len(word)]):
            return ()
        return self._ids(before)

    def _ids(self, before: str) -> tuple[int, ...]:
        self._sentences += 1
        what = f"stem {self._attempt}"
        if chance(self._seed, self._task, f"{what}?", self._sentences) >= self._share * 2**64:
            return ()
        stem = STEMS[chance(self._seed, self._task, what, self._sentences) % len(STEMS)]
        self.given.append(stem)
        spaced = not before or before[-1].isspace()
        return answer_ids(self._side, stem if spaced else f" {stem}")
