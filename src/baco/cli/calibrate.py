"""``baco calibrate``: measures what a diversity means for a pair and router."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baco.errors import InputError

if TYPE_CHECKING:
    from baco.calibration import Curve

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_TABLE = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


@app.command()
def calibrate(
    pair: Annotated[
        str | None, typer.Option(help="The pair, as in baco generate.", show_default="tiny")
    ] = None,
    router: Annotated[
        list[str] | None,
        typer.Option(help="A router; may be given several times.", show_default="p-punc"),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="A method without a router: interpolate.", show_default=False),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="Your own prompts: JSONL or one per line; - for stdin.",
            show_default="prompts that come with BaCo",
        ),
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts used at most.")] = 64,
    samples: Annotated[int, typer.Option(min=1, help="Samples per prompt and threshold.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Limit per sample.")] = 128,
    save_to: Annotated[
        Path | None,
        typer.Option(help="Write the curves into this folder.", show_default="your own data"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="quality=Q or METRIC=Q: name the setting of a bench run that keeps a quality; "
            "needs --run or --points.",
            show_default=False,
        ),
    ] = None,
    bench_run: Annotated[
        Path | None,
        typer.Option("--run", help="The store of a scored bench run.", show_default=False),
    ] = None,
    dataset: Annotated[
        str, typer.Option(help="The run's dataset, if there are several.", show_default=False)
    ] = "",
    points: Annotated[
        Path | None,
        typer.Option(help="CSV of settings: method, control, metrics.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measures the base model's share of words at many thresholds, and stores the curve.

    Of a method without a router it measures how far answers have come apart, from one end of its
    control (0) to the other (1).

    Afterwards --diversity, and the server's slider, mean the same for every calibrated router
    and pair: the share of words that the base model writes on calibration prompts.
    """
    if target is not None or points is not None or bench_run is not None:
        metric, least = _target(target)
        if (bench_run is None) == (points is None):
            raise InputError(
                "--target needs the figures of a bench run, once",
                hint="--run RUN.sqlite, or --points points.csv",
            )
        if points is not None:
            _pick(points, metric, least, as_json=as_json)
            return
        from baco.cli.bench_results import pick_setting

        pick_setting(
            bench_run,  # type: ignore[arg-type]  # it is not None here
            min_quality=least,
            quality="" if metric == "quality" else metric,
            max_cost=None,
            target="",
            dataset=dataset,
            pair=pair or "",
            seed=0,
            as_json=as_json,
        )
        return
    import sys

    import baco
    from baco.models.known import check_pair_name

    check_pair_name(pair or "tiny")
    from baco.calibration import Effort, ThresholdAxis, measure, save
    from baco.calibration.curve import calibrated_method
    from baco.cli.inputs import check_settings, read_prompts
    from baco.methods import METHODS
    from baco.methods.needs import check_tokenizers

    for name in method or ():
        if calibrated_method(name) is None:
            known = ", ".join(filter(calibrated_method, METHODS))
            raise InputError(
                f"diversity does not control the method {name!r}",
                hint=f"methods that it does, beside baco: {known}",
            )
    names = [*(method or ()), *(router or (() if method else ["p-punc"]))]
    for name in names:
        ThresholdAxis.of(name)  # before any model is loaded
    pair = pair or "tiny"
    asked = [check_settings({"method": name, "diversity": None}, pair) for name in method or ()]
    given = None if input is None else read_prompts([], input, None)
    effort = Effort(prompts=prompts, samples=samples, max_new_tokens=max_new_tokens)

    def suits(one_tokenizer: bool) -> None:
        for setting in asked:
            check_tokenizers(pair, one_tokenizer, setting)

    loaded = baco.load(pair, suits=suits)
    for name in names:

        def progress(done: float, name: str = name) -> None:
            if sys.stderr.isatty():
                print(f"\r{name}: {done:4.0%} ", end="", file=sys.stderr, flush=True)

        curve = measure(loaded, name, given, effort=effort, progress=progress)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        path = save(curve, save_to)
        typer.echo(curve.to_json().rstrip() if as_json else _shown(curve, path))


def _shown(curve: Curve, path: Path) -> str:
    low, high = curve.reach
    from baco.calibration.curve import calibrated_method

    kind, share = "router", "base share"
    if calibrated_method(curve.router):
        kind, share = "method", "part of the way"
    lines = [
        f"{curve.pair}, {kind} {curve.router}: {share} {low:.2f} to {high:.2f} "
        f"({curve.prompts} prompts x {curve.samples} samples, {len(curve.knots)} thresholds; "
        f"{curve.empty} empty answers left out)",
        f"  diversity  {'threshold' if kind == 'router' else 'control':>9}  {share}",
    ]
    for diversity in _TABLE:
        gamma, expected = curve.gamma(diversity)
        far = abs(expected - diversity) > 0.005
        note = "  (as far as it reaches)" if far else ""
        lines.append(f"  {diversity:9.2f}  {gamma:9.4g}  {expected:{len(share)}.2f}{note}")
    return "\n".join([*lines, f"  kept in {path}"])


def _target(text: str | None) -> tuple[str, float]:
    """Reads ``METRIC=Q``."""
    match = re.fullmatch(r"([\w.@-]+)=(-?\d+(?:\.\d+)?)", text or "")
    if match is None:
        wrong = "--target is missing" if text is None else f"--target {text!r} cannot be read"
        raise InputError(wrong, hint="write quality=8")
    return match[1], float(match[2])


def _pick(points: Path, metric: str, least: float, *, as_json: bool) -> None:
    """Answers `--target` from a table of settings."""
    from baco.calibration import for_quality

    found = for_quality(points, metric, least)
    row: dict[str, Any] = {
        "method": found.method,
        "control": found.control,
        metric: found.quality,
    }
    typer.echo(
        json.dumps(row)
        if as_json
        else f"{found.method} at {found.control}: {metric} {found.quality:g}"
    )
