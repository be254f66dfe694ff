"""What a release needs is there and agrees with itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import baco

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
yaml = pytest.importorskip("yaml")


def read(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere():
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    named = {PROJECT["version"], baco.__version__, read("CITATION.cff")["version"], newest[1]}
    assert named == {PROJECT["version"]}


def test_the_citation_names_the_paper():
    paper = read("CITATION.cff")["references"][0]
    assert paper["title"] in (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(paper["authors"]) == 6


def test_every_python_that_is_promised_is_in_the_matrix():
    matrix = read(".github/workflows/tests.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    prefix = "Programming Language :: Python :: "
    promised = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(prefix)]
    assert promised
    assert set(promised) <= set(matrix)
    assert PROJECT["requires-python"] == f">={matrix[0]}"


def test_workflows_run_targets_that_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        wanted = set(re.findall(r"run: make ([\w-]+)", workflow.read_text(encoding="utf-8")))
        assert wanted <= targets, workflow.name


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
@pytest.mark.parametrize("target", ["test-vllm-gpu", "bench-gpu"])
def test_targets_that_need_an_environment_say_which(target: str) -> None:
    bare = f"PYTHON={sys.executable} -I -S"  # finds no packages
    done = subprocess.run(["make", target, bare], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install -e '.[vllm,lora]' --group vllm" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_site_is_built_strictly():
    """With ``--quiet`` mkdocs counts no warnings, and ``--strict`` refuses nothing."""
    (build,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert "--strict" in build
    assert "quiet" not in build


def test_publishing_stores_no_secret():
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    publish = read(".github/workflows/release.yml")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["needs"] == "build"
    assert "secrets." not in text
