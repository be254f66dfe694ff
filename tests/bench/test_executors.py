"""Other ways of running a plan give the same samples."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from baco.bench.executors import execute
from baco.errors import InputError

from .fake import content

PLAN = """
pairs = ["tiny"]
n = 3
[[datasets]]
dataset = "tiny"
limit = 3
[sampling]
max_new_tokens = 24
[run]
max_rows = 8
[[methods]]
method = "aligned"
controls = [1.0, 1.5]
[[methods]]
method = "baco"
router = "p-punc"
controls = [0.2, 0.4]
[metrics]
quality = ["reward@tiny"]
diversity = ["dist_1"]
"""


def run(folder: Path, *options: str) -> list[tuple[object, ...]]:
    """Runs the plan in a process of its own; returns what the store holds."""
    (folder / "plan.toml").write_text(PLAN)
    path = folder / f"{len(options)}.sqlite"
    command = [sys.executable, "-m", "baco", "bench", "run", "plan.toml", "--store", str(path)]
    result = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, env=os.environ
    )
    assert result.returncode == 0, result.stderr
    return content(path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra ray)")
def test_ray_makes_what_one_process_makes(tmp_path: Path) -> None:
    found = run(tmp_path, "--executor", "ray", "--workers", "2")
    assert len(found) == 4 * 3
    assert found == run(tmp_path)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown executor 'slurm'"):
        execute(tmp_path / "s.sqlite", "slurm")
    with pytest.raises(InputError, match="0 workers are too few"):
        execute(tmp_path / "s.sqlite", "ray", 0)
