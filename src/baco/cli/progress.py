"""The progress bar of long jobs: on stderr, on a terminal only, and gone when it is done."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PATIENCE = 2.0
"""Seconds before the bar appears."""


@contextlib.contextmanager
def waiting(words: str, console: Console | None = None) -> Iterator[None]:
    """Shows on a terminal that something long goes on, and for how long already.

    Meanwhile no reference cycles are looked for: imports and vocabularies are millions of objects
    that all stay, and searching them over and over takes a third of the time.

    Args:
        words: What it is.
        console: Where it is shown; by default stderr.
    """
    console = console or Console(file=sys.stderr)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_no_collection())
        if console.is_terminal:
            stack.enter_context(_shown(words, console))
        yield


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _shown(words: str, console: Console) -> Iterator[None]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    progress = Progress(*columns, console=console, transient=True)
    progress.add_task(escape(words))
    timer = threading.Timer(PATIENCE, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        progress.stop()


class Bar:
    """Counts finished samples.

    Args:
        total: How many there will be.
        console: Where the bar is drawn; by default stderr.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("samples"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[tokens]} tokens"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total, tokens=0)
        self._tokens = 0
        self._shown = False

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._hide()

    def token(self) -> None:
        """Counts one token, and shows the bar once the job proves to be long."""
        self._tokens += 1
        if not self._shown and self._console.is_terminal:
            if time.monotonic() - self._started > PATIENCE:
                self._shown = True
                self._progress.start()
        elif self._tokens % 50 == 0:
            self._progress.update(self._task, tokens=self._tokens)

    def sample(self) -> None:
        """Counts one sample."""
        self._progress.update(self._task, advance=1, tokens=self._tokens)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Takes the bar away while something else is printed."""
        self._hide()
        yield
        if self._shown:
            self._progress.start()

    def _hide(self) -> None:
        if self._shown:
            self._progress.stop()
