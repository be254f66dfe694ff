"""The decoding baselines: filters and penalties on the aligned model alone.

A filter takes top-p's place, as in the work it comes from: top-p is off unless asked for. The
control is the filter's own number; the temperature stays free.

Paper: §4 (decoding baselines).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from baco.methods.base import Method, Setting, Task, Update
from baco.methods.models import run_alone

if TYPE_CHECKING:
    from baco.models.sides import Models

ALIGNED = frozenset({"aligned logits"})
"""The need of methods that use the aligned model only."""


def run_min_p(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The aligned model; its min-p filter is the control."""
    yield from run_alone(pair, "aligned", tasks, setting)


def _filtered(
    pair: Models, tasks: Sequence[Task], setting: Setting, **filters: object
) -> Iterator[Update]:
    """The aligned model with another filter."""
    warp = replace(setting.sampling.warp, **filters)  # type: ignore[arg-type]
    sampling = replace(setting.sampling, warp=warp)
    yield from run_alone(pair, "aligned", tasks, replace(setting, sampling=sampling))


def run_top_n_sigma(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The aligned model; tokens far below the likeliest, in standard deviations, are dropped."""
    yield from _filtered(pair, tasks, setting, top_n_sigma=setting.control)


def run_typical(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The aligned model; tokens that surprise much more or less than expected are dropped."""
    yield from _filtered(pair, tasks, setting, typical=setting.control)


def run_xtc(pair: Models, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
    """The aligned model; top choices are dropped half of the time."""
    yield from _filtered(pair, tasks, setting, xtc=setting.control)


METHODS = (
    Method(
        "min-p",
        "decoding",
        "min-p",
        "arXiv 2407.01082",
        run_min_p,
        default=0.1,
        low=0.0,
        high=1.0,
        alias="min_p",
        needs=ALIGNED,
        top_p=1.0,
    ),
    Method(
        "top-n-sigma",
        "decoding",
        "number of standard deviations",
        "arXiv 2411.07641",
        run_top_n_sigma,
        default=1.0,
        low=0.0,
        high=100.0,
        needs=ALIGNED,
        top_p=1.0,
    ),
    Method(
        "xtc",
        "decoding",
        "probability from which on a token is a top choice",
        "text-generation-webui #6335",
        run_xtc,
        default=0.1,
        low=0.001,
        high=1.0,
        needs=ALIGNED,
        top_p=1.0,
    ),
    Method(
        "typical",
        "decoding",
        "typical mass",
        "arXiv 2202.00666",
        run_typical,
        default=0.9,
        low=0.001,
        high=1.0,
        needs=ALIGNED,
        top_p=1.0,
    ),
)
