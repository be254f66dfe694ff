"""Diversity: curves are monotone, thresholds are found again, files and errors are right."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco import calibration
from baco.calibration import Curve, Effort, Knot, ThresholdAxis, UncalibratedError
from baco.errors import InputError, UnknownNameError
from baco.group import Sample
from baco.methods import METHODS
from baco.methods.settings import make_setting
from baco.models.sides import Side
from baco.pair import Pair
from baco.routers import CASCADES, ROUTERS
from support.engines import fake_pair

SMALL = Effort(prompts=6, samples=4, max_new_tokens=16, gap=0.15, thresholds=13)
PROMPTS = ["a cat", "the dog", "on the mat", "sat", "a mat", "the"]


def curve(shares: list[float], router: str = "rand", **more: object) -> Curve:
    axis = ThresholdAxis.of(router)
    last = len(shares) - 1
    knots = tuple(Knot(axis.gamma(i / last), s, s) for i, s in enumerate(shares))
    fields = {
        "pair": "p", "revision": "r", "router": router, "prompts": 1, "samples": 1,
        "max_new_tokens": 1, "temperature": 1.0, "top_p": 0.9, "fingerprint": "f", "version": "0",
    } | more  # fmt: skip
    return Curve(knots=knots, **fields)  # type: ignore[arg-type]


@pytest.fixture
def pair() -> Pair:
    base, aligned = fake_pair()
    words = [b"w"] * base.vocabulary.size

    def encode(conversation: object) -> list[int]:
        text = conversation[-1].content  # type: ignore[index]
        return [1 + len(w) % 9 for w in text.split()] or [1]

    return Pair.from_sides(
        "scripted",
        Side("base", base, encode, str.split, words, "b1"),
        Side("aligned", aligned, encode, str.split, words, "a1"),
    )


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_isotonic_is_monotone_keeps_the_mean_and_leaves_what_is_monotone(values: list[float]):
    out = calibration.isotonic(values)
    assert len(out) == len(values)
    assert all(a <= b + 1e-12 for a, b in pairwise(out))
    assert sum(out) == pytest.approx(sum(values))
    assert calibration.isotonic(sorted(values)) == sorted(values)


@pytest.mark.parametrize(
    "router", ["rand", "p", "p-punc", "h", "h-punc", "pr", "hr", "p-topk", "interpolate"]
)
def test_places_and_thresholds_are_each_others_inverse(router: str):
    axis = ThresholdAxis.of(router)
    for i in range(17):
        assert axis.place(axis.gamma(i / 16)) == pytest.approx(i / 16)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=9).map(sorted),
    st.lists(st.floats(0, 1), min_size=2, max_size=9).map(sorted),
)
def test_more_diversity_is_never_less_base(shares: list[float], asked: list[float]):
    for router in ("p", "h"):
        made = curve(shares, router)
        axis = ThresholdAxis.of(router)
        found = [made.gamma(d) for d in asked]
        places = [axis.place(gamma) for gamma, _ in found]
        assert all(a <= b + 1e-9 for a, b in pairwise(places))
        assert all(made.reach[0] <= share <= made.reach[1] for _, share in found)


def test_interpolates_between_thresholds_and_clamps_beyond_them(pair: Pair):
    made = curve([0.0, 0.2, 0.6, 0.8])
    assert made.gamma(0.4) == (pytest.approx(0.5), 0.4)
    router, info = calibration.resolve(pair, "rand", 0.4, curve=made)
    assert router.gamma == pytest.approx(0.5)
    assert not info.clamped
    assert info.note == ""
    router, info = calibration.resolve(pair, "rand", 0.95, curve=made)
    assert (router.gamma, info.clamped, info.expected) == (1.0, True, 0.8)
    assert "0.00 to 0.80" in info.note


def test_the_two_ends_need_no_curve(pair: Pair):
    for router, least, most in (("p", 0, 1), ("h", math.inf, 0), ("pr", 0, math.inf)):
        low, info = calibration.resolve(pair, router, 0)
        high, _ = calibration.resolve(pair, router, 1)
        assert (low.gamma, high.gamma) == (least, most)
        assert info.expected is None


def test_what_lies_between_needs_one(pair: Pair):
    with pytest.raises(UncalibratedError, match="baco calibrate --pair scripted --router 'p-punc'"):
        calibration.resolve(pair, "p-punc", 0.3)


def test_errors_say_what_to_do(pair: Pair):
    for diversity in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="out of range"):
            calibration.resolve(pair, "p", diversity)
    with pytest.raises(InputError, match="leave out one"):
        calibration.resolve(pair, "p@0.3", 0.3)
    with pytest.raises(InputError, match="no threshold"):
        calibration.resolve(pair, "punc", 0.3)
    with pytest.raises(UnknownNameError):
        calibration.resolve(pair, "q", 0.3)
    with pytest.raises(InputError, match="no calibration prompts"):
        calibration.measure(pair, "p", [])


@pytest.mark.parametrize("router", ["rand", "h-punc"])
def test_a_measured_curve_gives_the_share_that_was_asked_for(pair: Pair, router: str):
    made = calibration.measure(pair, router, PROMPTS, effort=SMALL)
    shares = [knot.share for knot in made.knots]
    assert shares == sorted(shares)
    assert made.reach[0] == 0
    calibration.save(made)
    assert calibration.find("scripted", pair.revision, router) == made
    low, high = made.reach
    for diversity in (0.2, 0.5):
        if not low <= diversity <= high:
            continue
        bound, info = calibration.resolve(pair, router, diversity)
        groups = pair.generate(PROMPTS, n=8, router=bound, max_new_tokens=16, seed=5)
        share = sum(group.base_share for group in groups) / len(groups)
        assert share == pytest.approx(info.expected, abs=0.1), (router, diversity)


def test_the_control_of_a_method_is_calibrated_likewise(pair: Pair):
    def make(runs):
        for tasks, setting in runs:
            assert setting.method.name == "interpolate"
            alpha = setting.control
            different = round((1 - alpha) ** 2 * 16)  # of 16 words
            yield [
                Sample(
                    task.prompt[-1].content, task.index,
                    " ".join(f"{task.index}{k}" if k < different else f"x{k}" for k in range(16)),
                    "stop", 0, "interpolate", sources=("aligned",),
                )
                for task in tasks
            ]  # fmt: skip

    made = calibration.measure(pair, "interpolate", PROMPTS, effort=SMALL, make=make)
    assert (made.router, made.reach) == ("interpolate", (0.0, 1.0))
    for knot in made.knots:
        different = round((1 - knot.gamma) ** 2 * 16)
        wanted = 1 - (16 - different) / (16 + different)  # 1 - |both| / |either|
        assert knot.measured == pytest.approx(wanted, abs=1e-6)
    calibration.save(made)
    alphas = [calibration.resolve(pair, "interpolate", d)[0] for d in (0, 0.2, 0.5, 0.8, 1)]
    assert alphas == sorted(alphas, reverse=True)
    assert (alphas[0], alphas[-1]) == (1.0, 0.0)
    assert pair.calibrated("interpolate", 0.5) == alphas[2]


def test_methods_need_a_curve_too_and_are_no_routers(pair: Pair):
    spread = [name for name, method in METHODS.items() if method.up is not None]
    assert spread == ["interpolate"]
    assert not set(spread) & {*ROUTERS, *CASCADES}
    assert calibration.resolve(pair, "interpolate", 1)[0] == 0.0
    with pytest.raises(UncalibratedError, match="--pair scripted --method 'interpolate'"):
        calibration.resolve(pair, "interpolate", 0.3)
    with pytest.raises(InputError, match="out of range"):
        make_setting(method="interpolate", diversity=1.2, calibration=pair.calibrated)
    with pytest.raises(InputError, match="calibration table of the method 'interpolate'"):
        make_setting(method="interpolate", diversity=0.3)
    with pytest.raises(InputError, match="control and diversity are both given"):
        make_setting(method="interpolate", diversity=0.3, control=0.3)
    with pytest.raises(InputError, match="has no diversity"):
        make_setting(method="logit-ensemble", diversity=0.3, calibration=pair.calibrated)
    with pytest.raises(InputError, match="do not differ more"):
        calibration.measure(
            pair, "interpolate", PROMPTS, effort=SMALL,
            make=lambda runs: [[answer("a b", sources=("aligned",))] * 4 for _ in runs],
        )  # fmt: skip


def answer(text: str, **more: object) -> Sample:
    return Sample("a cat", 0, text, "stop", 0, "baco", **more)  # type: ignore[arg-type]


def test_empty_answers_have_no_part_in_shares_and_are_counted(pair: Pair):
    def make(runs):
        found = []
        for _ in runs:
            full = answer("a b", sources=("base", "aligned"), base_share=0.5)
            found.append([full, answer(""), answer("")])
        return found

    made = calibration.measure(pair, "rand", PROMPTS, effort=SMALL, make=make)
    assert {knot.share for knot in made.knots} == {0.5}
    assert {knot.empty for knot in made.knots} == {2}
    assert made.empty == 2 * len(made.knots)
    assert Curve.from_json(made.to_json()) == made

    def all_empty(runs):
        return [[answer("")] for _ in runs]

    with pytest.raises(InputError, match="all 1 answers are empty at the threshold 0"):
        calibration.measure(pair, "rand", PROMPTS, effort=SMALL, make=all_empty)


def test_another_revision_needs_another_curve(pair: Pair):
    calibration.save(curve([0, 1], pair="scripted", revision=pair.revision))
    assert calibration.find("scripted", pair.revision, "rand") is not None
    assert calibration.find("scripted", "other", "rand") is None
    with pytest.raises(InputError, match="not known"):
        calibration.save(curve([0, 1], revision="unknown+unknown"))


def test_files_round_trip_infinite_thresholds_included(tmp_path: Path):
    made = curve([0, 0.5, 1], "h")
    assert made.knots[0].gamma == math.inf
    assert Curve.from_json(made.to_json()) == made
    assert "Infinity" not in made.to_json()
    path = calibration.save(made, tmp_path)
    assert path == tmp_path / "p" / "h.json"
    for broken in ("", "{}", "[]", '{"format": 99}', made.to_json().replace("knots", "nots")):
        with pytest.raises(InputError, match="cannot be read"):
            Curve.from_json(broken)


def test_odd_names_become_different_files(home: Path):
    names = ["a/b", "a_b", "../x", "punc>p@0.3", "x" * 300]
    paths = {calibration.save(curve([0, 1], pair=name)) for name in names}
    assert len(paths) == len(names)
    assert all(path.is_relative_to(home) for path in paths)


def test_a_quality_target_picks_the_setting_that_goes_furthest(tmp_path: Path):
    points = tmp_path / "points.csv"
    points.write_text(
        "method,control,quality,classes\nbaco,0.1,8.9,3\nbaco,0.3,8.1,6\nbaco,0.5,6,8\nbase,1,8.05,9\n"
    )
    assert calibration.for_quality(points, "quality", 8).method == "base"
    assert calibration.for_quality(points, "quality", 8, "baco").control == "0.3"
    for metric, least, word in (("quality", 10, "best has 8.9"), ("charm", 1, "no column")):
        with pytest.raises(InputError, match=word):
            calibration.for_quality(points, metric, least)
    points.write_text("method,control,quality\nbaco,1,high\n")
    with pytest.raises(InputError, match="line 2"):
        calibration.for_quality(points, "quality", 1)


def test_bundled_prompts_are_many_and_all_different():
    prompts = calibration.general_prompts()
    assert len(prompts) == len(set(prompts)) >= 40
    assert all(prompt.strip() == prompt and prompt for prompt in prompts)


@pytest.mark.parametrize("router", ["p", "p-punc", "h-punc", "rand"])
def test_the_bundled_pair_comes_calibrated(router: str):
    import baco

    made = calibration.find("tiny", baco.load("tiny").revision, router)
    assert made is not None, "new weights need new curves: make calibrate"
    assert made.reach[0] == 0
    assert made.reach[1] > 0.75
    assert made.prompts == 58


def test_the_usual_folders_are_where_they_always_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`platformdirs` finds what earlier versions wrote, on each platform."""
    from platformdirs import windows
    from platformdirs.macos import MacOS
    from platformdirs.unix import Unix

    from baco.models import folders as ours

    for name in ("BACO_HOME", "BACO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    folders = {"XDG_DATA_HOME": "d", "XDG_CACHE_HOME": "c"}
    for name, folder in folders.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    local = {"CSIDL_LOCAL_APPDATA": str(tmp_path / "w")}
    monkeypatch.setattr(windows, "get_win_folder", local.__getitem__)
    seen = {}
    for system in (Unix, windows.Windows):
        for what in ("user_data_path", "user_cache_path"):
            monkeypatch.setattr(
                ours, what, lambda *a, _s=system, _w=what, **k: getattr(_s(*a, **k), _w)
            )
        seen[system] = (ours.data_folder(), ours.cache_folder())
    assert seen[Unix] == (tmp_path / "d" / "baco", tmp_path / "c" / "baco")
    assert seen[windows.Windows] == (tmp_path / "w" / "baco", tmp_path / "w" / "baco")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for system, data, cache in (
        (Unix, ".local/share", ".cache"),
        (MacOS, "Library/Application Support", "Library/Caches"),
    ):
        given = {"appname": "baco", "appauthor": False, "opinion": False}
        assert system(**given).user_data_path == tmp_path / data / "baco"
        assert system(**given).user_cache_path == tmp_path / cache / "baco"


def test_a_curve_belongs_to_the_thresholds_before_the_control() -> None:
    """`p@0.5>h` took the curve of `p>h`, whose first threshold is 0.3, and said nothing."""
    from baco.routers import parse

    names = {spec: parse(spec).curve_name for spec in (
        "p>h", "p@0.3>h", "p@0.3>h@2", "p@0.5>h", "p@0.5>h@2", "p-punc@0.4", "punc>p@0.2",
        "p@linear:0.1..0.3/9>h", "p@0.5>h>pr@1",
    )}  # fmt: skip
    assert names["p>h"] == names["p@0.3>h"] == names["p@0.3>h@2"] == "p>h"
    assert names["p@0.5>h"] == names["p@0.5>h@2"] == "p@0.5>h"
    assert names["p-punc@0.4"] == "p-punc"
    assert names["punc>p@0.2"] == "punc>p"
    assert names["p@linear:0.1..0.3/9>h"] == "p@linear:0.1..0.3/9>h"
    assert "p@0.5>h@2.5" in names["p@0.5>h>pr@1"]
    for name in names.values():  # it is measured under the name that it is looked up by
        assert parse(name).curve_name == name
