"""Methods by name: everything that turns a prompt into a group."""

from __future__ import annotations

from baco.methods import (
    aaco,
    beams,
    decoding,
    ensembles,
    interpolate,
    listing,
    models,
    nudging,
    prompting,
    recoding,
)
from baco.methods.base import METHODS, Chunk, Done, Method, Sampling, Setting, Task, Update

__all__ = ["METHODS", "Chunk", "Done", "Method", "Sampling", "Setting", "Task", "Update"]

for _module in (
    models, interpolate, aaco, nudging, prompting, listing, beams, decoding, recoding, ensembles,
):  # fmt: skip
    for _method in _module.METHODS:
        METHODS.add(_method.name, _method)
