"""The store: what is written can be read, by any process and after any crash."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from baco.bench import store as stores
from baco.bench.plan import Plan
from baco.bench.store import SampleKey, Store
from baco.errors import BacoError, InputError

from .example import planned

PLAN = """
pairs = ["tiny"]
n = 2
[[datasets]]
dataset = "tiny"
limit = 3
[[methods]]
method = "aligned"
controls = [1, 1.5]
[[methods]]
method = "baco"
router = "p-punc"
family = "BaCo"
controls = [0.3]
[metrics]
quality = ["reward@tiny"]
diversity = ["dist_1"]
"""


def row(index: int, text: str = "Paris.") -> dict[str, object]:
    """A sample's JSON."""
    return {
        "prompt": "?",
        "index": index,
        "text": text,
        "finish_reason": "stop",
        "seed": 0,
        "method": "aligned",
        "router": None,
        "gamma": None,
        "token_ids": [1, 2],
        "tokens": ["Par", "is."],
        "sources": ["aligned", "aligned"],
        "base_share": 0.0,
        "switches": 0,
    }


def test_reads_what_was_written(tmp_path: Path) -> None:
    with planned(tmp_path / "s.sqlite", PLAN) as store:
        assert isinstance(store.plan, Plan)
        cells = store.cells()
        assert [c.title for c in cells] == ["aligned@1", "aligned@1.5", "baco p-punc@0.3"]
        assert [c.family for c in cells] == ["aligned", "aligned", "BaCo"]
        cell = cells[0]
        records = store.records(cell)
        assert len(records) == 3
        first = records[0].id
        assert store.missing(cell.key, first, 2) == [0, 1]
        cost = {"base_passes": 0, "aligned_passes": 3}
        assert store.add([(SampleKey(cell.key, first, 1), row(1), cost)]) == 1
        assert list(store.groups(cell)) == []
        assert store.add([(SampleKey(cell.key, first, i), row(i, "Rome"), None) for i in (0, 1)])
        ((record, samples),) = store.groups(cell)
        assert record == records[0]
        assert [s["text"] for s in samples] == ["Rome", "Paris."]
        assert samples[1] == {**row(1), "prompt": samples[1]["prompt"], "cost": cost}
        assert samples[1]["prompt"] == record.prompt[0].content
        assert store.counts() == {(cell.key, first): 2}


def test_scores_by_scorer(tmp_path: Path) -> None:
    with planned(tmp_path / "s.sqlite", PLAN) as store:
        cell = store.cells()[0]
        one, two, three = (record.id for record in store.records(cell))
        store.add_scores(cell, "dist_1", "v1", "-", {one: 0.5, two: math.nan})
        assert store.scored(cell, "v1", "dist_1") == {one, two}
        assert store.scored(cell, "v2", "dist_1") == set()
        store.add_scores(cell, "dist_1", "v2", "newer", {three: 0.25})
        found = list(store.scores(cell, "dist_1"))
        assert [(s.record, s.model) for s in found] == [(one, "-"), (two, "-"), (three, "newer")]
        assert math.isnan(found[1].value)
        assert list(store.scores(cell, "dist_2")) == []


