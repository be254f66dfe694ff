"""What the README tells people to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"<!-- run -->\n```(sh|python)\n(.*?)```", README, flags=re.DOTALL)


def execute(language: str, block: str, folder: Path) -> subprocess.CompletedProcess:
    """Runs a block as it stands, in an empty folder."""
    arguments = {
        "sh": ["bash", "-euo", "pipefail", "-c", block],
        "python": [sys.executable, "-c", block],
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        arguments[language],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("language", "block"), BLOCKS, ids=lambda text: text.split("\n")[0][:40])
def test_blocks_run(language, block, tmp_path):
    done = execute(language, block, tmp_path)
    assert done.returncode == 0, done.stderr
    if "--output groups.jsonl" in block:
        assert done.stderr.splitlines() == [
            "baco: 10 new samples in groups.jsonl",
            "baco: 6 new samples in groups.jsonl, 10 were there already",
        ]
        assert len((tmp_path / "groups.jsonl").read_text().splitlines()) == 16
    elif "baco.router(" in block:
        assert not done.stdout.startswith("base share 0.00"), "the router changes nothing"
        assert done.stdout.startswith("base share ")
        assert not done.stderr
    else:
        assert done.stdout.strip()
        assert not done.stderr


def test_blocks_are_found():
    assert [language for language, _ in BLOCKS].count("sh") >= 4
    assert [language for language, _ in BLOCKS].count("python") >= 2


def test_every_block_runs_or_says_why_not():
    said = re.findall(r"^(.*)\n```\w+$", README, flags=re.MULTILINE)
    assert len(said) > 10
    for line in said:
        assert re.fullmatch(r"<!-- (run|not run: \w.{10,}) -->", line), line


NOT_NAMES = {
    "baco.jsonl", "baco.sbatch", "baco.diversity.clamped", "baco.empty", "baco.engines",
    "baco.note", "baco.warnings",
}  # fmt: skip
"""Files, and fields of the server's answers."""


def names_in(*pages: Path) -> set[str]:
    """What pages call `baco.something`."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return set(re.findall(r"(?<![\w./-])baco(?:\.[A-Za-z_]\w*)+", text)) - NOT_NAMES


def test_every_name_that_a_document_writes_is_there():
    """README's with ``import baco`` and nothing else, as it has it; others may be modules."""
    code = """
import functools, pkgutil, sys
import baco
assert "torch" not in sys.modules
for name in sys.argv[1].split():
    functools.reduce(getattr, name.split(".")[1:], baco)
for name in sys.argv[2].split():
    pkgutil.resolve_name(name)
"""
    first = names_in(ROOT / "README.md")
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md"]
    rest = names_in(*pages)
    assert {"baco.hf.decode", "baco.load", "baco.PlainTemplate"} <= first
    assert {"baco.metrics.score", "baco.tiny.judge"} <= rest
    lists = [" ".join(sorted(names)) for names in (first, rest)]
    done = subprocess.run([sys.executable, "-c", code, *lists], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    wanted = set(re.findall(r"^make (\w+)", README, flags=re.MULTILINE))
    assert wanted == {"demo", "test"}
    assert wanted <= set(targets)


def test_links_lead_somewhere():
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (ROOT / target).is_file(), f"{page}: {target}"


def test_the_picture_is_of_the_bundled_pair():
    """The drawn group is the one that the pair gives today."""
    import html

    import baco

    text = (ROOT / "docs" / "images" / "group.svg").read_text(encoding="utf-8")
    drawn = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", text)))
    words = " ".join(drawn.replace("\xa0", " ").split())
    group = baco.load("tiny").generate(
        "My comic has a wise wizard without a name. Suggest one.", n=10, router="p-punc@0.3", seed=0
    )
    assert group.summary in words
    for sample in group:
        assert " ".join(sample.text.split()) in re.sub(r" +([.,!?;:])", r"\1", words)
