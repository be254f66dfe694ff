"""`baco study`: human evaluation, from picking prompts to the report."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baco.errors import BacoError, InputError, missing_extra

if TYPE_CHECKING:
    from baco.study.analysis import Report
    from baco.study.store import Annotator, Study

app = typer.Typer(
    help="Human evaluation: quality, diversity and creativity, judged blind by people.",
    no_args_is_help=True,
    add_completion=False,
)

StudyFile = Annotated[Path, typer.Argument(help="The study file.", show_default=False)]
StudySeed = Annotated[int, typer.Option(help="Everything random follows from it.")]
Both = Annotated[bool, typer.Option(help="Bootstrap over raters as well as prompts.")]
IntervalLevel = Annotated[
    float, typer.Option(help="Coverage of the intervals.", min=0.5, max=0.999)
]
Url = Annotated[str, typer.Option(help="Address at which annotators reach the server.")]

LOCAL = "http://127.0.0.1:8010"


@app.command()
def create(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="JSONL files of groups or samples, or a store of baco bench run, as FILE or "
            "METHOD=FILE.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The study file to write.")],
    title: Annotated[str, typer.Option(help="Shown to annotators; name no method.")] = "Study",
    methods: Annotated[str, typer.Option(help="Methods to compare, with commas.")] = "",
    annotators: Annotated[int, typer.Option(help="Annotators to invite.", min=0)] = 4,
    prompts: Annotated[int, typer.Option(help="Prompts in the study.")] = 20,
    responses: Annotated[int, typer.Option(help="Responses per method and prompt.")] = 3,
    tolerance: Annotated[
        float, typer.Option(help="Largest spread of the methods' mean automatic quality.")
    ] = 0.1,
    unmatched: Annotated[bool, typer.Option(help="Do not match on automatic quality.")] = False,
    quality_field: Annotated[str, typer.Option(help="Field with automatic quality.")] = "quality",
    scores: Annotated[
        Path | None,
        typer.Option(help="JSONL with scores of groups, as baco metrics score -o writes them."),
    ] = None,
    bins: Annotated[int, typer.Option(help="Bins of prompts by mean length.", min=1)] = 4,
    shortest: Annotated[int, typer.Option(help="Shorter bins to draw from.", min=1)] = 2,
    max_words: Annotated[
        int | None, typer.Option(help="Longest response allowed, in words.", show_default=False)
    ] = None,
    ties: Annotated[bool, typer.Option(help='Offer "about the same" for diversity.')] = True,
    consent: Annotated[
        Path | None, typer.Option(help="Text file with your own consent text.", show_default=False)
    ] = None,
    contact: Annotated[str, typer.Option(help="Whom annotators can ask.")] = "",
    seed: StudySeed = 0,
    url: Url = LOCAL,
) -> None:
    """Pick prompts and responses, matched and balanced, and invite annotators."""
    from baco.study.design import DesignOptions, design
    from baco.study.groups import read_groups, read_scores, with_scores
    from baco.study.protocol import protocol
    from baco.study.store import Study

    options = DesignOptions(
        prompts, responses, None if unmatched else tolerance, bins, shortest, max_words, seed
    )
    groups = []
    for given in inputs:
        name, sign, file = given.partition("=")
        path = Path(file if sign else given)
        groups += read_groups(path, name=name if sign else "", quality=quality_field)
    if scores is not None:
        groups = with_scores(groups, read_scores(scores), quality_field)
    plan = design(groups, options, [m.strip() for m in methods.split(",") if m.strip()])
    plan.record["inputs"] = inputs
    text = _text(consent) if consent else ""
    study = Study.create(
        out,
        plan,
        title=title,
        seed=seed,
        protocol=protocol(ties=ties, consent=text, contact=contact),
    )
    invited = study.add_annotators([None] * annotators)
    matching = plan.record["matching"]
    typer.echo(f"{out}: {prompts} prompts, {responses} responses each of {', '.join(plan.methods)}")
    if matching["mean_quality"]:
        means = ", ".join(f"{n} {v:.3f}" for n, v in matching["mean_quality"].items())
        typer.echo(f"automatic quality: {means} (matching: {matching['how']})")
    for method, setting in plan.record["settings"].items():
        if sum(row["method"] == method for row in plan.record["settings_tried"]) > 1:
            typer.echo(f"setting of {method}: {setting}")
    _print_links(invited, url)
    study.close()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"cannot read the text file {path}") from None


def _print_links(annotators: list[Annotator], url: str) -> None:
    for annotator in annotators:
        typer.echo(f"A{annotator.id + 1}  {annotator.name}: {url.rstrip('/')}/#{annotator.token}")


@app.command()
def links(
    file: StudyFile,
    add: Annotated[int, typer.Option(help="Invite so many more annotators.", min=0)] = 0,
    name: Annotated[list[str] | None, typer.Option(help="Invite somebody by name.")] = None,
    url: Url = LOCAL,
) -> None:
    """Show the personal links; invite more annotators."""
    from baco.study.store import Study

    study = Study.open(file)
    study.add_annotators([*(name or []), *([None] * add)])
    _print_links([a for a in study.annotators() if a.token and not a.simulated], url)
    study.close()


@app.command()
def serve(
    file: StudyFile,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8010,
) -> None:
    """Run the annotation page."""
    try:
        import uvicorn

        from baco.study.app import create_app
    except ImportError as error:
        raise missing_extra(error.name or "fastapi", "study") from error
    from baco.study.store import Study

    study = Study.open(file)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family) as listener:
            typer.echo(f"Serving at http://{host}:{port}/ until Ctrl+C")
            typer.echo(f"Personal links: baco study links {file}")
            config = uvicorn.Config(create_app(study), log_level="warning")
            uvicorn.Server(config).run(sockets=[listener])
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise InputError(f"cannot listen on {host}:{port}: {reason}") from None
    finally:
        study.close()


@app.command()
def report(
    files: Annotated[list[Path], typer.Argument(help="One or more study files.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the HTML page, tables and plots."),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="JSONL with more scores, as baco metrics score -o writes them."),
    ] = None,
    resample_raters: Both = False,
    level: IntervalLevel = 0.95,
    seed: StudySeed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print every number as JSON.")] = False,
) -> None:
    """Results with intervals, agreement, metrics: terminal, or a folder of files."""
    from baco.reporting.tables import to_terminal
    from baco.study.analysis import analyse
    from baco.study.groups import read_scores
    from baco.study.store import Study
    from baco.study.tables import tables

    extra = read_scores(scores) if scores else {}
    reports = []
    for file in files:
        study = Study.open(file)
        reports.append(
            analyse(study, level=level, seed=seed, resample_raters=resample_raters, scores=extra)
        )
        study.close()
    if out is not None:
        _write(out, reports)
    if as_json:
        typer.echo(json.dumps([item.plain() for item in reports], ensure_ascii=False))
    else:
        typer.echo(to_terminal(tables(reports)), nl=False)
        if out is not None:
            typer.echo(f"written to {out}: report.html, tables and plots")


def _write(folder: Path, reports: list[Report]) -> None:
    from baco.reporting.tables import to_csv, to_latex, to_markdown
    from baco.study import plots
    from baco.study.page import page
    from baco.study.tables import tables, values_csv

    shown = tables(reports)
    files = {
        "report.html": page(reports),
        "report.json": json.dumps([r.plain() for r in reports], ensure_ascii=False, indent=1),
        "tables.md": "\n".join(map(to_markdown, shown)),
        "tables.tex": "\n".join(map(to_latex, shown)),
        "results.csv": to_csv(shown[0]),
        "values.csv": values_csv(reports),
    }
    for at, item in enumerate(reports, 1):
        tag = f"-{at}" if len(reports) > 1 else ""
        files[f"wins{tag}.svg"] = plots.wins(item)
        files[f"ratings{tag}.svg"] = plots.ratings(item)
        files[f"metrics{tag}.svg"] = plots.correlations(item)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from None


@app.command()
def simulate(
    prompts: Annotated[str, typer.Option(help="Numbers of prompts to try.")] = "10,20,40",
    raters: Annotated[str, typer.Option(help="Numbers of annotators to try.")] = "2,4,8",
    win_rate: Annotated[float, typer.Option(help="Planted win rate among decided votes.")] = 0.65,
    quality_gap: Annotated[float, typer.Option(help="Planted gap in scale points.")] = 0.3,
    prompt_sd: Annotated[float, typer.Option(help="How much prompts differ.")] = 0.5,
    rater_sd: Annotated[float, typer.Option(help="How much raters differ.")] = 0.3,
    noise: Annotated[float, typer.Option(help="Spread of one rating.")] = 0.7,
    ties: Annotated[float, typer.Option(help="Share of ties.")] = 0.1,
    side_bias: Annotated[float, typer.Option(help="Share of votes that go left unread.")] = 0.0,
    responses: Annotated[int, typer.Option(help="Responses per method.", min=1)] = 3,
    trials: Annotated[int, typer.Option(help="Studies to simulate.", min=1)] = 400,
    resample_raters: Both = False,
    level: IntervalLevel = 0.95,
    seed: StudySeed = 0,
    plot: Annotated[Path | None, typer.Option(help="Write a plot (SVG) here.")] = None,
    rehearse: Annotated[
        Path | None,
        typer.Option(help="Instead: fill a copy of this study with simulated annotators."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The rehearsed copy.")] = None,
) -> None:
    """Simulated annotators: how many prompts and raters does an effect need?"""
    from baco.reporting.tables import to_terminal
    from baco.study.simulate import Raters, power
    from baco.study.tables import power_table

    truth = Raters(win_rate, quality_gap, prompt_sd, rater_sd, noise, ties, side_bias)
    if rehearse is not None:
        _rehearse(rehearse, out, _counts(raters)[-1], truth, seed)
        return
    rows = [
        power(
            p,
            r,
            truth,
            responses=responses,
            trials=trials,
            resample_raters=resample_raters,
            level=level,
            seed=seed,
        )
        for p in _counts(prompts)
        for r in _counts(raters)
    ]
    if plot is not None:
        from baco.study import plots

        try:
            plot.write_text(plots.power(rows), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {plot}: {error.strerror}") from None
    typer.echo(to_terminal([power_table(rows)]), nl=False)


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise InputError(f"{text!r} is no list of whole numbers", hint="like 10,20,40")
    return counts


def _rehearse(source: Path, out: Path | None, raters: int, truth: Any, seed: int) -> None:
    from baco.study.simulate import rehearse
    from baco.study.store import Study

    if out is None:
        raise InputError("--rehearse needs --out for the copy")
    study = Study.open(source)
    if study.votes():
        raise InputError(f"{source} holds votes", hint="rehearse before real annotators begin")
    copy = study.copy(out)
    rehearse(copy, raters, truth, seed=seed)
    typer.echo(f"{out}: {raters} SIMULATED annotators; see baco study report {out}")
    copy.close()
    study.close()


def _pick(study: Study, label: str) -> Annotator:
    for annotator in study.annotators():
        if label in (f"A{annotator.id + 1}", annotator.name) and annotator.withdrawn is None:
            return annotator
    known = ", ".join(f"A{a.id + 1}" for a in study.annotators() if a.withdrawn is None)
    raise InputError(f"no annotator {label!r}", hint=f"known: {known or 'none'}")


Who = Annotated[str, typer.Argument(help="The annotator, such as A2.", show_default=False)]


@app.command()
def export(
    file: StudyFile,
    annotator: Annotated[
        str, typer.Option(help="Only this annotator's data, as they saw it (blind), as JSON.")
    ] = "",
) -> None:
    """Print the shown groups with all votes as JSONL, or one annotator's data."""
    from baco.study import blind
    from baco.study.store import Study

    study = Study.open(file)
    if annotator:
        data = blind.own_data(study, _pick(study, annotator))
        typer.echo(json.dumps(data, ensure_ascii=False, indent=1))
    else:
        from baco.study.export import rows

        for row in rows(study):
            typer.echo(json.dumps(row, ensure_ascii=False))
    study.close()


@app.command()
def delete(
    file: StudyFile,
    annotator: Who,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete all data of one annotator, for good."""
    from baco.study.store import Study

    study = Study.open(file)
    chosen = _pick(study, annotator)
    if not yes and not typer.confirm(f"Delete everything of {annotator} for good?"):
        raise BacoError("nothing was deleted")
    study.forget(chosen.id)
    typer.echo(f"{annotator}: everything deleted; the link no longer works")
    study.close()
