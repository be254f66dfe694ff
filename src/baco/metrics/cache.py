"""A disk cache of what models and passes computed, keyed by content and model revision."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from baco.errors import InputError

_CHUNK = 500


def content_key(kind: str, parts: Sequence[str]) -> bytes:
    """Key of a value: what computed it, and the texts it was computed from."""
    text = json.dumps([kind, *parts])
    return hashlib.sha256(text.encode()).digest()


class Cache:
    """A table of bytes in one SQLite file; several processes may use it at once.

    Args:
        folder: Folder of the file, made if missing; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._database: sqlite3.Connection | None = None
        if folder is None:
            return
        file = folder / "metrics.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(file, timeout=60)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS found (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise InputError(
                f"cannot use the cache {file}: {error}",
                hint="BACO_CACHE names another folder, --no-cache (cache=False) uses none",
            ) from error

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Looks keys up; those not found are left out."""
        if self._database is None:
            return {}
        wanted = list(keys)
        found: dict[bytes, bytes] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT key, value FROM found WHERE key IN ({marks})"
            found.update(self._database.execute(query, chunk).fetchall())
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Stores values; they are safe on disk when it returns."""
        if self._database is None or not values:
            return
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO found VALUES (?, ?)", values.items())

    def close(self) -> None:
        """Closes the file."""
        if self._database is not None:
            self._database.close()
            self._database = None
