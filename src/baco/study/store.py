"""The study's one SQLite file: design, annotators, screens, every click, and what holds now."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from baco.errors import InputError
from baco.study.balance import screens
from baco.study.design import Design

APPLICATION = 0x42614364
VERSION = 1

SCHEMA = """
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE methods (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, setting TEXT NOT NULL);
CREATE TABLE prompts (id INTEGER PRIMARY KEY, text TEXT NOT NULL, bin INTEGER, words REAL);
CREATE TABLE candidates (prompt TEXT PRIMARY KEY, outcome TEXT NOT NULL);
CREATE TABLE groups (
  prompt INTEGER, method INTEGER, scores TEXT NOT NULL, PRIMARY KEY (prompt, method));
CREATE TABLE responses (
  id INTEGER PRIMARY KEY, prompt INTEGER NOT NULL, method INTEGER NOT NULL, place INTEGER NOT NULL,
  source_index INTEGER NOT NULL, text TEXT NOT NULL, scores TEXT NOT NULL,
  UNIQUE (prompt, method, place));
CREATE TABLE annotators (
  id INTEGER PRIMARY KEY, name TEXT, token TEXT UNIQUE, simulated INTEGER NOT NULL DEFAULT 0,
  created REAL NOT NULL, accepted REAL, withdrawn REAL);
CREATE TABLE screens (
  annotator INTEGER, number INTEGER, prompt INTEGER NOT NULL, positions TEXT NOT NULL,
  sides TEXT NOT NULL, PRIMARY KEY (annotator, number));
CREATE TABLE clicks (
  annotator INTEGER, click TEXT, prompt INTEGER NOT NULL, question TEXT NOT NULL,
  item INTEGER NOT NULL, shown TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (annotator, click));
CREATE TABLE votes (
  annotator INTEGER, prompt INTEGER, question TEXT, item INTEGER, choice INTEGER, at REAL NOT NULL,
  PRIMARY KEY (annotator, prompt, question, item));
CREATE TABLE comments (
  annotator INTEGER, prompt INTEGER, text TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (annotator, prompt));
CREATE TABLE visits (
  annotator INTEGER, visit TEXT, prompt INTEGER NOT NULL, started REAL NOT NULL,
  active_ms INTEGER NOT NULL, PRIMARY KEY (annotator, visit));
"""

MOST_EACH = 10_000
"""Clicks, and visits, that are kept of one annotator: more than anyone makes."""

PERSONAL = ("screens", "clicks", "votes", "comments", "visits")
"""The tables that hold what one annotator did or saw."""


class Annotator(NamedTuple):
    """One annotator."""

    id: int
    name: str | None
    token: str | None
    simulated: bool
    created: float
    accepted: float | None
    withdrawn: float | None


class Vote(NamedTuple):
    """One answer that holds now.

    Attributes:
        annotator: Who.
        prompt: Which prompt.
        question: `quality`, `overall`, `format`, `content` or `creativity`.
        item: A response id for quality, a pair of methods (from 0) for diversity, else 0.
        choice: The rating; the method chosen, or None for a tie; the response chosen.
    """

    annotator: int
    prompt: int
    question: str
    item: int
    choice: int | None


class StoredResponse(NamedTuple):
    """One response shown in the study."""

    id: int
    prompt: int
    method: int
    text: str
    scores: dict[str, float]


class Screen(NamedTuple):
    """One prompt as one annotator sees it, in the store's ids."""

    number: int
    prompt: int
    positions: list[int]
    sides: list[list[int]]


