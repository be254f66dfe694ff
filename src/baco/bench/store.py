"""The store: one SQLite file that is the truth while a bench runs, and what reads it.

A sample's key is cell + record + index. Rows of samples are only ever added, and never twice.
Everything that is written is written in one transaction, so that a killed process leaves a store
that is whole; several processes may work on one store at the same time.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from baco.bench.cells import Cell
from baco.bench.plan import Plan
from baco.bench.records import Dataset, Record
from baco.errors import BacoError, InputError
from baco.prompts import as_json, conversation_of

APPLICATION = 0x42614342
"""Marks the file as a bench store."""

MIGRATIONS = (
    """
    CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE records (
      dataset TEXT, id TEXT, position INTEGER NOT NULL, prompt TEXT NOT NULL, category TEXT,
      extra TEXT NOT NULL, PRIMARY KEY (dataset, id));
    CREATE TABLE cells (key TEXT PRIMARY KEY, identity TEXT NOT NULL);
    CREATE TABLE members (position INTEGER PRIMARY KEY, cell TEXT NOT NULL, about TEXT NOT NULL);
    CREATE TABLE chosen (
      dataset TEXT, id TEXT, position INTEGER NOT NULL, PRIMARY KEY (dataset, id));
    CREATE TABLE samples (
      cell TEXT, record TEXT, idx INTEGER, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
      tokens INTEGER NOT NULL, detail BLOB NOT NULL, cost TEXT, PRIMARY KEY (cell, record, idx));
    CREATE TABLE claims (
      cell TEXT, record TEXT, owner TEXT NOT NULL, expires REAL NOT NULL,
      PRIMARY KEY (cell, record));
    CREATE TABLE failures (
      cell TEXT, record TEXT, message TEXT NOT NULL, PRIMARY KEY (cell, record));
    CREATE TABLE makers (
      id INTEGER PRIMARY KEY, metric TEXT NOT NULL, scorer TEXT NOT NULL, made_by TEXT NOT NULL,
      UNIQUE (metric, scorer));
    CREATE TABLE scores (
      cell TEXT, record TEXT, n INTEGER, maker INTEGER, value REAL,
      PRIMARY KEY (cell, record, n, maker)) WITHOUT ROWID;
    CREATE TABLE spans (
      owner TEXT NOT NULL, pair TEXT NOT NULL, started REAL NOT NULL, seconds REAL NOT NULL,
      samples INTEGER NOT NULL, tokens INTEGER NOT NULL);
    """,
)
"""SQL that brings a store from version i to version i + 1; never changed once released."""

VERSION = len(MIGRATIONS)

_BUSY_SECONDS = 60.0


class MetricValue(NamedTuple):
    """The value of one metric on one group.

    Attributes:
        cell: Key of the cell.
        record: Id of the record.
        metric: The metric's name, with the model after ``@`` where it is not the default one.
        model: What made the number.
        value: The value; NaN where it is undefined.
    """

    cell: str
    record: str
    metric: str
    model: str
    value: float


class SampleKey(NamedTuple):
    """What tells samples apart: the cell, the record's id, and the index in the group."""

    cell: str
    record: str
    place: int


@dataclass(frozen=True)
class Span:
    """What one process made on one pair in one stretch.

    Attributes:
        owner: The process.
        pair: Name of the pair.
        started: When it began, in seconds since 1970.
        seconds: How long it took.
        samples: Samples made.
        tokens: Tokens of these samples.
    """

    owner: str
    pair: str
    started: float
    seconds: float
    samples: int
    tokens: int


def migrate(db: sqlite3.Connection, path: Path, scripts: Sequence[str] = MIGRATIONS) -> None:
    """Brings an open store to the newest version, one numbered step after another.

    Args:
        db: The connection, outside a transaction.
        path: The file, for messages.
        scripts: The steps.

    Raises:
        InputError: If the file is no store, or of a newer version.
    """
    if _pragma(db, "user_version") == len(scripts):
        _check_kind(db, path)
        return
    db.execute("BEGIN IMMEDIATE")  # another process may be doing the same
    try:
        version = _check_kind(db, path)
        if version > len(scripts):
            raise InputError(
                f"{path} was written by a newer version of BaCo (schema {version})",
                hint="update BaCo",
            )
        for script in scripts[version:]:
            for statement in script.split(";"):
                db.execute(statement)
        db.execute(f"PRAGMA user_version={len(scripts)}")
        db.execute(f"PRAGMA application_id={APPLICATION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # on a full disk SQLite has ended it
            db.execute("ROLLBACK")
        raise


def _check_kind(db: sqlite3.Connection, path: Path) -> int:
    """Returns the version of a store, 0 for an empty file."""
    kind = _pragma(db, "application_id")
    empty = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if kind != APPLICATION and not (empty and kind == 0):
        raise InputError(f"{path} is no bench store", hint="baco bench run writes one")
    return 0 if empty else _pragma(db, "user_version")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def is_store(path: Path) -> bool:
    """Whether a file is an SQLite database; reading it says whether it is a store."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def is_damage(error: BaseException | None) -> bool:
    """Whether an error says that a database is damaged, or what was packed in it."""
    corrupt = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT
    return corrupt or isinstance(error, zlib.error)


def damaged(path: Path) -> BacoError:
    """Makes the error for a damaged store."""
    return BacoError(
        f"{path} is damaged",
        hint="restore a copy, or merge the other parts and run the plan again",
    )


class Store:
    """An open store; every thread and process needs its own.

    Args:
        path: The file.
        create: Whether a missing file is made.

    Raises:
        InputError: If it is missing, cannot be opened, is no store, or of a newer version.
        BacoError: If it is damaged; also at the end of a ``with`` block in which that shows.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise InputError(f"there is no store {path}", hint="baco bench run makes one")
        try:
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise InputError(
                f"cannot open the store {path}: {error}", hint="name a file in a folder of yours"
            ) from None
        try:
            migrate(self._db, self.path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.DatabaseError as error:
            self._db.close()
            if is_damage(error):
                raise damaged(self.path) from error
            busy = isinstance(error, sqlite3.OperationalError)
            what = f"cannot use the store {path}: {error}" if busy else f"{path} is no bench store"
            hint = "name a file that baco bench run wrote"
            if busy and not os.access(self.path.absolute().parent, os.W_OK):
                hint = "its folder cannot be written, which even reading needs: copy the store"
            elif "full" in str(error):
                hint = "make room"
            raise InputError(what, hint=hint) from None
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self.close()
        if is_damage(error):
            raise damaged(self.path) from error

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is written, or nothing.

        Raises:
            BacoError: If it cannot be written, for example because the disk is full.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            if is_damage(error):
                raise damaged(self.path) from error
            raise BacoError(
                f"cannot write the store {self.path}: {error}",
                hint="what is in it is kept: make room and run the same command again",
            ) from error

    # -- the plan -----------------------------------------------------------------------------

    def set_plan(self, plan: Plan, cells: Sequence[Cell], datasets: Mapping[str, Dataset]) -> None:
        """Records what the plan asks for now; samples of earlier plans stay.

        Args:
            plan: The plan.
            cells: Its cells.
            datasets: Its datasets, by what the plan calls them.
        """
        with self._write() as db:
            self._set_fact(db, "plan", plan.model_dump(mode="json"))
            db.execute("DELETE FROM members")
            db.execute("DELETE FROM chosen")
            for position, cell in enumerate(cells):
                about = json.dumps(asdict(cell), ensure_ascii=False)
                db.execute("INSERT OR IGNORE INTO cells VALUES (?, ?)", (cell.key, about))
                db.execute("INSERT INTO members VALUES (?, ?, ?)", (position, cell.key, about))
            for entry in plan.datasets:
                dataset = datasets[entry.title]
                print_ = dataset.fingerprint
                db.executemany(
                    "INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (
                            print_,
                            record.id,
                            position,
                            json.dumps(as_json(record.prompt), ensure_ascii=False),
                            record.category,
                            json.dumps(dict(record.extra), ensure_ascii=False),
                        )
                        for position, record in enumerate(dataset.records)
                    ],
                )
                db.executemany(
                    "INSERT OR IGNORE INTO chosen VALUES (?, ?, ?)",
                    [
                        (print_, record.id, position)
                        for position, record in enumerate(dataset.limited(entry.limit))
                    ],
                )

    @staticmethod
    def _set_fact(db: sqlite3.Connection, name: str, value: Any) -> None:
        db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    @property
    def plan(self) -> Plan:
        """The plan that was run or scored last.

        Raises:
            InputError: If none was.
        """
        row = self._db.execute("SELECT value FROM facts WHERE name='plan'").fetchone()
        if row is None:
            raise InputError(f"the store {self.path} is empty", hint="baco bench run fills it")
        return Plan(**json.loads(row[0]))

    def cells(self) -> list[Cell]:
        """The cells of the plan, in its order."""
        rows = self._db.execute("SELECT about FROM members ORDER BY position")
        return [Cell(**json.loads(about)) for (about,) in rows]

    def records(self, cell: Cell) -> list[Record]:
        """The records that the plan chose from a cell's dataset, in order."""
        rows = self._db.execute(
            "SELECT r.id, r.prompt, r.category, r.extra FROM chosen c"
            " JOIN records r ON r.dataset = c.dataset AND r.id = c.id"
            " WHERE c.dataset = ? ORDER BY c.position",
            (cell.fingerprint,),
        )
        return [
            Record(id_, conversation_of(json.loads(prompt)), category, json.loads(extra))
            for id_, prompt, category, extra in rows
        ]

    # -- samples ------------------------------------------------------------------------------

    def counts(self) -> dict[tuple[str, str], int]:
        """How many samples there are of each (cell, record), for those that have any."""
        rows = self._db.execute("SELECT cell, record, count(*) FROM samples GROUP BY cell, record")
        return {(cell, record): count for cell, record, count in rows}

    def missing(self, cell: str, record: str, n: int) -> list[int]:
        """Indices below n of which a group has no sample."""
        rows = self._db.execute(
            "SELECT idx FROM samples WHERE cell = ? AND record = ?", (cell, record)
        )
        there = {index for (index,) in rows}
        return [index for index in range(n) if index not in there]

    def add(self, samples: Iterable[tuple[SampleKey, Mapping[str, Any], Any]]) -> int:
        """Adds samples in one transaction; those that are there already stay as they are.

        Args:
            samples: Key, the sample's JSON (`baco.group.Sample.as_dict`), and its cost as JSON.

        Returns:
            How many were new.
        """
        rows = []
        for key, sample, cost in samples:
            detail = {k: v for k, v in sample.items() if k not in ("prompt", "text", "cost")}
            packed = zlib.compress(json.dumps(detail, ensure_ascii=False).encode(), 6)
            rows.append(
                (
                    *key,
                    sample["text"],
                    sample["finish_reason"],
                    len(sample["token_ids"]),
                    packed,
                    json.dumps(cost),
                )
            )
        with self._write() as db:
            before = db.total_changes
            db.executemany("INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            added = db.total_changes - before
            db.executemany(
                "DELETE FROM failures WHERE cell = ? AND record = ?", {row[:2] for row in rows}
            )
            return added

    def groups(self, cell: Cell) -> Iterator[tuple[Record, list[dict[str, Any]]]]:
        """The groups of a cell that have all their samples.

        Args:
            cell: One of `cells`.

        Yields:
            The record, and its samples by index: the JSON of a sample as ``baco generate --json``
            prints it, and `cost` (passes and tokens of each side; None if it is not known).
        """
        for record in self.records(cell):
            rows = self._db.execute(
                "SELECT text, detail, cost FROM samples"
                " WHERE cell = ? AND record = ? AND idx < ? ORDER BY idx",
                (cell.key, record.id, cell.n),
            ).fetchall()
            if len(rows) == cell.n:
                prompt = as_json(record.prompt)
                yield record, [_sample(prompt, *row) for row in rows]

    # -- sharing the work ---------------------------------------------------------------------

    def claim(
        self, wanted: Sequence[tuple[str, str]], owner: str, seconds: float, dead: Iterable[str]
    ) -> list[tuple[str, str]]:
        """Claims groups for one process, until a time.

        Args:
            wanted: The (cell, record) of each.
            owner: The process.
            seconds: How long the claim holds unless it is renewed.
            dead: Processes whose claims no longer count.

        Returns:
            Those that nobody else holds.
        """
        now = time.time()
        with self._write() as db:
            db.execute("DELETE FROM claims WHERE expires < ?", (now,))
            db.executemany("DELETE FROM claims WHERE owner = ?", [(name,) for name in dead])
            got = []
            for cell, record in wanted:
                done = db.execute(
                    "INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?)",
                    (cell, record, owner, now + seconds),
                )
                if done.rowcount:
                    got.append((cell, record))
            return got

    def renew(self, owner: str, seconds: float) -> None:
        """Makes a process's claims hold longer."""
        with self._write() as db:
            db.execute(
                "UPDATE claims SET expires = ? WHERE owner = ?", (time.time() + seconds, owner)
            )

    def release(self, owner: str, groups: Iterable[tuple[str, str]] | None = None) -> None:
        """Gives claims back: some, or all of a process."""
        with self._write() as db:
            if groups is None:
                db.execute("DELETE FROM claims WHERE owner = ?", (owner,))
            else:
                db.executemany(
                    "DELETE FROM claims WHERE owner = ? AND cell = ? AND record = ?",
                    [(owner, cell, record) for cell, record in groups],
                )

    def owners(self) -> list[str]:
        """The processes that hold claims."""
        return [row[0] for row in self._db.execute("SELECT DISTINCT owner FROM claims")]

    # -- what happened ------------------------------------------------------------------------

    def fail(self, cell: str, record: str, message: str) -> None:
        """Records that a group could not be made; forgotten once its samples are there."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (cell, record, message))

    def failures(self) -> dict[tuple[str, str], str]:
        """Why groups could not be made, by (cell, record)."""
        rows = self._db.execute("SELECT cell, record, message FROM failures")
        return {(cell, record): message for cell, record, message in rows}

    def add_span(self, span: Span) -> None:
        """Records what a process has made."""
        with self._write() as db:
            db.execute(
                "INSERT INTO spans VALUES (?, ?, ?, ?, ?, ?)",
                (span.owner, span.pair, span.started, span.seconds, span.samples, span.tokens),
            )

    def spans(self) -> list[Span]:
        """What processes have made."""
        return [Span(*row) for row in self._db.execute("SELECT * FROM spans ORDER BY started")]

    # -- scores -------------------------------------------------------------------------------

    def scored(self, cell: Cell, scorer: str, metric: str) -> set[str]:
        """The records of a cell that have a value of a metric by one scorer."""
        rows = self._db.execute(
            "SELECT s.record FROM scores s JOIN makers m ON m.id = s.maker"
            " WHERE s.cell = ? AND s.n = ? AND m.metric = ? AND m.scorer = ?",
            (cell.key, cell.n, metric, scorer),
        )
        return {record for (record,) in rows}

    def add_scores(
        self, cell: Cell, metric: str, scorer: str, made_by: str, values: Mapping[str, float]
    ) -> None:
        """Adds values of one metric by one scorer.

        Args:
            cell: The cell.
            metric: The metric's name.
            scorer: A word that changes when the scorer does.
            made_by: The scorer for people.
            values: Value by record.
        """
        with self._write() as db:
            db.execute(
                "INSERT INTO makers (metric, scorer, made_by) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET made_by = excluded.made_by",
                (metric, scorer, made_by),
            )
            (maker,) = db.execute(
                "SELECT id FROM makers WHERE metric = ? AND scorer = ?", (metric, scorer)
            ).fetchone()
            db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)",
                [
                    (cell.key, record, cell.n, maker, value if math.isfinite(value) else None)
                    for record, value in values.items()
                ],
            )

    def scores(self, cell: Cell, metric: str | None = None) -> Iterator[MetricValue]:
        """Values on the groups of a cell that the plan asks for, the newest scorer last.

        Args:
            cell: One of `cells`.
            metric: Only this metric.
        """
        rows = self._db.execute(
            "SELECT s.record, m.metric, m.made_by, s.value FROM scores s"
            " JOIN makers m ON m.id = s.maker"
            " JOIN chosen c ON c.dataset = ? AND c.id = s.record"
            " WHERE s.cell = ? AND s.n = ? AND (? IS NULL OR m.metric = ?)"
            " ORDER BY m.id, c.position",
            (cell.fingerprint, cell.key, cell.n, metric, metric),
        )
        for record, name, made_by, value in rows:
            yield MetricValue(cell.key, record, name, made_by, math.nan if value is None else value)


def _sample(
    prompt: str | list[dict[str, str]], text: str, detail: bytes, cost: str | None
) -> dict[str, Any]:
    row = json.loads(zlib.decompress(detail))
    found = {"prompt": prompt, "index": row.pop("index"), "text": text, **row}
    found["cost"] = json.loads(cost) if cost else None
    return found
