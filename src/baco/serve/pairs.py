"""What the server asks of a pair, and the models that it offers under their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from baco.errors import InputError, UnsupportedError, clipped
from baco.methods.needs import abilities
from baco.methods.settings import DEFAULT_ROUTER
from baco.serve.errors import ApiError

if TYPE_CHECKING:
    from baco.pair import Pair

__all__ = ["DEFAULT_ROUTER", "PRESETS", "Model", "check_pairs", "model_named"]

PRESETS: Mapping[str, float] = {
    "aligned": 0.0,
    "careful": 0.1,
    "balanced": 0.25,
    "diverse": 0.5,
    "wild": 0.75,
}
"""Names for diversities, used after a colon: `tiny:diverse`."""


@dataclass(frozen=True)
class Model:
    """What a model name stands for.

    Attributes:
        name: As the client wrote it.
        pair: Name of the pair.
        diversity: The preset's diversity, or None.
    """

    name: str
    pair: str
    diversity: float | None


def model_named(name: str, pairs: Mapping[str, Pair]) -> Model:
    """Reads a model name: a pair, or a pair with a preset or a diversity after a colon.

    Raises:
        ApiError: If there is no such model (404).
    """
    if name in pairs:
        return Model(name, name, None)
    pair, _, preset = name.rpartition(":")
    if pair in pairs:
        if preset in PRESETS:
            return Model(name, pair, PRESETS[preset])
        if (diversity := _number(preset)) is not None and 0 <= diversity <= 1:
            return Model(name, pair, diversity)
        known = f"{', '.join(PRESETS)}, or a number from 0 to 1"
        raise ApiError(
            404,
            f"the pair {pair!r} has no preset {clipped(preset)!r}; there are: {known}",
            code="model_not_found",
            param="model",
        )
    raise ApiError(
        404,
        f"the model {clipped(name)!r} does not exist; there are: {', '.join(sorted(pairs))}, "
        f"and each with a preset or a number from 0 to 1, as in "
        f"{', '.join(f'{min(pairs)}:{preset}' for preset in (*PRESETS, 0.6))}",
        code="model_not_found",
        param="model",
    )


def _number(text: str) -> float | None:
    """Reads digits with at most one point; None for anything else."""
    if len(text) > 20 or not set(text) <= set("0123456789."):
        return None
    try:
        return float(text)
    except ValueError:
        return None


def check_pairs(pairs: Mapping[str, Pair]) -> None:
    """Raises InputError or UnsupportedError if these pairs cannot be served."""
    if not pairs:
        raise InputError("there is no pair to serve", hint="name at least one with --pair")
    for name, pair in pairs.items():
        if not name:
            raise InputError("a pair to serve has no name", hint="--pair NAME=PAIR gives it one")
        if not {"base top-k", "aligned top-k"} <= abilities(pair):
            raise UnsupportedError(
                f"a side of pair {name!r} gives text only",
                hint="name the tokenizers of remote models: remote:URL#MODEL?tokenizer=FOLDER",
            )
        if pair.base.vocabulary is not pair.aligned.vocabulary:
            raise UnsupportedError(
                f"the sides of pair {name!r} do not share token ids",
                hint="load them through baco.load or Pair, which builds the bridge",
            )