class Study:
    """An open study file; safe to share between threads.

    Every write is its own transaction and is on disk (WAL, `synchronous=FULL`) when the method
    returns, so what was acknowledged survives the death of the process or the machine.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection
        self._lock = threading.RLock()
        weakref.finalize(self, connection.close)

    # -- the file -----------------------------------------------------------------------------

    @classmethod
    def create(
        cls, path: Path, design: Design, *, title: str, seed: int, protocol: Mapping[str, Any]
    ) -> Study:
        """Writes a new study file, readable by its owner only.

        Raises:
            InputError: If the file exists or cannot be written.
        """
        _claim(path)
        study = cls(path, _connect(path))
        study._db.executescript(
            f"PRAGMA application_id={APPLICATION};PRAGMA user_version={VERSION};"
            f"PRAGMA journal_mode=WAL;{SCHEMA}"
        )
        with study._write() as db:
            facts = {
                "title": title,
                "seed": seed,
                "created": time.time(),
                "protocol": protocol,
                "design": design.record,
            }
            db.executemany(
                "INSERT INTO study VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in facts.items()],
            )
            settings = design.record["settings"]
            db.executemany(
                "INSERT INTO methods VALUES (?, ?, ?)",
                [(at, name, settings[name]) for at, name in enumerate(design.methods)],
            )
            db.executemany("INSERT INTO candidates VALUES (:prompt, :outcome)", design.candidates)
            for prompt, item in enumerate(design.items):
                db.execute(
                    "INSERT INTO prompts VALUES (?, ?, ?, ?)",
                    (prompt, item.prompt, item.bin, item.words),
                )
                for method, name in enumerate(design.methods):
                    db.execute(
                        "INSERT INTO groups VALUES (?, ?, ?)",
                        (prompt, method, json.dumps(dict(item.scores[name]))),
                    )
                    db.executemany(
                        "INSERT INTO responses (prompt, method, place, source_index, text, scores)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        [
                            (prompt, method, place, index, r.text, json.dumps(dict(r.scores)))
                            for place, (index, r) in enumerate(item.drawn[name])
                        ],
                    )
        return study

    @classmethod
    def open(cls, path: Path) -> Study:
        """Opens a study file.

        Raises:
            InputError: If it is missing, no study, or of a newer version.
        """
        if not path.is_file():
            raise InputError(f"no study file {path}", hint="baco study create makes one")
        try:
            connection = _connect(path)
        except sqlite3.OperationalError as error:
            raise InputError(
                f"cannot use the study file {path}: {error}",
                hint="it is written beside, even to read it: copy it to a folder of yours",
            ) from None
        except sqlite3.DatabaseError:
            raise InputError(f"{path} is no study file") from None
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION:
            connection.close()
            raise InputError(f"{path} is no study file", hint="baco study create makes one")
        if version != VERSION:
            connection.close()
            raise InputError(f"{path} was written by another version of BaCo ({version})")
        return cls(path, connection)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def copy(self, path: Path) -> Study:
        """Copies the study to a new file.

        Raises:
            InputError: If the file exists or cannot be written.
        """
        _claim(path)
        target = _connect(path)
        with self._lock:
            self._db.backup(target)
        return Study(path, target)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    # -- the design ---------------------------------------------------------------------------

    def fact(self, name: str) -> Any:
        """A fact of the study: title, seed, created, protocol, design."""
        return json.loads(self._read("SELECT value FROM study WHERE name=?", (name,))[0][0])

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order given."""
        return [row[0] for row in self._read("SELECT name FROM methods ORDER BY id")]

    @property
    def prompts(self) -> list[str]:
        """The prompts, by id."""
        return [row[0] for row in self._read("SELECT text FROM prompts ORDER BY id")]

    def candidates(self) -> list[tuple[str, str]]:
        """Every prompt seen at creation, and what became of it."""
        return [tuple(row) for row in self._read("SELECT prompt, outcome FROM candidates")]

    def responses(self, prompt: int | None = None) -> list[StoredResponse]:
        """The responses, of one prompt or of all."""
        rows = self._read(
            "SELECT id, prompt, method, text, scores FROM responses"
            " WHERE ? IS NULL OR prompt=? ORDER BY id",
            (prompt, prompt),
        )
        return [StoredResponse(row[0], row[1], row[2], row[3], json.loads(row[4])) for row in rows]

    def group_scores(self) -> dict[tuple[int, int], dict[str, float]]:
        """Automatic scores of each (prompt, method) group as a whole."""
        rows = self._read("SELECT prompt, method, scores FROM groups")
        return {(row[0], row[1]): json.loads(row[2]) for row in rows}

    # -- annotators ---------------------------------------------------------------------------

    def add_annotators(
        self, names: Sequence[str | None], *, simulated: bool = False
    ) -> list[Annotator]:
        """Adds annotators, each with a secret link token and their own balanced screens.

        Args:
            names: Their names; None for a running number.
            simulated: Mark them as simulated; these get no link.

        Returns:
            The new annotators.
        """
        prompts, methods = len(self.prompts), len(self.methods)
        ids: dict[tuple[int, int], list[int]] = {}
        for response in self.responses():
            ids.setdefault((response.prompt, response.method), []).append(response.id)
        each = len(ids[0, 0])
        added = []
        with self._write() as db:
            (start,) = db.execute("SELECT coalesce(max(id) + 1, 0) FROM annotators").fetchone()
            for number, name in enumerate(names, start):
                db.execute(
                    "INSERT INTO annotators (id, name, token, simulated, created)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (
                        number,
                        name or f"Annotator {number + 1}",
                        None if simulated else secrets.token_urlsafe(32),
                        simulated,
                        time.time(),
                    ),
                )
                layout = screens(
                    number,
                    prompts=prompts,
                    methods=methods,
                    responses=each,
                    seed=self.fact("seed"),
                )
                db.executemany(
                    "INSERT INTO screens VALUES (?, ?, ?, ?, ?)",
                    [
                        (
                            number,
                            at,
                            screen.prompt,
                            json.dumps([ids[screen.prompt, m][r] for m, r in screen.positions]),
                            json.dumps(screen.sides),
                        )
                        for at, screen in enumerate(layout, 1)
                    ],
                )
                added.append(number)
        return [annotator for annotator in self.annotators() if annotator.id in added]

    def uninvite(self) -> None:
        """Removes every annotator with all their data, for a rehearsal on a copy."""
        with self._write() as db:
            for table in PERSONAL:
                db.execute(f"DELETE FROM {table}")
            db.execute("DELETE FROM annotators")

    def annotators(self) -> list[Annotator]:
        """All annotators, withdrawn ones included."""
        rows = self._read(
            "SELECT id, name, token, simulated, created, accepted, withdrawn"
            " FROM annotators ORDER BY id"
        )
        return [Annotator(row[0], row[1], row[2], bool(row[3]), *row[4:]) for row in rows]

    def annotator(self, token: str) -> Annotator | None:
        """The annotator whose secret token this is."""
        given = token.encode()
        for annotator in self.annotators():
            if annotator.token and secrets.compare_digest(annotator.token.encode(), given):
                return annotator
        return None

    def accept(self, annotator: int) -> None:
        """Notes that the annotator has read the instructions and consented."""
        with self._write() as db:
            db.execute(
                "UPDATE annotators SET accepted=? WHERE id=? AND accepted IS NULL",
                (time.time(), annotator),
            )

    def forget(self, annotator: int) -> None:
        """Deletes all data of one annotator; only the fact that somebody withdrew stays.

        Deleted content is overwritten in the file (`secure_delete`), the log is emptied.
        """
        with self._write() as db:
            for table in PERSONAL:
                db.execute(f"DELETE FROM {table} WHERE annotator=?", (annotator,))
            db.execute(
                "UPDATE annotators SET name=NULL, token=NULL, accepted=NULL, withdrawn=?"
                " WHERE id=?",
                (time.time(), annotator),
            )
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def screen(self, annotator: int, number: int) -> Screen | None:
        """One screen of an annotator; numbers count from 1."""
        return next((s for s in self.screens(annotator) if s.number == number), None)

    def screens(self, annotator: int) -> list[Screen]:
        """All screens of an annotator, in the order shown."""
        rows = self._read(
            "SELECT number, prompt, positions, sides FROM screens WHERE annotator=?"
            " ORDER BY number",
            (annotator,),
        )
        return [Screen(row[0], row[1], json.loads(row[2]), json.loads(row[3])) for row in rows]

    # -- what annotators do -------------------------------------------------------------------

    def vote(self, click: str, vote: Vote, shown: str) -> None:
        """Stores one click and the answer that now holds; the same click twice counts once.

        Args:
            click: Identifies the click; chosen by the annotator's browser.
            vote: The answer.
            shown: What was clicked, as the annotator saw it.

        Raises:
            InputError: If there are too many.
        """
        now = time.time()
        with self._write() as db:
            self._refuse_more(db, "clicks", "click", vote.annotator, click)
            fresh = db.execute(
                "INSERT OR IGNORE INTO clicks VALUES (?, ?, ?, ?, ?, ?, ?)",
                (vote.annotator, click, vote.prompt, vote.question, vote.item, shown, now),
            )
            if fresh.rowcount:
                db.execute("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?, ?)", (*vote, now))

    def add_votes(self, votes: Iterable[Vote]) -> None:
        """Stores many answers at once (simulated ones)."""
        now = time.time()
        with self._write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?, ?)",
                [(*vote, now) for vote in votes],
            )

    def votes(self, annotator: int | None = None, prompt: int | None = None) -> list[Vote]:
        """The answers that hold now, of one annotator or prompt or of all."""
        rows = self._read(
            "SELECT annotator, prompt, question, item, choice FROM votes"
            " WHERE (?1 IS NULL OR annotator=?1) AND (?2 IS NULL OR prompt=?2)"
            " ORDER BY annotator, prompt, question, item",
            (annotator, prompt),
        )
        return [Vote(*row) for row in rows]

    def clicks(self, annotator: int) -> list[tuple[str, int, str, int, str, float]]:
        """Every click of an annotator: click, prompt, question, item, what was shown, when."""
        return self._read(
            "SELECT click, prompt, question, item, shown, at FROM clicks WHERE annotator=?"
            " ORDER BY at, rowid",
            (annotator,),
        )

    def comment(self, annotator: int, prompt: int, text: str) -> None:
        """Stores the comment on a prompt (-1: on the study); an empty one removes it."""
        with self._write() as db:
            db.execute("DELETE FROM comments WHERE annotator=? AND prompt=?", (annotator, prompt))
            if text:
                db.execute(
                    "INSERT INTO comments VALUES (?, ?, ?, ?)",
                    (annotator, prompt, text, time.time()),
                )

    def comments(self, annotator: int | None = None) -> list[tuple[int, int, str]]:
        """Comments as (annotator, prompt, text), of one annotator or of all."""
        return self._read(
            "SELECT annotator, prompt, text FROM comments WHERE ?1 IS NULL OR annotator=?1"
            " ORDER BY annotator, prompt",
            (annotator,),
        )

    def visit(self, annotator: int, visit: str, prompt: int, active_ms: int) -> None:
        """Notes the active time of one visit to a screen; the longest report of it holds.

        Raises:
            InputError: If there are too many.
        """
        with self._write() as db:
            self._refuse_more(db, "visits", "visit", annotator, visit)
            db.execute(
                "INSERT INTO visits VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET active_ms=max(active_ms, excluded.active_ms)",
                (annotator, visit, prompt, time.time(), active_ms),
            )

    @staticmethod
    def _refuse_more(
        db: sqlite3.Connection, table: str, key: str, annotator: int, known: str
    ) -> None:
        """Raises InputError if an annotator has `MOST_EACH` rows, and this is none of them."""
        (there,) = db.execute(
            f"SELECT count(*) FROM {table} WHERE annotator=? AND {key}<>?", (annotator, known)
        ).fetchone()
        if there >= MOST_EACH:
            raise InputError(
                f"there are more than {MOST_EACH} {table}", hint="ask the person who runs the study"
            )

    def active_ms(self, annotator: int) -> int:
        """Active time of an annotator, in milliseconds."""
        rows = self._read(
            "SELECT coalesce(sum(active_ms), 0) FROM visits WHERE annotator=?", (annotator,)
        )
        return int(rows[0][0])


def _claim(path: Path) -> None:
    """Makes an empty file that only its owner can read."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        raise InputError(f"{path} exists", hint="choose another name") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        connection.executescript("PRAGMA synchronous=FULL;PRAGMA secure_delete=ON;")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection
