"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from baco.errors import InputError, UnknownNameError

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


def read_penalties(given: Sequence[str]) -> dict[str, Any]:
    """Reads the option --penalty as arguments of `baco.methods.settings.make_setting`.

    Raises:
        InputError: If a name is unknown or given twice, or a value is no number.
    """
    from baco.methods.settings import PENALTIES

    read: dict[str, Any] = {}
    for item in given:
        name, _, value = item.partition("=")
        if name not in PENALTIES:
            raise UnknownNameError("penalty", name, PENALTIES)
        if name in read:
            raise InputError(f"the penalty {name} is given twice", hint="leave out one")
        try:
            if name == "logit_bias":
                pairs = [part.split(":") for part in value.split(",")]
                read[name] = {int(token): float(bias) for token, bias in pairs}
            else:
                read[name] = int(value) if name == "dry_allowed_length" else float(value)
        except ValueError:
            example = "logit_bias=12:-5,40:2" if name == "logit_bias" else f"{name}=2"
            raise InputError(
                f"cannot read the penalty {item!r}", hint=f"such as --penalty {example}"
            ) from None
    return read
