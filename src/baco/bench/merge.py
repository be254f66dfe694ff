"""Joins stores that were filled apart: parts of a plan, or machines without a common disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from baco.bench.run import groups_of
from baco.bench.store import Store, damaged, is_damage
from baco.errors import BacoError, InputError


class Merged(NamedTuple):
    """What came from one store.

    Attributes:
        samples: New samples.
        scores: New scores.
        different: Samples that were there already, with another text or end.
        unasked: Its samples that the plan of the store does not ask for.
    """

    samples: int
    scores: int
    different: int
    unasked: int


_KEPT = """
    INSERT OR IGNORE INTO main.records SELECT * FROM other.records;
    INSERT OR IGNORE INTO main.cells SELECT * FROM other.cells;
    INSERT OR IGNORE INTO main.makers (metric, scorer, made_by)
      SELECT metric, scorer, made_by FROM other.makers ORDER BY id;
    INSERT INTO main.spans SELECT * FROM other.spans EXCEPT SELECT * FROM main.spans
"""
_SAMPLES = "INSERT OR IGNORE INTO main.samples SELECT * FROM other.samples"
_SCORES = """
    INSERT OR IGNORE INTO main.scores (cell, record, n, maker, value)
      SELECT s.cell, s.record, s.n, mine.id, s.value FROM other.scores s
      JOIN other.makers theirs ON theirs.id = s.maker
      JOIN main.makers mine ON mine.metric = theirs.metric AND mine.scorer = theirs.scorer
"""
_DIFFERENT = """
    SELECT count(*) FROM main.samples a JOIN other.samples b USING (cell, record, idx)
      WHERE a.text != b.text OR a.finish_reason != b.finish_reason
"""
_FAILURES = """
    INSERT OR IGNORE INTO main.failures SELECT * FROM other.failures;
    DELETE FROM main.failures WHERE EXISTS (
      SELECT 1 FROM main.samples s WHERE s.cell = failures.cell AND s.record = failures.record)
"""
_PLAN = """
    INSERT INTO main.facts SELECT * FROM other.facts;
    INSERT INTO main.members SELECT * FROM other.members;
    INSERT INTO main.chosen SELECT * FROM other.chosen
"""


def merge_stores(into: Path, others: Sequence[Path]) -> list[Merged]:
    """Adds what some stores hold to one; what is there already stays as it is.

    Args:
        into: The store that takes it in; it is made where it is missing, with the plan of the first
            of the others.
        others: The stores that are read.

    Returns:
        What came from each of them.

    Raises:
        InputError: If one is no store, or is named twice.
        BacoError: If the store cannot be written, or one of them is damaged.
    """
    places = [path.absolute() for path in (into, *others)]
    if len({path.resolve() for path in places}) < len(places):
        raise InputError("a store is named twice", hint="name each of them once")
    for path in others:
        if path.is_file() and not path.stat().st_size:
            raise InputError(f"{path} is empty, and no bench store", hint="leave it out")
        Store(path).close()  # brings it to the newest version, or says what is wrong
    with Store(into, create=True):
        pass
    return [_merge(into, other) for other in others]


def _merge(into: Path, other: Path) -> Merged:
    """Adds one store, in one transaction."""
    db = sqlite3.connect(into, timeout=60, isolation_level=None)
    try:
        db.execute("ATTACH DATABASE ? AS other", (str(other),))
        db.execute("BEGIN IMMEDIATE")

        def run(script: str) -> int:
            before = db.total_changes
            for statement in script.split(";"):
                db.execute(statement)
            return db.total_changes - before

        run(_KEPT)
        (different,) = db.execute(_DIFFERENT).fetchone()
        samples, scores = run(_SAMPLES), run(_SCORES)
        run(_FAILURES)
        if not db.execute("SELECT count(*) FROM main.facts").fetchone()[0]:
            run(_PLAN)
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if is_damage(error):
            raise damaged(into if _is_whole(db, "other") else other) from error
        raise BacoError(
            f"cannot add {other} to {into}: {error}",
            hint="what is in them is kept: run the same command again",
        ) from error
    finally:
        db.close()
    return Merged(samples, scores, different, _unasked(into, other))


def _is_whole(db: sqlite3.Connection, name: str) -> bool:
    """Whether an attached database is not damaged."""
    try:
        return bool(db.execute(f"PRAGMA {name}.quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def _unasked(into: Path, other: Path) -> int:
    """How many samples of a store the plan of another does not ask for."""
    with Store(into) as store:
        wanted = {(cell.key, record.id): cell.n for cell, record in groups_of(store)}
    with Store(other) as store:
        counts = store.counts()
    return sum(max(0, count - wanted.get(group, 0)) for group, count in counts.items())
