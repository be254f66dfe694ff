"""The driver that Triton is told of; interpreted kernels never reach it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from triton.backends.driver import DriverBase


def _or_first(pick: Callable[..., Any], worst: float) -> Callable[..., Any]:
    """Where all are NaN a card picks the first, and NumPy, by which the interpreter picks, raises.

    vLLM measures its memory with scores out of memory that nobody wrote.
    """

    def picked(values: Any, *args: Any, **more: Any) -> Any:
        return pick(np.where(np.isnan(values), worst, values), *args, **more)

    return picked


np.nanargmax, np.nanargmin = _or_first(np.argmax, -np.inf), _or_first(np.argmin, np.inf)


class Driver(DriverBase):  # type: ignore[misc]
    """Says that it is there."""

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        raise NotImplementedError

    def get_current_target(self) -> Any:
        raise NotImplementedError

    def get_active_torch_device(self) -> Any:
        raise NotImplementedError

    def get_benchmarker(self) -> Any:
        raise NotImplementedError
