"""How often the two models of a pair agree along what was written (Paper: §6.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from baco.bench.records import Record
from baco.bench.samples import TENTHS
from baco.errors import UnsupportedError
from baco.metrics.cache import Cache, content_key
from baco.reporting.resampling import Floats

if TYPE_CHECKING:
    from baco.models.sides import Models


def agreement(
    pair: Models, groups: Sequence[tuple[Record, Sequence[Mapping[str, Any]]]], cache: Cache
) -> Floats:
    """Share of positions where both models hold the same token for the likeliest, by tenth.

    Every answer is fed to both models, each after its own form of the prompt; the first token,
    which is always the aligned model's, is left out.

    Args:
        pair: The pair; its models must share a vocabulary.
        groups: Prompts with their samples.
        cache: Keeps what was computed, by content and revision.

    Returns:
        Ten shares; NaN in a tenth that no answer has.

    Raises:
        UnsupportedError: If the models have different vocabularies.
    """
    base, aligned = (side.partner for side in pair.sides)
    if base.vocabulary is not aligned.vocabulary:
        raise UnsupportedError("the two models have different vocabularies")
    total = np.zeros((2, TENTHS))
    for record, samples in groups:
        tokens = [list(sample["token_ids"]) for sample in samples]
        key = content_key(f"agreement|{pair.revision}", [record.id, json.dumps(tokens)])
        stored = cache.get([key]).get(key)
        found = _of_group(pair, record, tokens) if stored is None else _unpack(stored)
        if stored is None:
            cache.put({key: found.tobytes()})
        total += found
    with np.errstate(invalid="ignore"):
        shares: Floats = total[0] / total[1]
    return shares


def _unpack(stored: bytes) -> Floats:
    return np.frombuffer(stored, dtype=np.float64).reshape(2, TENTHS)


def _of_group(pair: Models, record: Record, tokens: Sequence[Sequence[int]]) -> Floats:
    """Positions of one group where the models agree, and all positions, by tenth."""
    found = np.zeros((2, TENTHS))
    rows = [t for t in tokens if len(t) > 1]
    if not rows:
        return found
    tops = [_tops(side, record, rows) for side in pair.sides]
    for row, ids in enumerate(rows):
        same = np.array([tops[0][row, t] == tops[1][row, t] for t in range(len(ids) - 1)])
        part = np.arange(same.size) * TENTHS // same.size
        found[0] += np.bincount(part, same, TENTHS)
        found[1] += np.bincount(part, minlength=TENTHS)
    return found


def _tops(side: Any, record: Record, rows: Sequence[Sequence[int]]) -> Any:
    """Likeliest next token after each token but the last, int64 [row, position]."""
    width = max(len(row) for row in rows) - 1
    fed = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        fed[i, : len(row) - 1] = torch.tensor(row[:-1])
    counts = torch.tensor([len(row) - 1 for row in rows])
    partner = side.partner
    with torch.inference_mode():
        cache = partner.new_cache()
        cache.add(len(rows))
        cache.open([list(side.encode(record.prompt))] * len(rows), list(range(len(rows))))
        logits = cache.feed(fed.to(partner.device), counts.to(partner.device))
        return logits.argmax(dim=-1).cpu()
