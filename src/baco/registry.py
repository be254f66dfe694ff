"""What users pick by name: entries of a registry, and their own functions (``module:function``)."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from baco.errors import BacoError, InputError, UnknownNameError

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


_EXAMPLES = {
    "filter": "my_rules:allow",
    "reward": "my_rules:rate",
    "measure": "my_rules:spread",
    "router": "my_rules:route@0.3",
}


def load_function(spec: str, kind: str) -> Any:
    """Imports a function; arguments and errors as of `load_object`."""
    function = load_object(spec, kind)
    if not callable(function):
        raise _missing(spec, kind)
    return function


def _missing(spec: str, kind: str) -> InputError:
    module, _, name = spec.partition(":")
    return InputError(
        f"the module {module!r} has no function {name!r}", hint=f"check the {kind}'s name"
    )


def load_object(spec: str, kind: str) -> Any:
    """Imports a function, or what else a module holds.

    Args:
        spec: ``module:function``; modules of the current folder are found too.
        kind: What it is for, ``filter``, ``reward``, ``measure`` or ``router``, for messages.

    Returns:
        The function, or what else is called so.

    Raises:
        InputError: If there is no such function.
    """
    module_name, colon, name = spec.partition(":")
    if not (module_name and colon and name):
        raise InputError(f"{kind} {spec!r} is not module:function", hint=f"e.g. {_EXAMPLES[kind]}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(
            f"the {kind}'s module {module_name!r} cannot be imported: "
            f"{type(error).__name__}: {error}",
            hint="put it into the current folder, or install it",
        ) from error
    if (found := getattr(module, name, None)) is None:
        raise _missing(spec, kind)
    return found


def number_of(kind: str, function: Any, prompt: object, texts: Sequence[str]) -> float:
    """Asks a user's function for the number of a group.

    Args:
        kind: What it is for, for messages.
        function: The function.
        prompt: The group's prompt.
        texts: The group's texts.

    Returns:
        What it returned.

    Raises:
        BacoError: If it fails, or returns no number.
    """
    try:
        return float(function(prompt, list(texts)))
    except Exception as error:
        raise BacoError(
            f"the {kind} failed: {type(error).__name__}: {error}",
            hint="it is called with a prompt and a list of texts and returns a number",
        ) from error
