"""``baco extract-adapter``: a low-rank adapter out of two checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baco.errors import InputError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def extract_adapter(
    base: Annotated[str, typer.Argument(help="The base model: a folder or a Hub id.")],
    aligned: Annotated[str, typer.Argument(help="The aligned model, of the same architecture.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.", show_default=False)],
    rank: Annotated[int, typer.Option(help="Rank of each matrix's difference.")] = 64,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Writes the difference of two checkpoints as a LoRA adapter: base plus adapter is a pair.

    Then: baco generate --pair BASE --adapter FOLDER --method interpolate --control 0.5. What the
    cut to a rank loses is printed, per module and in all.
    """
    from baco.cli.table import print_json, print_table
    from baco.models.extract import extract_folder, total
    from baco.models.known import BUNDLED, locate

    if rank < 1:
        raise InputError(f"rank {rank} is out of range", hint="use at least 1, such as 64")
    names = [locate(name) if name.startswith(BUNDLED) else name for name in (base, aligned)]
    losses = extract_folder(names[0], names[1], rank, out)
    shown = [*losses, total(losses)]
    if as_json:
        for loss in shown:
            print_json({"module": loss.module, "norm": loss.norm, "lost": loss.lost,
                        "share": loss.share})  # fmt: skip
        return
    print_table(
        ("module", "norm", "lost", "share"),
        [(x.module, f"{x.norm:.4g}", f"{x.lost:.4g}", f"{x.share:.3f}") for x in shown],
    )
