"""Drawings lose bytes, not marks."""

from __future__ import annotations

import re

import pytest

from baco.reporting.drawing import as_svg, new_figure

pytest.importorskip("matplotlib")


def test_markers_of_one_style_share_it() -> None:
    figure = new_figure(4, 3)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.plot([1, 2, 3], [3, 1, 2], marker="o", color="#cc79a7")
    axes.plot([1, 2], [1, 2], marker="o", markerfacecolor="none", markeredgecolor="#444444", ls="")
    axes.plot([2], [2], marker="o", color="#009e73")
    svg = as_svg(figure, "none")
    found = re.findall(r"<g style='([^']*)'>\n((?:<use [^>]*/>\n)+)</g>", svg)
    assert [(style.split(";")[0], marks.count("<use")) for style, marks in found] == [
        ("fill: #cc79a7", 3),
        ("fill-opacity: 0", 2),
    ]
    assert not any("style" in marks for _, marks in found)
    assert svg.count("<use") == 6
    assert svg.count("<g") == svg.count("</g>")
