"""Methods by name: everything that turns a prompt into a group."""

from __future__ import annotations

from baco.methods import aaco, models, nudging
from baco.methods.base import Chunk, Done, Method, Sampling, Setting, Task, Update
from baco.registry import Registry

__all__ = ["METHODS", "Chunk", "Done", "Method", "Sampling", "Setting", "Task", "Update"]

METHODS: Registry[Method] = Registry("method")
"""Every method by name; plug-ins add theirs through the entry-point group ``baco.methods``."""

for _method in (*models.METHODS, *aaco.METHODS, *nudging.METHODS):
    METHODS.add(_method.name, _method)
