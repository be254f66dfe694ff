"""A record of a dataset: a prompt with its name and all else that is known of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baco.errors import InputError
from baco.prompts import Conversation, as_json


@dataclass(frozen=True)
class Record:
    """One prompt of a dataset.

    Attributes:
        id: Its name, unique in the dataset and the same on every machine.
        prompt: The checked prompt.
        category: What kind of prompt it is, where the dataset says so.
        extra: Further fields, ready for JSON, such as paraphrases or annotations.
    """

    id: str
    prompt: Conversation
    category: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """All records of a dataset, and a word that changes when any of them does.

    Attributes:
        name: What plans and reports call it.
        records: The records, in the dataset's order.

    Raises:
        InputError: If there is no record, or two have the same id.
    """

    name: str
    records: tuple[Record, ...]

    def __post_init__(self) -> None:
        if not self.records:
            raise InputError(f"the dataset {self.name!r} has no prompt", hint="check its file")
        seen: set[str] = set()
        for record in self.records:
            if record.id in seen:
                raise InputError(
                    f"the dataset {self.name!r} has the id {record.id!r} twice",
                    hint="ids tell the samples of prompts apart: make them unique",
                )
            seen.add(record.id)

    @property
    def fingerprint(self) -> str:
        """A hash of all that the records hold, whatever the dataset is called."""
        rows = [[r.id, as_json(r.prompt), r.category, dict(r.extra)] for r in self.records]
        text = json.dumps(rows, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def limited(self, limit: int | None) -> Sequence[Record]:
        """Picks at most so many records, evenly over the dataset, so that every kind is there."""
        if limit is None or limit >= len(self.records):
            return self.records
        return [self.records[i * len(self.records) // limit] for i in range(limit)]
