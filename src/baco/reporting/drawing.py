"""Figures by matplotlib as SVG text, the same bytes every time."""

from __future__ import annotations

import io
import re
from typing import Any, Literal

from baco.errors import missing_extra

INK = "#333333"


def new_figure(width: float, height: float) -> Any:
    """Makes an empty matplotlib figure.

    Args:
        width: Inches.
        height: Inches.

    Raises:
        BacoError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "metrics") from error
    return Figure(figsize=(width, height), layout="constrained")


def as_svg(figure: Any, text: Literal["path", "none"] = "path", *, transparent: bool = True) -> str:
    """The figure as an ``svg`` element.

    Args:
        figure: The figure.
        text: Whether letters are drawn as paths, or stay text in the reader's own font.
        transparent: Whether the page shows through.
    """
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.hashsalt": "baco", "svg.fonttype": text}):
        figure.savefig(out, format="svg", metadata={"Date": None}, transparent=transparent)
    return trimmed(out.getvalue())


def trimmed(svg: str) -> str:
    """The ``svg`` element alone, with less that nobody sees: half of the bytes.

    Coordinates go to a tenth of a point; indentation, ids that nothing refers to, groups that say
    nothing and lists of fonts go; markers of one style share it; attributes stand in single quotes,
    which need no escape in an address.
    """
    short = _LONG.sub(_rounded, svg[svg.index("<svg") :])
    for pattern, instead in _SPARE:
        short = pattern.sub(instead, short)
    open_groups: list[bool] = []

    def kept(tag: re.Match[str]) -> str:
        if tag[0].startswith("<g"):
            open_groups.append(tag[0] == "<g>")
        elif tag[0] != "</g>":
            return tag[0] if "'" in tag[0] else tag[0].replace('"', "'")
        plain = open_groups[-1] if tag[0] != "</g>" else open_groups.pop()
        return "" if plain else tag[0]

    lines = re.sub(r"\n+", "\n", re.sub(r"</?[a-zA-Z][^>]*>", kept, short))
    return _MARKERS.sub(
        lambda run: f"<g{run['style']}>\n{run[0].replace(run['style'], '')}</g>\n", lines
    )


_SPARE = (
    (re.compile(r"[ \t]*\n[ \t]*"), "\n"),
    (re.compile(r' id="(?:[a-z]+2d|text|xtick|ytick|patch|matplotlib|[A-Z]\w+)[\w.]*_\d+"'), ""),
    (re.compile(r"'DejaVu Sans', [^;\"]*sans-serif"), "DejaVu Sans, sans-serif"),
)
"""What nobody sees, and what stands in its place."""

_MARKERS = re.compile(r"<use [^>]*?(?P<style> style='[^']*')/>\n(?:<use [^>]*?(?P=style)/>\n)+")
"""Marks in a row that look alike."""


def _rounded(found: re.Match[str]) -> str:
    """A number as exact as it can be seen: small ones are widths, sizes and factors."""
    value = float(found[0])
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


_LONG = re.compile(r"(?<![\w.])\d+\.\d{3,}(?![\w.])")
"""A number with more than two decimals that is not part of a name."""


def quiet(axes: Any) -> None:
    """Takes away lines that say nothing."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, length=0)
