"""The command itself, and the commands that list things."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from baco.cli import run

pytestmark = pytest.mark.costs


def command(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "baco", *arguments], capture_output=True, text=True, **options
    )


def test_help_lists_commands_and_imports_no_torch():
    code = (
        "import sys\nfrom baco.cli import run\ncode = run(['--help'])\n"
        "sys.exit(code or 10 * ('torch' in sys.modules or 'transformers' in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 0
    for name in ("generate", "pairs", "routers", "methods"):
        assert name in out.stdout


def test_help_of_generate_imports_no_torch():
    code = (
        "import sys\nfrom baco.cli import run\ncode = run(['generate', '--help'])\n"
        "sys.exit(code or 10 * ('torch' in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.returncode == 0
    assert "--restart-shorter-than" in out.stdout


def test_version(capsys):
    import baco

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"baco {baco.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generat"], "baco: unknown command 'generat' (did you mean 'generate'?"),
        (["--colour"], "baco: No such option: --colour"),
        (["pairs", "extra"], "No such command 'extra'"),
        (["methods", "extra"], "unexpected extra argument"),
    ],
)
def test_mistyped_commands(capsys, arguments, message):
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_unknown_pair(capsys):
    assert run(["generate", "Hi", "--pair", "tinny"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("baco: unknown pair 'tinny' (did you mean 'tiny'")


def test_missing_folder(capsys):
    assert run(["generate", "Hi", "--pair", "./here,./there"]) == 2
    assert "baco: there is no folder './here'" in capsys.readouterr().err


def test_the_bundled_pair_says_where_its_world_ends(capsys):
    known = "Suggest a summer trip destination."
    assert run(["generate", known, "-n", "1"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["generate", known, "Who are you?", "And what is love?", "-n", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.count("base share") == 3
    assert err.count("\n") == 1
    assert "only knows its own small world, and 'Who are you?' is outside it" in err
    assert "--pair smollm2-135m (see baco pairs)" in err
    assert run(["generate", "What is love? " * 40, "-n", "1", "--max-new-tokens", "4"]) == 0
    err = capsys.readouterr().err
    assert "'What is love? What is love? What is l...' is outside it" in err


def test_a_prompt_that_is_too_long_is_all_that_is_said(capsys):
    assert run(["generate", "What is love? " * 400, "-n", "1"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "context window" in err


def test_pairs(capsys):
    assert run(["pairs"]) == 0
    out = capsys.readouterr().out
    assert "meta-llama/Meta-Llama-3-8B + meta-llama/Meta-Llama-3-8B-Instruct" in out
    assert "Meta Llama 3 Community License (gated)" in out
    assert "32.1 GB" in out
    assert run(["pairs", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"tiny", "olmo-2-7b"} <= {row["name"] for row in rows}


def test_routers_lists_every_name_that_parses(capsys):
    from baco.routers import names, parse

    assert run(["routers", "--json"]) == 0
    rows = {r["name"]: r for r in map(json.loads, capsys.readouterr().out.splitlines())}
    assert set(rows) == set(names())
    for name, row in rows.items():
        router = parse(name)
        assert row["default"] == router.gamma
        assert all(row[key] for key in ("formula", "range", "reach", "reads", "source"))
    assert rows["p-punc"]["reads"] == "both"
    assert rows["rand"]["reads"] == "nothing"
    assert run(["routers"]) == 0
    assert "max P_base / max P_aligned < γ" in capsys.readouterr().out


def test_methods(capsys):
    assert run(["methods"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("baco\tcollaboration\t")
    assert run(["methods", "--json"]) == 0
    listed = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert listed["baco"]["needs"] == "aligned text, base text"
    assert listed["aligned"] == {
        "name": "aligned",
        "category": "single model",
        "control": "temperature",
        "range": "[0, 1000]",
        "default": "1",
        "needs": "aligned top-k",
        "source": "§4",
    }


def test_an_old_terminal_is_no_reason_to_crash():
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    listed = command("routers", env=env)
    assert listed.returncode == 0, listed.stderr
    assert "max P_base < ?" in listed.stdout
    rows = [json.loads(line) for line in command("routers", "--json", env=env).stdout.splitlines()]
    assert "max P_base < γ (γ = 1: always)" in {row["formula"] for row in rows}


def test_a_closed_pipe_is_quiet():
    out = subprocess.run(
        f"{sys.executable} -m baco routers --json | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert out.stdout.count("\n") == 1
    assert out.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_said():
    with open("/dev/full", "w") as full:
        out = subprocess.run(
            [sys.executable, "-m", "baco", "pairs"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert out.returncode == 2
    assert out.stderr.startswith("baco: cannot write the output: No space left on device")
    assert out.stderr.count("\n") == 1


def test_a_name_that_is_no_text_is_said(monkeypatch, capsys):
    monkeypatch.setattr("baco.cli.pairs.known_pairs", "odd\udcff".encode)
    assert run(["pairs"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "baco: '\\udcff' cannot be written as utf-8 (rename the file, or set PYTHONUTF8=1)\n"
    )


def test_a_file_that_cannot_be_opened_is_named(monkeypatch, capsys):
    def fail() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "some.file")

    monkeypatch.setattr("baco.cli._mute", lambda: None)
    monkeypatch.setattr("baco.cli.pairs.known_pairs", fail)
    assert run(["pairs"]) == 2
    said = capsys.readouterr().err
    assert said == "baco: some.file: Permission denied (baco --debug ... shows where)\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_where_it_was(random_folders, tmp_path, how):
    path = tmp_path / "out.jsonl"
    base, aligned = random_folders
    arguments = [sys.executable, "-m", "baco", "generate", "Hi", "--pair", f"{base},{aligned}"]
    arguments += ["--output", str(path), "--max-rows", "4", "--max-new-tokens", "20", "-n"]
    # Where the tests run in the background, children would inherit that SIGINT is ignored.
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [*arguments, "1000"], stderr=subprocess.PIPE, text=True, preexec_fn=listens
    )
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (path.is_file() and path.stat().st_size):
        time.sleep(0.05)
    process.send_signal(how)
    try:
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert "Traceback" not in err
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "baco: interrupted; " in err
    lines = path.read_text().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    assert len(whole) >= len(lines) - 1
    done = {json.loads(line)["index"] for line in whole}
    assert 0 < len(done) < 1000
    total = max(done) + 3
    again = subprocess.run([*arguments, str(total)], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(row["index"] for row in rows) == list(range(total))
    assert f"{total - len(done)} new samples" in again.stderr
