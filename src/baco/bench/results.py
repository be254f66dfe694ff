"""What a store holds, put in order for reports: one comparison for each pair and dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from baco.bench.cells import Cell, make_bench_setting
from baco.bench.plan import Plan
from baco.bench.records import Record
from baco.bench.store import Store
from baco.errors import BacoError, InputError
from baco.metrics.spec import Metric, resolve
from baco.tradeoff.analysis import CurveSetting
from baco.tradeoff.points import Point, Points, Reference

RecordValues = Mapping[str, float]
"""Value by record id; NaN where a metric is undefined."""


@dataclass(frozen=True)
class Discarded:
    """Something that the report leaves out.

    Attributes:
        what: What it is.
        why: Why.
    """

    what: str
    why: str


@dataclass(frozen=True)
class Comparison:
    """All curves of one dataset and pair, on the same prompts.

    Attributes:
        dataset: The dataset, as the plan calls it.
        pair: The main pair; curves that the plan gives to other pairs only are here as well.
        cells: The cells that take part, by (curve, control).
        records: The prompts that every one of them has whole groups of.
        metrics: The plan's metrics that have values and make spaces: diversity and quality.
        extra: Those that make no space.
        values: Values of (curve, control) and metric, by record.
        made_by: What made the numbers of each metric.
        references: The (curve, control) at the base and the aligned end of the axes.
        discarded: What is left out.
    """

    dataset: str
    pair: str
    cells: Mapping[CurveSetting, Cell]
    records: tuple[Record, ...]
    metrics: tuple[Metric, ...]
    extra: tuple[Metric, ...]
    values: Mapping[tuple[CurveSetting, str], RecordValues]
    made_by: Mapping[str, str]
    references: tuple[CurveSetting, CurveSetting]
    discarded: tuple[Discarded, ...] = ()
    n: int = field(default=10)

    @property
    def title(self) -> str:
        """Dataset and pair, for people."""
        return f"{self.dataset}, {self.pair}"

    @property
    def shown(self) -> tuple[Metric, ...]:
        """All metrics that have values."""
        return (*self.metrics, *self.extra)

    @property
    def curves(self) -> dict[str, list[CurveSetting]]:
        """Settings of each curve, in the plan's order."""
        found: dict[str, list[CurveSetting]] = {}
        for setting in self.cells:
            found.setdefault(setting[0], []).append(setting)
        return found

    @property
    def families(self) -> dict[str, list[str]]:
        """Curves of each family, in the plan's order."""
        found: dict[str, list[str]] = {}
        for (curve, _), cell in self.cells.items():
            names = found.setdefault(cell.family, [])
            if curve not in names:
                names.append(curve)
        return found

    @property
    def categories(self) -> list[str]:
        """Categories of the prompts, in order of appearance."""
        return list(dict.fromkeys(r.category for r in self.records if r.category))

    def points(
        self,
        curves: Mapping[str, str] | Sequence[str] | None = None,
        records: Sequence[Record] | None = None,
    ) -> Points:
        """Values per prompt, for `baco.tradeoff.analyse`.

        Args:
            curves: Only these curves, in this order; a mapping also says what to call them.
            records: Only these prompts.
        """
        chosen = [r.id for r in (self.records if records is None else records)]
        known = self.curves
        points = []
        for curve in known if curves is None else curves:
            name = curves[curve] if isinstance(curves, Mapping) else curve
            for setting in known[curve]:
                columns = {m.name: self.values.get((setting, m.name), {}) for m in self.metrics}
                points += [
                    Point(
                        name,
                        setting[1],
                        {name: c.get(record, math.nan) for name, c in columns.items()},
                        self.title,
                        record,
                        self.n,
                    )
                    for record in chosen
                ]
        return Points(tuple(points), self.metrics)

    def mean(self, setting: CurveSetting, metric: str) -> float:
        """Mean of a metric over the prompts where it has a value; NaN if it has none."""
        column = self.values.get((setting, metric), {})
        found = [v for v in column.values() if math.isfinite(v)]
        return math.fsum(found) / len(found) if found else math.nan

    def halves(self) -> tuple[list[Record], list[Record]]:
        """Two halves of the prompts; each has every second prompt of every category."""
        halves: tuple[list[Record], list[Record]] = ([], [])
        for category in dict.fromkeys(r.category for r in self.records):
            for record in (r for r in self.records if r.category == category):
                halves[len(halves[0]) > len(halves[1])].append(record)
        return halves


def spelled_out(plan: Plan, cell: Cell) -> Cell:
    """A cell with the router and the control that its defaults stand for."""
    if cell.control is not None and cell.router is not None and "@" not in cell.router:
        return cell
    setting = make_bench_setting(plan, cell)
    control = cell.control if setting.control is None else setting.control
    return replace(cell, router=setting.router_name, control=control)


def control_text(cell: Cell) -> str:
    """A cell's control as texts and tables show it; empty where it has none."""
    control = cell.control
    return f"{control:g}" if isinstance(control, float | int) else control or ""


