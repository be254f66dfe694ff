"""``baco bench``: runs a plan, scores it, and tells what came out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baco.cli.bench_results import ResampleSeed, pick_setting, write_report
from baco.errors import InputError

if TYPE_CHECKING:
    from baco.bench.plan import Plan
    from baco.bench.run import Part
    from baco.bench.store import Store

app = typer.Typer(
    help="From a plan to tables and figures: many methods, controls, prompts and metrics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PlanOrStore = Annotated[
    str,
    typer.Argument(
        help="A plan (a TOML file, or the name of one that comes with BaCo), or a store.",
        show_default=False,
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="The store.", show_default="the plan's name with .sqlite"),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the hub for scorers.")]


@app.command()
def init(
    name: Annotated[
        str, typer.Argument(help="A plan that comes with BaCo, or the .toml file to write.")
    ] = "tiny",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write.", show_default="NAME.toml"),
    ] = None,
) -> None:
    """Writes a commented plan to start from."""
    from baco.bench.shipped import plan_text, shipped

    if name.endswith(".toml") and out is None:
        name, out = "tiny", Path(name)
    text = plan_text(name)
    path = out or Path(f"{name}.toml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} exists already", hint="name another with --out") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", hint="use --out") from None
    typer.echo(f"{path} is written; change it, then: baco bench run {path}")
    typer.echo(f"plans that come with BaCo: {', '.join(shipped())}", err=True)


@app.command()
def run(
    target: PlanOrStore,
    store: StoreOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it needs: samples, time, memory.")
    ] = False,
    executor: Annotated[
        str, typer.Option(help="local (this process), processes, or ray (a cluster, or here).")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes, or Ray actors.", show_default="one on each device; 2 without any"
        ),
    ] = None,
    part: Annotated[
        str,
        typer.Option(
            help="Make one part of several only, such as 3/8; baco bench merge joins the stores."
        ),
    ] = "1/1",
) -> None:
    """Makes the samples that the store lacks.

    Kill it and run it again as you like, also several times at once: nothing is made twice.
    """
    chosen = _part(part)
    path, plan = _open(target, store)
    if dry_run:
        _say_needs(plan, path)
        return
    from rich.console import Console

    from baco.bench.executors import check, execute
    from baco.bench.run import prepare
    from baco.bench.store import Store
    from baco.bench.watch import watching

    check(executor, workers)
    prepare(plan, path)
    with watching(path, Console(stderr=True), lambda line: typer.echo(line, err=True)):
        execute(path, executor, workers, chosen)
    with Store(path) as opened:
        _say_failures(opened, path)


def _part(text: str) -> Part:
    """Reads a part: the third of eight is 3/8."""
    from baco.bench.run import Part

    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"{text!r} is no part", hint="the third of eight is 3/8")
    return Part(int(number) - 1, int(count))


@app.command()
def merge(
    into: Annotated[
        Path,
        typer.Argument(help="The store that takes it all in; may be new.", show_default=False),
    ],
    others: Annotated[list[Path], typer.Argument(help="Stores that are read.", show_default=False)],
) -> None:
    """Adds the samples and scores of some stores to one, as of machines without a common disk.

    What is there already stays as it is, and a new store takes the plan of the first of the others.
    """
    from baco.bench.merge import merge_stores

    for other, merged in zip(others, merge_stores(into, others), strict=True):
        typer.echo(
            f"{other}: {merged.samples:,} new samples and {merged.scores:,} new scores in {into}",
            err=True,
        )
        if merged.different:
            typer.echo(
                f"baco: {merged.different:,} samples of {other} are in {into} with other words, "
                "as of another device or version; those that were there first stay",
                err=True,
            )
        if merged.unasked:
            typer.echo(
                f"baco: the plan of {into} does not ask for {merged.unasked:,} samples of {other}, "
                "as of another seed, sampling or model; they are kept, but not reported",
                err=True,
            )


def _say_failures(store: Store, path: Path) -> None:
    """Says what the run came to; leaves with 1 if something failed."""
    from baco.bench.status import progress

    found = progress(store)
    samples = sum(one.samples for one in found)
    failed = [one for one in found if one.failed]
    for line in _uncertain(store):
        typer.echo(f"baco: {line}", err=True)
    typer.echo(f"{path} holds {samples:,} samples of {len(found)} cells", err=True)
    messages = store.failures()
    for one in failed:
        record, why = next((r, m) for (c, r), m in messages.items() if c == one.cell.key)
        typer.echo(
            f"baco: {one.cell.title} on {one.cell.pair}: {one.failed} of {one.groups} prompts "
            f"failed, first {record}: {why}",
            err=True,
        )
    if failed:
        typer.echo("baco: run the same command again to try what failed once more", err=True)
        raise typer.Exit(1)


def _uncertain(store: Store) -> list[str]:
    """Says which decisions of remote pairs are uncertain."""
    from baco.models.remote import Uncertain

    uncertain = Uncertain()
    for cell in store.cells():
        if "remote:" in cell.pair:
            for _, samples in store.groups(cell):
                for sample in samples:
                    uncertain.add(sample.get("details"))
    return uncertain.lines()


def _say_needs(plan: Plan, path: Path) -> None:
    from baco.bench.datasets import load_dataset
    from baco.bench.estimate import estimate, rows
    from baco.bench.run import known_samples
    from baco.bench.store import Store
    from baco.cli.table import print_table

    prompts = {}
    for entry in plan.datasets:
        size = entry.size or len(load_dataset(entry.where).records)
        prompts[entry.title] = min(size, entry.limit or size)
    known = 0
    if path.is_file():
        with Store(path) as store:
            known = known_samples(plan, store)
    print_table(("what", "how much"), rows(estimate(plan, prompts, known)))


@app.command()
def score(
    target: PlanOrStore,
    store: StoreOption = None,
    offline: Offline = False,
    workers: Annotated[
        int, typer.Option(help="Processes for the lexical metrics; 0 means one for each core.")
    ] = 1,
) -> None:
    """Computes the metrics that the store lacks."""
    from baco.bench.run import prepare
    from baco.bench.score import score_store
    from baco.bench.store import Store

    path, plan = _open(target, store)
    if workers < 0:
        raise InputError(f"{workers} workers are too few", hint="use 0 or more")
    with Store(path) as opened:
        if plan != opened.plan:
            prepare(plan, path)
        outcome = score_store(
            opened,
            plan,
            offline=offline,
            workers=workers or os.cpu_count() or 1,
            say=lambda line: typer.echo(line, err=True),
        )
    typer.echo(f"{outcome.values:,} new values in {path}", err=True)
    if outcome.skipped:
        names = ", ".join(outcome.skipped)
        typer.echo(f"baco: not computed: {names}; run it again where their models are", err=True)
        raise typer.Exit(1)


@app.command()
def status(target: PlanOrStore, store: StoreOption = None) -> None:
    """Shows a matrix of cells: how far each control of each curve is, and what failed."""
    from baco.bench.estimate import duration
    from baco.bench.status import matrix, progress
    from baco.bench.store import Store
    from baco.cli.table import print_table

    with Store(_open(target, store)[0]) as opened:
        found = progress(opened)
        where = ""
        table: list[tuple[str, ...]] = []
        for place, curve, cells in matrix(found):
            table.append(
                (place if place != where else "", curve, "  ".join(f"{c} {s}" for c, s in cells))
            )
            where = place
        print_table(("pair and dataset", "curve", "controls"), table)
        for (cell, record), message in opened.failures().items():
            title = next((one.cell.title for one in found if one.cell.key == cell), cell)
            typer.echo(f"failed: {title}, {record}: {message}")
        for span in opened.spans():
            typer.echo(
                f"{span.pair}: {span.samples:,} samples, {span.tokens:,} tokens in "
                f"{duration(span.seconds)}, {span.tokens / max(span.seconds, 1e-9):,.0f} tokens a "
                "second"
            )


@app.command()
def export(
    target: PlanOrStore,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="A .jsonl or .parquet file.", show_default=False),
    ],
    store: StoreOption = None,
    kind: Annotated[str, typer.Option(help="samples or scores.")] = "samples",
) -> None:
    """Writes samples or scores for other tools."""
    from baco.bench.export import export as write
    from baco.bench.store import Store

    with Store(_open(target, store)[0]) as opened:
        count = write(opened, out, kind)
    typer.echo(f"{count:,} {kind} in {out}", err=True)


@app.command()
def report(
    target: PlanOrStore,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for it.", show_default="the store's name with -report"
        ),
    ] = None,
    store: StoreOption = None,
    bootstrap: Annotated[
        int, typer.Option(help="Resamples of the prompts for 95 % intervals; 0 for none.")
    ] = 300,
    rule: Annotated[
        str, typer.Option(help="Boundary of Coverage: drop, none, ramp, corner, zero_left.")
    ] = "drop",
    seed: ResampleSeed = 0,
    models: Annotated[
        bool,
        typer.Option(
            "--models/--no-models", help="Load the pairs to measure how often their models agree."
        ),
    ] = True,
    notes: Annotated[
        Path | None, typer.Option(help="A text file whose paragraphs go on the page.")
    ] = None,
) -> None:
    """Writes one page, and a folder of tables and plots, from what was scored."""
    path = _open(target, store)[0]
    write_report(
        path,
        out or path.with_name(f"{path.stem}-report"),
        bootstrap=bootstrap,
        rule=rule,
        seed=seed,
        with_models=models,
        notes=notes,
    )


@app.command()
def pick(
    target: PlanOrStore,
    store: StoreOption = None,
    min_quality: Annotated[
        float | None,
        typer.Option(
            help="The least mean quality, in the metric's units (the most, if lower is better).",
            show_default=False,
        ),
    ] = None,
    quality: Annotated[
        str, typer.Option(help="The quality metric.", show_default="the plan's first")
    ] = "",
    max_cost: Annotated[
        float | None,
        typer.Option(help="The most forward passes per token.", show_default=False),
    ] = None,
    goal: Annotated[
        str, typer.Option("--target", help="base-share=X: a share of words by the base model.")
    ] = "",
    dataset: Annotated[str, typer.Option(help="The dataset, if there are several.")] = "",
    pair: Annotated[str, typer.Option(help="The pair, if there are several.")] = "",
    seed: ResampleSeed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Names the method and control to use, and why."""
    pick_setting(
        _open(target, store)[0],
        min_quality=min_quality,
        quality=quality,
        max_cost=max_cost,
        target=goal,
        dataset=dataset,
        pair=pair,
        seed=seed,
        as_json=as_json,
    )


def _open(target: str, store: Path | None) -> tuple[Path, Plan]:
    """Finds the store and the plan: each may be given, the other follows."""
    from baco.bench.plan import read_plan
    from baco.bench.store import Store, is_store

    path = Path(target)
    if is_store(path) or path.suffix in (".sqlite", ".db"):
        if store:
            raise InputError("two stores are given", hint="name the plan, or leave out --store")
        with Store(path) as opened:
            return path, opened.plan
    plan = read_plan(target)
    return store or Path(f"{plan.name}.sqlite"), plan
