"""Shows how far a run is: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from baco.bench.beside import beside
from baco.bench.estimate import duration
from baco.bench.status import Progress, progress
from baco.bench.store import Store
from baco.errors import BacoError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

REFRESH, LINE = 2.0, 30.0
"""Seconds between two looks at the store, and between two lines of a log."""

_WINDOW = 30
"""The rate is that of so many looks."""

_SHOWN = 20
"""Curves in the live table; those at work come first."""


class Speed:
    """Samples a second over the last looks."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque(maxlen=_WINDOW)

    def add(self, at: float, samples: int) -> None:
        """Records how many samples there are."""
        self._looks.append((at, samples))

    @property
    def value(self) -> float:
        """Samples a second; 0 as long as it is not known."""
        (first, few), (last, many) = self._looks[0], self._looks[-1]
        return (many - few) / (last - first) if last > first else 0.0


def line(found: list[Progress], rate: float) -> str:
    """How far a run is, in one line."""
    total = sum(one.groups * one.cell.n for one in found)
    there = sum(one.samples for one in found)
    cells = sum(one.done == one.groups for one in found)
    share = there / total if total else 1.0
    words = f"{there:,} of {total:,} samples ({share:.0%}), {cells} of {len(found)} cells"
    if rate > 0:
        words += f", {rate:,.1f} samples a second, {duration((total - there) / rate)} left"
    return words


def table(found: list[Progress], rate: float) -> Table:
    """How far each curve is."""
    from rich.table import Table

    curves: dict[str, list[Progress]] = {}
    for one in found:
        curves.setdefault(f"{one.cell.curve} ({one.cell.pair})", []).append(one)
    busy = sorted(curves.items(), key=lambda item: _state(item[1]))
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", caption=line(found, rate))
    for heading in ("curve", "cells", "samples", ""):
        made.add_column(heading, justify="left" if heading in ("curve", "") else "right")
    for curve, members in busy[:_SHOWN]:
        there = sum(one.samples for one in members)
        total = sum(one.groups * one.cell.n for one in members)
        full = round(20 * there / total)
        made.add_row(
            curve,
            f"{sum(one.done == one.groups for one in members)}/{len(members)}",
            f"{there:,}/{total:,}",
            "█" * full + "░" * (20 - full),
        )
    if len(busy) > _SHOWN:
        made.add_row(f"and {len(busy) - _SHOWN} more", "", "", "")
    return made


def _state(members: list[Progress]) -> int:
    """0 for curves at work, 1 for those to come, 2 for those that are complete."""
    if all(one.done == one.groups for one in members):
        return 2
    return 0 if any(one.samples for one in members) else 1


def watching(
    path: Path, console: Console, say: Callable[[str], object]
) -> contextlib.AbstractContextManager[None]:
    """Shows how far a run is for as long as it lasts.

    Args:
        path: The store, which other threads or processes fill.
        console: Where a live table is drawn, if it is a terminal.
        say: Else is told a line now and then.
    """
    if console.is_terminal:
        return beside(lambda over: _live(path, console, over))
    return beside(lambda over: _lines(path, say, over))


def _live(path: Path, console: Console, over: threading.Event) -> None:
    from rich.live import Live

    rate = Speed()
    with Store(path) as store, Live(console=console, transient=True) as live:
        while not over.is_set():
            started = time.monotonic()
            with contextlib.suppress(BacoError):
                found = progress(store)
                rate.add(started, sum(one.samples for one in found))
                live.update(table(found, rate.value))
            # Looking at a large store takes a while: never more than a tenth of the time.
            over.wait(max(REFRESH, 9 * (time.monotonic() - started)))


def _lines(path: Path, say: Callable[[str], object], over: threading.Event) -> None:
    rate = Speed()
    with Store(path) as store:
        while True:
            found = progress(store)
            rate.add(time.monotonic(), sum(one.samples for one in found))
            say(line(found, rate.value))
            if over.wait(LINE):
                return
