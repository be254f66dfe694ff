"""Work that goes on in another thread for as long as a block lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from baco.errors import BacoError


@contextmanager
def beside(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Lets a function run in a thread of its own until the block is over.

    Args:
        work: The function; it is given an event and returns soon after that is set. Errors of BaCo
            end it without a word: the block meets what is wrong with its store itself.
    """
    over = threading.Event()

    def quiet() -> None:
        with suppress(BacoError):
            work(over)

    thread = threading.Thread(target=quiet, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
