"""Measures of other papers: effective diversity, branching, surprise in context, one hive mind."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from baco.errors import InputError, missing_extra
from baco.metrics.groups import Generations
from baco.metrics.kernels import branching_factor, hivemind_rate, icl_score
from baco.metrics.partition import effective_classes
from baco.metrics.passes import Passes, Values
from baco.metrics.quality import HIGHEST, classes_and_scores
from baco.metrics.semantic import TINY_JUDGE, embeddings
from baco.metrics.spec import METRICS, PACKAGES, Item, Metric, one, zero

ALIKE = 0.8
"""Cosine above which two answers count as alike (Jiang et al. 2025)."""

BAR = 7
"""Quality from which an output counts for `esd`; ``esd_8`` asks for 8. The paper names none that
fits all tasks."""

ORDERS = 50
"""Orders in which `icl_diversity` shows the answers; ``icl_diversity_8`` takes 8."""

PACKAGE = "emb-diversity"


def hivemind(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Share of pairs of outputs with a cosine above 0.8."""
    vectors = embeddings(groups, passes, metric)
    passes.made_by[metric.name] += f", cosine > {ALIKE}"
    return [hivemind_rate(rows, ALIKE) for rows in vectors]


def esd(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Effective semantic diversity: classes among good outputs, over all outputs."""
    bar = metric.order if metric.base_name != "esd" else BAR
    if bar > HIGHEST and metric.variant != "file":
        raise InputError(
            f"{metric.name}: marks end at {HIGHEST}, so no output has quality {bar}",
            hint=f"use esd_1 to esd_{HIGHEST}, or scores of your own with esd_{bar}@file",
        )
    classes, scores = classes_and_scores(groups, passes, metric)
    passes.made_by[metric.name] += f"; bar {bar}"
    return [effective_classes(c, s, bar) for c, s in zip(classes, scores, strict=True)]


def valid_coverage(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Share of all valid answers of the bundled world that a group found."""
    from baco.tiny.judge import semantic_class, valid, valid_classes

    values, most = [], []
    for group in groups:
        question, n = group.question, len(group.generations)
        found = {semantic_class(question, t) for t in group.generations if valid(question, t)}
        total = valid_classes(question)
        values.append(len(found) / total if total else math.nan)
        most += [min(n, total) / total] if total else []
    ceiling = f"; ceiling {math.fsum(most) / len(most):.4f}" if most else ""
    passes.made_by[metric.name] = f"{TINY_JUDGE}, all valid classes{ceiling}"
    return values


def branching(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Branching factor of a model along the outputs."""
    from baco.metrics.hf import Entropy, dtype_of

    model = passes.model(metric)
    dtype = dtype_of(passes.options, large=True)
    kind = f"entropy|{model.label}|{dtype}"
    passes.made_by[metric.name] = f"{model.label}, {dtype}, whole distribution at T = 1"
    items: list[Item] = [
        (group.conversation, text, "cut" if group.hit_limit(i) else "end")
        for group in groups
        for i, text in enumerate(group.generations)
    ]
    found = iter(
        passes.run(
            kind,
            items,
            lambda missing: passes.load(kind, lambda: Entropy(model, passes.options))(missing),
            together=True,
        )
    )
    return [branching_factor([next(found) for _ in group.generations]) for group in groups]


def icl_diversity(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Excess entropy of answers in context, in bits per byte, times their coherence."""
    from baco.metrics.hf import Surprise, dtype_of

    model = passes.model(metric)
    dtype = dtype_of(passes.options, large=True)
    number = metric.order if metric.base_name != "icl_diversity" else ORDERS
    kind = f"surprise|{model.label}|{dtype}"
    passes.made_by[metric.name] = f"{model.label}, {dtype}, {number} orders, empties left out"

    def bits(items: Sequence[Item]) -> list[Values]:
        return passes.run(
            kind,
            items,
            lambda missing: passes.load(kind, lambda: Surprise(model, passes.options))(missing),
        )

    values = []
    for group in groups:
        texts = [text.strip() for text in group.generations if text.strip()]
        if len(texts) < 2:
            values.append(math.nan)
            continue
        draw = random.Random(0)
        orders = [draw.sample(texts, len(texts)) for _ in range(number)]
        alone = [(group.question, text) for text in texts]
        told: list[Item] = [*alone, *((group.question, *order) for order in orders)]
        found = bits(told)
        single = [
            (float(b[0]), len(t.encode())) for b, t in zip(found[: len(texts)], texts, strict=True)
        ]
        curves = [
            [(float(b), len(t.encode())) for b, t in zip(row, order, strict=True)]
            for row, order in zip(found[len(texts) :], orders, strict=True)
        ]
        values.append(icl_score(single, curves))
    return values


def package_measure(name: str) -> Metric:
    """A measure of the package emb-diversity as a metric, on the embeddings of `emb_cos`.

    Raises:
        BacoError: If the package is missing.
        InputError: If it has no such measure.
    """
    try:
        from emb_diversity import MEASURE_NAMES, get_measure
    except ImportError as error:
        raise missing_extra("emb_diversity", "emb-diversity") from error
    measure = name.removeprefix(f"{PACKAGE}.")
    if measure not in MEASURE_NAMES:
        raise InputError(
            f"{PACKAGE} has no measure {measure!r}", hint=f"it has {', '.join(MEASURE_NAMES)}"
        )

    def compute(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
        vectors = embeddings(groups, passes, metric)
        values, about = [], ""
        for rows in vectors:
            try:
                made = get_measure(measure)(np.asarray(rows))
            except ValueError:  # too few outputs for it, or outputs that it is not defined for
                values.append(math.nan)
                continue
            about = f"; {PACKAGE} {made['version']}, {made['parameters']}"
            values.append(float(made["value"]))
        passes.made_by[metric.name] += about
        return values

    return Metric(
        name=name,
        kind="semantic",
        direction="up",
        range=f"see {PACKAGE}",
        theory="",
        theory_end=None,
        model="sentence encoder",
        source=f"{PACKAGE}, arXiv 2607.19848",
        compute=compute,
        role="encoder",
    )


for _metric in (
    Metric(
        name="hivemind",
        kind="semantic",
        direction="down",
        range="[0, 1]",
        theory="0",
        theory_end=zero,
        model="sentence encoder",
        source="Jiang et al. 2025, arXiv 2510.22954",
        compute=hivemind,
        role="encoder",
    ),
    Metric(
        name="esd",
        kind="semantic",
        direction="up",
        range="[0, 1]",
        theory="1",
        theory_end=one,
        model="equivalence classifier, reward model",
        source="Shypula et al. 2025, arXiv 2504.12522, fixed sample size",
        compute=esd,
        pairwise=False,
        stand_ins=("tiny", "file"),
    ),
    Metric(
        name="valid_coverage",
        kind="semantic",
        direction="up",
        range="[0, min(n, classes)/classes]",
        theory="",
        theory_end=None,
        model="bundled exact judge",
        source="this project; known valid sets as in arXiv 2605.11128",
        compute=valid_coverage,
        pairwise=False,
        stand_ins=("tiny",),
        on_request=True,
    ),
    Metric(
        name="branching",
        kind="probability",
        direction="up",
        range="[1, vocabulary]",
        theory="",
        theory_end=None,
        model="aligned model",
        source="Yang & Holtzman 2025, arXiv 2506.17871",
        compute=branching,
        pairwise=False,
        role="aligned",
    ),
    Metric(
        name="icl_diversity",
        kind="probability",
        direction="up",
        range="unbounded, bits per byte",
        theory="",
        theory_end=None,
        model="base model",
        source="Khoriaty et al. 2026, arXiv 2606.01811, C times E_rate",
        compute=icl_diversity,
        role="base",
        on_request=True,
    ),
):
    METRICS.add(_metric.name, _metric)

PACKAGES[PACKAGE] = package_measure
