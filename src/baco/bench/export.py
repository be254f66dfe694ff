"""Writes what a store holds as Parquet or JSON Lines, for other tools."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baco.bench.store import Store
from baco.errors import BacoError, InputError, missing_extra

KINDS = ("samples", "scores")
SUFFIXES = (".jsonl", ".parquet")

_BATCH = 5000


def export(store: Store, path: Path, kind: str = "samples") -> int:
    """Writes the store's samples or scores.

    Args:
        store: The store.
        path: The file to write; its ending says the format: ``.jsonl`` or ``.parquet``.
        kind: ``samples`` (one row a sample of a complete group, as ``baco generate --json`` prints
            it, with the cell it belongs to) or ``scores`` (one row a value).

    Returns:
        How many rows were written.

    Raises:
        InputError: If the format or kind is unknown.
        BacoError: If it cannot be written.
    """
    if kind not in KINDS:
        raise InputError(f"cannot export {kind!r}", hint=f"use {' or '.join(KINDS)}")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"cannot export to {path.name}: unknown format", hint="use .jsonl or .parquet"
        )
    rows = sample_rows(store) if kind == "samples" else score_rows(store)
    part = path.with_name(f".{path.name}.part")
    try:
        count = (_write_lines if path.suffix == ".jsonl" else _write_parquet)(rows, part)
        part.replace(path)
    except OSError as error:
        raise BacoError(
            f"cannot write {path}: {error.strerror or error}", hint="make room, or name another"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return count


def sample_rows(store: Store) -> Iterator[dict[str, Any]]:
    """All samples of complete groups, with their cells and records."""
    for cell in store.cells():
        about = {
            "cell": cell.key,
            "curve": cell.curve,
            "family": cell.family,
            "pair": cell.pair,
            "dataset": cell.dataset,
        }
        for record, samples in store.groups(cell):
            for sample in samples:
                yield {**about, "record": record.id, "category": record.category, **sample}


def score_rows(store: Store) -> Iterator[dict[str, Any]]:
    """All values, with their cells."""
    for cell in store.cells():
        for found in store.scores(cell):
            yield {
                "cell": cell.key,
                "curve": cell.curve,
                "family": cell.family,
                "pair": cell.pair,
                "dataset": cell.dataset,
                "method": cell.method,
                "control": None if cell.control is None else str(cell.control),
                "record": found.record,
                "metric": found.metric,
                "model": found.model,
                "value": None if found.value != found.value else found.value,
            }


def _write_lines(rows: Iterator[dict[str, Any]], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


_TEXTS = ("prompt", "gamma", "control", "details", "cost")
"""Fields whose kind varies from row to row: JSON in a column of text."""


def _write_parquet(rows: Iterator[dict[str, Any]], path: Path) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "bench") from error
    count, writer = 0, None
    try:
        while batch := list(itertools.islice(rows, _BATCH)):
            flat = [_flat(row) for row in batch]
            if writer is None:
                schema = _schema(pyarrow, flat[0])
                writer = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")
            writer.write_table(pyarrow.Table.from_pylist(flat, schema=schema))
            count += len(batch)
        if writer is None:
            raise InputError("there is nothing to export yet", hint="baco bench status")
    finally:
        if writer is not None:
            writer.close()
    return count


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {"attempts": 1, "details": None, **row} if "text" in row else row
    return {
        name: value
        if name not in _TEXTS or value is None or isinstance(value, str)
        else json.dumps(value, ensure_ascii=False)
        for name, value in flat.items()
    }


def _schema(pyarrow: Any, row: dict[str, Any]) -> Any:
    """Column types: of the values, or of what a field may be where this row has none."""
    kinds = {
        "index": pyarrow.int64(),
        "seed": pyarrow.int64(),
        "switches": pyarrow.int64(),
        "attempts": pyarrow.int64(),
        "base_share": pyarrow.float64(),
        "value": pyarrow.float64(),
        "token_ids": pyarrow.list_(pyarrow.int64()),
        "tokens": pyarrow.list_(pyarrow.string()),
        "sources": pyarrow.list_(pyarrow.string()),
    }
    return pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in row])
