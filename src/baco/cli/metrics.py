"""``baco metrics``: lists the metrics, and scores anybody's generations."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baco.errors import InputError

if TYPE_CHECKING:
    from baco.metrics.groups import Generations
    from baco.metrics.judge import Judge
    from baco.metrics.people import Judged
    from baco.metrics.score import Scores
    from baco.metrics.spec import Metric

app = typer.Typer(
    help="Diversity and quality of groups of outputs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_metrics(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Lists the metrics: class, direction, range, theory end, what each needs, source."""
    from baco.cli.table import print_table
    from baco.metrics.report import CATALOGUE, catalogue

    rows = catalogue()
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    print_table(CATALOGUE, [[row[name] for name in CATALOGUE] for row in rows])


@app.command("score")
def score_file(
    file: Annotated[
        Path,
        typer.Argument(
            help='JSON lines or Parquet: {"prompt": ..., "generations": [...]} a row, NoveltyBench '
            "files, samples as `baco generate --json` writes them, or a store of `baco bench run`."
        ),
    ],
    metrics: Annotated[
        str,
        typer.Option(
            help="Names separated by commas, or default (the paper's eleven), lexical, semantic, "
            "quality, paper (the eleven and the two of quality), all. See `baco metrics list`."
        ),
    ] = "default",
    aligned: Annotated[
        str,
        typer.Option(
            help="Aligned model for ppl, semantic_entropy and ead: a folder, a hub id, or a pair."
        ),
    ] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=MODEL in place of a default model; the roles are encoder, vendi, nli, same, "
            "entail, reward, base. May be repeated."
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            help="Fields whose values are scored apart, separated by commas; guessed from "
            "dataset, pair, model, method, router, control and gamma, none for one mean."
        ),
    ] = "auto",
    people: Annotated[
        bool,
        typer.Option(
            "--people",
            help="The rows are answers with people's human_labels, as Infinity-Chat publishes "
            "them (a file, or a hub id): say how far each metric agrees with people.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", help="Write per-group values: .csv, .parquet, .jsonl or .json."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never ask the hub; say what cannot be computed.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16, float64.")] = "auto",
    batch_size: Annotated[int, typer.Option(help="Texts or pairs in one forward pass.")] = 16,
    workers: Annotated[
        int, typer.Option(help="Processes for the lexical part; 0 for one per CPU core.")
    ] = 0,
    cache: Annotated[
        bool,
        typer.Option(help="Keep what was computed, under $BACO_CACHE or the user's cache folder."),
    ] = True,
    judge_url: Annotated[
        str, typer.Option(help="OpenAI-compatible address for reward@judge, tp_div, arousal_div.")
    ] = "",
    judge_model: Annotated[
        str,
        typer.Option(help="The judge model's name there; without an address, one that runs here."),
    ] = "",
    judge_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the judge's key.")
    ] = "OPENAI_API_KEY",
    judge_prices: Annotated[
        str,
        typer.Option(help="Price of a million tokens, IN,OUT, for the cost shown: 0.15,0.60."),
    ] = "",
    judge_retries: Annotated[int, typer.Option(help="Repetitions of a failed request.")] = 4,
    judge_workers: Annotated[int, typer.Option(help="Requests under way at once.")] = 8,
    engine: Annotated[
        str, typer.Option(help="What computes likelihoods: baco (transformers) or vllm.")
    ] = "baco",
) -> None:
    """Scores groups of outputs from any tool.

    Fields that are not known pass through. A number always comes with the model that made it.
    """
    from baco.metrics.report import check_format, write_scores
    from baco.metrics.score import score
    from baco.metrics.spec import expand

    if people and metrics == "default":
        metrics = "quality"
    asked = expand([name for name in metrics.split(",") if name.strip()])
    for path in output or ():
        check_format(path)
    found = _judged(file, asked) if people else None
    groups = found.answers if found else _groups(file, _names(by))
    if by != "auto":
        _fields(by, groups)
    judge: Judge | None = None
    if judge_url:
        from baco.metrics.chat import ChatJudge

        price_in, price_out = _prices(judge_prices)
        judge = ChatJudge(
            judge_url,
            judge_model,
            key_env=judge_key_env,
            retries=judge_retries,
            workers=judge_workers,
            price_in=price_in,
            price_out=price_out,
        )
    elif judge_model:
        from baco.metrics.local import LocalJudge
        from baco.metrics.passes import ScoringOptions

        options = ScoringOptions(device=device, dtype=dtype, offline=offline)
        judge = LocalJudge(judge_model, options, retries=judge_retries)
    try:
        scores = score(
            groups,
            metrics,
            aligned=aligned,
            models=_models(model or []),
            device=device,
            dtype=dtype,
            engine=engine,
            batch_size=batch_size,
            workers=workers or os.cpu_count() or 1,
            offline=offline,
            judge=judge,
            cache=cache,
            progress=sys.stderr.isatty(),
        )
    finally:
        if judge is not None:
            judge.close()
    fields = _fields(by, groups) if by != "auto" else scores.systems
    for path in output or ():
        write_scores(scores, path, fields)
    if found:
        _print_agreement(found, scores, as_json)
        return
    if as_json:
        typer.echo(json.dumps(scores.to_dict(fields), ensure_ascii=False, indent=1, default=str))
        return
    from baco.cli.table import print_table
    from baco.metrics.report import remarks, summary_columns, summary_rows

    print_table(summary_columns(scores, fields), summary_rows(scores, fields))
    for line in remarks(scores):
        typer.echo(line, err=True)


