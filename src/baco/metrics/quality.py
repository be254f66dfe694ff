"""Quality: perplexity under the aligned model, rewards, and NoveltyBench's utility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from baco.metrics.groups import Generations
from baco.metrics.likelihood import means_of, token_likelihoods
from baco.metrics.models import DEFAULTS
from baco.metrics.partition import mark, utility
from baco.metrics.passes import NotComputable, Passes, Values
from baco.metrics.spec import METRICS, Item, Metric

MARKED = DEFAULTS["reward"]
"""The one reward model that the marks from 1 to 10 belong to."""

HIGHEST = 10
"""The best mark of the reward model's scale, of a judge and of the bundled judge."""


def _negative(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[list[float]]:
    rows, passes.made_by[metric.name] = token_likelihoods(groups, passes, metric)
    return [[-value for value in means_of(r)] for r in rows]


def ppl(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Mean perplexity of the outputs."""
    return [group_perplexity(nll) for nll in _negative(groups, passes, metric)]


def ppl_geo(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Exponential of the mean negative log-likelihood: heavy tails weigh less."""
    return [_exp(_mean(nll)) for nll in _negative(groups, passes, metric)]


def nll(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Mean negative log-likelihood of a token, in nats."""
    return [_mean(values) for values in _negative(groups, passes, metric)]


def group_perplexity(nlls: Sequence[float]) -> float:
    """Mean of the outputs' perplexities (Paper: App. C.1).

    Args:
        nlls: Mean negative log-likelihood of a token (nats) of each output.

    Returns:
        A perplexity in [1, inf); down is better.
    """
    return _mean([_exp(value) for value in nlls])


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _rewards(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[list[float]]:
    """Scores of all outputs as the metric's model or judge gives them."""
    items: list[Item] = [(g.question, text) for g in groups for text in g.generations]
    if metric.variant == "tiny":
        from baco.metrics.semantic import TINY_JUDGE
        from baco.tiny.judge import quality
        from baco.tiny.world import understand

        passes.made_by[metric.name] = f"{TINY_JUDGE}, 0 to 10"
        flat = [float(quality(*i)) if understand(i[0]) else math.nan for i in items]
    elif metric.variant == "judge":
        judge = passes.judge()
        passes.made_by[metric.name] = f"{judge.label}, 1 to 10"
        flat = [float(v[0]) for v in passes.run(f"judge|{judge.settings}", items, judge.marks)]
    else:
        talks: list[Item] = [(g.conversation, text) for g in groups for text in g.generations]
        flat = [float(v[0]) for v in _raw(talks, passes, metric)]
    scores = iter(flat)
    return [[next(scores) for _ in g.generations] for g in groups]


def _raw(items: Sequence[Item], passes: Passes, metric: Metric) -> list[Values]:
    from baco.metrics.hf import RewardModel, dtype_of

    model = passes.model(metric if metric.role == "reward" else METRICS["reward"])
    dtype = dtype_of(passes.options, large=True)
    kind = f"reward|{model.label}|{dtype}"
    scale = "marks 1 to 10" if model.name == MARKED and metric.name != "reward_raw" else "raw score"
    passes.made_by[metric.name] = f"{model.label}, {scale}, {dtype}"
    return passes.run(
        kind,
        items,
        lambda missing: passes.load(kind, lambda: RewardModel(model, passes.options))(missing),
    )


def _marked(passes: Passes, metric: Metric) -> bool:
    """Whether raw scores are to be mapped to marks: they come from the model of the thresholds."""
    if metric.variant in ("tiny", "judge"):
        return False
    named = metric.variant if metric.role == "reward" else ""
    return (named or passes.options.models.get("reward", MARKED)) == MARKED


def reward(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Mean reward: marks for the default model, raw scores for any other; repeats count in full."""
    marked = _marked(passes, metric)
    return [
        _mean([_to_mark(r) if marked else r for r in scores])
        for scores in _rewards(groups, passes, metric)
    ]


def _to_mark(raw: float) -> float:
    return math.nan if math.isnan(raw) else float(mark(raw))


def reward_raw(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """Mean raw score of the reward model."""
    return [_mean(scores) for scores in _rewards(groups, passes, metric)]


def classes_and_scores(
    groups: Sequence[Generations], passes: Passes, metric: Metric
) -> tuple[list[list[int]], list[list[float]]]:
    """Equivalence classes and marks of all outputs: of the metric's stand-in, or of models."""
    from baco.metrics.semantic import equivalence_classes

    if metric.variant == "file":
        given = [given_scores(group) for group in groups]
        classes = equivalence_classes(groups, passes, metric)
        passes.made_by[metric.name] = "classes and scores given in the input"
        return classes, given
    if not metric.variant and not _marked(passes, metric):
        raise NotComputable(
            "it needs marks from 1 to 10, and the reward model given has raw scores only"
        )
    scores = _rewards(groups, passes, metric)
    if not metric.variant:
        scores = [[_to_mark(r) for r in row] for row in scores]
    marker = passes.made_by[metric.name]
    classes = equivalence_classes(groups, passes, metric)
    passes.made_by[metric.name] += f"; scores: {marker}"
    return classes, scores


def nb_utility(groups: Sequence[Generations], passes: Passes, metric: Metric) -> list[float]:
    """NoveltyBench's utility from equivalence classes and marks."""
    classes, scores = classes_and_scores(groups, passes, metric)
    return [utility(c, s) for c, s in zip(classes, scores, strict=True)]


def given_scores(group: Generations) -> list[float]:
    """Scores that a group brings along in its field ``generation_scores``."""
    scores = group.extra.get("generation_scores")
    if (
        not isinstance(scores, list)
        or len(scores) != len(group.generations)
        or not all(isinstance(s, int | float) for s in scores)
    ):
        raise NotComputable(
            f"{group.where}: the field 'generation_scores' must hold one number for each generation"
        )
    return [float(s) for s in scores]


def _add(metric: Metric) -> None:
    METRICS.add(metric.name, metric)


_add(
    Metric(
        name="reward",
        kind="quality",
        direction="up",
        range="[1, 10] for the default model and a judge, [0, 10] @tiny, else unbounded",
        theory="",
        theory_end=None,
        model="reward model or judge",
        source="Paper: §4.1, App. C.1; Liu et al. 2024 (Skywork)",
        compute=reward,
        default=True,
        pairwise=False,
        role="reward",
        stand_ins=("tiny", "judge"),
    )
)
_PPL = Metric(
    name="ppl",
    kind="quality",
    direction="down",
    range="[1, inf)",
    theory="",
    theory_end=None,
    model="aligned model",
    source="Paper: §2, App. C.1",
    compute=ppl,
    default=True,
    pairwise=False,
    role="aligned",
)
_add(_PPL)
_add(
    replace(
        _PPL,
        name="ppl_geo",
        source="perplexity of the mean log-likelihood, less sensitive to outliers",
        compute=ppl_geo,
        default=False,
    )
)
_add(
    replace(
        _PPL,
        name="nll",
        range="[0, inf) nats",
        source="logarithm of ppl_geo",
        compute=nll,
        default=False,
    )
)
_add(
    Metric(
        name="reward_raw",
        kind="quality",
        direction="up",
        range="unbounded",
        theory="",
        theory_end=None,
        model="reward model",
        source="Liu et al. 2024 (Skywork), before the marks",
        compute=reward_raw,
        pairwise=False,
        role="reward",
    )
)
_add(
    Metric(
        name="nb_utility",
        kind="quality",
        direction="up",
        range="(0, 10]",
        theory="",
        theory_end=None,
        model="equivalence classifier, reward model",
        source="Zhang et al. 2025 (NoveltyBench)",
        compute=nb_utility,
        pairwise=False,
        stand_ins=("tiny", "file"),
    )
)