def test_a_changed_plan_keeps_samples(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with planned(path, PLAN) as store:
        cell = store.cells()[1]
        record = store.records(cell)[0].id
        store.add([(SampleKey(cell.key, record, i), row(i), None) for i in (0, 1)])
    changed = PLAN.replace("[1, 1.5]", "[1.5, 2]").replace('method = "aligned"', 'method="base"')
    with planned(path, changed) as store:
        assert all(not list(store.groups(c)) for c in store.cells())
    with planned(path, PLAN.replace("[1, 1.5]", "[1.5, 2]")) as store:
        assert [len(list(store.groups(c))) for c in store.cells()] == [1, 0, 0]


def test_claims(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with planned(path, PLAN) as one, Store(path) as two:
        groups = [("c", "a"), ("c", "b")]
        assert one.claim(groups[:1], "one", 60, []) == groups[:1]
        assert two.claim(groups, "two", 60, []) == groups[1:]
        assert two.claim(groups, "two", 60, ["one"]) == groups[:1]
        two.release("two", groups[:1])
        assert one.claim(groups, "one", 60, []) == groups[:1]
        two.renew("two", -1)
        assert one.claim(groups, "one", 60, []) == groups[1:]
        assert one.owners() == ["one"]


def test_migrations_run_once_each_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    first = ("CREATE TABLE a (x)",)
    second = (*first, "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x + 1")
    db = sqlite3.connect(path, isolation_level=None)
    stores.migrate(db, path, first)
    db.execute("INSERT INTO a VALUES (1)")
    for _ in range(2):
        stores.migrate(db, path, second)
    assert db.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]
    broken = (*second, "ALTER TABLE a ADD COLUMN z; UPDATE nothing SET x = 1")
    with pytest.raises(sqlite3.OperationalError):
        stores.migrate(db, path, broken)
    assert db.execute("SELECT * FROM a").fetchall() == [(1, 2)]
    with pytest.raises(InputError, match="newer version of BaCo"):
        stores.migrate(db, path, first)
    db.close()


def test_refuses_other_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no store"):
        Store(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("hello, this is no database at all\n" * 100)
    with pytest.raises(InputError, match="is no bench store"):
        Store(tmp_path / "text.sqlite")
    db = sqlite3.connect(tmp_path / "other.sqlite")
    db.execute("CREATE TABLE other (x)")
    db.commit()
    db.close()
    with pytest.raises(InputError, match="is no bench store"):
        Store(tmp_path / "other.sqlite")
    with pytest.raises(InputError, match="cannot open the store"):
        Store(tmp_path / "no-folder" / "s.sqlite", create=True)


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.sqlite"
    planned(path, PLAN).close()

    def refuse(*_: object) -> None:  # as SQLite does there; for root no folder is read-only
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(stores, "migrate", refuse)
    with pytest.raises(InputError, match="unable to open database file") as error:
        Store(path)
    assert error.value.hint == "name a file that baco bench run wrote"
    monkeypatch.setattr(stores.os, "access", lambda folder, mode: folder != tmp_path)
    with pytest.raises(InputError, match="unable to open database file") as error:
        Store(path)
    assert "copy the store" in (error.value.hint or "")


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with planned(path, PLAN) as store:
        cell = store.cells()[0].key
        store._db.execute(f"PRAGMA max_page_count={1 + _pages(store)}")
        big = row(0, "word " * 100_000)
        with pytest.raises(BacoError, match=r"cannot write the store .*full") as error:
            store.add([(SampleKey(cell, "a", 0), big, None)])
        assert "make room" in error.value.hint
        assert store.counts() == {}
        store._db.execute("PRAGMA max_page_count=1000000")
        assert store.add([(SampleKey(cell, "a", 0), big, None)]) == 1


def test_a_disk_that_is_full_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_two_pages(db: sqlite3.Connection, path: Path) -> None:
        db.execute("PRAGMA max_page_count=2")
        migrate(db, path)

    migrate = stores.migrate
    monkeypatch.setattr(stores, "migrate", on_two_pages)
    with pytest.raises(InputError, match=r"cannot use the store .*full \(make room\)"):
        Store(tmp_path / "s.sqlite", create=True)


def damage(path: Path, start: int) -> None:
    """Overwrites a store from some page on."""
    with path.open("r+b") as file:
        file.seek(start * 4096)
        file.write(b"\x5a" * (path.stat().st_size - start * 4096))


def test_a_damaged_store_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with planned(path, PLAN) as store:
        cell = store.cells()[0].key
    damage(path, 1)
    with pytest.raises(BacoError, match=r"s.sqlite is damaged \(restore"), Store(path) as store:
        store.counts()
    with Store(path) as store, pytest.raises(BacoError, match="is damaged"):
        store.add([(SampleKey(cell, "a", 0), row(0), None)])
    damage(path, 0)
    with pytest.raises(InputError, match="is no bench store"):
        Store(path)


def test_a_damaged_sample_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with planned(path, PLAN) as store:
        cell = store.cells()[0]
        first = store.records(cell)[0].id
        store.add([(SampleKey(cell.key, first, i), row(i), None) for i in (0, 1)])
        store._db.execute("UPDATE samples SET detail = substr(detail, 9)")
    with pytest.raises(BacoError, match="is damaged"), Store(path) as store:
        list(store.groups(cell))


def _pages(store: Store) -> int:
    return int(store._db.execute("PRAGMA page_count").fetchone()[0])
