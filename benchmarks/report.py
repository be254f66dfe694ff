"""From the figures of `benchmarks.engine` to tables and to a verdict on the targets.

Run: ``python -m benchmarks.report FILE`` writes the tables between the marks of
`benchmarks/README.md`, so that no figure is copied by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


class Table(NamedTuple):
    """A table on its way to a terminal or a page."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Target(NamedTuple):
    """Something that was promised.

    Attributes:
        what: What it is about.
        wanted: The bound, in words.
        got: The figure.
        met: Whether it holds.
    """

    what: str
    wanted: str
    got: float
    met: bool


def tables(figures: dict[str, Any]) -> list[Table]:
    """Makes all tables."""
    return [
        _passes(figures),
        _group(figures),
        Table(
            "third parties that guess, p-punc@0.3, n = 1: passes per token (a pass of the small "
            f"model counts {figures['size']['small_model_share']:.3f}, its size to that of the "
            "models with ballast)",
            ["text", "draft", "passes"],
            [[r["text"], r["draft"], f"{r['passes']:.2f}"] for r in figures["drafts"]],
        ),
        Table(
            "one set of weights (LoRA), p-punc@0.3, n = 1: passes per token",
            ["pair", "passes", "weights"],
            [
                [r["pair"], f"{r['passes']:.2f}", f"{r['weights_bytes'] / 1e6:.1f} MB"]
                for r in figures["lora"]
            ],
        ),
        *(_race(race) for race in figures["races"]),
        _targets(figures),
    ]


def _passes(figures: dict[str, Any]) -> Table:
    return Table(
        "passes per token, n = 1, per row and as real forwards (one model alone: 1)",
        ["router", "base share", "lock-step", "own noise", "best fixed k", "adaptive", "oracle",
         "acceptance"],
        [
            [
                r["router"], f"{r['base_share']:.2f}", f"{r['lock_step']:.2f}",
                f"{r['own_noise']:.2f}",
                f"{r['fixed']:.2f} ({r['fixed_leader']}, {r['fixed_k']})",
                f"{r['adaptive']:.2f}", f"{r['oracle']:.2f}", f"{r['acceptance']:.2f}",
            ]
            for r in figures["passes"]
        ],
    )  # fmt: skip


def _group(figures: dict[str, Any]) -> Table:
    return Table(
        "groups of 10: real batched forwards per token of the longest row, passes that served a "
        "row per token of it, token-rows per token",
        ["router", "lock-step, batched", "adaptive, batched", "adaptive, per row", "token-rows"],
        [
            [
                r["router"], f"{r['group_lock_step']:.2f}", f"{r['group_adaptive']:.2f}",
                f"{r['group_adaptive_per_row']:.2f}", f"{r['group_token_rows']:.2f}",
            ]
            for r in figures["passes"]
        ],
    )  # fmt: skip


def _race(race: dict[str, Any]) -> Table:
    rows = race["rows"]
    alone = next(iter(rows.values()))["seconds_per_token"]
    out = []
    for name, row in rows.items():
        seconds = row["seconds_per_token"]
        before = rows.get(f"{name.partition(',')[0]}, lock-step")
        each = row["all_seconds_per_token"]
        out.append(
            [
                name,
                f"{1 / seconds:.0f}",
                f"{alone / seconds:.2f}",
                f"{before['seconds_per_token'] / seconds:.2f}" if before else "",
                "" if row["passes"] is None else f"{row['passes'] / row['tokens']:.2f}",
                ""
                if row["drawn"] is None
                else f"{row['drawn'] / row['tokens']:.2f} "
                f"(published: to {row['published'] / row['tokens']:.1f})",
                f"{min(each) / seconds:.2f} to {max(each) / seconds:.2f}",
            ]
        )
    return Table(
        f"seconds: bundled pair, {race['model']}, {race['dtype']}, n = {race['n']}, "
        f"{race['threads']} threads",
        ["decoding", "tokens/s", "speed to generate", "to lock-step", "forwards per token",
         "generated per token kept", "spread of time"],
        out,
    )  # fmt: skip


