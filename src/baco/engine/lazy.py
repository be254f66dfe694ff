"""torch, imported when something of it is first used: names and ranges are checked without it.

Importing torch takes seconds, and a slip of the pen should not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:
    import torch as torch
else:

    class _Torch:
        """Stands for the module; what was used once is kept here."""

        def __getattr__(self, name: str) -> Any:
            import torch as module

            value = getattr(module, name)
            setattr(self, name, value)
            return value

    torch = _Torch()


def inference_mode(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates as ``torch.inference_mode()`` does, at the function's first call."""
    made = cache(lambda: torch.inference_mode()(function))

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return made()(*args, **kwargs)

    return call
