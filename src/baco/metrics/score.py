"""Scores groups by metrics: `score` is the one way in for Python, the command line and benches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baco.errors import BacoError
from baco.metrics.cache import Cache
from baco.metrics.groups import SYSTEM, Generations, as_groups
from baco.metrics.lexical import is_short, on_words
from baco.metrics.models import BUNDLED, DEFAULTS, ModelUnavailable
from baco.metrics.passes import NotComputable, Passes, ScoringOptions
from baco.metrics.spec import GROUPS, Metric, expand, resolve
from baco.models.folders import cache_folder

if TYPE_CHECKING:
    from baco.metrics.judge import Judge


@dataclass(frozen=True)
class ScoredGroup:
    """A group and its values.

    Args:
        group: The group.
        values: Value of each metric; NaN where it is undefined.
        notes: Why a value is NaN.
        written: Value of each metric on the outputs that are not empty.
    """

    group: Generations
    values: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """One metric over all groups.

    Args:
        metric: The metric.
        mean: Mean over the groups that have a value; NaN if none has.
        sd: Standard deviation over these groups; NaN for fewer than two.
        groups: How many groups have a value.
        nan: How many have none.
        too_short: For ``dist_k`` and ``ead_k``, groups in which no output has k words or tokens.
        made_by: The model, judge or tokenizer that made the numbers, and its parameters.
        written: Mean over the groups without their empty outputs.
    """

    metric: Metric
    mean: float
    sd: float
    groups: int
    nan: int
    too_short: int
    made_by: str
    written: float


@dataclass(frozen=True)
class Scores:
    """All values of all groups.

    Args:
        rows: The groups with their values.
        summaries: Each metric over all groups.
        skipped: Metrics of a list that could not be computed, and why.
        cost: What a judge model cost; empty without one.
    """

    rows: tuple[ScoredGroup, ...]
    summaries: tuple[Summary, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    cost: str = ""

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the groups."""
        return {s.metric.name: s.mean for s in self.summaries}

    @property
    def models(self) -> dict[str, str]:
        """What made the numbers of each metric."""
        return {s.metric.name: s.made_by for s in self.summaries}

    @property
    def counts(self) -> dict[str, int]:
        """How many groups and outputs there are, and how many of them are empty or alone."""
        empty = [row.group.empty for row in self.rows]
        return {
            "groups": len(self.rows),
            "outputs": sum(len(row.group.generations) for row in self.rows),
            "empty_outputs": sum(empty),
            "groups_with_empty_outputs": sum(map(bool, empty)),
            "groups_with_one_output": sum(len(row.group.generations) == 1 for row in self.rows),
        }

    def split(self, fields: Sequence[str]) -> dict[tuple[str, ...], Scores]:
        """The scores of each system apart.

        Args:
            fields: Fields of the groups that tell systems apart.

        Returns:
            The scores of the groups with equal fields, in order of first appearance; a group
            without a field has ``-`` there.
        """
        parts: dict[tuple[str, ...], list[ScoredGroup]] = {}
        for row in self.rows:
            parts.setdefault(tuple(_named(row.group, name) for name in fields), []).append(row)
        return {key: self._of(rows) for key, rows in parts.items()}

    def _of(self, rows: Sequence[ScoredGroup]) -> Scores:
        summaries = tuple(_summary(s.metric, rows, s.made_by) for s in self.summaries)
        return Scores(tuple(rows), summaries, self.skipped, self.cost)

    @property
    def systems(self) -> tuple[str, ...]:
        """Fields that tell the systems apart: those of `SYSTEM` with more than one value."""
        return tuple(
            name
            for name in SYSTEM
            if len({_named(row.group, name) for row in self.rows} - {NONE}) > 1
        )

    @property
    def finish_reasons(self) -> dict[str, int]:
        """How many outputs ended for which reason, as far as it is known."""
        found: dict[str, int] = {}
        for row in self.rows:
            for reason in row.group.finish_reasons:
                found[reason] = found.get(reason, 0) + 1
        return found

    def column(self, name: str) -> list[float]:
        """Values of a metric, one per group.

        Args:
            name: Name of the metric as in ``means``.
        """
        return [row.values[name] for row in self.rows]

    def to_dict(self, by: Sequence[str] | None = None) -> dict[str, Any]:
        """Everything as plain data for JSON; NaN becomes None.

        Args:
            by: Fields that tell systems apart, by default `systems`; where there are some, means
                are given for each system and not over all.
        """
        by = self.systems if by is None else by
        return {
            "metrics": {
                s.metric.name: {
                    "mean": None if by else _plain(s.mean),
                    "mean_without_empty": None if by else _plain(s.written),
                    "sd": None if by else _plain(s.sd),
                    "groups": s.groups,
                    "nan": s.nan,
                    "too_short": s.too_short,
                    "class": s.metric.kind,
                    "direction": s.metric.direction,
                    "made_by": s.made_by,
                }
                for s in self.summaries
            },
            "by": [
                {
                    **dict(zip(by, key, strict=True)),
                    **part.counts,
                    "means": {n: _plain(v) for n, v in part.means.items()},
                    "means_without_empty": {
                        s.metric.name: _plain(s.written) for s in part.summaries
                    },
                }
                for key, part in (self.split(by).items() if by else ())
            ],
            "counts": self.counts,
            "finish_reasons": self.finish_reasons,
            "skipped": dict(self.skipped),
            "judge_cost": self.cost,
            "groups": [
                {
                    **row.group.extra,
                    "prompt": row.group.prompt,
                    "n": len(row.group.generations),
                    "empty": row.group.empty,
                    "scores": {name: _plain(value) for name, value in row.values.items()},
                    "notes": dict(row.notes),
                }
                for row in self.rows
            ],
        }


