"""The mixtures of the benchmark on degrees, and how a curve's area is taken apart."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import baco
from baco.tradeoff.coverage import coverage, outline
from benchmarks import degrees


def texts(curve: str, control: float) -> list[list[str]]:
    asked = degrees.chosen_prompts("heldout")[:2]
    return [g.texts for g in degrees.answer(baco.load("tiny"), asked, curve, control)]


def test_the_product_put_in_place_is_the_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degrees, "N", 2)
    assert texts("product", 0.35) == texts("logit-ensemble-geometric", 0.35)


@pytest.mark.parametrize("curve", ["slots", "fading"])
def test_a_weight_of_one_is_the_aligned_model(curve: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degrees, "N", 2)
    same = texts("logit-ensemble-geometric", 1)
    assert texts(curve, 1) == same
    assert texts(curve, 0.3) != same


def test_a_first_token_put_in_place_is_the_router_that_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(degrees, "N", 3)
    for router, control in (("h-punc", 2.5), ("p-punc", 0.4)):
        opened = texts(f"{router} first held routed", control)
        assert opened == texts(f"{router}-open", control) != texts(router, control)
    assert texts("h-punc first held routed", 9) == texts("h-punc", 9)  # nobody opens


def test_the_prompts_are_the_plans() -> None:
    first, second = (degrees.chosen_prompts(which) for which in ("heldout", "second"))
    assert (len(first), len(second)) == (43, 43)
    assert len({p.kind for p in first}) == 43
    assert not {p.id for p in first} & {p.id for p in second}


def test_fifths_of_quality_add_up() -> None:
    points = [(0.1, 0.9), (0.5, 0.4), (0.83, 0.1)]
    parts = [degrees.between(outline(points), i / 5, (i + 1) / 5) for i in range(5)]
    assert math.isclose(sum(parts), coverage(points))
    assert degrees.between([(0, 1), (1, 0)], 0, 0.5) == 0.375


def test_a_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(degrees, "N", 2)
    monkeypatch.setattr(degrees, "LIMIT", 12)
    monkeypatch.setitem(degrees.MIXTURES, "slots", (degrees.MIXTURES["slots"][0], (0.2, 0.5)))
    file = tmp_path / "figures.json"
    asked = ["--every", "15", "--curves", "slots", "--bootstrap", "0", "--json", str(file)]
    assert degrees.main(asked) == 0
    first = json.loads(file.read_text())
    assert [row["curve"] for row in first["summary"]] == ["slots"]
    assert "slots@0.2" in capsys.readouterr().out
    assert degrees.main(asked) == 0
    assert "slots@0.2" not in capsys.readouterr().out
    assert json.loads(file.read_text())["summary"] == first["summary"]


def test_an_unknown_curve_is_named_before_anything_is_made(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        degrees.main(["--curves", "p-punc,p-topk"])
    assert "unknown curves p-topk; known are " in capsys.readouterr().err