def targets(figures: dict[str, Any]) -> list[Target]:
    """Compares the figures with what was promised."""
    passes = figures["passes"]
    worst = max(passes, key=lambda r: r["adaptive"] / r["oracle"])
    most = max(passes, key=lambda r: r["adaptive"])
    main = next(r for r in passes if r["router"] == "p-punc@0.3")
    found = [
        _at_most(f"adaptive to oracle ({worst['router']})", worst["adaptive"] / worst["oracle"],
                 1.3),
        _at_most("passes per token, p-punc@0.3", main["adaptive"], 1.35),
        _at_most(f"passes per token, anywhere ({most['router']})", most["adaptive"], 1.5),
    ]  # fmt: skip
    for row in figures["drafts"]:
        if row["text"] == "text that repeats" and row["draft"] != "none":
            found.append(_below(f"passes per token, {row['draft']}, text that repeats",
                                row["passes"], 1.0))  # fmt: skip
    for row in figures["lora"]:
        if row["pair"] == "tiny-lora":
            found.append(_at_most("passes per token, LoRA pair", row["passes"], 1.1))
    for race in figures["races"]:
        if race["model"] == "as it is":
            continue
        rows = {name: row["seconds_per_token"] for name, row in race["rows"].items()}
        where = f"{race['dtype']}, n = {race['n']}"
        alone = next(iter(rows.values()))
        ahead = rows["p-punc@0.3, look-ahead"]
        found += [
            _at_least(f"speed to lock-step, p-punc@0.3, ballast, {where}",
                      rows["p-punc@0.3, lock-step"] / ahead, 1.3),
            _at_least(f"speed to lock-step, p-punc@0.5, ballast, {where}",
                      rows["p-punc@0.5, lock-step"] / rows["p-punc@0.5, look-ahead"], 1.3),
            _at_least(f"speed to aligned alone, p-punc@0.3, ballast, {where}",
                      alone / ahead, 0.6),
        ]  # fmt: skip
    return found


def _at_most(what: str, got: float, bound: float) -> Target:
    return Target(what, f"at most {bound:g}", got, got <= bound)


def _at_least(what: str, got: float, bound: float) -> Target:
    return Target(what, f"at least {bound:g}", got, got >= bound)


def _below(what: str, got: float, bound: float) -> Target:
    return Target(what, f"below {bound:g}", got, got < bound)


def _targets(figures: dict[str, Any]) -> Table:
    return Table(
        "targets",
        ["what", "wanted", "measured", ""],
        [
            [t.what, t.wanted, f"{t.got:.2f}", "met" if t.met else "MISSED"]
            for t in targets(figures)
        ],
    )


def show(console: Console, figures: dict[str, Any]) -> None:
    """Prints everything on a terminal."""
    for table in tables(figures):
        shown = RichTable(*table.columns, title=table.title, title_justify="left")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    console.print(f"measured in {figures['minutes']:.1f} minutes")


def markdown(figures: dict[str, Any]) -> str:
    """Writes everything as Markdown."""
    machine, size = figures["machine"], figures["size"]
    about = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [
        f"Measured on: {about}. {size['prompts']} prompts counted, {size['timed_prompts']} timed "
        f"{size['times']} times in turns (medians); ballast of {size['ballast']} units a layer; "
        f"{figures['minutes']:.1f} minutes.",
    ]
    for table in tables(figures):
        lines += ["", f"**{table.title[0].upper()}{table.title[1:]}**", ""]
        lines.append(f"| {' | '.join(table.columns)} |")
        lines.append(f"|{'|'.join('---' for _ in table.columns)}|")
        lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join(lines) + "\n"


def put(page: str, text: str) -> str:
    """Replaces what stands between the marks of a page.

    Raises:
        ValueError: If the page lacks the marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no marks {BEGIN} and {END}")
    return f"{head}{begin}\n{text}{end}{tail}"


def main(arguments: Iterable[str] | None = None) -> None:
    """Puts the figures of a file into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="what benchmarks.engine --json wrote")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    figures = json.loads(options.file.read_text(encoding="utf-8"))
    README.write_text(put(README.read_text(encoding="utf-8"), markdown(figures)), encoding="utf-8")
    print(f"wrote the tables of {options.file} into {README}")


if __name__ == "__main__":
    main()
