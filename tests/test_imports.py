"""The rooms of the package: no circle among imports, few loose files, names with one meaning."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import baco

ROOT = Path(baco.__file__).parent


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = (ROOT.name, *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The package's modules that one imports: at load, in functions, and for types alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in known:
                    yield whole
                elif node.module in known:
                    yield node.module


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, by Tarjan's strongly connected components."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == order[name]:
            members = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(members) > 1:
                found.append(sorted(members))

    for name in graph:
        if name not in order:
            visit(name)
    return found


def test_no_module_imports_itself_through_others() -> None:
    known = modules()
    graph = {name: set(imports(path, known)) - {name} for name, path in known.items()}
    assert circles(graph) == []


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d2"}, "d2": {"d"}}
    assert circles(graph) == [["b", "c"], ["d", "d2"]]


def test_few_files_stand_loose_at_the_top() -> None:
    loose = [path.name for path in ROOT.glob("*.py")]
    assert len(loose) < 10, loose


def test_each_room_and_each_loose_file_has_its_line_for_newcomers() -> None:
    guide = ROOT.parents[1] / "CONTRIBUTING.md"
    if not guide.is_file():
        pytest.skip("needs the repository")
    lines = guide.read_text(encoding="utf-8").splitlines()
    firsts = [line.split("|")[1] for line in lines if line.startswith("|")]
    told = {name for first in firsts for name in re.findall(r"`([^`]+)`", first)}
    rooms = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "_"}
    loose = {path.name for path in ROOT.glob("*.py") if path.name[0] != "_"}
    assert rooms | loose == told


ALLOWED_TWICE = {
    "Floats": "arrays of float64 wherever it stands: the engine must not import the reporting room",
}
"""Names of types that stand at the top of more than one module, each with the reason."""


def types(path: Path) -> Iterator[str]:
    """Classes at the top of a module, and aliases of types: names like ``Conversation``."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper():
                yield name


def test_a_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for module, path in modules().items():
        for name in types(path):
            places.setdefault(name, []).append(module)
    assert len(places) > 350
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in ALLOWED_TWICE} == {}
    assert set(ALLOWED_TWICE) <= set(twice), "these are not doubled any more"
