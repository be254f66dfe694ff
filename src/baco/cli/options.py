"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from baco.errors import InputError

if TYPE_CHECKING:
    from baco.engine import Lookahead

MODELS = "Models"
SPEED = "Speed, never samples"

DEVICE = "auto, cpu, cuda, cuda:1 or mps; or the base and the aligned side's: cuda:0,cuda:1."
DTYPE = "auto, float32, bfloat16, float16 or float64."
LOOKAHEAD = "How far to guess ahead: auto, off or a number."
DRAFT = (
    "Who else guesses ahead: prompt-lookup, or a small model with the pair's tokenizer "
    "(Hub id or folder)."
)

Device = Annotated[str, typer.Option(help=DEVICE, rich_help_panel=MODELS)]
Dtype = Annotated[str, typer.Option(help=DTYPE, rich_help_panel=MODELS)]
LookaheadText = Annotated[str, typer.Option(help=LOOKAHEAD, rich_help_panel=SPEED)]


def read_lookahead(text: str) -> Lookahead:
    """Reads the option; the engine checks a number's range.

    Raises:
        InputError: If it is neither a word that is known nor a number.
    """
    if text in ("auto", "off"):
        return cast("Lookahead", text)
    if not text.isdecimal():
        raise InputError(f"look-ahead {text!r} is out of range", hint="use auto, off or a number")
    return int(text)
