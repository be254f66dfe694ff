"""The recipe: a run of seconds gives the same weights twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from recipes.tiny.train import STAGES, main

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def fingerprints(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }


def test_training_is_deterministic_and_complete(tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two"):
        assert main(["--smoke", "--no-compile", "--out", str(tmp_path / name)]) == 0
        runs.append(fingerprints(tmp_path / name))
    assert runs[0] == runs[1]
    assert {Path(path).parts[0] for path in runs[0]} == set(STAGES)
    assert json.loads((tmp_path / "one" / "recipe.json").read_text())["seed"] == 0
    assert "pretrain 0 loss" in (tmp_path / "one" / "train.log").read_text()


def test_unknown_stages_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--stages", "bse", "--out", str(tmp_path)])
    assert "unknown stages bse; known: base, sft" in capsys.readouterr().err
