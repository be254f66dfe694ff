"""Reads points: one row per setting of a method (or per setting and prompt)."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from baco.errors import InputError, UnknownNameError
from baco.metrics.spec import Metric, resolve

KEYS = ("dataset", "pair", "method", "control", "prompt", "n")
"""Columns with a meaning of their own; ``method`` is required, the others are optional."""

_ONE = re.compile(r"(?:t|temp|temperature)?\s*=?\s*([0-9.]+)\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Point:
    """Values of one setting of a method, of one prompt if values are given per prompt.

    Args:
        method: The method.
        control: The setting's control value as text; empty if the method has none.
        values: Value of each metric; NaN where there is none.
        dataset: Dataset and model pair; figures are computed within one and then averaged.
        prompt: Prompt that the values belong to; empty for means over prompts.
        n: Number of outputs in a group, 0 if unknown.
    """

    method: str
    control: str
    values: Mapping[str, float]
    dataset: str = ""
    prompt: str = ""
    n: int = 0


@dataclass(frozen=True)
class Points:
    """All points of a comparison.

    Args:
        points: The points.
        metrics: The metrics they have values of, in column order.
        ignored: Columns that are neither metrics nor keys.
    """

    points: tuple[Point, ...]
    metrics: tuple[Metric, ...]
    ignored: tuple[str, ...] = field(default=())

    def datasets(self) -> list[str]:
        """Datasets in order of appearance."""
        return list(dict.fromkeys(p.dataset for p in self.points))


@dataclass(frozen=True)
class Reference:
    """Which rows are a reference: a method at one control value.

    Args:
        role: ``base`` or ``aligned``.
        method: Method name, compared without regard to case.
        control: Control value; empty means temperature 1 (``1``, ``1.0``, ``T=1`` or empty).
    """

    role: str
    method: str
    control: str = ""

    @classmethod
    def parse(cls, role: str, text: str) -> Reference:
        """Reads ``METHOD`` or ``METHOD@CONTROL``."""
        method, _, control = text.partition("@")
        if not method:
            raise InputError(f"the {role} reference {text!r} names no method")
        return cls(role, method, control)

    def matches(self, method: str, control: str) -> bool:
        """Whether a setting is this reference."""
        if method.casefold() != self.method.casefold():
            return False
        if self.control:
            return control == self.control or _number(control) == _number(self.control)
        found = _ONE.match(control)
        return control == "" or (found is not None and _number(found[1]) == 1.0)

    def find(self, settings: Sequence[tuple[str, str]], where: str) -> tuple[str, str]:
        """Picks the reference among the settings.

        Args:
            settings: Pairs of method and control.
            where: What they are the settings of, for the message.

        Returns:
            The one setting that matches.

        Raises:
            InputError: If none matches, or several do.
        """
        found = [s for s in settings if self.matches(*s)]
        if len(found) == 1:
            return found[0]
        mine = [c or "(empty)" for m, c in settings if m.casefold() == self.method.casefold()]
        wanted = f"control {self.control!r}" if self.control else "control 1 (temperature 1)"
        have = f"it has only control {', '.join(mine)}" if mine else "there is no such method"
        if len(found) > 1:
            have = f"several rows match: control {', '.join(mine)}"
        raise InputError(
            f"no {self.role} reference{where}: a row with method {self.method!r} and {wanted} is "
            f"needed, {have}"
            if not found
            else f"the {self.role} reference{where} is not unique: {have}",
            hint=f"--{self.role} METHOD@CONTROL names another row",
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_points(path: str | Path) -> Points:
    """Reads a CSV file of points, or one of per-prompt values.

    The columns ``method`` and ``control`` name the setting. ``dataset`` and ``pair`` (optional)
    keep comparisons apart; ``prompt`` (optional) makes the rows per-prompt values; ``n`` (optional)
    is the number of outputs in a group. Every column named like a metric holds its values; an empty
    cell is a missing value. Other columns are ignored and listed.

    Args:
        path: The file.

    Returns:
        The points.

    Raises:
        InputError: If the file cannot be read or does not hold what is needed.
    """
    file = Path(path)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            return _from_rows(header, [(reader.line_num, row) for row in reader], str(file))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file} is not a CSV file in UTF-8: {error}") from error


def _from_rows(
    header: Sequence[str], rows: Sequence[tuple[int, Mapping[str, str]]], name: str
) -> Points:
    if "method" not in header:
        raise InputError(
            f"{name} has no column 'method'", hint=f"its columns: {', '.join(header) or 'none'}"
        )
    twice = sorted({c for c in header if header.count(c) > 1})
    if twice:
        raise InputError(f"{name} has the column {twice[0]!r} twice")
    metrics: list[Metric] = []
    ignored: list[str] = []
    for column in header:
        if column in KEYS:
            continue
        try:
            metrics.append(resolve(column))
        except UnknownNameError:
            ignored.append(column)
    if not any(m.is_diversity for m in metrics) or all(m.is_diversity for m in metrics):
        raise InputError(
            f"{name} needs a column of a quality metric and one of a diversity metric",
            hint="`baco metrics list` prints their names",
        )
    if not rows:
        raise InputError(f"{name} has no rows")
    return Points(
        tuple(_point(line, row, metrics, name) for line, row in rows),
        tuple(metrics),
        tuple(ignored),
    )


def _point(line: int, row: Mapping[str, str], metrics: Sequence[Metric], name: str) -> Point:
    where = f"{name}, line {line}"
    if None in row or None in row.values():
        raise InputError(f"{where}: the row has not as many cells as the header")
    method = row["method"].strip()
    if not method:
        raise InputError(f"{where}: the method is empty")
    values = {}
    for metric in metrics:
        cell = row[metric.name].strip()
        try:
            value = float(cell) if cell else math.nan
        except ValueError:
            raise InputError(f"{where}: {metric.name} is {cell!r}, not a number") from None
        if math.isinf(value):
            raise InputError(f"{where}: {metric.name} is infinite")
        values[metric.name] = value
    count = row.get("n", "").strip()
    if count and not (count.isdigit() and int(count) > 0):
        raise InputError(f"{where}: n is {count!r}, not a positive whole number")
    dataset = " / ".join(filter(None, (row.get(k, "").strip() for k in ("dataset", "pair"))))
    return Point(
        method,
        row.get("control", "").strip(),
        values,
        dataset,
        row.get("prompt", ""),
        int(count or 0),
    )