def read_results(store: Store) -> tuple[list[Comparison], list[Discarded]]:
    """Reads everything that can be compared.

    A setting takes part if it has whole groups for all prompts that both references have; others
    are discarded, with the reason.

    Args:
        store: The store.

    Returns:
        The comparisons, and what could not be made one.

    Raises:
        InputError: If the store holds no plan.
    """
    plan, cells = store.plan, store.cells()
    counts, failures = store.counts(), store.failures()
    found, problems = [], []
    for pair in plan.pairs:
        for dataset in plan.datasets:
            mine = [
                c
                for c in cells
                if c.dataset == dataset.title
                and (c.pair == pair or (c.pair not in plan.pairs and pair == plan.pairs[0]))
            ]
            try:
                found.append(_comparison(store, plan, dataset.title, pair, mine, counts, failures))
            except BacoError as error:
                problems.append(Discarded(f"{dataset.title}, {pair}", str(error)))
    return found, problems


def _comparison(
    store: Store,
    plan: Plan,
    dataset: str,
    pair: str,
    cells: Sequence[Cell],
    counts: Mapping[tuple[str, str], int],
    failures: Mapping[tuple[str, str], str],
) -> Comparison:
    discarded = []
    settings: dict[CurveSetting, Cell] = {}
    for given in cells:
        cell = spelled_out(plan, given)
        name = cell.curve
        if (name, control_text(cell)) in settings:  # one curve on several pairs
            name = f"{cell.curve} ({cell.pair})"
        settings[name, control_text(cell)] = cell
    records = store.records(cells[0]) if cells else []
    whole = {
        setting: {r.id for r in records if counts.get((cell.key, r.id), 0) >= cell.n}
        for setting, cell in settings.items()
    }
    roles = (("base", plan.report.base), ("aligned", plan.report.aligned))
    try:
        base, aligned = (Reference.parse(*role).find(list(settings), "") for role in roles)
    except InputError as error:
        hint = "report.base and report.aligned of the plan name the references"
        raise InputError(error.message, hint=hint) from None
    prompts = whole[base] & whole[aligned]
    if not prompts:
        raise InputError(
            "the references have no prompt in common that is finished",
            hint="run the plan on, or see baco bench status",
        )
    if len(prompts) < len(records):
        discarded.append(
            Discarded(
                f"{len(records) - len(prompts)} of {len(records)} prompts",
                "the references are not finished on them",
            )
        )
    kept: dict[CurveSetting, Cell] = {}
    for setting, cell in settings.items():
        have = len(prompts & whole[setting])
        if have == len(prompts):
            kept[setting] = cell
            continue
        why = f"finished on {have} of {len(prompts)} prompts"
        failed = [m for (key, _), m in failures.items() if key == cell.key]
        if failed:
            why += f"; it failed: {failed[0]}"
        discarded.append(Discarded(f"{setting[0]} {setting[1]}".strip(), why))
    taken = tuple(r for r in records if r.id in prompts)
    metrics, extra, values, made_by, lost = _scores(store, plan, kept, prompts)
    return Comparison(
        dataset,
        pair,
        kept,
        taken,
        metrics,
        extra,
        values,
        made_by,
        (base, aligned),
        (*discarded, *lost),
        plan.n,
    )


def _scores(
    store: Store, plan: Plan, cells: Mapping[CurveSetting, Cell], prompts: set[str]
) -> tuple[
    tuple[Metric, ...],
    tuple[Metric, ...],
    dict[tuple[CurveSetting, str], RecordValues],
    dict[str, str],
    list[Discarded],
]:
    """Values by setting and metric, of one scorer for each metric."""
    by_maker: dict[str, dict[str, dict[CurveSetting, dict[str, float]]]] = {}
    for setting, cell in cells.items():
        for score in store.scores(cell):
            if score.record in prompts:
                makers = by_maker.setdefault(score.metric, {})
                table = makers.setdefault(score.model, {})
                table.setdefault(setting, {})[score.record] = score.value
    metrics: list[Metric] = []
    extra: list[Metric] = []
    values: dict[tuple[CurveSetting, str], RecordValues] = {}
    made_by: dict[str, str] = {}
    lost: list[Discarded] = []
    spaces = {*plan.metrics.diversity, *plan.metrics.quality}
    for wanted in plan.metrics.names:
        name = _stored_name(wanted, by_maker)
        if name is None:
            lost.append(Discarded(wanted, "no setting has values of it: baco bench score"))
            continue
        makers = by_maker[name]
        maker = max(makers, key=lambda m: sum(len(column) for column in makers[m].values()))
        for other in makers:
            if other != maker:
                lost.append(Discarded(f"{name} by {other}", f"most values are by {maker}"))
        (metrics if wanted in spaces else extra).append(resolve(name))
        made_by[name] = maker
        short = []
        for setting in cells:
            column = makers[maker].get(setting, {})
            if len(column) == len(prompts):
                values[setting, name] = column
            else:
                short.append(f"{setting[0]} {setting[1]}".strip())
        if short:
            listed = ", ".join(short[:4]) + (f" and {len(short) - 4} more" if short[4:] else "")
            lost.append(Discarded(f"{name} of {listed}", "not scored on every prompt"))
    return tuple(metrics), tuple(extra), values, made_by, lost


def _stored_name(wanted: str, stored: Mapping[str, object]) -> str | None:
    """The name under which a metric was scored: with the model, where that is not the default."""
    if wanted in stored:
        return wanted
    if "@" in wanted:
        return None
    return next((name for name in stored if name.partition("@")[0] == wanted), None)
