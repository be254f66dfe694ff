"""``baco generate``: answers prompts, many times each."""

from __future__ import annotations

import contextlib
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from baco.cli.engines import ENGINE_HELP, OPTION_HELP, engine_options
from baco.cli.options import (
    DEVICE,
    DRAFT,
    DTYPE,
    LOOKAHEAD,
    MODELS,
    SPEED,
    read_lookahead,
    read_penalties,
)
from baco.errors import InputError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_SAMPLING = "Sampling"
_FILES = "Input and output"


class _Option(NamedTuple):
    """One option: a parameter of `generate`.

    Attributes:
        name: The parameter's name; the flag is made of it where `flags` are empty.
        kind: Its type.
        default: Its default.
        help: What it means.
        panel: The group of options that it stands in; None for the first.
        shown: What stands for its default in the help; False for nothing.
        flags: How it is called on the command line.
        complete: Lists the values that it may have.
    """

    name: str
    kind: Any
    default: Any
    help: str
    panel: str | None = None
    shown: str | bool = True
    flags: tuple[str, ...] = ()
    complete: Any = None

    @property
    def parameter(self) -> Parameter:
        """The parameter as Typer reads it."""
        option = typer.Option(
            *self.flags,
            help=self.help,
            show_default=self.shown,
            rich_help_panel=self.panel,
            autocompletion=self.complete,
        )
        kind: Any = Annotated[self.kind, option]
        return Parameter(self.name, Parameter.KEYWORD_ONLY, default=self.default, annotation=kind)


def _starting(incomplete: str, names: Any) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _pairs(incomplete: str) -> list[str]:
    from baco.models.known import known_pairs

    return _starting(incomplete, known_pairs())


def _routers(incomplete: str) -> list[str]:
    from baco.routers import names

    return _starting(incomplete, names())


def _methods(incomplete: str) -> list[str]:
    from baco.methods import METHODS

    return _starting(incomplete, METHODS)


_TEXT, _NUMBER = str | None, float | None

