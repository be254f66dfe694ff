"""What the samples of a setting look like: who wrote what where, lengths, early stops, loops.

Paper: §6.1 (contribution and switching by position), §6.2 (early stops).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baco.reporting.resampling import Floats

POSITIONS = 200
"""Token positions that are followed; later ones are left out of the curves by position."""

TENTHS = 10
"""Parts of equal length that a sample is cut into after its first token, which is the aligned
model's (Paper: A.1) but for routers that open, for curves that do not depend on lengths."""

EARLY = 0.5
"""A sample stops early if it ends by itself before this share of the median length that the
aligned reference has on the same prompt. Paper: §6.2 (which gives no number)."""

NGRAM = 4
LOOP_TIMES, LOOP_TOKENS = 3, 12
LONGEST_PERIOD = 64

COSTS = ("base_passes", "aligned_passes", "drafted", "accepted", "tokens")


@dataclass(frozen=True)
class SampleLook:
    """What one setting's samples look like; arrays have one row a prompt.

    Attributes:
        records: Ids of the prompts, the order of the rows.
        samples: Samples of each prompt.
        length: Mean number of tokens.
        base_share: Mean share of units that the base model began, over the samples that have any;
            NaN for a prompt without one.
        switches: Mean number of changes of source.
        early: Share of samples that stopped early.
        limit: Share of samples that were cut at the length limit.
        empty: Share of empty samples.
        repetition: Mean share of 4-grams of tokens that occurred before in the sample.
        loops: Share of samples that end in a loop.
        attempts: Mean number of draws a sample.
        base_at: Samples whose token at a position is the base model's, (prompt, position).
        switch_at: Samples whose source changes at a position, (prompt, position).
        alive_at: Samples that have a token at a position, (prompt, position).
        base_in: Sum over samples of the base model's share of each tenth, (prompt, tenth).
        switch_in: The same of the share of tokens that change the source.
        alive_in: Samples that have tokens in a tenth, (prompt, tenth).
        cost: Sums of the engine's account over all samples; empty if it is not known.
    """

    records: tuple[str, ...]
    samples: Floats
    length: Floats
    base_share: Floats
    switches: Floats
    early: Floats
    limit: Floats
    empty: Floats
    repetition: Floats
    loops: Floats
    attempts: Floats
    base_at: Floats
    switch_at: Floats
    alive_at: Floats
    base_in: Floats
    switch_in: Floats
    alive_in: Floats
    cost: Mapping[str, float]

    @property
    def share(self) -> float:
        """Mean base share over prompts that have one; 0 if none has."""
        return float(np.nan_to_num(_mean_share(self.base_share)))

    @property
    def passes_per_token(self) -> float:
        """Forward passes of both models per token; NaN if they were not counted."""
        tokens = self.cost.get("tokens", 0)
        passes = self.cost.get("base_passes", 0) + self.cost.get("aligned_passes", 0)
        return passes / tokens if self.cost and tokens else math.nan

    @property
    def passes_per_sample(self) -> float:
        """Forward passes of both models per sample; NaN if they were not counted."""
        passes = self.cost.get("base_passes", 0) + self.cost.get("aligned_passes", 0)
        return passes / float(self.samples.sum()) if self.cost else math.nan


def look(
    groups: Iterable[tuple[str, Sequence[Mapping[str, Any]]]], usual: Mapping[str, float]
) -> SampleLook:
    """Measures the samples of one setting.

    Args:
        groups: Id of each prompt and its samples, as `baco.bench.store.Store.groups` has them.
        usual: Median length of the aligned reference's samples, by prompt; a prompt without one
            has no early stops.

    Returns:
        The figures.
    """
    names, rows, at, inside = [], [], [], []
    cost: dict[str, float] | None = dict.fromkeys(COSTS, 0.0)
    for name, samples in groups:
        names.append(name)
        figures = np.array([_figures(s, usual.get(name, 0.0)) for s in samples])
        rows.append(figures.mean(axis=0))
        rows[-1][1] = _mean_share(figures[:, 1])
        rows[-1] = np.append(rows[-1], len(samples))
        at.append(_by_position(samples))
        inside.append(_by_tenth(samples))
        for sample in samples:
            cost = _add_cost(cost, sample)
    table = np.array(rows, dtype=np.float64).reshape(len(names), 10).T
    positions = np.array(at, dtype=np.float64).reshape(len(names), 3, POSITIONS)
    tenths = np.array(inside, dtype=np.float64).reshape(len(names), 3, TENTHS)
    return SampleLook(
        records=tuple(names),
        samples=table[9],
        length=table[0],
        base_share=table[1],
        switches=table[2],
        early=table[3],
        limit=table[4],
        empty=table[5],
        repetition=table[6],
        loops=table[7],
        attempts=table[8],
        base_at=positions[:, 0],
        switch_at=positions[:, 1],
        alive_at=positions[:, 2],
        base_in=tenths[:, 0],
        switch_in=tenths[:, 1],
        alive_in=tenths[:, 2],
        cost=cost or {},
    )


