"""The recorded figures: their shape, and that they add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baco.tiny.world import prompts
from recipes.tiny.decode import Answer
from recipes.tiny.evaluate import coverages, figures, sweeps

FILES = sorted((Path(__file__).parents[2] / "docs" / "tiny").glob("figures-seed*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_recorded_figures_have_every_number(path: Path) -> None:
    recorded = json.loads(path.read_text(encoding="utf-8"))
    assert recorded["n"] == 10
    assert recorded["prompts"] == len(prompts("heldout"))
    assert {"base", "sft", "aligned"} <= recorded["models"].keys()
    for row in recorded["models"].values():
        assert {"quality", "classes", "valid_classes", "tokens", "verbatim_share"} <= row.keys()
    curves = recorded["curves"]
    assert {method: list(settings) for method, settings in curves.items()} == {
        method: [label for label, _ in settings] for method, settings in sweeps().items()
    }
    for diversity in ("classes", "valid_classes"):
        assert recorded["coverage"][diversity] == coverages(curves, diversity)


def test_grids_are_of_one_size() -> None:
    sizes = {len(settings) for settings in sweeps().values()}
    assert len(sizes) == 1
    assert sizes.pop() >= 8


def test_figures_count_classes() -> None:
    prompt = next(p for p in prompts("heldout") if p.kind == "trip")
    good = [Answer("How about Lisbon?", 4, 0.0), Answer("How about Oslo?", 4, 0.5)]
    row = figures([prompt], [[*good, good[0], Answer("zorp", 1, 1.0)]])
    assert row["classes"] == 3
    assert row["valid_classes"] == 2
    assert row["quality"] == 7.5
    assert row["base_share"] == 0.375
