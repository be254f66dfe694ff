"""Semantic diversity: embeddings, entailment, classes of meaning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from baco.metrics.groups import Generations
from baco.metrics.kernels import (
    cosine_dissimilarity,
    cosines,
    discrete_entropy,
    pair_mean,
    semantic_entropy,
    vendi,
)
from baco.metrics.likelihood import mean_log_likelihoods
from baco.metrics.models import FoundModel
from baco.metrics.partition import short_rule
from baco.metrics.passes import NotComputable, Passes, Values
from baco.metrics.spec import METRICS, Item, Metric, count, log_count, one, zero

SAME_FROM = 0.102
"""Probability above which NoveltyBench's classifier calls two outputs equivalent."""

TINY_JUDGE = "bundled exact judge"

Asked = Sequence[tuple[Generations, int, int]]


def embeddings(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[Values]:
    """Vectors of all outputs, one matrix a group; shared by the metrics with the same encoder."""
    from baco.metrics.hf import TextEncoder, dtype_of

    model = passes.model(metric)
    pooler = metric.role == "vendi" and not model.has("modules.json")
    kind = f"{'pooler' if pooler else 'sentence-transformers'}|{model.label}"
    dtype = dtype_of(passes.options, large=False)

    def encoder() -> TextEncoder:
        return passes.load((kind, dtype), lambda: TextEncoder(model, passes.options, pooler=pooler))

    texts: list[Item] = [(text,) for group in groups for text in group.generations]
    found = iter(passes.run(f"embedding|{kind}|{dtype}", texts, lambda items: encoder()(items)))
    limit = passes.run(f"encoder limit|{kind}", [("",)], lambda _: [[encoder().limit]])[0][0]
    head = ", pooler output" if pooler else ""
    passes.made_by[metric.name] = f"{model.label}{head}, {limit:.0f} tokens, {dtype}"
    return [np.stack([next(found) for _ in group.generations]) for group in groups]


def emb_cos(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Mean cosine dissimilarity of the outputs' embeddings."""
    return [cosine_dissimilarity(vectors) for vectors in embeddings(groups, passes, metric)]


def vendi_emb(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Vendi score of the outputs' embeddings under cosine similarity."""
    return [
        vendi(kernel) if np.isfinite(kernel).all() else math.nan
        for kernel in map(cosines, embeddings(groups, passes, metric))
    ]


def pair_probabilities(
    pairs: Sequence[Item],
    passes: Passes,
    model: FoundModel,
    labels: Sequence[str],
    *,
    sides: bool = False,
) -> tuple[list[Values], list[int]]:
    """Label probabilities of pairs of texts, and the places of the labels asked for."""
    from baco.metrics.hf import PairClassifier, dtype_of

    dtype = dtype_of(passes.options, large=False)
    kind = f"{'sides' if sides else 'pairs'}|{model.label}|{dtype}"

    def classifier() -> PairClassifier:
        return passes.load(kind, lambda: PairClassifier(model, passes.options, sides=sides))

    found = passes.run(f"pairs|{kind}", pairs, lambda items: classifier()(items))

    def place(label: str) -> int:
        found = passes.run(
            f"label|{kind}|{label}", [("",)], lambda _: [[classifier().label(label)]]
        )
        return int(found[0][0])

    return found, [place(label) for label in labels]


def _nli(groups: Sequence[Generations], passes: Passes, metric: Metric, label: str) -> list[float]:
    """Mean probability of a label over all ordered pairs of outputs."""
    model = passes.model(metric)
    pairs: list[Item] = [
        (a, b)
        for group in groups
        for i, a in enumerate(group.generations)
        for j, b in enumerate(group.generations)
        if i != j
    ]
    found, (place,) = pair_probabilities(pairs, passes, model, [label])
    passes.made_by[metric.name] = model.label
    answers = iter(found)
    values = []
    for group in groups:
        n = len(group.generations)
        matrix = np.zeros((n, n))
        for i, j in np.ndindex(n, n):
            if i != j:
                matrix[i, j] = next(answers)[place]
        values.append(pair_mean(matrix))
    return values


def nli_entail(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Mean probability of entailment, both directions."""
    return _nli(groups, passes, metric, "entail")


def nli_contradiction(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Mean probability of contradiction, both directions."""
    return _nli(groups, passes, metric, "contradict")


def equivalence_classes(
    groups: Sequence[Generations], passes: Passes, metric: Metric
) -> list[list[int]]:
    """NoveltyBench's classes: words decide on short answers, else the classifier."""
    if metric.variant == "file":
        passes.made_by[metric.name] = "classes given in the input (partition)"
        return [given_classes(group) for group in groups]
    if metric.variant == "tiny":
        return exact_classes(groups, passes, metric)
    role = "same"
    model = passes.model(METRICS["nb_distinct"] if metric.role != role else metric)
    passes.made_by[metric.name] = model.label

    def same(asked: Asked) -> Sequence[bool]:
        sides = [(g.generations[a], g.generations[b]) for g, a, b in asked]
        ruled = [short_rule(*pair) for pair in sides]
        unsure: list[Item] = [p for p, rule in zip(sides, ruled, strict=True) if rule is None]
        found, _ = pair_probabilities(unsure, passes, model, [], sides=True)
        answers = iter(found)
        return [bool(next(answers)[1] > SAME_FROM) if r is None else r for r in ruled]

    return passes.partitions(groups, same)


def given_classes(group: Generations) -> list[int]:
    """Classes that a group brings along in its field ``partition``."""
    classes = group.extra.get("partition")
    if (
        not isinstance(classes, list)
        or len(classes) != len(group.generations)
        or not all(isinstance(c, int) for c in classes)
    ):
        raise NotComputable(
            f"{group.where}: the field 'partition' must hold one whole number for each generation"
        )
    return classes


def exact_classes(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[list[int]]:
    """Classes of the bundled exact judge: outputs that say the same."""
    from baco.tiny.judge import semantic_class

    passes.made_by[metric.name] = TINY_JUDGE
    found = []
    for group in groups:
        names = [semantic_class(group.question, text) for text in group.generations]
        ids = {name: i for i, name in enumerate(dict.fromkeys(names))}
        found.append([ids[name] for name in names])
    return found


def nb_distinct(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Number of equivalence classes."""
    return [float(len(set(c))) for c in equivalence_classes(groups, passes, metric)]


def meaning_classes(
    groups: Sequence[Generations], passes: Passes, metric: Metric
) -> list[list[int]]:
    """Classes of mutual entailment, the prompt put before each output."""
    if metric.variant == "tiny":
        return exact_classes(groups, passes, metric)
    model = passes.model(metric)
    passes.made_by[metric.name] = model.label

    def same(asked: Asked) -> Sequence[bool]:
        sides = [
            (f"{g.question} {g.generations[a]}", f"{g.question} {g.generations[b]}")
            for g, a, b in asked
        ]
        both: list[Item] = [*sides, *((b, a) for a, b in sides)]
        found, (entails,) = pair_probabilities(both, passes, model, ["entail"])
        won = [bool(np.argmax(p) == entails) for p in found]
        return [there and back for there, back in _halves(won)]

    return passes.partitions(groups, same)


def _halves(values: Sequence[bool]) -> Iterable[tuple[bool, bool]]:
    middle = len(values) // 2
    return zip(values[:middle], values[middle:], strict=True)


def entropy_over_meanings(
    groups: Sequence[Generations], passes: Passes, metric: Metric
) -> list[float]:
    """Semantic entropy with the aligned model's likelihoods."""
    likelihoods, scorer = mean_log_likelihoods(groups, passes)
    classes = meaning_classes(groups, passes, metric)
    passes.made_by[metric.name] += f"; likelihoods: {scorer}"
    return [semantic_entropy(c, ll) for c, ll in zip(classes, likelihoods, strict=True)]


def discrete_entropy_over_meanings(
    groups: Sequence[Generations], passes: Passes, metric: Metric
) -> list[float]:
    """Entropy of the classes' sizes."""
    return [discrete_entropy(c) for c in meaning_classes(groups, passes, metric)]


def _add(metric: Metric) -> None:
    METRICS.add(metric.name, metric)


_add(
    Metric(
        name="emb_cos",
        kind="semantic",
        direction="up",
        range="[0, n/(n-1)]",
        theory="1",
        theory_end=one,
        model="sentence encoder",
        source="Paper: App. C.1; Reimers & Gurevych 2019",
        compute=emb_cos,
        default=True,
        role="encoder",
    )
)
_add(
    Metric(
        name="vendi_emb",
        kind="semantic",
        direction="up",
        range="[1, n]",
        theory="n",
        theory_end=count,
        model="SimCSE or sentence encoder",
        source="Paper: App. C.1; Friedman & Dieng 2023",
        compute=vendi_emb,
        default=True,
        pairwise=False,
        role="vendi",
    )
)
_add(
    Metric(
        name="nli_entail",
        kind="semantic",
        direction="down",
        range="[0, 1]",
        theory="0",
        theory_end=zero,
        model="NLI cross-encoder",
        source="Paper: App. C.1; Stasaski & Hearst 2022",
        compute=nli_entail,
        default=True,
        role="nli",
    )
)
_add(
    Metric(
        name="nb_distinct",
        kind="semantic",
        direction="up",
        range="[1, n]",
        theory="n",
        theory_end=count,
        model="equivalence classifier",
        source="Paper: App. C.1; Zhang et al. 2025 (NoveltyBench)",
        compute=nb_distinct,
        default=True,
        pairwise=False,
        role="same",
        stand_ins=("tiny", "file"),
    )
)
_add(
    Metric(
        name="semantic_entropy",
        kind="semantic",
        direction="up",
        range="[0, ln n]",
        theory="ln n",
        theory_end=log_count,
        model="NLI cross-encoder, aligned model",
        source="Paper: App. C.1; Farquhar et al. 2024",
        compute=entropy_over_meanings,
        default=True,
        pairwise=False,
        role="entail",
        stand_ins=("tiny",),
    )
)
_add(
    Metric(
        name="nli_contradiction",
        kind="semantic",
        direction="up",
        range="[0, 1]",
        theory="1",
        theory_end=one,
        model="NLI cross-encoder",
        source="Paper: App. C.1, title; Stasaski & Hearst 2022",
        compute=nli_contradiction,
        role="nli",
    )
)
_add(
    Metric(
        name="se_discrete",
        kind="semantic",
        direction="up",
        range="[0, ln n]",
        theory="ln n",
        theory_end=log_count,
        model="NLI cross-encoder",
        source="Farquhar et al. 2024",
        compute=discrete_entropy_over_meanings,
        pairwise=False,
        role="entail",
        stand_ins=("tiny",),
    )
)