def _mean_share(shares: Floats) -> float:
    """Mean of the shares that there are; NaN if there is none."""
    there = shares[~np.isnan(shares)]
    return float(there.mean()) if there.size else math.nan


def usual_lengths(
    groups: Iterable[tuple[str, Sequence[Mapping[str, Any]]]],
) -> dict[str, float]:
    """Median number of tokens of each prompt's samples."""
    return {name: float(np.median([len(s["token_ids"]) for s in group])) for name, group in groups}


def stops_early(sample: Mapping[str, Any], usual: float) -> bool:
    """Whether a sample ended by itself before `EARLY` of the usual length."""
    return sample["finish_reason"] == "stop" and len(sample["token_ids"]) < EARLY * usual


def repetition(tokens: Sequence[int]) -> float:
    """Share of the 4-grams of a sample that occurred in it before; 0 for a shorter one."""
    grams = [tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def loops(tokens: Sequence[int]) -> bool:
    """Whether a sample ends in a loop: the same tokens three times over, at least twelve in all."""
    for period in range(1, min(LONGEST_PERIOD, len(tokens) // LOOP_TIMES) + 1):
        size = max(LOOP_TIMES * period, LOOP_TOKENS)
        tail = tokens[-size:]
        if len(tail) == size and all(tail[i] == tail[i - period] for i in range(period, size)):
            return True
    return False


def _figures(sample: Mapping[str, Any], usual: float) -> list[float]:
    tokens = sample["token_ids"]
    return [
        len(tokens),
        sample["base_share"] if tokens else math.nan,
        sample["switches"],
        stops_early(sample, usual),
        sample["finish_reason"] == "length",
        not sample["text"].strip(),
        repetition(tokens),
        loops(tokens),
        sample.get("attempts", 1),
    ]


def _by_position(samples: Sequence[Mapping[str, Any]]) -> Floats:
    found = np.zeros((3, POSITIONS))
    for sample in samples:
        base = _is_base(sample)[:POSITIONS]
        found[0, : base.size] += base
        found[1, 1 : base.size] += base[1:] != base[:-1]
        found[2, : base.size] += 1
    return found


def _by_tenth(samples: Sequence[Mapping[str, Any]]) -> Floats:
    found = np.zeros((3, TENTHS))
    for sample in samples:
        base = _is_base(sample)
        changes, base = base[1:] != base[:-1], base[1:]  # by A.1 the first token is no choice
        if base.size:
            part = np.arange(base.size) * TENTHS // base.size
            count = np.bincount(part, minlength=TENTHS)
            there = count > 0
            found[0, there] += np.bincount(part, base, TENTHS)[there] / count[there]
            found[1, there] += np.bincount(part, changes, TENTHS)[there] / count[there]
            found[2] += there
    return found


def _is_base(sample: Mapping[str, Any]) -> NDArray[np.bool_]:
    return np.array([source == "base" for source in sample["sources"]], dtype=bool)


def _add_cost(total: dict[str, float] | None, sample: Mapping[str, Any]) -> dict[str, float] | None:
    cost = sample.get("cost")
    if total is None or not isinstance(cost, Mapping):
        return None
    found = {name: total[name] + float(cost.get(name) or 0) for name in COSTS}
    if not cost.get("tokens"):
        found["tokens"] = total["tokens"] + len(sample["token_ids"])
    return found
