"""Tables and plots."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from baco.errors import InputError, UnknownNameError
from baco.reporting.tables import to_latex, to_markdown
from baco.tradeoff import analyse, read_points
from baco.tradeoff.plots import COLOURS, LINES, MARKERS, find_space, plot
from baco.tradeoff.tables import as_table, figures, to_csv, to_dict


@pytest.fixture
def analysis(points_file: Path):
    return analyse(read_points(points_file))[0]


def test_csv_holds_every_figure_with_its_grid(analysis) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(figures([analysis])))))
    assert {r["level"] for r in rows} == {"average", "metric", "space"}
    mine = [r for r in rows if r["of"] == "overall" and r["method"] == "baco"]
    (row,) = mine
    value = analysis.levels["average", "overall"]["baco"]["coverage"]
    assert float(row["coverage"]) == value
    assert row["grid"] == "0.1 0.3 0.8"
    assert row["compared"] == "base aligned baco prompting"
    alone = next(r for r in rows if r["method"] == "prompting")
    assert alone["coverage"] == ""


def test_latex_and_markdown(analysis) -> None:
    rows = figures([analysis], ["average"])
    latex = to_latex(as_table(rows))
    assert r"overall\_flat" in latex
    assert latex.count(r"\\") == len(rows) + 1
    assert r"\textbf{" in latex
    body = [line for line in latex.splitlines() if "&" in line]
    assert len({line.count("&") for line in body}) == 1
    table = to_markdown(as_table(figures([analysis]))).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_json_holds_grids_anchors_and_frontiers(analysis) -> None:
    data = json.loads(json.dumps(to_dict([analysis]), allow_nan=False))
    (dataset,) = data["datasets"]
    assert dataset["grids"]["baco"] == ["0.1", "0.3", "0.8"]
    assert dataset["references"]["aligned"] == {"method": "aligned", "control": "1"}
    space = dataset["spaces"][0]
    assert space["x"] == {"at_zero": 2, "at_one": 8}
    assert space["frontier"]
    assert space["c_metric"]


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_plots_are_drawn_and_reproducible(analysis, tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        plot(analysis, analysis.spaces[:2], file)
    assert files[0].read_bytes() == files[1].read_bytes()
    if suffix == ".svg":
        root = ElementTree.fromstring(files[0].read_text())
        text = " ".join(root.itertext())
        for word in ("baco", "0.3", "Distinct-1", "quality: Reward, normalised"):
            assert word in text


def test_discarded_points_are_hollow_and_outside_the_box(analysis, monkeypatch) -> None:
    from matplotlib.figure import Figure

    from baco.tradeoff import plots

    panel = Figure().subplots()
    space = find_space(analysis, "dist_1,reward")
    index = analysis.methods.index("aligned")
    plots._curve(panel, space, index, "aligned")
    hollow = [line for line in panel.lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == space.dropped("aligned")
    baco = analysis.methods.index("baco")
    labels = plots._curve(panel, space, baco, "baco")
    assert {label.text for label in labels} >= {"0.1", "0.3", "0.8"}


def test_labels_do_not_pile_up() -> None:
    """Of points at one place a few are labelled, apart from each other; ends come first."""
    from matplotlib.figure import Figure

    from baco.tradeoff.plots import Label, place_labels

    figure = Figure(figsize=(4, 4))
    panel = figure.subplots()
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    crowd = [Label(f"{i}.25", (0.5 + i / 1000, 0.5), "black", False) for i in range(40)]
    alone = Label("0.9", (0.9, 0.1), "black", False)
    place_labels(panel, [*crowd, alone, Label("end", (0.5, 0.5), "black", True)])
    boxes = [text.get_window_extent() for text in panel.texts]
    assert 2 < len(boxes) < 20
    assert {"0.9", "end"} <= {text.get_text() for text in panel.texts}
    for a, b in itertools.combinations(boxes, 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1


def test_eight_methods_differ_in_colour_marker_and_line() -> None:
    from baco.tradeoff.plots import style

    styles = [style(i) for i in range(8)]
    assert len({s[0] for s in styles}) == len(COLOURS)
    assert len({s[1] for s in styles}) == len(MARKERS)
    assert len({(s[1], str(s[2])) for s in map(style, range(8))}) == 8
    assert len({(s[0], s[1]) for s in map(style, range(64))}) == 64
    assert len({(s[0], str(s[2])) for s in map(style, range(64))}) == 64
    assert len(LINES) == 8


def test_bad_plots(analysis, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format"):
        plot(analysis, analysis.spaces, tmp_path / "a.jpg")
    with pytest.raises(UnknownNameError, match="dist_9"):
        find_space(analysis, "dist_9,reward")
    with pytest.raises(UnknownNameError, match="nobody"):
        plot(analysis, analysis.spaces, tmp_path / "a.svg", shade=["nobody"])
    with pytest.raises(InputError, match="cannot write"):
        plot(analysis, analysis.spaces, tmp_path / "none" / "a.svg")


def test_spaces_without_a_theory_end_are_drawn_raw(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        "method,control,reward,dist_1,arousal_div\n"
        "base,1,2,0.9,0.5\naligned,1,8,0.3,0.1\nbaco,0.3,5,0.6,0.4\n"
    )
    (analysis,) = analyse(read_points(path))
    assert [s.diversity.name for s in analysis.skipped] == ["arousal_div"]
    plot(analysis, [find_space(analysis, "reward,arousal_div")], tmp_path / "a.svg")
    assert "raw values" in (tmp_path / "a.svg").read_text()


def test_what_was_not_measured_has_no_figures(tmp_path: Path) -> None:
    """It is not 0: nobody covers less than who was not asked."""
    path = tmp_path / "p.csv"
    path.write_text(
        "method,control,reward,dist_1\nbase,1,2,0.9\naligned,1,8,0.3\nbaco,0.3,5,0.6\nbaco,0.4,4,0.7\n"
        "late,0.3,,\nlate,0.4,,\nfar,0.1,1,0.1\nfar,0.2,1,0.2\n"
    )
    (analysis,) = analyse(read_points(path))
    figures = analysis.levels["average", "overall"]
    assert figures["baco"]["coverage"] > 0
    assert figures["far"]["coverage"] == 0
    assert all(value != value for value in figures["late"].values())
