"""What other commands make of a store: metrics, studies."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baco.bench.score import score_store
from baco.bench.store import Store
from baco.cli.metrics import app as metrics
from baco.errors import InputError
from baco.study.design import DesignOptions, design
from baco.study.groups import read_groups

from .fake import begin, plan, work


def test_metrics_score_reads_a_store(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    begin(path, plan())
    with pytest.raises(InputError, match="holds no complete group yet"):
        read_groups(path)
    result = CliRunner().invoke(metrics, ["score", str(path), "--no-cache"])
    assert "holds no complete group yet" in str(result.exception)
    work(path, plan())
    arguments = ["score", str(path), "--metrics", "dist_1", "--json", "--no-cache"]
    result = CliRunner().invoke(metrics, arguments)
    assert result.exit_code == 0, result.exception
    rows = json.loads(result.stdout)["groups"]
    with Store(path) as store:
        score_store(store, store.plan)
        found = [(s.record, s.value) for c in store.cells() for s in store.scores(c, "dist_1")]
    assert [(row["record"], pytest.approx(row["scores"]["dist_1"])) for row in rows] == found
    assert {row["method"] for row in rows} == {"base", "aligned", "baco p-punc"}


def test_a_study_from_a_bench_run(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    work(path, plan())
    with Store(path) as store:
        score_store(store, store.plan)
    groups = read_groups(path)
    assert len(groups) == 6 * 8
    assert {(g.method, g.setting) for g in groups} == {
        ("base", "0.7"),
        ("base", "1.0"),
        ("aligned", "1.0"),
        ("aligned", "1.5"),
        ("baco p-punc", "0.1"),
        ("baco p-punc", "0.3"),
    }
    assert all(g.quality == g.scores["reward@tiny"] for g in groups)
    other = read_groups(path, name="aligned", quality="dist_1")
    assert {g.method for g in other} == {"aligned"}
    assert all(math.isfinite(g.quality) and g.quality == g.scores["dist_1"] for g in other)
    with pytest.raises(InputError, match="unknown method 'alined'"):
        read_groups(path, name="alined")
    made = design(groups, DesignOptions(4, 3, 10.0, 1, 1, None, 0), ("aligned", "baco p-punc"))
    assert len(made.items) == 4
