"""`baco serve` as a process: it starts, answers, and stops when it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from baco.cli import run

httpx = pytest.importorskip("httpx", reason="needs the package httpx")
pytest.importorskip("fastapi", reason="needs the extra `serve`")


def test_help_names_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--api-key", "--cors", "--max-rows", "--grace"):
        assert option in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pair", "tinny"], "did you mean 'tiny'"),
        (["--pair", "a=./nowhere,./nowhere"], "no folder"),
        (["--timeout", "0"], "timeout"),
        (["--lookahead", "far"], "look-ahead"),
        (["--filter", "no_such_module_here:f"], "cannot be imported"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str],
    words: str,
    random_folders: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "--pair" not in arguments:
        arguments = ["--pair", "toy={},{}".format(*random_folders), *arguments]
    assert run(["serve", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert words in error
    assert error.count("\n") == 0


def test_starts_answers_and_stops(random_folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, aligned = random_folders
    (tmp_path / "rules.py").write_text(
        "def allow(prompt, text):\n    return prompt + ', checked'\n"
    )
    pair = ["--pair", f"toy={base},{aligned}", "--filter", "rules:allow"]
    server = subprocess.Popen(
        [sys.executable, "-m", "baco", "serve", *pair, "--port", "0"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "BACO_API_KEY": "k"},
    )
    assert server.stderr is not None
    try:
        line = next(line for line in server.stderr if "playground" in line)
        url = line.split()[1]
        answer = httpx.post(
            f"{url}v1/chat/completions",
            json={
                "model": "toy",
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": 3,
            },
            headers={"Authorization": "Bearer k"},
            timeout=300,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "Hello, checked"
        assert httpx.get(f"{url}v1/models", timeout=300).status_code == 401
        server.send_signal(signal.SIGTERM)
        assert server.wait(300) in (0, -signal.SIGTERM)
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
