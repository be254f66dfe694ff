"""Stores that were filled apart are joined as if one process had filled one store."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from baco.bench.merge import merge_stores
from baco.bench.run import BenchWorker, Part, unmade
from baco.bench.store import Store
from baco.errors import InputError

from .fake import begin, content, load, plan, work


def filled(path: Path, part: Part) -> Path:
    """A store with one part of the plan."""
    begin(path, plan())
    BenchWorker(plan(), path, load, part=part).run()
    return path


def test_parts_make_the_whole(tmp_path: Path) -> None:
    work(tmp_path / "whole.sqlite", plan())
    parts = [filled(tmp_path / f"{i}.sqlite", Part(i, 3)) for i in range(3)]
    for i, path in enumerate(parts):
        with Store(path) as store:
            assert not unmade(store, Part(i, 3))
            assert len(unmade(store)) == 32
    into = tmp_path / "all.sqlite"
    assert [merged.samples for merged in merge_stores(into, parts)] == [48, 48, 48]
    assert content(into) == content(tmp_path / "whole.sqlite")
    with Store(into) as store, Store(tmp_path / "whole.sqlite") as whole:
        assert store.plan == whole.plan
        assert not unmade(store)
        assert sum(span.samples for span in store.spans()) == 144
    again = merge_stores(into, parts)
    assert [(m.samples, m.scores, m.different) for m in again] == [(0, 0, 0)] * 3
    with Store(into) as store:
        assert sum(span.samples for span in store.spans()) == 144  # nothing counts twice


def test_scores_keep_their_scorers(tmp_path: Path) -> None:
    paths = [tmp_path / "a.sqlite", tmp_path / "b.sqlite"]
    for path in paths:
        begin(path, plan())
    with Store(paths[0]) as one, Store(paths[1]) as other:
        cell = one.cells()[0]
        first, second, *_ = (record.id for record in one.records(cell))
        one.add_scores(cell, "dist_1", "v1", "old", {first: 0.5})
        other.add_scores(cell, "dist_2", "v1", "-", {first: 0.25})  # has number 1 here, not there
        other.add_scores(cell, "dist_1", "v1", "old", {first: 0.75, second: math.nan})
    assert [m.scores for m in merge_stores(paths[0], paths[1:])] == [2]
    with Store(paths[0]) as store:
        found = [(s.record, s.value) for s in store.scores(cell, "dist_1")]
        assert found[0] == (first, 0.5)  # what was there stays
        assert found[1][0] == second
        assert math.isnan(found[1][1])
        assert [s.value for s in store.scores(cell, "dist_2")] == [0.25]


def test_other_words_for_the_same_sample_are_counted(tmp_path: Path) -> None:
    paths = [filled(tmp_path / f"{name}.sqlite", Part(0, 1)) for name in "ab"]
    before = content(paths[0])
    db = sqlite3.connect(paths[1])
    db.execute("UPDATE samples SET text = 'other' WHERE idx = 0")
    db.commit()
    db.close()
    assert [(m.samples, m.different) for m in merge_stores(paths[0], paths[1:])] == [(0, 48)]
    assert content(paths[0]) == before


def test_samples_that_the_plan_does_not_ask_for_are_counted(tmp_path: Path) -> None:
    paths = [tmp_path / "a.sqlite", filled(tmp_path / "b.sqlite", Part(0, 1))]
    begin(paths[0], plan(n=2))  # of 3
    assert [(m.samples, m.unasked) for m in merge_stores(paths[0], paths[1:])] == [(144, 48)]
    begin(paths[0], plan(seed=1))
    assert [(m.samples, m.unasked) for m in merge_stores(paths[0], paths[1:])] == [(0, 144)]


def test_failures_go_where_samples_come(tmp_path: Path) -> None:
    paths = [tmp_path / "a.sqlite", filled(tmp_path / "b.sqlite", Part(0, 1))]
    begin(paths[0], plan())
    with Store(paths[0]) as store:
        cell = store.cells()[0]
        store.fail(cell.key, store.records(cell)[0].id, "no memory")
    merge_stores(paths[0], paths[1:])
    with Store(paths[0]) as store:
        assert store.failures() == {}


def test_mistakes(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.sqlite", Part(0, 1))
    with pytest.raises(InputError, match="named twice"):
        merge_stores(path, [path])
    with pytest.raises(InputError, match="there is no store"):
        merge_stores(tmp_path / "new.sqlite", [tmp_path / "none.sqlite"])
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(InputError, match=r"empty.sqlite is empty, and no bench store"):
        merge_stores(tmp_path / "new.sqlite", [tmp_path / "empty.sqlite"])
    assert not (tmp_path / "new.sqlite").exists()
    assert not (tmp_path / "empty.sqlite").stat().st_size
