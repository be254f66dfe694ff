"""Stories from plan to plot: annotated by a stub, scored once, drawn against perplexity (§5.4)."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baco.bench.compare import ReportOptions
from baco.bench.report import make_report, write_report
from baco.bench.score import score_store
from baco.bench.store import SampleKey, Store
from baco.metrics import rubrics
from baco.metrics.discourse import arousal_div, check_turning_points, tp_div
from metrics.test_chat import Stub, serving

from .example import planned, sample

DATA = Path(__file__).parents[3] / "shared" / "data" / "narrative-discourse"
SKETCH = "Ann has a shop. One day it burns."

PLAN = """
pairs = ["tiny"]
n = 3
[[datasets]]
dataset = "narrative"
source = "SOURCE"
[[methods]]
method = "base"
controls = [1]
[[methods]]
method = "aligned"
controls = [1]
[[methods]]
method = "baco"
router = "p-punc"
controls = [0.2, 0.6]
[metrics]
quality = ["ppl"]
diversity = ["tp_div", "arousal_div"]
judge_url = "URL"
judge_model = "j"
"""


def annotate(text: str) -> tuple[list[int], list[float]]:
    """Annotations that only depend on the numbered story."""
    count = len(text.splitlines())
    rng = random.Random(text)
    return (
        sorted(rng.randint(1, count) for _ in range(5)),
        [round(rng.random(), 3) for _ in range(count)],
    )


def answer(body: dict[str, Any], turn: int) -> tuple[int, str]:
    """What a well-behaved annotator says; every seventh time it talks instead."""
    if turn % 7 == 0:
        return 200, "Let me think about that."
    points, arousal = annotate(body["messages"][-1]["content"])
    if "excitement" in body["messages"][0]["content"]:
        return 200, json.dumps({"arousal": arousal})
    return 200, "Sure! " + json.dumps(dict(zip(rubrics.TURNING_POINTS, points, strict=True)))


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as server:
        server.answer = answer
        yield server


def story(rng: random.Random) -> str:
    return " ".join(f"They did thing {rng.randrange(99)}." for _ in range(rng.randint(3, 8)))


def filled(folder: Path, url: str) -> tuple[Path, dict[tuple[str, str, str], list[str]]]:
    """A store of made-up stories, and the whole stories by curve, control and prompt."""
    stories = {f"s{i}": {"title": f"T{i}", "sketch": SKETCH} for i in range(4)}
    (folder / "narratives.json").write_text(json.dumps(stories))
    text = PLAN.replace("SOURCE", str(folder)).replace("URL", url)
    wholes: dict[tuple[str, str, str], list[str]] = {}
    with planned(folder / "run.sqlite", text) as store:
        for cell in store.cells():
            for record in store.records(cell):
                rng = random.Random(f"{cell.curve} {cell.control} {record.id}")
                texts = [story(rng) for _ in range(3)]
                store.add(
                    (SampleKey(cell.key, record.id, i), {**sample(cell, i, rng), "text": t}, None)
                    for i, t in enumerate(texts)
                )
                key = (cell.curve, f"{cell.control:g}", record.id)
                wholes[key] = [f"{SKETCH} {t}" for t in texts]
    return folder / "run.sqlite", wholes


def test_from_a_plan_to_the_figure(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("BACO_CACHE", str(tmp_path / "cache"))
    path, wholes = filled(tmp_path, stub.url)
    with Store(path) as store:
        score_store(store, store.plan, offline=True)
        asked = len(stub.requests)
        score_store(store, store.plan, offline=True)
        assert len(stub.requests) == asked, "annotations are kept"
        report = make_report(store, ReportOptions(bootstrap=0), with_models=False)
    (section,) = report.sections
    comparison = section.comparison
    setting = ("baco p-punc", "0.6")
    for record in comparison.records:
        points, arousal = [], []
        for text in wholes[(*setting, record.id)]:
            parts = text.replace(". ", ".\n").splitlines()
            numbered = "\n".join(f"{i}. {p}" for i, p in enumerate(parts, 1))
            places, scores = annotate(numbered)
            points.append([p / len(parts) for p in places])
            arousal.append(scores)
        found = {m: comparison.values[setting, m][record.id] for m in ("tp_div", "arousal_div")}
        assert found["tp_div"] == pytest.approx(tp_div(points))
        assert found["arousal_div"] == pytest.approx(arousal_div(arousal))
    drawn, caption = section.plots["long-form"]
    assert "perplexity" in caption
    for word in (
        "Perplexity (lower is better)",
        "Turning-point diversity (higher",
        "Arousal diversity (higher",
        "baco p-punc",
    ):
        assert word in drawn
    names = {p.name for p in write_report(report, tmp_path / "out")}
    assert "long-form.svg" in names
    assert "Long form" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.skipif(not DATA.is_dir(), reason="the human annotations are not here")
def test_human_annotations_go_through_the_arithmetic() -> None:
    rows = json.loads((DATA / "ground_truth_tp.json").read_text(encoding="utf-8"))
    table = [[row[f"tp{k}"] for k in range(1, 6)] for row in rows.values()]
    assert len(table) == 439
    assert sum(v != int(v) for row in table for v in row) == 242
    whole = [[int(v) for v in row] for row in table if all(v == int(v) for v in row)]
    ordered = [row for row in whole if row == sorted(row)]
    longest = max(map(max, whole))
    accepted = [row for row in whole if check_turning_points(row, longest)]
    assert accepted == ordered
    assert 0 < len(whole) - len(ordered) <= 31
    assert not any(check_turning_points(list(row), longest) for row in table if row not in whole)
    # Groups of ten stories, each as long as its climax is late: the mean of all pairwise distances.
    for start in range(0, 100, 10):
        group = [[p / row[-1] for p in row] for row in ordered[start : start + 10]]
        stacked = np.array(group)
        distances = np.abs(stacked[:, None] - stacked[None]).mean(axis=2)
        assert tp_div(group) == pytest.approx(distances.sum() / (10 * 9))
