"""A small pattern language that both writes text and reads it back.

A pattern is plain text with ``[a|b]`` for a choice and ``{name}`` for a variable. ``{Name}``
starts with a capital, ``{a_name}`` carries an article and ``{A_name}`` both.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Choices:
    """One of several sequences."""

    options: tuple[Sequence_, ...]


@dataclass(frozen=True)
class Variable:
    """A place to fill: the variable's name and how its value is written."""

    name: str
    article: bool
    capital: bool


Node = str | Choices | Variable
Sequence_ = tuple[Node, ...]

_TOKEN = re.compile(r"[\[\]|]|\{[^}]*\}|[^\[\]|{]+")


@cache
def parse(pattern: str) -> Sequence_:
    """Parse a pattern.

    Args:
        pattern: The pattern's text.

    Returns:
        Its nodes, in order.
    """
    tokens = _TOKEN.findall(pattern)
    nodes, rest = _parse_sequence(tokens, 0, nested=False)
    if rest != len(tokens):
        raise ValueError(f"unbalanced brackets in pattern {pattern!r}")
    return nodes


def _parse_sequence(tokens: list[str], at: int, nested: bool) -> tuple[Sequence_, int]:
    nodes: list[Node] = []
    while at < len(tokens):
        token = tokens[at]
        if token in ("|", "]") and nested:
            break
        if token == "[":
            options: list[Sequence_] = []
            while True:
                option, at = _parse_sequence(tokens, at + 1, nested=True)
                options.append(option)
                if at >= len(tokens):
                    raise ValueError(f"missing ']' after {''.join(tokens)!r}")
                if tokens[at] == "]":
                    break
            nodes.append(Choices(tuple(options)))
        elif token.startswith("{"):
            nodes.append(_variable(token[1:-1]))
        else:
            nodes.append(token)
        at += 1
    return tuple(nodes), at


def _variable(text: str) -> Variable:
    article = text[:2] in ("a_", "A_")
    name = text[2:] if article else text
    return Variable(name.lower(), article, text[0].isupper())


def write(value: str, variable: Variable) -> str:
    """Write a value the way a variable asks for.

    Args:
        value: The value.
        variable: The place it goes to.

    Returns:
        The value with its article and capital.
    """
    if variable.article:
        value = ("an " if value[0].lower() in "aeiou" and value != "ukulele" else "a ") + value
    return value[0].upper() + value[1:] if variable.capital else value


def expand(pattern: str, values: Mapping[str, str], rng: random.Random) -> str:
    """Write one random text of a pattern.

    Args:
        pattern: The pattern.
        values: The value of every variable.
        rng: Decides the choices.

    Returns:
        The text.
    """
    return _expand(parse(pattern), values, rng)


def _expand(nodes: Sequence_, values: Mapping[str, str], rng: random.Random) -> str:
    parts: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            parts.append(node)
        elif isinstance(node, Variable):
            parts.append(write(values[node.name], node))
        else:
            parts.append(_expand(rng.choice(node.options), values, rng))
    return "".join(parts)


@cache
def variables(pattern: str) -> frozenset[str]:
    """Name the variables that a pattern mentions.

    Args:
        pattern: The pattern.

    Returns:
        Their names.
    """

    def names(nodes: Sequence_) -> set[str]:
        found: set[str] = set()
        for node in nodes:
            if isinstance(node, Variable):
                found.add(node.name)
            elif isinstance(node, Choices):
                for option in node.options:
                    found |= names(option)
        return found

    return frozenset(names(parse(pattern)))


def mentions(pattern: str) -> set[frozenset[str]]:
    """List the sets of variables that one text of a pattern may mention.

    Args:
        pattern: The pattern.

    Returns:
        One set for each way to choose.
    """

    def ways(nodes: Sequence_) -> set[frozenset[str]]:
        found: set[frozenset[str]] = {frozenset()}
        for node in nodes:
            if isinstance(node, Variable):
                found = {one | {node.name} for one in found}
            elif isinstance(node, Choices):
                options = {way for option in node.options for way in ways(option)}
                found = {one | way for one in found for way in options}
        return found

    return ways(parse(pattern))


class PatternReader:
    """A compiled set of patterns that reads texts back into the values of their variables.

    Args:
        patterns: Alternatives; a text is read if any of them fits.
        values: All values that each variable may have.
    """

    def __init__(self, patterns: Sequence[str], values: Mapping[str, Sequence[str]]) -> None:
        self.groups: dict[str, tuple[str, dict[str, str]]] = {}
        self._values = values
        self.source = "(?:" + "|".join(self._sequence(parse(p)) for p in patterns) + ")"

    @classmethod
    def join(
        cls, steps: Sequence[tuple[Sequence[str], bool]], values: Mapping[str, Sequence[str]]
    ) -> PatternReader:
        """Compile a chain of sentences, each one of some patterns.

        Args:
            steps: Patterns of each sentence, and whether it may be absent.
            values: All values that each variable may have.

        Returns:
            The reader of the whole chain.
        """
        reader = cls((), values)
        sources = []
        for number, (patterns, optional) in enumerate(steps):
            body = "|".join(reader._sequence(parse(p)) for p in patterns)
            space = " " if number else ""
            sources.append(f"(?:{space}(?:{body})){'?' if optional else ''}")
        reader.source = "".join(sources)
        return reader

    def _sequence(self, nodes: Sequence_) -> str:
        return "".join(self._node(node) for node in nodes)

    def _node(self, node: Node) -> str:
        if isinstance(node, str):
            return re.escape(node)
        if isinstance(node, Choices):
            return "(?:" + "|".join(self._sequence(option) for option in node.options) + ")"
        forms = {write(value, node): value for value in self._values[node.name]}
        group = f"g{len(self.groups)}"
        self.groups[group] = (node.name, forms)
        listed = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        return f"(?P<{group}>{listed})"

    def reader(self) -> Callable[[str], tuple[dict[str, str], bool, int] | None]:
        """Compile.

        Returns:
            A function from a text to the values it mentions, whether they agree with each other,
            and where reading stopped; or None if the text does not begin with a fitting one.
        """
        compiled = re.compile(self.source)

        def read(text: str) -> tuple[dict[str, str], bool, int] | None:
            match = compiled.match(text)
            if match is None:
                return None
            found: dict[str, str] = {}
            agree = True
            for group, form in match.groupdict().items():
                if form is not None:
                    name, forms = self.groups[group]
                    value = forms[form]
                    agree = agree and found.setdefault(name, value) == value
            return found, agree, match.end()

        return read
