"""`baco router train`: from prompts and a reward to a router that generates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baco.cli import run

QUICK = ["--iterations", "1", "-n", "2", "--max-new-tokens", "24"]


@pytest.fixture
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "prompts.txt"
    path.write_text("Suggest a summer trip destination.\nName a city in Italy for my quiz.\n")
    return path


def test_train_and_use(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["router", "train", "mine.json", "--input", str(prompts), *QUICK]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("mine.json: mean reward ")
    assert "step   1 of 1: mean reward" in err
    stored = json.loads(Path("mine.json").read_text())
    assert stored["pair"] == "tiny"
    assert stored["training"]["reward"] == "different-good-answers"
    assert sorted(p.name for p in Path().iterdir()) == ["mine.json", "prompts.txt"]
    question = "Suggest a summer trip destination."
    assert run(["generate", question, "-n", "2", "--router", "mine.json@0.4", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (row["router"], row["gamma"]) == ("mine.json", 0.4)
    assert run(["generate", question, "--router", "mine.json", "--diversity", "0.5"]) == 2
    assert "was learned, so diversity does not control it" in capsys.readouterr().err


def test_an_interrupted_training_goes_on(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("stopping_rules.py").write_text(
        "calls = 0\n"
        "def rate(prompt, texts):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if calls == 8:\n"  # two prompts, three calls each: in the second step
        "        raise KeyboardInterrupt\n"
        "    return float(len(set(texts)))\n"
    )
    command = ["router", "train", "mine.json", "--input", str(prompts), "--reward",
               "stopping_rules:rate", "-n", "2", "--iterations", "2",
               "--max-new-tokens", "12"]  # fmt: skip
    assert run(command) == 130
    assert not Path("mine.json").exists()
    assert Path(".mine.json.part").is_file()
    capsys.readouterr()
    assert run(command) == 0
    assert "going on after step 1 of 2" in capsys.readouterr().err
    assert not Path(".mine.json.part").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["router.txt"], "the router file 'router.txt' does not end in .json"),
        (["r.json", "--pair", "qwen2.5-0.5b"], "there is no reward"),
        (
            ["r.json", "--pair", "qwen2.5-0.5b", "--reward", "different-good-answers"],
            "only knows the world of the bundled pairs",
        ),
        (["r.json", "--pair", "a,b", "--reward", "os:getcwd"], "there are no training prompts"),
        (["r.json", "--pair", "tinny"], "unknown pair 'tinny'"),
        (["r.json", "--reward", "no_such_rules:f"], "cannot be imported"),
        (["r.json", "-n", "1"], "n = 1 is out of range"),
        (["r.json", "--iterations", "0"], "0 iterations are too few"),
        (["no/folder/r.json"], "cannot write no/folder/r.json: there is no folder no/folder"),
        (["r.json", "--input", "nothing.txt"], "cannot read nothing.txt"),
    ],
)
def test_mistakes(
    prompts: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["router", "train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert message in err
    assert err.count("\n") == 1
    assert [p.name for p in Path().iterdir() if p.name != "__pycache__"] == ["prompts.txt"]


def test_a_folder_is_no_file(prompts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.json").mkdir()
    assert run(["router", "train", "r.json"]) == 2
    assert "cannot write r.json: it is a folder" in capsys.readouterr().err