@app.command("noveltybench")
def noveltybench(
    file: Annotated[Path, typer.Argument(help="One subset's groups, with ids; as for score.")],
    name: Annotated[
        str, typer.Option("--model", help="What to call the system.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.", show_default=False)],
    metric: Annotated[
        str, typer.Option(help="Whose classes and marks: nb_utility, or a variant of it.")
    ] = "nb_utility",
    role: Annotated[
        list[str] | None, typer.Option(help="ROLE=MODEL, as --model of baco metrics score.")
    ] = None,
    device: Annotated[str, typer.Option(help="As of baco metrics score.")] = "auto",
) -> None:
    """Writes a submission to NoveltyBench's leaderboard for one subset: four files."""
    from baco.cli.table import print_json
    from baco.metrics.novelty import write_submission
    from baco.metrics.passes import ScoringOptions

    options = ScoringOptions(models=_models(role or []), device=device)
    told = write_submission(_groups(file), out, model=name, metric=metric, options=options)
    print_json(told)


def _groups(file: Path, by: Sequence[str] = ()) -> list[Generations]:
    """Reads groups from a file or from a store of the bench; samples also differ by some fields."""
    from baco.bench.store import is_store
    from baco.metrics.groups import read_groups

    if is_store(file):
        from baco.bench.score import all_generations

        return all_generations(file)
    return read_groups(file, by)


def _judged(file: Path, metrics: Sequence[Metric]) -> Judged:
    """Reads answers that people judged, from a file or, where there is none, from the hub."""
    from baco.bench.hub import names_a_file, read_hub
    from baco.metrics.people import check_single, judged
    from baco.reading import as_object, read_rows

    check_single(metrics)
    if names_a_file(file):
        return judged([(row.where, as_object(row)) for row in read_rows(file)])
    return judged(read_hub(file.as_posix()))


def _print_agreement(found: Judged, scores: Scores, as_json: bool) -> None:
    from baco.cli.table import print_table
    from baco.metrics.people import PEOPLE, agreements
    from baco.reporting.tables import number

    of = agreements(found, scores)
    made_by = scores.models
    if as_json:
        rows = {n: {**one.to_dict(), "made_by": made_by.get(n, "")} for n, one in of.items()}
        told = {"agreement": rows, "skipped": dict(scores.skipped), "judge_cost": scores.cost}
        typer.echo(json.dumps(told, ensure_ascii=False, indent=1))
        return
    print_table(
        ("metric", "same order [95 %]", "Spearman", "pairs", "made by"),
        [
            [
                "one half of the people" if name == PEOPLE else name,
                number(one.share, 3, one.low, one.high),
                number(one.spearman),
                str(one.pairs),
                made_by.get(name, ""),
            ]
            for name, one in of.items()
        ],
    )
    prompts = len({answer.question for answer in found.answers})
    typer.echo(
        f"{len(found.answers)} answers to {prompts} prompts; pairs on which people are even are "
        "not counted, values that are equal count half",
        err=True,
    )
    for name, reason in scores.skipped.items():
        typer.echo(f"not computed: {name}: {reason}", err=True)


def _names(by: str) -> tuple[str, ...]:
    """The fields that ``--by`` names; none for ``auto`` and ``none``."""
    return tuple(n.strip() for n in by.split(",") if n.strip() not in ("", "auto", "none"))


def _fields(by: str, groups: Sequence[Generations]) -> tuple[str, ...]:
    """Reads the fields of ``--by``."""
    names = _names(by)
    known = dict.fromkeys(name for group in groups for name in group.extra)
    for name in names:
        if name not in known:
            raise InputError(
                f"--by {name}: no group has such a field",
                hint=f"the groups have {', '.join(known) or 'none'}",
            )
    return names


def _models(pairs: list[str]) -> dict[str, str]:
    """Reads ROLE=MODEL."""
    found = {}
    for text in pairs:
        role, equals, name = text.partition("=")
        if not equals or not name:
            raise InputError(f"--model {text!r} is not ROLE=MODEL")
        found[role] = name
    return found


def _prices(text: str) -> tuple[float | None, float | None]:
    if not text:
        return None, None
    try:
        price_in, price_out = map(float, text.split(","))
    except ValueError:
        raise InputError(f"--judge-prices {text!r} is not two numbers, IN,OUT") from None
    return price_in, price_out
