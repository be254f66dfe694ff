"""``baco generate``: answers prompts, many times each."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from baco.cli.engines import ENGINE_HELP, OPTION_HELP, engine_options
from baco.cli.options import MODELS, Device, DraftText, Dtype, LookaheadText, read_lookahead
from baco.errors import InputError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_CONTROL = "Diversity against quality"
_SAMPLING = "Sampling"
_FILES = "Input and output"


@app.command()
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(help="Prompts to answer.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Samples per prompt.")] = 10,
    pair: Annotated[
        str,
        typer.Option(
            "--pair",
            help="A known pair (see baco pairs), or BASE,ALIGNED: Hub ids, folders, or remote "
            "models (see docs/remote.md).",
            rich_help_panel=MODELS,
        ),
    ] = "tiny",
    method: Annotated[
        str, typer.Option(help="How to make samples (see baco methods).", rich_help_panel=_CONTROL)
    ] = "baco",
    router: Annotated[
        str | None,
        typer.Option(
            help="Who writes the next word (see baco routers), such as p-punc or p-punc@0.3.",
            show_default="p-punc",
            rich_help_panel=_CONTROL,
        ),
    ] = None,
    gamma: Annotated[
        str | None,
        typer.Option(
            help="The router's threshold: a number or a schedule.",
            show_default="the router's",
            rich_help_panel=_CONTROL,
        ),
    ] = None,
    diversity: Annotated[
        float | None,
        typer.Option(
            help="The base model's share of words, 0 to 1, instead of a threshold "
            "(see baco calibrate).",
            show_default=False,
            rich_help_panel=_CONTROL,
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            help="The value of the method's own control (see baco methods).",
            show_default="the method's",
            rich_help_panel=_CONTROL,
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            help="An OpenAI-compatible address that answers for the router judge.",
            show_default="the aligned model judges",
            rich_help_panel=_CONTROL,
        ),
    ] = None,
    judge_model: Annotated[
        str,
        typer.Option(help="The model's name there.", show_default=False, rich_help_panel=_CONTROL),
    ] = "",
    temperature: Annotated[
        float | None, typer.Option(show_default="1.0", rich_help_panel=_SAMPLING)
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            help="0.9, but for methods with a filter of their own.",
            show_default="0.9",
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(help="0 is off.", rich_help_panel=_SAMPLING)] = 0,
    min_p: Annotated[
        float | None,
        typer.Option(help="0 is off.", show_default="0", rich_help_panel=_SAMPLING),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(help="Limit per sample.", rich_help_panel=_SAMPLING)
    ] = 512,
    seed: Annotated[
        int, typer.Option(help="The same seed, the same samples.", rich_help_panel=_SAMPLING)
    ] = 0,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            help="Cut samples off before this text; may be repeated.",
            show_default=False,
            rich_help_panel=_SAMPLING,
        ),
    ] = None,
    restart_shorter_than: Annotated[
        int,
        typer.Option(
            help="Draw samples again that stop with fewer tokens.", rich_help_panel=_SAMPLING
        ),
    ] = 0,
    run_on: Annotated[
        bool,
        typer.Option(
            "--run-on",
            help="Let answers run on where the base model goes on to its template's next turn: "
            "the paper's literal reading.",
            rich_help_panel=_SAMPLING,
        ),
    ] = False,
    system: Annotated[str | None, typer.Option(help="A system prompt.", show_default=False)] = None,
    input_file: Annotated[
        str | None,
        typer.Option(
            "--input",
            help='More prompts: one per line, or JSONL with "prompt" or "messages"; - is stdin.',
            show_default=False,
            rich_help_panel=_FILES,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Append samples to this JSONL file; run again to make only what is missing.",
            show_default=False,
            rich_help_panel=_FILES,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print samples as JSON lines.", rich_help_panel=_FILES)
    ] = False,
    show_sources: Annotated[
        bool | None,
        typer.Option(
            help="Show who wrote what: coloured on a terminal, else «base words» marked.",
            show_default="where there is colour",
            rich_help_panel=_FILES,
        ),
    ] = None,
    filter_spec: Annotated[
        str | None,
        typer.Option(
            "--filter",
            help="A moderation function, module:function, asked about each answer.",
            show_default=False,
            rich_help_panel=_FILES,
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="A LoRA adapter that makes the aligned side out of --pair BASE.",
            show_default=False,
            rich_help_panel=MODELS,
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP, rich_help_panel=MODELS)] = "baco",
    engine_option: Annotated[
        list[str] | None,
        typer.Option(help=OPTION_HELP, show_default=False, rich_help_panel=MODELS),
    ] = None,
    base_prompt: Annotated[
        str | None,
        typer.Option(
            help="How the base side is asked: plain, or chat for two aligned models or two "
            "checkpoints of one alignment run.",
            show_default="the pair's, else plain",
            rich_help_panel=MODELS,
        ),
    ] = None,
    base_weights: Annotated[
        float,
        typer.Option(
            help="Share of the aligned model in the base side's weights, 0 to 1: plays a partially "
            "aligned base. In plans and baco serve: --pair tiny~0.3.",
            rich_help_panel=MODELS,
        ),
    ] = 0.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    load_in_8bit: Annotated[
        bool, typer.Option("--load-in-8bit", rich_help_panel=MODELS, help="Needs bitsandbytes.")
    ] = False,
    load_in_4bit: Annotated[
        bool, typer.Option("--load-in-4bit", rich_help_panel=MODELS, help="Needs bitsandbytes.")
    ] = False,
    lookahead: LookaheadText = "auto",
    draft: DraftText = None,
    max_rows: Annotated[
        int,
        typer.Option(
            help="Samples decoded at a time; fewer where memory is short.", rich_help_panel=MODELS
        ),
    ] = 256,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print rows, tokens, passes and memory at most; load no weights, make nothing.",
            rich_help_panel=MODELS,
        ),
    ] = False,
) -> None:
    """Answers each prompt n times: base and aligned model write together, word by word.

    Words of the base model are not safety-tuned: put a --filter before what others will read.
    """
    # All that can be checked is checked before any model is loaded.
    from baco.cli.inputs import read_prompts
    from baco.cli.output import Output
    from baco.group import check_size
    from baco.methods.filters import load_filter
    from baco.models.known import known_pair

    check_size(n)
    if judge_model and not judge_url:
        raise InputError("the judge has a model but no address", hint="give --judge-url too")
    if "," not in pair and not adapter:
        known_pair(pair)
    engine_options(engine, engine_option)
    conversations = read_prompts(prompts or [], input_file, system)
    settings: dict[str, Any] = {
        "method": method,
        "router": router,
        "gamma": gamma,
        "diversity": diversity,
        "control": control,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "stop": stop,
        "restart_shorter_than": restart_shorter_than,
        "turn_rule": not run_on,
        "lookahead": read_lookahead(lookahead),
        "draft": draft,
        "max_rows": max_rows,
        "n": n,
    }
    if base_prompt not in (None, "plain", "chat"):
        raise InputError(f"unknown base prompt {base_prompt!r}", hint="use plain or chat")
    keep = load_filter(filter_spec) if filter_spec else None
    judge = None
    if judge_url:
        from baco.metrics.chat import ChatJudge

        judge = ChatJudge(judge_url, judge_model)
    with contextlib.ExitStack() as stack:
        # A dry run leaves no file behind, but asks one that is there what is missing.
        used = output if output and (output.exists() or not dry_run) else None
        file = stack.enter_context(Output(used)) if used else None
        from baco.cli.job import GenerateJob, load_pair

        loaded = load_pair(
            pair,
            settings,
            adapter=adapter,
            device=device,
            dtype=dtype,
            load_in_8bit=load_in_8bit,
            load_in_4bit=load_in_4bit,
            **({"shapes_only": True} if dry_run else engine_options(engine, engine_option)),
            **({"base_prompt": base_prompt} if base_prompt else {}),
            **({"base_weights": base_weights} if base_weights else {}),
        )
        if judge:
            from baco.routers.judges import http_judge

            loaded.pair.judge = http_judge(loaded.pair, judge)
        job = GenerateJob(
            loaded.pair, loaded.setting, conversations, n, keep, file, as_json, show_sources
        )
        if dry_run:
            job.show_plan()
            return
        job.run({"filter": filter_spec})
