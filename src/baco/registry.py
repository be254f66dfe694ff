"""One small registry for everything that users pick by name: routers, methods, metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from baco.errors import InputError, UnknownNameError

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]*\Z")


class Registry(Mapping[str, T], Generic[T]):
    """Maps names to objects; unknown names raise with a did-you-mean.

    Users' own packages add entries through the entry-point group ``baco.<kind>s``; these are
    loaded only when a name is not found among the built-in ones, or when the whole is listed.

    Args:
        kind: What an entry is, in the singular, such as ``"router"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}
        self._plugins_loaded = False

    def add(self, name: str, item: T) -> T:
        """Registers an entry.

        Args:
            name: Lower-case name; letters, digits and ``_ . + -``.
            item: The entry.

        Returns:
            The entry itself.

        Raises:
            InputError: If the name is malformed or taken by another entry.
        """
        if not _NAME.match(name):
            raise InputError(
                f"bad {self.kind} name {name!r}", hint="use lower-case letters, digits and _ . + -"
            )
        if self._items.get(name, item) is not item:
            raise InputError(f"the {self.kind} name {name!r} is taken", hint="choose another name")
        self._items[name] = item
        return item

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that registers what it decorates under a name."""
        return lambda item: self.add(name, item)

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in entry_points(group=f"baco.{self.kind}s"):
            if point.name not in self._items:
                self.add(point.name, point.load())

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            self._load_plugins()
        try:
            return self._items[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, self._items) from None

    def __contains__(self, name: object) -> bool:
        if name not in self._items:
            self._load_plugins()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(self._items)

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._items)
