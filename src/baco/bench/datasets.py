"""Datasets by name: functions that turn a source into records."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from baco.bench.hub import names_a_file, read_hub
from baco.bench.records import Dataset, Record
from baco.bench.stories import read_stories
from baco.errors import InputError
from baco.prompts import conversation_of
from baco.reading import PROMPT_FIELDS, as_object, prompt_of, read_rows
from baco.registry import Registry

NOVELTY_BENCH = "yimingzhang/novelty-bench"
"""Home of NoveltyBench and its prompts from WildChat on the hub."""

INFINITY_CHAT = "liweijiang/infinite-chats-eval"
"""The hundred queries of Infinity-Chat's own evaluation on the hub."""

_PARAPHRASES = 10
"""As many as NoveltyBench has; where the grammar knows fewer, they come again."""

_KNOWN = ("id", "category", *PROMPT_FIELDS)


class Source(NamedTuple):
    """Where a dataset is to be read.

    Attributes:
        dataset: Name of its loader.
        name: What the plan calls it.
        source: A file, a folder or a Hub id; empty for the loader's own default.
        options: The loader's own options.
    """

    dataset: str
    name: str
    source: str
    options: Mapping[str, Any]


Loader = Callable[[Source], list[Record]]
"""Reads all records of a source; limits are applied afterwards."""

DATASETS: Registry[Loader] = Registry("dataset")
"""Every loader by name; plug-ins add theirs through the entry-point group ``baco.datasets``."""


def load_dataset(source: Source) -> Dataset:
    """Reads a dataset.

    Args:
        source: Where.

    Raises:
        UnknownNameError: If there is no such loader.
        InputError: If it cannot be read, is empty, or has an id twice.
    """
    return Dataset(source.name or source.dataset, tuple(DATASETS[source.dataset](source)))


@DATASETS.register("tiny")
def tiny(source: Source) -> list[Record]:
    """The held-out prompts of the bundled pair's world, with other wordings of the same."""
    from baco.tiny.grammar import expand
    from baco.tiny.world import phrasings, prompts, understand

    _no_options(source)
    found = []
    for p in prompts("heldout"):
        question = understand(p.text)
        assert question is not None  # the world knows its own prompts
        asks = phrasings(question.kind, "heldout")
        slots = dict(question.slots)
        texts = (expand(ask, slots, random.Random(seed)) for seed in range(9) for ask in asks)
        other = [text for text in dict.fromkeys(texts) if text != p.text]
        paraphrases = list(itertools.islice(itertools.cycle(other), _PARAPHRASES))
        extra = {"kind": p.kind, "paraphrases": paraphrases}
        found.append(Record(p.id, conversation_of(p.text), p.category, extra))
    return found


@DATASETS.register("jsonl")
def jsonl(source: Source) -> list[Record]:
    """A file in any shape that `baco.reading` knows, perhaps with ``id`` and ``category``."""
    return _records(_file_rows(source))


@DATASETS.register("hub")
def hub(source: Source) -> list[Record]:
    """A dataset of the hub with the columns of `jsonl`; its options are split and revision."""
    return _records(_hub_rows(source))


@DATASETS.register("noveltybench")
def noveltybench(source: Source) -> list[Record]:
    """NoveltyBench's own prompts, with their categories (six labels) and ten paraphrases each.

    Paper: App. B, which counts four categories; the file has six.
    """
    found = []
    for record in _novelty_bench(source, "curated"):
        extra = {"paraphrases": record.extra.get("prompt_paraphrases", [])}
        found.append(replace(record, extra=extra))
    return found


@DATASETS.register("wildchat")
def wildchat(source: Source) -> list[Record]:
    """NoveltyBench's thousand prompts from WildChat, all of them, as they stand in the file."""
    return [replace(record, extra={}) for record in _novelty_bench(source, "wildchat")]


@DATASETS.register("infinity-chat")
def infinity_chat(source: Source) -> list[Record]:
    """Infinity-Chat's open-ended queries, each once; by default the hundred of its evaluation.

    From a file or by hub id: rows of ``infinite-chats-eval`` have a ``query``, of its human
    annotations a ``user_query``, of ``infinite-chats-taxonomy`` an ``lm_judge_annotation`` with the
    ``revised_query`` that its authors classify (where it is null, the ``original_query``), or else
    the ``messages`` of a conversation, whose first question is taken.

    Source: arXiv 2510.22954; fields as the authors' published scripts name them.
    """
    found: dict[str, dict[str, Any]] = {}
    for where, row in _file_or_hub(source, INFINITY_CHAT):
        asked = row.get("query", row.get("user_query"))
        note, messages = row.get("lm_judge_annotation"), row.get("messages")
        if asked is None and isinstance(note, dict):
            asked = note.get("revised_query") or note.get("original_query")
        if asked is None and isinstance(messages, list):
            users = (m for m in messages if isinstance(m, dict) and m.get("role") == "user")
            asked = next(users, {}).get("content")
        if not isinstance(asked, str) or not asked.strip():
            raise InputError(
                f"{where}: no query of Infinity-Chat",
                hint="a row has query, user_query, lm_judge_annotation or messages; this one "
                f"{', '.join(row) or 'nothing'}",
            )
        found.setdefault(asked, {"prompt": asked, "category": row.get("category")})
    return _records([("", row) for row in found.values()])


@DATASETS.register("narrative")
def narrative(source: Source) -> list[Record]:
    """Narrative-Discourse: titles and sketches of stories to be continued; from a local file."""
    _no_options(source)
    return read_stories(source.source)


def _novelty_bench(source: Source, split: str) -> list[Record]:
    return _records(_file_or_hub(source, NOVELTY_BENCH, split=split))


_Rows = list[tuple[str, dict[str, Any]]]
"""Rows, each with the place where it stands, for messages."""


def _file_or_hub(source: Source, home: str, **options: str) -> _Rows:
    """Rows of a file, or of the hub where the source is empty or not a file."""
    if source.source and names_a_file(source.source):
        return _file_rows(source)
    where = source.source or home
    return _hub_rows(source._replace(source=where, options={**options, **source.options}))


def _file_rows(source: Source) -> _Rows:
    _no_options(source)
    if not source.source:
        raise InputError("the dataset names no file", hint='give it as source = "FILE"')
    return [(row.where, as_object(row)) for row in read_rows(source.source)]


def _hub_rows(source: Source) -> _Rows:
    if not source.source:
        raise InputError("the dataset names no hub id", hint='give it as source = "OWNER/NAME"')
    options = dict(source.options)
    split, revision = (str(options.pop(name, "")) for name in ("split", "revision"))
    _no_options(source._replace(options=options))
    return read_hub(source.source, split, revision)


def _records(rows: _Rows) -> list[Record]:
    return [_record(row, where, number) for number, (where, row) in enumerate(rows)]


def _record(row: dict[str, Any], where: str, number: int) -> Record:
    try:
        prompt = conversation_of(prompt_of(row))
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from None
    category = row.get("category")
    return Record(
        str(row.get("id", row.get("custom_id", number))),
        prompt,
        None if category is None else str(category),
        {key: value for key, value in row.items() if key not in _KNOWN},
    )


def _no_options(source: Source) -> None:
    if source.options:
        raise InputError(
            f"the dataset {source.dataset!r} has no option {next(iter(source.options))!r}",
            hint="leave options out",
        )
