"""The scoring pass of the aligned model, shared by perplexity and semantic entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from baco.metrics.groups import Generations
from baco.metrics.passes import Passes, Values
from baco.metrics.spec import METRICS, Item, Metric
from baco.models.engines import ENGINES, OURS

if TYPE_CHECKING:
    from baco.metrics.hf import Likelihood
    from baco.metrics.models import FoundModel


def token_likelihoods(
    groups: Sequence[Generations], passes: Passes, metric: Metric
) -> tuple[list[Values], str]:
    """The scoring pass of the aligned model, shared by perplexity and semantic entropy.

    Args:
        groups: The groups.
        passes: The passes.
        metric: A metric whose model is the aligned one.

    Returns:
        For each group rows of (sum of log-probabilities in nats, number of tokens), one per output,
        the end-of-turn token included unless the output was cut at the length limit; and the
        name of the model.
    """
    from baco.metrics.hf import dtype_of

    model = passes.model(metric)
    dtype = dtype_of(passes.options, large=True)
    engine = passes.options.engine
    maker = "" if engine == OURS else f"|{engine}"
    kind = f"likelihood|{model.label}|{dtype}{maker}"
    items: list[Item] = [
        (group.conversation, text, "cut" if group.hit_limit(i) else "end")
        for group in groups
        for i, text in enumerate(group.generations)
    ]
    found = iter(
        passes.run(
            kind,
            items,
            lambda missing: passes.load(kind, lambda: _likelihood(model, passes))(missing),
            together=True,
        )
    )
    rows = [np.stack([next(found) for _ in group.generations]) for group in groups]
    return rows, f"{model.label}, {dtype}"


def _likelihood(model: FoundModel, passes: Passes) -> Likelihood:
    """Loads what computes likelihoods."""
    if passes.options.engine != OURS:
        make = ENGINES[passes.options.engine].likelihood
        assert make is not None  # as `ScoringOptions` has checked
        return make(model, passes.options)  # type: ignore[no-any-return]
    from baco.metrics.hf import Likelihood

    return Likelihood(model, passes.options)


def mean_log_likelihoods(
    groups: Sequence[Generations], passes: Passes
) -> tuple[list[list[float]], str]:
    """Mean log-probability of a token (nats) of each output under the aligned model."""
    rows, name = token_likelihoods(groups, passes, METRICS["ppl"])
    return [means_of(r) for r in rows], name


def means_of(rows: Values) -> list[float]:
    """Mean log-probabilities of rows of (sum, number of tokens); NaN where there is no token."""
    return [float(total / number) if number else math.nan for total, number in rows]
