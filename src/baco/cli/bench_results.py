"""``baco bench report`` and ``baco bench pick``: what a run that was scored tells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baco.errors import InputError

if TYPE_CHECKING:
    from baco.bench.results import Comparison
    from baco.bench.store import Store

ResampleSeed = Annotated[int, typer.Option(help="Decides which prompts are drawn again.")]


def write_report(
    path: Path,
    out: Path,
    *,
    bootstrap: int,
    rule: str,
    seed: int,
    with_models: bool,
    notes: Path | None,
) -> None:
    """Writes the report of a store.

    Args:
        path: The store.
        out: Folder for it.
        bootstrap: Resamples of the prompts.
        rule: Boundary rule of Coverage.
        seed: Seed of the resampling.
        with_models: Whether pairs may be loaded.
        notes: A text to put on the page.
    """
    from baco.bench.compare import ReportOptions
    from baco.bench.report import make_report
    from baco.bench.report import write_report as write
    from baco.bench.store import Store
    from baco.tradeoff.coverage import BOUNDARIES

    if rule not in BOUNDARIES:
        raise InputError(f"unknown boundary rule {rule!r}", hint=f"known: {', '.join(BOUNDARIES)}")
    if bootstrap < 0:
        raise InputError("the number of resamples cannot be negative", hint="0 means no intervals")
    try:
        text = notes.read_text(encoding="utf-8") if notes else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(f"cannot read {notes}: {reason}") from None
    with Store(path) as store:
        report = make_report(
            store,
            ReportOptions(bootstrap, seed, rule),
            with_models=with_models,
            notes=text,
            say=lambda line: typer.echo(line, err=True),
        )
    files = write(report, out)
    for section in report.sections:
        counts = {
            verdict: sum(f.verdict == verdict for f in section.findings)
            for verdict in ("confirmed", "not confirmed", "cannot be told")
        }
        listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        typer.echo(f"{section.comparison.title}: the paper's findings: {listed}")
        if section.discarded:
            typer.echo(f"{section.comparison.title}: {len(section.discarded)} left out, see there")
    for lost in report.discarded:
        typer.echo(f"not reported: {lost.what}: {lost.why}")
    typer.echo(f"{files[0]} and {len(files) - 1} files beside it")


def pick_setting(
    path: Path,
    *,
    min_quality: float | None,
    quality: str,
    max_cost: float | None,
    target: str,
    dataset: str,
    pair: str,
    seed: int,
    as_json: bool,
) -> None:
    """Names the setting to use, with the evidence."""
    from baco.bench.pick import Wish, pick, table, title
    from baco.bench.report import read_looks
    from baco.bench.store import Store
    from baco.cli.table import print_json
    from baco.reporting.tables import to_terminal

    wish = Wish(min_quality, quality, max_cost, base_share=_share(target))
    if (wish.min_quality, wish.max_cost, wish.base_share) == (None, None, None):
        raise InputError(
            "what is the setting to be?",
            hint="--min-quality Q, --max-cost PASSES, or --target base-share=0.3",
        )
    with Store(path) as store:
        comparison = _choose(store, dataset, pair)
        looks, _ = read_looks(store, comparison)
        picked = pick(comparison, looks, wish, seed)
    best = picked.best
    if as_json:
        print_json(
            {
                "curve": best.setting[0],
                "control": best.setting[1],
                "metric": picked.metric.name,
                "quality": best.quality,
                "diversity": best.diversity,
                "passes_per_token": best.cost,
                "base_share": best.base_share,
                "picked": best.wins,
                "command": picked.command,
            }
        )
        return
    typer.echo(f"{title(best.setting)}, on {comparison.title}, {len(comparison.records)} prompts")
    typer.echo(f"{picked.command}\n")
    typer.echo(to_terminal([table(picked)]), nl=False)
    if picked.half is not None:
        half, value, diversity = picked.half
        typer.echo(
            f"One half of the prompts alone picks {title(half)}; on the other half it has "
            f"{picked.metric.name} {value:.2f} and diversity {diversity:.3f}."
        )


def _share(target: str) -> float | None:
    """Reads ``base-share=X``."""
    if not target:
        return None
    name, _, value = target.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if name != "base-share" or not 0 <= share <= 1:
        raise InputError(
            f"cannot read the target {target!r}", hint="write base-share=X, X from 0 to 1"
        )
    return share


def _choose(store: Store, dataset: str, pair: str) -> Comparison:
    """The comparison that is meant; there may be several."""
    from baco.bench.results import read_results

    found, problems = read_results(store)
    mine = [c for c in found if dataset in ("", c.dataset) and pair in ("", c.pair)]
    if len(mine) == 1:
        return mine[0]
    if not found:
        raise InputError(
            f"nothing can be compared: {'; '.join(p.why for p in problems)}",
            hint="baco bench status shows what is done",
        )
    listed = "; ".join(f"--dataset {c.dataset} --pair {c.pair}" for c in found)
    what = "which dataset and pair?" if mine else "there is no such dataset and pair"
    raise InputError(what, hint=listed)
