"""``baco router train``: learns a router from a reward on your own prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baco.errors import InputError
from baco.models.folders import write_whole

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Learns a router of your own.",
)


@app.callback()
def router() -> None:
    """Learns a router of your own."""


@app.command()
def train(
    output: Annotated[Path, typer.Argument(help="The file to write, such as router.json.")],
    pair: Annotated[str, typer.Option(help="The pair, as in baco generate.")] = "tiny",
    input_file: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Training prompts: JSONL or one per line; - for stdin.",
            show_default="the bundled pair's calibration prompts",
        ),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            help="What is good: module:function, called with (prompt, texts of a group), returns a "
            "number; or different-good-answers (bundled pairs only).",
            show_default="different-good-answers for bundled pairs",
        ),
    ] = None,
    iterations: Annotated[int, typer.Option(help="Steps.")] = 30,
    n: Annotated[int, typer.Option("--n", "-n", help="Samples per prompt and step.")] = 10,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Limit per sample.")] = 128,
    temperature: Annotated[float, typer.Option()] = 1.0,
    top_p: Annotated[float, typer.Option()] = 0.9,
    seed: Annotated[int, typer.Option(help="The same seed, the same router.")] = 0,
) -> None:
    """Trains a small model that says at each word who writes it, and writes it to a file.

    Use the file wherever a router is asked for: --router router.json, or router.json@0.4; the
    threshold is the share of decisions that go to the base model. A training that was interrupted
    goes on where it was when the same command is run again.
    """
    from baco.cli.inputs import read_prompts
    from baco.models.known import known_pair
    from baco.routers.learned import FEATURES, SUFFIX
    from baco.routers.training import (
        BUNDLED_REWARD,
        TrainingPlan,
        TrainingState,
        load_reward,
        settings_of,
    )

    if output.suffix != SUFFIX:
        raise InputError(
            f"the router file {str(output)!r} does not end in {SUFFIX}",
            hint="that is how a router spec is known to be a file",
        )
    bundled = "," not in pair and known_pair(pair).bundled
    if reward is None and not bundled:
        raise InputError(
            "what is a good answer? there is no reward",
            hint="write a function of (prompt, texts) and name it: --reward my_rules:rate",
        )
    name = reward or BUNDLED_REWARD
    if name == BUNDLED_REWARD and not bundled:
        raise InputError(
            f"the reward {name!r} only knows the world of the bundled pairs",
            hint="write a function of (prompt, texts) and name it: --reward my_rules:rate",
        )
    if input_file is None and not bundled:
        raise InputError("there are no training prompts", hint="name a file: --input prompts.txt")
    function = load_reward(name)
    plan = TrainingPlan(
        iterations=iterations,
        n=n,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
    )
    _writable(output)
    given = None if input_file is None else read_prompts([], input_file, None)

    import baco
    from baco.calibration import prompts_for
    from baco.cli.progress import Bar
    from baco.methods.base import Done
    from baco.models.engines import use_threads
    from baco.prompts import conversation_of
    from baco.routers.training import train as learn

    loaded = baco.load(pair)
    if bundled:
        use_threads(1)  # on models this small, threads only wait for each other
    conversations = given or [conversation_of(text) for text in prompts_for(pair)]
    settings = settings_of(loaded, conversations, name, plan, tuple(FEATURES))
    part = output.with_name(f".{output.name}.part")
    state = None
    if part.is_file():
        state = TrainingState.from_json(
            part.read_text(encoding="utf-8", errors="replace"), settings
        )
    if state is not None:
        typer.echo(f"going on after step {state.iteration} of {iterations}", err=True)
    done = 0 if state is None else state.iteration
    bar = Bar((iterations - done + 1) * len(conversations) * n)

    def keep(now: TrainingState) -> None:
        _write(part, now.to_json())
        with bar.aside():
            line = f"step {now.iteration:3} of {iterations}: mean reward {now.rewards[-1]:.3f}"
            typer.echo(line, err=True)

    with bar:
        learned = learn(
            loaded,
            conversations,
            function,
            name=name,
            plan=plan,
            state=state,
            progress=keep,
            update=lambda update: bar.sample() if isinstance(update, Done) else bar.token(),
        )
    _write(output, learned.to_json())
    part.unlink(missing_ok=True)
    about = dict(learned.training)
    typer.echo(
        f"{output}: mean reward {about['first_reward']:.3f} at first, "
        f"{about['last_reward']:.3f} at last; default threshold {learned.default:g}"
    )


def _writable(path: Path) -> None:
    """Finds out before hours of training that the file cannot be written."""
    if path.is_dir() or not path.parent.is_dir():
        what = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InputError(f"cannot write {path}: {what}", hint="name a file in a folder that exists")
    _write(path.with_name(f".{path.name}.try"), "")
    path.with_name(f".{path.name}.try").unlink()


def _write(path: Path, text: str) -> None:
    """Writes a file, all or nothing."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror}", hint="make room, or name another file"
        ) from error
