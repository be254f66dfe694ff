"""How far a run is: a matrix of cells (curves x controls), and what failed."""

from __future__ import annotations

from typing import NamedTuple

from baco.bench.cells import Cell
from baco.bench.store import Store


class Progress(NamedTuple):
    """How far one cell is.

    Attributes:
        cell: The cell.
        done: Groups that have all their samples.
        groups: Groups that it will have.
        samples: Samples that are there.
        failed: Groups that could not be made when they were last tried.
    """

    cell: Cell
    done: int
    groups: int
    samples: int
    failed: int

    @property
    def shown(self) -> str:
        """One word for a matrix: a tick, a share, a dot for nothing; a cross for failures."""
        if self.failed:
            return f"✗ {self.done}/{self.groups}"
        if self.done == self.groups:
            return "✓"
        return f"{self.done}/{self.groups}" if self.samples else "·"


def progress(store: Store) -> list[Progress]:
    """Says how far each cell of the store's plan is, in the plan's order."""
    counts = store.counts()
    failures = store.failures()
    chosen: dict[str, list[str]] = {}
    found = []
    for cell in store.cells():
        if cell.fingerprint not in chosen:
            chosen[cell.fingerprint] = [record.id for record in store.records(cell)]
        records = chosen[cell.fingerprint]
        there = [min(counts.get((cell.key, record), 0), cell.n) for record in records]
        found.append(
            Progress(
                cell,
                sum(count == cell.n for count in there),
                len(records),
                sum(there),
                sum((cell.key, record) in failures for record in records),
            )
        )
    return found


def matrix(found: list[Progress]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Arranges cells: for each pair, dataset and curve its controls and how far they are.

    Returns:
        (pair and dataset, curve, [(control, how far)]), in order.
    """
    lines: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for one in found:
        cell = one.cell
        key = (f"{cell.pair} on {cell.dataset}", cell.curve)
        control = cell.title.partition(f"{cell.curve}@")[2] or "-"
        lines.setdefault(key, []).append((control, one.shown))
    return [(where, curve, cells) for (where, curve), cells in lines.items()]
