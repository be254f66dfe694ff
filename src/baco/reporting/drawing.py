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
    """The ``svg`` element alone, with coordinates to a hundredth: a third of the bytes less."""
    return _LONG.sub(lambda found: f"{float(found[0]):.2f}", svg[svg.index("<svg") :])


_LONG = re.compile(r"(?<![\w.])\d+\.\d{3,}(?![\w.])")
"""A number with more than two decimals that is not part of a name."""


def quiet(axes: Any) -> None:
    """Takes away lines that say nothing."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, length=0)