OPTIONS = (
    _Option("gamma", _TEXT, None, "The knob: more of the base model's ideas where it is larger; "
            "the threshold of the router, a number or a schedule.", shown="the router's"),
    _Option("diversity", _NUMBER, None, "The same knob in other units: the base model's share of "
            "words, 0 to 1 (see baco calibrate).", shown=False),
    _Option("router", _TEXT, None, "Who writes the next word (see baco routers), such as p-punc "
            "or p-punc@0.3.", shown="p-punc", complete=_routers),
    _Option("n", int, 10, "Samples per prompt.", flags=("--n", "-n")),
    _Option("pair", str, "tiny", "A known pair (see baco pairs), or BASE,ALIGNED: Hub ids, "
            "folders, or remote models (see docs/remote.md).", complete=_pairs),
    _Option("system", _TEXT, None, "A system prompt.", shown=False),
    _Option("method", str, "baco", "How to make samples (see baco methods).", _SAMPLING,
            complete=_methods),
    _Option("control", _TEXT, None, "The value of the method's own control (see baco methods).",
            _SAMPLING, "the method's"),
    _Option("temperature", _NUMBER, None, "0 is greedy.", _SAMPLING, "1.0"),
    _Option("top_p", _NUMBER, None, "0.9, but for methods with a filter of their own.", _SAMPLING,
            "0.9"),
    _Option("top_k", int, 0, "0 is off.", _SAMPLING),
    _Option("min_p", _NUMBER, None, "0 is off.", _SAMPLING, "0"),
    _Option("penalty", list[str] | None, None, "NAME=VALUE, may be repeated: repetition_penalty, "
            "frequency_penalty, presence_penalty, logit_bias=ID:BIAS,..., dry_multiplier, "
            "dry_base, dry_allowed_length, xtc_probability or xtc_threshold.", _SAMPLING,
            shown=False),
    _Option("max_new_tokens", int, 512, "Limit per sample.", _SAMPLING),
    _Option("seed", int, 0, "The same seed, the same samples.", _SAMPLING),
    _Option("stop", list[str] | None, None, "Cut samples off before this text; may be repeated.",
            _SAMPLING, shown=False),
    _Option("ban", Path | None, None, "A file of phrases that no answer may hold, one per line; "
            "words that lead to one are taken back.", _SAMPLING, shown=False),
    _Option("distinct", _TEXT, None, "text or meaning: draw answers again that are like an "
            "earlier one.", _SAMPLING, shown=False),
    _Option("restart_shorter_than", int, 0, "Draw samples again that stop with fewer tokens.",
            _SAMPLING),
    _Option("run_on", bool, False, "Let answers run on where the base model goes on to its "
            "template's next turn: the paper's literal reading.", _SAMPLING, flags=("--run-on",)),
    _Option("judge_url", _TEXT, None, "An OpenAI-compatible address that answers for the router "
            "judge.", _SAMPLING, "the aligned model judges"),
    _Option("judge_model", str, "", "The model's name there.", _SAMPLING, shown=False),
    _Option("input_file", _TEXT, None, 'More prompts: one per line, or JSONL with "prompt" or '
            '"messages"; - is stdin.', _FILES, shown=False, flags=("--input",)),
    _Option("output", Path | None, None, "Append samples to this JSONL file; run again to make "
            "only what is missing.", _FILES, shown=False),
    _Option("as_json", bool, False, "Print samples as JSON lines.", _FILES, flags=("--json",)),
    _Option("show_sources", bool | None, None, "Show who wrote what: coloured on a terminal, else "
            "«base words» marked.", _FILES, "where there is colour"),
    _Option("filter_spec", _TEXT, None, "A moderation function, module:function, asked about each "
            "answer.", _FILES, shown=False, flags=("--filter",)),
    _Option("dry_run", bool, False, "Print rows, tokens, passes and memory at most; load no "
            "weights, make nothing.", _FILES, flags=("--dry-run",)),
    _Option("adapter", _TEXT, None, "A LoRA adapter that makes the aligned side out of --pair "
            "BASE.", MODELS, shown=False),
    _Option("engine", str, "baco", ENGINE_HELP, MODELS),
    _Option("engine_option", list[str] | None, None, OPTION_HELP, MODELS, shown=False),
    _Option("base_prompt", _TEXT, None, "How the base side is asked: plain, or chat for two "
            "aligned models or two checkpoints of one alignment run.", MODELS,
            "the pair's, else plain"),
    _Option("base_weights", float, 0.0, "Share of the aligned model in the base side's weights, 0 "
            "to 1: plays a partially aligned base. In plans and baco serve: --pair tiny~0.3.",
            MODELS),
    _Option("device", str, "auto", DEVICE, MODELS),
    _Option("dtype", str, "auto", DTYPE, MODELS),
    _Option("load_in_8bit", bool, False, "Needs bitsandbytes.", MODELS, flags=("--load-in-8bit",)),
    _Option("load_in_4bit", bool, False, "Needs bitsandbytes.", MODELS, flags=("--load-in-4bit",)),
    _Option("lookahead", str, "auto", LOOKAHEAD, SPEED),
    _Option("draft", _TEXT, None, DRAFT, SPEED, shown=False),
    _Option("max_rows", int, 256, "Samples decoded at a time; fewer where memory is short.",
            SPEED),
)  # fmt: skip
"""Every option in the order of the help: the knob first."""

_SETTINGS = (
    "method", "router", "gamma", "diversity", "control", "temperature", "top_p", "top_k", "min_p",
    "max_new_tokens", "seed", "stop", "distinct", "restart_shorter_than", "draft", "max_rows", "n",
)  # fmt: skip
"""Options that are arguments of `make_setting` as they are."""

