"""``baco routers``: lists the routers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from baco.routers import Router, Rule

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def routers(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Lists routers: when each goes to the base model, its threshold, what it reads."""
    from baco.cli.table import print_json, print_table

    rows = _rows()
    if as_json:
        for row in rows:
            print_json(row)
        return
    print_table(
        ("router", "goes to base when", "range of γ", "default γ", "base share", "reads", "source"),
        [
            (
                row["name"],
                row["formula"],
                row["range"],
                "" if row["default"] is None else f"{row['default']:g}",
                row["reach"],
                row["reads"],
                row["source"],
            )
            for row in rows
        ],
    )
    print(
        "\nUse: --router p-punc@0.3, or --router p-punc --gamma 0.3. p-top3 and so on give p-topk "
        "another k.\nAny rules make a cascade, in which an earlier rule's `aligned` is final: "
        "fc>h@2 is h-fc with γ = 2.\n"
        "Look-ahead: p-ahead3, p-ahead-sentence; each word costs that many passes more.\n"
        "γ may move: linear:0.5..0.1/100, step:0.5,0.2/20 (tokens), sentence:0.5,0.2/1.\n"
        "A file made by baco router train is a router too: --router router.json@0.4; and so is a "
        "function of yours: --router my_rules:route@0.3 (docs/routers.md)."
    )


def _rows() -> list[dict[str, Any]]:
    """Returns what is to be said of each router."""
    from baco.routers import CASCADES, ROUTERS, parse

    rows = [
        {
            "name": name,
            "formula": rule.formula,
            "range": rule.span,
            "default": rule.default,
            "reach": rule.reach,
            "reads": _reads(rule),
            "source": rule.source,
        }
        for name, rule in ROUTERS.items()
    ]
    for name, parts in CASCADES.items():
        router = parse(name)
        control = router.rules[router.control if router.control is not None else -1]
        rules = [part for part in parts if part != "open"]
        rows.append(
            {
                "name": name,
                "formula": " and ".join(ROUTERS[part].formula for part in rules)
                + (", at the first word too" if router.opens else ""),
                "range": control.span,
                "default": control.default,
                "reach": f"0 to what {rules[0]} leaves",
                "reads": _reads(router),
                "source": ROUTERS["open"].source if router.opens else "§3.1, A.2",
            }
        )
    return rows


def _reads(asked: Rule | Router) -> str:
    words = "both" if len(asked.reads) == 2 else next(iter(asked.reads), "nothing")
    if asked.looks_ahead:
        words += ", ahead"
    return f"{words}, a judge" if asked.needs_text else words
