"""The file of samples that ``baco generate --output`` appends to and goes on with."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from baco.errors import BacoError, InputError
from baco.group import Sample
from baco.methods.base import Setting, Task
from baco.models.folders import write_whole
from baco.prompts import identity

OutputKey = tuple[Any, ...]
"""What tells samples in one file apart."""


def key_of(sample: Sample) -> OutputKey:
    """Returns the key of a finished sample."""
    about = (sample.seed, sample.method, sample.router, sample.gamma, sample.control)
    return (identity(sample.conversation), sample.index, *about)


def wanted(task: Task, setting: Setting) -> OutputKey:
    """Returns the key that a task's sample will have."""
    about = (setting.method.name, setting.router_name, setting.gamma, setting.control)
    return (identity(task.prompt), task.index, setting.sampling.seed, *about)


_MEANT: dict[str, Any] = {"penalties": {}, "distinct": None, "ban": []}
"""What files mean that were written before there was such a setting."""


class Output:
    """A JSON Lines file that only ever grows by whole lines.

    Each row is written in one go and reaches the disk before the next one is made. A line that a
    killed run left unfinished is cut off when the file is opened again. What rows do not carry
    (pair, temperature and so on) stands in a second file beside it, so that a rerun with other
    settings is refused instead of being mixed in.

    Args:
        path: The file.

    Raises:
        InputError: If it cannot be written, is in use, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is not a file", hint="name a file to append to")
        self.path = path
        self.settings_path = path.with_name(f"{path.name}.settings.json")
        self.done: set[OutputKey] = set()
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}", hint="name a file in a folder of yours"
            ) from error
        try:
            self._lock()
            self._size = self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._size and self.path.is_file() and not self.path.stat().st_size:
            self.path.unlink()  # nothing was made: leave nothing behind

    def _lock(self) -> None:
        """Makes sure that no other run writes to the file; where the system can say so."""
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"another run is writing to {self.path}", hint="wait for it, or name another file"
            ) from None

    def _read(self) -> int:
        """Reads what is there, cuts off a torn last line; returns the size in bytes."""
        size = 0
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise InputError(
                f"cannot read {self.path}: {error.strerror}", hint="its rows say what is missing"
            ) from error
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                if b'{"prompt": '.startswith(line[:11]) or line.startswith(b'{"prompt": '):
                    self._file.truncate(size)
                    break
                self._refuse(number, "not a sample that baco wrote")
            try:
                self.done.add(key_of(Sample.from_dict(json.loads(line))))
            except InputError as error:
                self._refuse(number, error.message)
            except (ValueError, TypeError, AttributeError):
                self._refuse(number, "not a sample that baco wrote")
            size += len(line)
        return size

    def _refuse(self, number: int, what: str) -> None:
        raise InputError(
            f"{self.path}, line {number}: {what}", hint="name another file, or repair this one"
        )

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Compares the settings with those that the file's rows were made with.

        Args:
            settings: What the rows do not carry, ready for JSON.

        Raises:
            InputError: If they differ; the first difference is named.
        """
        before: dict[str, Any] = {}
        if self._size and self.settings_path.is_file():
            try:
                before = json.loads(self.settings_path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                before = {}
            before = _MEANT | before if isinstance(before, dict) else {}
            for name, value in settings.items():
                if name in before and before[name] != value:
                    raise InputError(
                        f"{self.path} was written with {name} {before[name]!r}, not {value!r}",
                        hint="name another file, or use the same settings",
                    )
        with self._clear_errors():
            text = json.dumps(before | dict(settings), indent=1) + "\n"
            write_whole(self.settings_path, text)

    def write(self, sample: Sample) -> None:
        """Appends one row, and waits until it is on the disk.

        Raises:
            BacoError: If there is no room; the file then ends with the row before.
        """
        line = json.dumps(sample.as_dict(), ensure_ascii=False).encode() + b"\n"
        with self._clear_errors():
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        self._size += len(line)
        self.done.add(key_of(sample))

    @contextlib.contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            raise BacoError(
                f"cannot write {self.path}: {error.strerror}",
                hint="finished rows are kept: make room and run the same command again",
            ) from error