_LOADING = (
    "adapter", "device", "dtype", "load_in_8bit", "load_in_4bit", "base_prompt", "base_weights",
)  # fmt: skip
"""Options that are arguments of `baco.load` where they are given."""


def generate(prompts: list[str] | None, **given: Any) -> None:
    """Answers each prompt n times: base and aligned model write together, word by word.

    Words of the base model are not safety-tuned: put a --filter before what others will read.
    """
    # All that can be checked is checked before torch is imported, which takes long.
    from baco.cli.inputs import check_settings, hint_at_quotes, read_phrases, read_prompts
    from baco.cli.output import Output
    from baco.group import check_size
    from baco.methods.filters import load_filter
    from baco.models.known import check_pair_name, split_weights

    n, dry_run, base_prompt = given["n"], given["dry_run"], given["base_prompt"]
    check_size(n)
    if given["judge_model"] and not given["judge_url"]:
        raise InputError("the judge has a model but no address", hint="give --judge-url too")
    check_pair_name(given["pair"], adapter=bool(given["adapter"]))
    engine = engine_options(given["engine"], given["engine_option"])
    hint_at_quotes(prompts or [])
    conversations = read_prompts(prompts or [], given["input_file"], given["system"])
    settings = {name: given[name] for name in _SETTINGS}
    settings |= read_penalties(given["penalty"] or [])
    settings["ban"] = read_phrases(given["ban"]) if given["ban"] else None
    settings |= {"turn_rule": not given["run_on"], "lookahead": read_lookahead(given["lookahead"])}
    if base_prompt not in (None, "plain", "chat"):
        raise InputError(f"unknown base prompt {base_prompt!r}", hint="use plain or chat")
    keep = load_filter(given["filter_spec"]) if given["filter_spec"] else None
    judge = None
    if given["judge_url"]:
        from baco.metrics.chat import ChatJudge

        judge = ChatJudge(given["judge_url"], given["judge_model"])
    as_it_is = given["engine"] == "baco" and not (given["adapter"] or given["base_weights"])
    method = check_settings(settings, given["pair"] if as_it_is else None).method
    mixed = given["base_weights"] or split_weights(given["pair"])[1]
    if mixed and not any(need.startswith("base ") for need in method.needs):
        raise InputError(
            f"the method {method.name!r} asks the aligned model alone, so base weights would do "
            "nothing",
            hint="leave them out, or name another method",
        )
    with contextlib.ExitStack() as stack:
        # A dry run leaves no file behind, but asks one that is there what is missing.
        output = given["output"]
        used = output if output and (output.exists() or not dry_run) else None
        file = stack.enter_context(Output(used)) if used else None
        from baco.cli.progress import waiting

        with waiting(f"loading {given['pair']}"):
            from baco.cli.job import GenerateJob, load_pair

            loading = {name: given[name] for name in _LOADING if given[name]}
            loading |= {"shapes_only": True} if dry_run else engine
            loaded = load_pair(given["pair"], settings, **loading)
        if judge:
            from baco.routers.judges import http_judge

            loaded.pair.judge = http_judge(loaded.pair, judge)
        job = GenerateJob(
            loaded.pair, loaded.setting, conversations, n, keep, file,
            given["as_json"], given["show_sources"],
        )  # fmt: skip
        if dry_run:
            job.show_plan()
        else:
            weights = ("engine", "dtype", "load_in_8bit", "load_in_4bit")
            job.run({"filter": given["filter_spec"], **{name: given[name] for name in weights}})


_PROMPTS = Annotated[
    list[str] | None, typer.Argument(help="Prompts to answer.", show_default=False)
]
generate.__signature__ = Signature(  # type: ignore[attr-defined]
    [
        Parameter("prompts", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=_PROMPTS),
        *(option.parameter for option in OPTIONS),
    ]
)
generate.__annotations__ = {
    name: parameter.annotation
    for name, parameter in generate.__signature__.parameters.items()  # type: ignore[attr-defined]
}
app.command()(generate)
