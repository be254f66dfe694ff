"""Methods by name: everything that turns a prompt into a group."""

from __future__ import annotations

from baco.methods import aaco, beams, decoding, ensembles, models, nudging, prompting
from baco.methods.base import Chunk, Done, Method, Sampling, Setting, Task, Update
from baco.registry import Registry

__all__ = ["METHODS", "Chunk", "Done", "Method", "Sampling", "Setting", "Task", "Update"]

METHODS: Registry[Method] = Registry("method")
"""Every method by name; plug-ins add theirs through the entry-point group ``baco.methods``."""

for _module in (models, aaco, nudging, prompting, beams, decoding, ensembles):
    for _method in _module.METHODS:
        METHODS.add(_method.name, _method)
