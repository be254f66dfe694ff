"""The index from the paper to the code names only what exists."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"`([^`]+)`", PAGE)
CODE = sorted({q for q in QUOTED if re.fullmatch(r"[\w/]+\.py(:\w+)?", q)})
COMMANDS = sorted({q for q in QUOTED if q.startswith("baco ")})


def defined(path: Path) -> set[str]:
    """Returns the names that a module defines at its top level."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.parametrize("reference", CODE)
def test_code_and_tests_exist(reference):
    file, _, name = reference.partition(":")
    path = ROOT / file if file.startswith("tests/") else ROOT / "src" / "baco" / file
    assert path.is_file(), f"{path} does not exist"
    if name:
        assert name in defined(path)
    elif file.startswith("tests/"):
        assert any(n.startswith("test") for n in defined(path))


def test_the_page_is_read_at_all():
    assert len(CODE) > 60
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command):
    assert find_spec(f"baco.cli.{command.split()[1]}")


def test_every_router_is_in_the_index():
    from baco.routers import names

    assert not [name for name in names() if f"`{name}`" not in PAGE]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target
