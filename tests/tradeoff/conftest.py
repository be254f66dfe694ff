from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent / "data"

HEADER = "method,control,reward,ppl,dist_1,self_bleu,semantic_entropy"
ROWS = (
    "base,1,2,40,0.9,0.1,2.1",
    "base,0.8,3,30,0.8,0.2,2.0",
    "aligned,1,8,4,0.3,0.6,0.8",
    "aligned,1.2,7.8,5,0.35,0.55,0.9",
    "baco,0.1,7.7,5,0.45,0.5,1.1",
    "baco,0.3,7,8,0.58,0.4,1.5",
    "baco,0.8,3.5,25,0.85,0.15,2.0",
    "prompting,,7.5,6,0.4,0.5,1.2",
)


def load(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text())


@pytest.fixture
def points_file(tmp_path: Path) -> Path:
    path = tmp_path / "points.csv"
    path.write_text("\n".join((HEADER, *ROWS)) + "\n")
    return path
