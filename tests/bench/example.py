"""A store as a run and its scoring leave it, made up: numbers whose figures are known."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

from baco.bench.cells import Cell, cells_of
from baco.bench.datasets import load_dataset
from baco.bench.plan import parse_plan
from baco.bench.store import SampleKey, Store

PLAN = """
name = "made-up"
about = "Made-up numbers, no model ran."
pairs = ["tiny"]
n = 4
[[datasets]]
dataset = "tiny"
limit = 24
[[methods]]
method = "base"
controls = [0.7, 1]
[[methods]]
method = "aligned"
controls = [1, 1.4]
[[methods]]
method = "baco"
router = "rand"
family = "BaCo"
controls = [0.2, 0.5, 0.8]
[[methods]]
method = "baco"
router = "p-punc"
family = "BaCo"
controls = [0.1, 0.4, 0.7]
[[methods]]
method = "baco"
router = "p-punc"
name = "p-punc, drawn again"
controls = [0.7]
sampling = { restart_shorter_than = 6 }
[[methods]]
method = "aaco"
router = "p-punc"
name = "AACO p-punc"
pairs = ["tiny-aligned2"]
controls = [0.1, 0.4, 0.7]
[[methods]]
method = "baco"
router = "p-punc"
name = "sft p-punc"
pairs = ["tiny-sft"]
controls = [0.1, 0.4, 0.7]
[[methods]]
method = "aligned"
name = "sft alone"
pairs = ["tiny-sft"]
controls = [1]
[metrics]
quality = ["reward@tiny", "ppl"]
diversity = ["dist_1", "self_bleu", "nb_distinct@tiny", "semantic_entropy@tiny"]
extra = ["esd@tiny"]
[report]
best_of = ["BaCo"]
"""


def place(cell: Cell) -> tuple[float, float]:
    """Quality and diversity of a setting on scales from 0 to 1 that only this file knows."""
    g = float(cell.control or 0)
    if cell.curve == "base":
        return (0.0 if g == 1 else 0.15), (0.85 if g == 1 else 0.6)
    if cell.curve == "aligned":
        return (1.0 if g == 1 else 0.8), (0.0 if g == 1 else 0.25)
    if cell.curve == "sft alone":
        return 0.85, 0.4
    gain = {"baco rand": 0.6, "AACO p-punc": 0.1, "sft p-punc": 0.5}.get(cell.curve, 0.9)
    return 1 - g, gain * (0.2 + g)


def values(cell: Cell, spread: float, rng: random.Random) -> dict[str, float]:
    """Made-up values of one group."""
    quality, diversity = place(cell)
    q, d = (x + rng.gauss(0, spread) for x in (quality, diversity))
    return {
        "reward@tiny": 2 + 7 * q,
        "ppl": 30 - 25 * q,
        "dist_1": 0.3 + 0.5 * d,
        "self_bleu": 0.7 - 0.5 * d,
        "nb_distinct@tiny": 1.5 + 2 * d,
        "semantic_entropy@tiny": 0.2 + 0.9 * d,
        "esd@tiny": 0.9 * q * d,
    }


def sample(cell: Cell, index: int, rng: random.Random) -> dict[str, Any]:
    """A made-up answer: the base model writes less and less of it, and ends it early."""
    share = float(cell.control or 0) if cell.method == "baco" else float(cell.method == "base")
    size = 20 if rng.random() >= share / 2 else 4
    if cell.sampling["restart_shorter_than"]:
        size = 20
    words = [f" w{rng.randrange(30)}" for _ in range(size)]
    alone = cell.method in ("base", "aligned")
    sources = [
        cell.method
        if alone
        else ("base" if t and rng.random() < share * (1 - t / 25) else "aligned")
        for t in range(size)
    ]
    return {
        "prompt": "?",
        "index": index,
        "text": "".join(words),
        "finish_reason": "stop",
        "seed": 0,
        "method": cell.method,
        "router": cell.router,
        "gamma": cell.control if cell.method == "baco" else None,
        "token_ids": [int(w[2:]) for w in words],
        "tokens": words,
        "sources": sources,
        "base_share": sources.count("base") / size,
        "switches": sum(a != b for a, b in itertools.pairwise(sources)),
    }


def planned(path: Path, text: str) -> Store:
    """A new store, or one that is there, that was told of a plan; the caller closes it."""
    plan = parse_plan(text, "made-up", "test")
    datasets = {d.title: load_dataset(d.where) for d in plan.datasets}
    revisions = dict.fromkeys(plan.all_pairs, "r")
    cells = cells_of(plan, revisions, {k: d.fingerprint for k, d in datasets.items()})
    store = Store(path, create=True)
    store.set_plan(plan, cells, datasets)
    return store


def make_store(
    path: Path, *, plan: str = PLAN, spread: float = 0.03, unfinished: str = "", unscored: str = ""
) -> Path:
    """Writes a store through its own interface.

    Args:
        path: The file.
        plan: The plan.
        spread: How much prompts differ.
        unfinished: A curve that lacks a sample.
        unscored: A metric that has no values.
    """
    with planned(path, plan) as store:
        made = store.plan
        for cell in store.cells():
            rows, scores = [], {}
            for record in store.records(cell):
                rng = random.Random(f"{cell.curve} {cell.control} {record.id}")
                scores[record.id] = values(cell, spread, rng)
                for index in range(made.n):
                    cost = {"base_passes": 10, "aligned_passes": 30, "tokens": 20}
                    rows.append(
                        (SampleKey(cell.key, record.id, index), sample(cell, index, rng), cost)
                    )
            store.add(rows[:-1] if cell.curve == unfinished else rows)
            for metric in made.metrics.names:
                if metric != unscored:
                    column = {r: v[metric] for r, v in scores.items()}
                    store.add_scores(cell, metric, "test", "made up", column)
    return path
