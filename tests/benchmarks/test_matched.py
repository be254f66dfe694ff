"""Diversity at equal quality, by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.matched import gain, read_scores


def constant(quality: float, diversity: float) -> np.ndarray:
    return np.array([[quality, diversity]] * 5)


def test_the_curve_is_read_between_its_points() -> None:
    curve = [constant(4.0, 0.9), constant(2.0, 0.5)]
    assert gain(constant(2.5, 0.7), curve, 20) == pytest.approx((0.1, 0.1, 0.1))


def test_beyond_the_curve_there_is_nothing_to_compare_with() -> None:
    found = gain(constant(4.5, 0.7), [constant(4.0, 0.9), constant(2.0, 0.5)], 20)
    assert all(map(math.isnan, found))


def test_resamples_take_the_same_prompts_everywhere() -> None:
    """What differs between prompts alike in all settings leaves the interval narrow."""
    rough = np.array([[0.0, v] for v in np.random.default_rng(1).normal(size=40)])
    curve = [rough + constant(2.0, 0.5)[0], rough + constant(4.0, 0.9)[0]]
    found = gain(rough + constant(3.0, 0.8)[0], curve, 200)
    assert found == pytest.approx((0.1, 0.1, 0.1))


def test_prompts_without_a_value_are_left_out_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    rows = [
        {"curve": c, "control": "1.0", "record": r, "metric": m, "value": v}
        for c in ("base", "aligned")
        for r in ("a", "b")
        for m, v in (("nll", 1.0), ("dist_1", None if (c, r) == ("base", "b") else 0.5))
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = read_scores(file, ("nll", "dist_1"))
    assert {key: values.tolist() for key, values in found.items()} == {
        ("base", "1.0"): [[1.0, 0.5]],
        ("aligned", "1.0"): [[1.0, 0.5]],
    }
    with pytest.raises(SystemExit, match="no values of ppl and vendi_emb"):
        read_scores(file, ("ppl", "vendi_emb"))
    with pytest.raises(SystemExit, match="no values of nll and vendi_emb"):
        read_scores(file, ("nll", "vendi_emb"))
