"""Errors that BaCo raises on purpose, each with a hint on how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BacoError(Exception):
    """Base class of every error that BaCo raises on purpose.

    Args:
        message: What is wrong, in one line.
        hint: How to mend it, in one line; shown after the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def clipped(text: str, most: int = 80) -> str:
    """Shortens what a user wrote, so that an error need not repeat all of it."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


class InputError(BacoError, ValueError):
    """A value, name or file given by the user is wrong (CLI: exit code 2; server: 400)."""


class UnknownNameError(InputError, KeyError):
    """A name is not in the list of known names.

    Args:
        kind: What the name stands for, such as ``"router"``.
        name: The unknown name.
        known: All known names; close ones are suggested.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
        super().__init__(
            f"unknown {kind} {name!r}",
            hint=f"{guess}known: {', '.join(names) if names else 'none'}",
        )
        self.kind = kind
        self.name = name
        self._known = names

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:
        """Lets it pass between processes."""
        return type(self), (self.kind, self.name, self._known)


class PairError(BacoError):
    """A model pair cannot be loaded or used as asked (missing, gated, wrong architecture).

    It would fail again (server: 500, and clients are told not to repeat it).
    """


class UnsupportedError(BacoError):
    """The request is well-formed, but this partner, pair or machine cannot do it."""


def not_finite(model: str) -> PairError:
    """Makes the error for a model whose scores are no numbers.

    Args:
        model: What to call it, with its side and dtype where they are known.
    """
    return PairError(
        f"{model} gives scores that are not finite (NaN or infinity)",
        hint="float16 overflows in some models: load with --dtype bfloat16 or float32; "
        "if it is one of these, the weights are damaged",
    )


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def missing_extra(package: str, extra: str) -> BacoError:
    """Makes the error for a package that an optional feature needs.

    Args:
        package: The import name that was not found.
        extra: The extra of BaCo that installs it.

    Returns:
        The error, ready to be raised ``from`` the ``ImportError``.
    """
    return BacoError(
        f"this needs the package {package!r}, which is not installed",
        hint=f"pip install 'baco[{extra}]'",
    )
