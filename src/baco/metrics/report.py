"""Writes scores: a table for the terminal, JSON, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from baco.errors import InputError, missing_extra
from baco.metrics.score import Scores
from baco.metrics.spec import METRICS, resolve
from baco.reporting.tables import inert, number

FORMATS = (".json", ".jsonl", ".csv", ".parquet")

CATALOGUE = (
    "metric",
    "class",
    "better",
    "range",
    "theory end",
    "needs",
    "set",
    "source",
)

SUMMARY = ("metric", "class", "better", "mean", "sd", "groups", "NaN", "too short", "made by")


def catalogue() -> list[dict[str, str]]:
    """Every metric as a row of `CATALOGUE`; the families ``dist_k`` and ``ead_k`` as one each."""
    resolve("dist_1")  # registers the built-in ones
    rows = [_entry(m.name) for m in METRICS.values()]
    families = [
        {**_entry("dist_4"), "metric": "dist_k"},
        {**_entry("ead_2"), "metric": "ead_k"},
        {**_entry("emb_cos"), "metric": "emb_cos@model", "set": "extra"},
    ]
    return rows + families


def _entry(name: str) -> dict[str, str]:
    metric = resolve(name)
    stand_ins = "".join(f", @{s}" for s in metric.stand_ins)
    cells = (
        metric.name,
        metric.kind,
        metric.direction,
        metric.range,
        metric.theory or "-",
        metric.model + stand_ins,
        "default" if metric.default else "extra",
        metric.source,
    )
    return dict(zip(CATALOGUE, cells, strict=True))


def summary_columns(scores: Scores, by: Sequence[str]) -> list[str]:
    """Columns of the table of means: those of `SUMMARY`, fields, and what empties ask for."""
    extra = ["empty", "mean without empty"] if scores.counts["empty_outputs"] else []
    return [*by, *SUMMARY[:4], *extra, *SUMMARY[4:]]


def summary_rows(scores: Scores, by: Sequence[str] = ()) -> list[list[str]]:
    """Cells of the table of means: one row for each metric and each system.

    Args:
        scores: The scores.
        by: Fields that tell systems apart.
    """
    some = scores.counts["empty_outputs"]
    figure = partial(number, digits=4, none="NaN")
    return [
        [
            *key,
            s.metric.name,
            s.metric.kind,
            s.metric.direction,
            figure(s.mean),
            *(
                [str(part.counts["empty_outputs"]), number(s.written, 4, none="NaN")]
                if some
                else []
            ),
            figure(s.sd),
            str(s.groups),
            str(s.nan),
            str(s.too_short) if s.metric.base_name.startswith(("dist_", "ead_")) else "-",
            s.made_by,
        ]
        for key, part in (scores.split(by) if by else {(): scores}).items()
        for s in part.summaries
    ]


def remarks(scores: Scores) -> list[str]:
    """What a reader should know besides the numbers, one line each."""
    counts = scores.counts
    lines = [
        f"{counts['groups']} groups, {counts['outputs']} outputs, {counts['empty_outputs']} empty "
        f"(in {counts['groups_with_empty_outputs']} groups)"
    ]
    if reasons := scores.finish_reasons:
        lines.append("ended by: " + ", ".join(f"{k} {v}" for k, v in reasons.items()))
    lone = [row.group.where for row in scores.rows if len(row.group.generations) == 1]
    if lone:
        shown = ", ".join(lone[:3]) + (" ..." if len(lone) > 3 else "")
        lines.append(
            f"one generation only in {len(lone)} groups ({shown}): pairwise metrics are NaN there"
        )
    lines += [f"not computed: {name}: {reason}" for name, reason in scores.skipped.items()]
    if scores.cost:
        lines.append(f"judge: {scores.cost}")
    return lines


def flat_rows(scores: Scores) -> list[dict[str, Any]]:
    """One row a group: passed-through fields, prompt, n, values, and which models made them.

    The values keep the metrics' names, so that ``baco tradeoff`` reads the rows if the groups have
    the fields ``method`` and ``control``.
    """
    made_by = json.dumps({k: v for k, v in scores.models.items() if v != "-"}, ensure_ascii=False)
    return [
        {
            **{k: _cell(v) for k, v in row.group.extra.items() if k not in row.values},
            "prompt": _cell(row.group.prompt),
            "n": len(row.group.generations),
            "empty": row.group.empty,
            **{k: v if math.isfinite(v) else None for k, v in row.values.items()},
            "made_by": made_by,
        }
        for row in scores.rows
    ]


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def write_scores(scores: Scores, path: Path, by: Sequence[str] | None = None) -> None:
    """Writes per-group values to a file; its suffix says how.

    Args:
        scores: The scores.
        path: A file ending in one of `FORMATS`; ``.json`` also holds the means and counts.
        by: Fields that tell systems apart, as `Scores.to_dict` takes them.

    Raises:
        InputError: If the suffix is unknown or the file cannot be written.
    """
    check_format(path)
    rows = flat_rows(scores)
    try:
        if path.suffix == ".json":
            path.write_text(
                json.dumps(scores.to_dict(by), ensure_ascii=False, indent=1, default=str) + "\n",
                encoding="utf-8",
            )
        elif path.suffix == ".jsonl":
            groups = scores.to_dict()["groups"]
            path.write_text(
                "".join(json.dumps(g, ensure_ascii=False, default=str) + "\n" for g in groups),
                encoding="utf-8",
            )
        elif path.suffix == ".csv":
            path.write_text(_csv(rows), encoding="utf-8")
        else:
            _write_parquet(rows, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def check_format(path: Path) -> None:
    """Checks a file name before the work begins.

    Raises:
        InputError: If its suffix is none of `FORMATS`, its folder does not exist, or Parquet needs
            a package that is missing.
    """
    if path.suffix not in FORMATS:
        raise InputError(
            f"cannot tell the format of {path}", hint=f"the name ends in {', '.join(FORMATS)}"
        )
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}")
    if path.suffix == ".parquet":
        _pyarrow()


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(zip(row, inert(row.values()), strict=True)) for row in rows)
    return stream.getvalue()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "bench") from error
    return pyarrow


def _write_parquet(rows: Sequence[dict[str, Any]], path: Path) -> None:
    pyarrow = _pyarrow()
    table: dict[str, Any] = {}
    for name in _columns(rows):
        values = [row.get(name) for row in rows]
        kinds = {type(v) for v in values if v is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            values = [None if v is None else str(v) for v in values]
        table[name] = values
    pyarrow.parquet.write_table(pyarrow.table(table), path)