NONE = "-"


def _named(group: Generations, name: str) -> str:
    """A field of a group as text; `NONE` without it."""
    value = group.extra.get(name)
    return NONE if value is None else str(value)


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def score(
    groups: Iterable[object],
    metrics: Sequence[str] | str | None = None,
    *,
    aligned: str = "",
    models: Mapping[str, str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 16,
    workers: int = 1,
    offline: bool = False,
    judge: Judge | None = None,
    cache: bool | str | Path = True,
    progress: bool = False,
    engine: str = "baco",
) -> Scores:
    """Scores groups of outputs.

    Args:
        groups: Groups: mappings with ``prompt`` and ``generations``, or what a pair generates.
        metrics: Names, or names of lists (``default``, ``lexical``, ``semantic``, ``quality``,
            ``paper``, ``all``), as a sequence or separated by commas; None means ``default``, the
            paper's eleven diversity metrics. A metric that is named must be computable; one that
            comes from a list and is not is left out, with the reason in ``skipped``.
        aligned: Aligned model (folder or hub id) for perplexity, likelihoods and EAD's tokens.
        models: Other models than the default ones by role: ``encoder``, ``vendi``, ``nli``,
            ``same``, ``entail``, ``reward``.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dtype: ``auto``, ``float32``, ``bfloat16``, ...
        batch_size: Texts or pairs in one forward pass.
        workers: Processes for the lexical part; more than one needs the caller's main module to be
            importable (``if __name__ == "__main__"``).
        offline: Never ask the hub.
        judge: Chat model for ``reward@judge``, ``tp_div`` and ``arousal_div``.
        cache: Whether to keep results on disk, or the folder to keep them in.
        progress: Whether to draw a progress bar on stderr.
        engine: What computes likelihoods: ``baco`` (transformers) or ``vllm``.

    Returns:
        The values.

    Raises:
        InputError: If a group, a metric or an option is wrong.
        BacoError: If a metric asked for by name cannot be computed.
    """
    taken = as_groups(groups)
    names = metrics.split(",") if isinstance(metrics, str) else list(metrics or ["default"])
    names = [name.strip() for name in names if name.strip()]
    asked = {m.name for m in expand([n for n in names if n not in GROUPS] or ["default"])}
    strict = asked if any(n not in GROUPS for n in names) else set()
    options = ScoringOptions(
        aligned, models or {}, device, dtype, batch_size, workers, offline, judge, progress, engine
    )
    folder = cache_folder() if cache is True else Path(cache) if cache else None
    wanted = [named_after_model(m, options) for m in expand(names)]
    lexical = [m.name for m in wanted if m.compute is on_words or m.variant == "words"]
    store = Cache(folder)
    passes = Passes(options, store, lexical)
    found: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    makers: dict[str, tuple[Metric, str]] = {}
    skipped: dict[str, str] = {}
    try:
        for metric in wanted:
            try:
                values = _compute(metric, taken, passes)
                maker = passes.made_by[metric.name]
                without = _without_empty(metric, taken, values, passes)
                passes.made_by[metric.name] = maker
            except (NotComputable, ModelUnavailable) as error:
                if metric.name in strict or metric.base_name in strict:
                    raise type(error)(f"{metric.name}: {error.message}", hint=error.hint) from error
                skipped[metric.name] = str(error)
                continue
            metric = honest(metric, passes)
            found[metric.name], whole[metric.name] = values, without
            makers[metric.name] = metric, passes.made_by[metric.name]
    finally:
        store.close()
    if not found:
        raise BacoError(
            "none of the metrics can be computed: "
            + "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        )
    rows = tuple(_row(group, i, found, whole) for i, group in enumerate(taken))
    summaries = tuple(_summary(metric, rows, maker) for metric, maker in makers.values())
    return Scores(rows, summaries, skipped, judge.cost if judge else "")


def named_after_model(metric: Metric, options: ScoringOptions) -> Metric:
    """Puts a model that is not the default one into the metric's name.

    Args:
        metric: A metric as asked for.
        options: How to score.

    Returns:
        The metric, under a name that says which model was chosen for its role; EAD without an
        aligned model becomes ``@words``.
    """
    if metric.variant:
        return metric
    other = options.models.get(metric.role, "")
    if other and other != DEFAULTS[metric.role]:
        return resolve(f"{metric.name}@{other}")
    if metric.base_name.startswith("ead_") and not options.aligned:
        return resolve(f"{metric.name}@words")
    return metric


def honest(metric: Metric, passes: Passes) -> Metric:
    """Renames a metric whose default encoder was replaced by the bundled one."""
    maker = passes.made_by[metric.name]
    if metric.variant or not maker.startswith(f"{BUNDLED}@"):
        return metric
    renamed = resolve(f"{metric.name}@{BUNDLED}")
    passes.made_by[renamed.name] = maker
    return renamed


def _compute(metric: Metric, groups: Sequence[Generations], passes: Passes) -> list[float]:
    """Values of a metric; groups of one output have none where outputs are compared."""
    fit = [g for g in groups if not metric.pairwise or len(g.generations) > 1]
    values = iter(metric.compute(fit, passes, metric)) if fit else iter(())
    passes.made_by.setdefault(metric.name, "-")
    return [
        math.nan if metric.pairwise and len(g.generations) < 2 else float(next(values))
        for g in groups
    ]


def _without_empty(
    metric: Metric, groups: Sequence[Generations], values: Sequence[float], passes: Passes
) -> list[float]:
    """Values of a metric on the outputs that are not empty; NaN for a group without any."""
    some = [i for i, g in enumerate(groups) if 0 < g.empty < len(g.generations)]
    found = [
        math.nan if g.empty == len(g.generations) else v
        for g, v in zip(groups, values, strict=True)
    ]
    again = _compute(metric, [groups[i].written() for i in some], passes) if some else []
    for i, value in zip(some, again, strict=True):
        found[i] = value
    return found


def _mean(values: Sequence[float]) -> float:
    present = [v for v in values if math.isfinite(v)]
    return math.fsum(present) / len(present) if present else math.nan


def _summary(metric: Metric, rows: Sequence[ScoredGroup], made_by: str) -> Summary:
    values = [row.values[metric.name] for row in rows]
    present = [v for v in values if math.isfinite(v)]
    mean = _mean(values)
    spread = math.fsum((v - mean) ** 2 for v in present)
    return Summary(
        metric,
        mean,
        math.sqrt(spread / (len(present) - 1)) if len(present) > 1 else math.nan,
        len(present),
        len(values) - len(present),
        sum(is_short(metric, v) for v in values),
        made_by,
        _mean([row.written[metric.name] for row in rows]),
    )


def _row(
    group: Generations,
    index: int,
    found: Mapping[str, Sequence[float]],
    whole: Mapping[str, Sequence[float]],
) -> ScoredGroup:
    values = {name: column[index] for name, column in found.items()}
    notes = {
        name: "one output only: nothing to compare"
        if len(group.generations) == 1 and resolve(name).pairwise
        else "undefined for these outputs"
        for name, value in values.items()
        if not math.isfinite(value)
    }
    return ScoredGroup(group, values, notes, {n: column[index] for n, column in whole.items()})
