"""``baco tradeoff``: Coverage and Dominance of methods from a table of points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baco.errors import InputError

if TYPE_CHECKING:
    from baco.tradeoff.analysis import Analysis

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def tradeoff(
    points: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns method, control and one per metric; optional: dataset, "
            "pair, n (outputs in a group), prompt (rows are then per-prompt values)."
        ),
    ],
    base: Annotated[
        str,
        typer.Option(
            help="Base reference, METHOD or METHOD@CONTROL; without a control, the row whose "
            "control is 1 (temperature 1; also 1.0, T=1 or empty)."
        ),
    ] = "base",
    aligned: Annotated[str, typer.Option(help="Aligned reference, likewise.")] = "aligned",
    rule: Annotated[
        str, typer.Option(help="Boundary of Coverage: drop, none, ramp, corner, zero_left.")
    ] = "drop",
    n: Annotated[
        int, typer.Option(help="Outputs in a group; 0: the column n, or else 10 (Paper: §4.1).")
    ] = 0,
    level: Annotated[
        str, typer.Option(help="Rows of the table: average, metric, space or all.")
    ] = "average",
    bootstrap: Annotated[
        int,
        typer.Option(help="Resamples of the prompts for 95 % intervals, where there are prompts."),
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resampling.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(help="Write all figures as CSV.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Write the table as LaTeX.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
    plot: Annotated[
        list[Path] | None, typer.Option(help="Draw the spaces: .svg, .png or .pdf. Repeatable.")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(help="DIVERSITY,QUALITY to draw; default all valid ones. Repeatable."),
    ] = None,
    shade: Annotated[
        list[str] | None,
        typer.Option(help="Method whose Coverage is shaded; default the largest. Repeatable."),
    ] = None,
    dataset: Annotated[str, typer.Option(help="Dataset to draw, if there are several.")] = "",
) -> None:
    """Judges trade-off curves: Coverage and Dominance per space, per metric and averaged.

    The references are the rows of the methods base and aligned at temperature 1.
    """
    from baco.cli.table import print_table
    from baco.reporting.tables import to_latex, to_markdown
    from baco.tradeoff.analyse import analyse
    from baco.tradeoff.points import read_points
    from baco.tradeoff.tables import LEVELS, as_table, figures, to_csv, to_dict

    if level not in (*LEVELS, "all"):
        raise InputError(f"unknown level {level!r}", hint=f"known: {', '.join(LEVELS)}, all")
    read = read_points(points)
    analyses = analyse(
        read, rule=rule, base=base, aligned=aligned, n=n, bootstrap=bootstrap, seed=seed
    )
    table = as_table(figures(analyses, LEVELS if level == "all" else (level,)))
    for path, text in (
        (csv, to_csv(figures(analyses))),
        (latex, to_latex(table)),
        (markdown, to_markdown(table)),
    ):
        if path is not None:
            _write(path, text)
    if plot:
        from baco.tradeoff.plots import find_space
        from baco.tradeoff.plots import plot as draw

        chosen = _pick([a.dataset for a in analyses], dataset)
        spaces = [find_space(analyses[chosen], s) for s in space or ()]
        for path in plot:
            draw(
                analyses[chosen],
                spaces or analyses[chosen].spaces,
                path,
                shade=shade or (),
            )
    if as_json:
        typer.echo(json.dumps(to_dict(analyses), ensure_ascii=False, indent=1))
    else:
        print_table(table.header, table.rows)
    for line in _remarks(analyses, read.ignored):
        typer.echo(line, err=True)


def _pick(datasets: list[str], wanted: str) -> int:
    if not wanted and len(datasets) == 1:
        return 0
    if wanted in datasets:
        return datasets.index(wanted)
    raise InputError(
        f"there is no dataset {wanted!r} to draw" if wanted else "which dataset is to be drawn?",
        hint=f"--dataset is one of {', '.join(datasets)}",
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _remarks(analyses: list[Analysis], ignored: tuple[str, ...]) -> list[str]:
    lines = [f"ignored columns: {', '.join(ignored)}"] if ignored else []
    for analysis in analyses:
        head = f"{analysis.dataset}: " if analysis.dataset else ""
        grids = ", ".join(f"{m} ({len(g)})" for m, g in analysis.grids.items())
        lines.append(f"{head}n = {analysis.n}, rule {analysis.rule}, compared: {grids}")
        lines += [f"{head}warning: {text}" for text in analysis.warnings]
        lines += [f"{head}space skipped: {s.name}: {s.problem}" for s in analysis.skipped]
    return lines
