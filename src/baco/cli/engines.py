"""The options that say who decodes, read the same way by every command that has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from baco.errors import InputError
from baco.models.engines import ENGINES

ENGINE_HELP = "Who decodes: baco, vllm (docs/vllm.md), or llamacpp (docs/llamacpp.md)."
OPTION_HELP = (
    "An option of vLLM or llama.cpp, NAME=VALUE, such as tensor_parallel_size=2; may be repeated."
)


def engine_options(engine: str, given: Sequence[str] | None) -> dict[str, Any]:
    """Returns the arguments of `baco.load` that choose the engine.

    Args:
        engine: Its name.
        given: Options of the engine; a value is read as JSON, or else taken as text.

    Raises:
        InputError: If an option is malformed, or there is nobody to take it.
    """
    if given and not ENGINES[engine].options:
        raise InputError(
            f"the engine {engine!r} has no engine options", hint="leave out --engine-option"
        )
    options: dict[str, Any] = {"engine": engine}
    for entry in given or ():
        name, equals, value = entry.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(
                f"engine option {entry!r} is not NAME=VALUE",
                hint="for example --engine-option max_model_len=4096",
            )
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
