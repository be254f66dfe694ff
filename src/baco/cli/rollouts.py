"""``baco rollouts``: answers with the probability of every token, for people who train."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from baco.cli.options import MODELS, Device, Dtype
from baco.errors import BacoError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def rollouts(
    prompts: Annotated[
        list[str] | None, typer.Argument(help="Prompts to answer.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Roll-outs per prompt.")] = 10,
    pair: Annotated[
        str, typer.Option(help="As of baco generate.", rich_help_panel=MODELS)
    ] = "tiny",
    method: Annotated[
        str, typer.Option(help="A method whose law is known: see docs/recipes/rollouts.md.")
    ] = "baco",
    router: Annotated[str | None, typer.Option(help="As of baco generate.")] = None,
    gamma: Annotated[str | None, typer.Option(help="As of baco generate.")] = None,
    diversity: Annotated[float | None, typer.Option(help="As of baco generate.")] = None,
    control: Annotated[str | None, typer.Option(help="As of baco generate.")] = None,
    temperature: Annotated[float | None, typer.Option(show_default="1.0")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="1 leaves no token out.", show_default="0.9")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Limit per answer.")] = 512,
    seed: Annotated[int, typer.Option(help="The same seed, the same roll-outs.")] = 0,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    input_file: Annotated[
        str | None, typer.Option("--input", help="More prompts, as of baco generate.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="A new JSONL file.", show_default="stdout")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="As of baco generate.", rich_help_panel=MODELS)
    ] = None,
    base_weights: Annotated[
        float, typer.Option(help="As of baco generate.", rich_help_panel=MODELS)
    ] = 0.0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Writes answers as JSON lines with token ids, sources and behaviour log-probabilities.

    The log-probability of a token is that of the law which drew it, over all noise of routing,
    given its prefix. Each answer is read once more by the models that wrote it.
    """
    from baco.cli.inputs import check_settings, read_prompts
    from baco.cli.job import load_pair
    from baco.group import check_size
    from baco.methods.base import tasks_for
    from baco.methods.rollouts import check_setting
    from baco.methods.rollouts import rollouts as make
    from baco.models.known import check_pair_name, known_pairs

    check_size(n)
    conversations = read_prompts(prompts or [], input_file, system)
    if output is not None and output.exists():
        raise BacoError(f"{output} is there already", hint="name a new file, or remove it")
    settings: dict[str, Any] = {
        "method": method, "router": router, "gamma": gamma, "diversity": diversity,
        "control": control, "temperature": temperature, "top_p": top_p,
        "max_new_tokens": max_new_tokens, "seed": seed, "n": n,
    }  # fmt: skip
    check_pair_name(pair, adapter=bool(adapter))
    as_it_is = None if adapter or base_weights else pair
    check_setting(check_settings(settings, as_it_is), known_pairs().get(as_it_is or ""))
    loaded = load_pair(
        pair, settings, whole=True, device=device, dtype=dtype,
        **({"adapter": adapter} if adapter else {}),
        **({"base_weights": base_weights} if base_weights else {}),
    )  # fmt: skip
    made = make(loaded.pair, tasks_for(conversations, n), loaded.setting)
    if output is None:
        for one in made:
            print(json.dumps(one.as_dict(), ensure_ascii=False), flush=True)
        return
    count = 0
    with output.open("x", encoding="utf-8") as file:
        for count, one in enumerate(made, 1):  # noqa: B007  # it is told afterwards
            file.write(json.dumps(one.as_dict(), ensure_ascii=False) + "\n")
    print(f"{count} roll-outs in {output}", file=sys.stderr)
