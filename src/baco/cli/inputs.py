"""Reads prompts from the command line, from files and from stdin."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baco.cli.render import safe
from baco.errors import InputError
from baco.prompts import Conversation, conversation_of
from baco.reading import prompt_of, read_rows

if TYPE_CHECKING:
    from baco.engine.router import Router
    from baco.methods.base import Setting


def hint_at_quotes(arguments: Sequence[str]) -> None:
    """Says on stderr that a prompt needs quotes, where its words seem to have come one by one."""
    if len(arguments) > 1 and all(len(text.split()) == 1 for text in arguments):
        print(
            f"baco: {len(arguments)} prompts of one word each; if they are one prompt, put it in "
            f'quotes: baco generate "{safe(" ".join(arguments))}"',
            file=sys.stderr,
        )


def check_settings(settings: Mapping[str, Any], pair: str | None = None) -> Setting:
    """Checks what can be checked of settings before anything of the pair is loaded.

    Args:
        settings: Arguments of `baco.methods.settings.make_setting`.
        pair: The pair that our engine is to load, as it is; None where it is changed.

    Returns:
        What they ask for, diversity aside.

    Raises:
        InputError: If one is wrong, or two controls are given.
        UnsupportedError: If a known pair cannot do it.
    """
    from baco.calibration.curve import check_calibrated, check_diversity
    from baco.methods import METHODS, needs
    from baco.methods.settings import make_setting
    from baco.models.known import known_pairs
    from baco.routers import parse

    known = known_pairs().get(pair or "")
    setting = make_setting(**{**settings, "diversity": None})
    if known:
        needs.check_tokenizers(known.name, known.one_tokenizer, setting)
    if settings["diversity"] is not None:
        # What the pair would make of it is seen later; two controls are seen at once.
        method = METHODS[settings["method"]]

        def anything(spec: str, diversity: float) -> Router | float:
            check_diversity(spec, diversity)
            if known:
                check_calibrated(known.name, spec, diversity)
            return parse(spec) if method.up is None else float(method.default or 0)

        make_setting(**settings, calibration=anything)
    return setting


def read_prompts(
    arguments: Sequence[str], file: str | None, system: str | None
) -> list[Conversation]:
    """Collects all prompts, each once.

    Args:
        arguments: Prompts given as arguments.
        file: A file of prompts, ``-`` for stdin, or None.
        system: A system prompt for all that have none.

    Returns:
        The checked prompts in their order; repeated ones are left out, and answers that are
        begun in them are continued, each with a note on stderr.

    Raises:
        InputError: If there is none, one is malformed, or the file cannot be read.
    """
    prompts = [conversation_of(text, system) for text in arguments]
    if file is not None:
        prompts += _read_file(file, system)
    if not prompts:
        where = f"in {_name(file)}" if file else ""
        raise InputError(
            f"there is no prompt {where}".rstrip(),
            hint='give one as an argument, as in baco generate "Name a fruit."; or --input FILE',
        )
    unique = list(dict.fromkeys(prompts))
    if len(unique) < len(prompts):
        print(f"baco: {len(prompts) - len(unique)} repeated prompts are left out", file=sys.stderr)
    if begun := sum(prompt[-1].role == "assistant" for prompt in unique):
        print(f"baco: {begun} prompts end with words of the assistant's, which the answers go on "
              "from", file=sys.stderr)  # fmt: skip
    return unique


def read_phrases(file: str | Path) -> list[str]:
    """Reads a file of phrases: one per line, or JSON texts.

    Raises:
        InputError: If it cannot be read, holds no phrase, or a row is no text.
    """
    found = []
    for row in read_rows(file, plain=True):
        if not isinstance(row.value, str):
            raise InputError(f"{row.where} is not a phrase", hint="give texts, one per line")
        found.append(row.value)
    if not found:
        raise InputError(f"{_name(str(file))} has no phrases", hint="write one on each line")
    return found


def _name(file: str) -> str:
    return "stdin" if file == "-" else file


def _read_file(file: str, system: str | None) -> list[Conversation]:
    """Reads a file in any shape that `baco.reading` knows; plain text has one prompt per line."""
    prompts = []
    for row in read_rows(file, plain=True):
        try:
            prompts.append(conversation_of(prompt_of(row.value), system))
        except InputError as error:
            raise InputError(f"{row.where}: {error.message}", hint=error.hint) from None
    return prompts
