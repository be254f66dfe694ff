"""The Python API as users meet it: what completes, what is typed, what waits for torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import baco
from baco.methods.settings import GenerateSettings, make_setting

SCRIPT = Path(__file__).parent / "support" / "user_script.py"


def checked(script: Path) -> subprocess.CompletedProcess[str]:
    """Runs mypy --strict on a user's script."""
    pytest.importorskip("mypy", reason="needs mypy")
    how = ["--strict", f"--config-file={os.devnull}", f"--cache-dir={script.parent / 'cache'}"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *how, script.name],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_names_complete() -> None:
    assert {"load", "router", "View", "Rule", "SideScores", "Group", "hf"} <= set(dir(baco))
    for name in baco.__all__:
        assert getattr(baco, name) is not None
    assert not [name for name in dir(baco) if name.startswith("_") and name != "__version__"]


def test_every_setting_is_a_typed_keyword() -> None:
    import inspect

    taken = inspect.signature(make_setting).parameters
    assert set(GenerateSettings.__annotations__) == set(taken) - {"n", "calibration"}


@pytest.mark.slow
def test_a_users_script_is_typed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    good = checked(script)
    assert good.returncode == 0, good.stdout + good.stderr
    script.write_text(
        "import baco\n"
        'baco.load("tiny").generate("Hi", rooter="p")\n'
        'baco.load("tiny").generate("Hi", seed="one")\n'
    )
    bad = checked(script)
    assert bad.returncode == 1
    assert len(re.findall(r"^script.py:[23]: error", bad.stdout, flags=re.MULTILINE)) >= 2, bad


WATCHED = """
import sys
from baco.cli import run
code = run(sys.argv[1:])
heavy = [name for name in ("torch", "transformers") if name in sys.modules]
sys.exit(f"imported: {heavy}" if heavy else code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "Hi", "--router", "p-pnc"],
        ["generate", "Hi", "--gamma", "7"],
        ["generate", "Hi", "--router", "p-punc@0.3>h", "--control", "x"],
        ["generate", "Hi", "--method", "alligned"],
        ["generate", "Hi", "--method", "base", "--control", "hot"],
        ["generate", "Hi", "--temperature", "-1"],
        ["generate", "Hi", "--diversity", "1.5"],
        ["generate", "Hi", "--filter", "nope"],
        ["generate", "Hi", "--output", "/no/such/folder/x"],
        ["generate", "Hi", "--pair", "tinny"],
        ["generate", "Hi", "-n", "0"],
        ["generate"],
        ["bench", "run", "no-such-plan"],
        ["calibrate", "--pair", "tinny"],
    ],
    ids=" ".join,
)
def test_bad_input_is_refused_before_torch_is_imported(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("baco: ")


def test_help_and_completion_do_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, "generate", "--help"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    options = re.findall(r"--[a-z][a-z0-9-]+", done.stdout)
    assert options[:3] == ["--filter", "--gamma", "--diversity"]  # the first is in the safety line
    panels = re.findall(r"─ ([A-Z][A-Za-z, ]+) ─", done.stdout)
    assert panels[1:] == [
        "Options",
        "Sampling",
        "Input and output",
        "Models",
        "Speed, never samples",
    ]
