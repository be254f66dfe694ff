"""``baco pairs``: lists the pairs that are known by name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from baco.cli.table import print_json, print_table
from baco.known_pairs import BUNDLED, KnownPair, known_pairs

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def pairs(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Lists known pairs: their models, licences and memory needs."""
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


def _models(pair: KnownPair) -> str:
    names = [n.replace(BUNDLED, "bundled ") for n in (pair.base, pair.aligned) if n]
    if pair.adapter:
        names.append(f"adapter {pair.adapter.replace(BUNDLED, 'bundled ')}")
    return "\n".join(names)


def _licence(pair: KnownPair) -> str:
    return f"{pair.licence} (gated)" if pair.gated else pair.licence


def _memory(pair: KnownPair) -> str:
    gigabytes = pair.memory_gb()
    return f"{gigabytes:.1f} GB" if gigabytes >= 0.1 else f"{gigabytes * 1000:.0f} MB"
