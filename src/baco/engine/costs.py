"""What a forward pass costs each side: by the models' sizes, and by a table of wider passes.

How much more expensive a pass gets when it is fed a guess per row differs. While reading the
weights takes longer than the arithmetic, a second token per row is all but free; in a large batch
it costs what the first one did. What it costs is looked up by kind of device, precision and rows,
never measured in a run: a clock differs from run to run, and with it would the passes, their widths
and so the last bits of what is computed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from baco.engine.partner import Partner

KINDS = (1, 4, 16, 64)
"""Batches count as the next of so many rows; larger ones as the largest."""

SLOPES: dict[tuple[str, str], tuple[float, ...]] = {
    ("cpu", "torch.bfloat16"): (0.0, 0.25, 0.5, 0.75),
    ("cpu", "torch.float32"): (0.0, 0.25, 0.25, 1.25),
}
"""By what share each further token per row adds to a pass, by (kind of device, precision), for
each of `KINDS`: 0 where it is free, 1 where two tokens take twice as long as one. The mean over
three further tokens; medians of three runs of ``OMP_NUM_THREADS=1 python -m benchmarks.widths`` on
one core of an AMD EPYC, rounded to quarters. What is not in the table counts as free: nobody has
measured it (a GPU), or nobody uses it for its speed (float64)."""


def slope(runs_on: tuple[str, object] | None, rows: int) -> float:
    """Returns by what share each further token per row adds to a pass of so many rows.

    Args:
        runs_on: Kind of device and precision, as of `Partner`.
        rows: How many.
    """
    kind, dtype = runs_on or ("", None)
    by_kind = SLOPES.get((kind, str(dtype)))
    return by_kind[min(bisect_left(KINDS, rows), len(KINDS) - 1)] if by_kind else 0.0


class Costs:
    """What passes of both sides cost, in weights read.

    Args:
        partners: Both partners, aligned first.
    """

    def __init__(self, partners: Sequence[Partner]) -> None:
        self._partners = partners

    def of(self, rows: int, widths: int) -> list[list[float]]:
        """Returns for each side what its passes cost, by tokens per row: 0 (as 1) to `widths`."""
        return [
            [
                partner.parameters * (1 + slope(partner.runs_on, rows) * max(0, width - 1))
                for width in range(widths + 1)
            ]
            for partner in self._partners
        ]
