from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[3] / "shared"


def load(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def groups() -> dict[str, dict[str, Any]]:
    found = load("inputs")
    edges = {k: {"prompt": k, "generations": v} for k, v in found["edge"].items()}
    return {**found["groups"], **edges}


@pytest.fixture(scope="session")
def gemini() -> Path:
    path = SHARED / "data" / "noveltybench" / "gemini-1.5-pro-scores-50.jsonl"
    if not path.is_file():
        pytest.skip("NoveltyBench's published scores are not beside this checkout")
    return path
