"""The folders where BaCo keeps what belongs to this user, and how small files are written."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path


def data_folder() -> Path:
    """Folder of what a user made or fetched: ``$BACO_HOME``, or the platform's own place."""
    given = os.environ.get("BACO_HOME")
    if given:
        return Path(given).expanduser()
    return user_data_path("baco", appauthor=False)


def cache_folder() -> Path:
    """Folder of what can be computed again: ``$BACO_CACHE``, or the platform's own place."""
    given = os.environ.get("BACO_CACHE")
    if given:
        return Path(given).expanduser()
    return user_cache_path("baco", appauthor=False, opinion=False)


def write_whole(path: Path, text: str) -> None:
    """Writes a file, all of it or nothing, beside others that do the same.

    Raises:
        OSError: If it cannot be written; what was there stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
