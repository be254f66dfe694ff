"""Users' own functions, named on the command line as ``module:function``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from baco.errors import BacoError, InputError

_EXAMPLES = {"filter": "my_rules:allow", "reward": "my_rules:rate", "measure": "my_rules:spread"}


def load_function(spec: str, kind: str) -> Any:
    """Imports a function.

    Args:
        spec: ``module:function``; modules of the current folder are found too.
        kind: What it is for, ``filter``, ``reward`` or ``measure``, for messages.

    Returns:
        The function.

    Raises:
        InputError: If there is no such function.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise InputError(f"{kind} {spec!r} is not module:function", hint=f"e.g. {_EXAMPLES[kind]}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(
            f"the {kind}'s module {module_name!r} cannot be imported: "
            f"{type(error).__name__}: {error}",
            hint="put it into the current folder, or install it",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(
            f"the module {module_name!r} has no function {name!r}", hint=f"check the {kind}'s name"
        )
    return function


def number_of(kind: str, function: Any, prompt: object, texts: Sequence[str]) -> float:
    """Asks a user's function for the number of a group.

    Args:
        kind: What it is for, for messages.
        function: The function.
        prompt: The group's prompt.
        texts: The group's texts.

    Returns:
        What it returned.

    Raises:
        BacoError: If it fails, or returns no number.
    """
    try:
        return float(function(prompt, list(texts)))
    except Exception as error:
        raise BacoError(
            f"the {kind} failed: {type(error).__name__}: {error}",
            hint="it is called with a prompt and a list of texts and returns a number",
        ) from error
