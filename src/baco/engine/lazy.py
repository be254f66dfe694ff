"""What is made when it is first used: torch itself, for one.

Importing torch takes seconds, and a slip of the pen should not wait for it: names and ranges are
checked without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

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


class cached_property(Generic[T]):
    """As `functools.cached_property`, without its lock, into which torch.compile cannot follow.

    Python has no such lock from 3.12 on.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> Self | T:
        if instance is None:
            return self
        made = instance.__dict__[self._name] = self._make(instance)
        return made


def inference_mode(function: Callable[P, T]) -> Callable[P, T]:
    """Decorates as ``torch.inference_mode()`` does, at the function's first call."""
    made = cache(lambda: torch.inference_mode()(function))

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return made()(*args, **kwargs)

    return call
