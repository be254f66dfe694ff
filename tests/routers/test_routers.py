"""Names, specs, thresholds, formulas: what users type and what it means."""

from __future__ import annotations

import math

import pytest
import torch

from baco.engine import Warp
from baco.engine.router import View
from baco.engine.scores import Context, score
from baco.errors import InputError, UnknownNameError
from baco.routers import CASCADES, ROUTERS, Schedule, custom, judge, parse
from support.views import COMMA, HALF, SURE, THE, VOCABULARY, WORDS, view


def base_speaks(spec: str, base: dict[str, float], aligned: dict[str, float]) -> bool:
    return bool(parse(spec).decide(view(base, aligned))[0])


@pytest.mark.parametrize(
    ("spec", "base", "aligned", "expected"),
    [
        ("p@0.6", HALF, SURE, True),
        ("p@0.49", HALF, SURE, False),
        ("p@1", SURE, SURE, True),  # gamma = 1: always
        ("p@0", HALF, SURE, False),
        ("p-a@0.6", SURE, HALF, True),
        ("p-a@0.6", HALF, SURE, False),
        ("p-a@1", SURE, SURE, True),
        ("p-topk@0.21", HALF, SURE, True),  # (0.5 + 0.5 + 0 + 0 + 0) / 5
        ("p-topk@0.19", HALF, SURE, False),
        ("p-top2@0.51", HALF, SURE, True),
        ("p-top1@0.49", HALF, SURE, False),
        ("h@0.69", HALF, SURE, True),  # ln 2 = 0.693
        ("h@0.7", HALF, SURE, False),
        ("h-a@0.69", SURE, HALF, True),
        ("h-a@0.7", SURE, HALF, False),
        ("pr@0.51", HALF, SURE, True),
        ("pr@0.5", SURE, HALF, False),
        ("hr@0.9", HALF, HALF, True),
        ("hr@1.1", HALF, HALF, False),
        ("punc", HALF, COMMA, False),
        ("punc", COMMA, HALF, True),
        ("fc", HALF, THE, False),
        ("fc", THE, HALF, True),
        ("punc-both", COMMA, HALF, False),
        ("punc-both", HALF, HALF, True),
        ("fc-both", THE, HALF, False),
        ("p-punc@0.6", HALF, COMMA, False),  # the veto comes first
        ("p-punc@1", HALF, COMMA, False),
        ("p-punc@0.6", HALF, SURE, True),
        ("p-punc@0.4", HALF, SURE, False),
        ("p-fc@0.6", HALF, THE, False),
        ("h-punc@0.5", HALF, SURE, True),
        ("h-fc@0.5", HALF, THE, False),
        ("p-punc-any@0", HALF, COMMA, True),  # A.2 literally: no punctuation is enough
        ("p-punc-any@0.5", COMMA, HALF, False),
        ("p-punc-any@0.95", COMMA, HALF, True),
        ("p-fc-any@0", THE, THE, True),
        ("p-fc-any@0", HALF, THE, False),
        ("h-fc-any@0.5", HALF, THE, True),
        ("punc>fc>p@0.6", HALF, HALF, True),
        ("punc>fc>p@0.6", HALF, THE, False),
        ("p-a@0.6>h@0.5", HALF, HALF, True),
        ("p-a@0.4>h@0.5", HALF, HALF, False),
    ],
)
def test_formulas(
    spec: str, base: dict[str, float], aligned: dict[str, float], expected: bool
) -> None:
    assert base_speaks(spec, base, aligned) is expected


def test_entropy_ratio_of_nothing_over_nothing_goes_to_aligned() -> None:
    certain = view(SURE, SURE)
    exact = torch.full((1, len(WORDS)), -torch.inf, dtype=torch.float64)
    exact[0, 2] = 0
    side = score(exact, Warp(top_p=1), VOCABULARY)
    assert float(side.entropy) == 0
    nothing = View(side, side, VOCABULARY, certain.context, certain.asked)
    for gamma in ("0", "1", "inf"):
        assert not parse(f"hr@{gamma}").decide(nothing)[0]


def test_rand_is_its_uniform() -> None:
    u = float(view(SURE, SURE).u_route[0])
    assert base_speaks(f"rand@{u + 1e-9}", SURE, SURE)
    assert not base_speaks(f"rand@{u - 1e-9}", SURE, SURE)
    assert not base_speaks("rand@0", SURE, SURE)
    assert base_speaks("rand@1", SURE, SURE)


def test_specs_round_trip() -> None:
    specs = """p-punc@0.3 rand@0 fc h-punc@2.5 punc>p@0.2 p-a@0.4>h@0.5 p@linear:0.5..0.1/100
        p@step:0.5,0.2/20,0.1/60 pr@inf p-top3@0.2"""
    for spec in specs.split():
        assert parse(spec).spec == spec
        assert parse(parse(spec).spec) == parse(spec)
    assert parse("p", 0.25) == parse("p@0.25")
    assert parse("p", "0.25") == parse("p@0.25")
    assert parse("p-punc").gamma == 0.3
    assert parse("fc").gamma is None
    assert parse("p@0.3").with_gamma(0.4) == parse("p@0.4")
    assert parse("p@0.3").reads == {"base"}
    assert parse("p-punc").reads == {"base", "aligned"}
    assert parse("rand").reads == frozenset()


@pytest.mark.parametrize(
    ("spec", "gamma", "message"),
    [
        ("p-pnc", None, r"unknown router 'p-pnc' \(did you mean 'p-punc'"),
        ("", None, "the router spec is empty"),
        ("p@1.5", None, r"threshold 1.5 is out of range for router 'p' \(use a value in \[0, 1\]"),
        ("h@-1", None, r"use a value in \[0, inf\]"),
        ("p", -0.1, "threshold -0.1 is out of range"),
        ("p@nan", None, "out of range"),
        ("p@x", None, "neither a number nor a schedule"),
        ("p@linear:0.5", None, "neither a number nor a schedule"),
        ("p@step:0.5,0.2/20,0.1/10", None, "neither a number nor a schedule"),
        ("p@0.3", 0.4, "leave out one of the two"),
        ("punc@0.3", None, "router 'punc' takes no threshold"),
        ("fc", 0.3, "router 'fc' takes no threshold"),
        ("p@step:0.5,1.2/20", None, "threshold 1.2 is out of range"),
    ],
)
def test_bad_specs(spec: str, gamma: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(spec, gamma)


def test_unknown_names_list_all() -> None:
    with pytest.raises(UnknownNameError) as error:
        parse("nonsense-router")
    assert all(name in str(error.value) for name in ("rand", "p-punc", "judge", "hr"))


def test_every_router_of_the_paper_is_there() -> None:
    names = {*ROUTERS, *CASCADES}
    assert names >= {
        "rand", "p", "p-a", "p-topk", "h", "h-a", "pr", "hr", "punc", "fc", "judge",
        "p-punc", "h-punc", "p-fc", "h-fc", "punc-both", "fc-both",
        "p-punc-any", "p-fc-any", "h-punc-any", "h-fc-any",
    }  # fmt: skip
    for rule in ROUTERS.values():
        assert rule.formula
        assert rule.source
        if rule.has_threshold:
            assert rule.default is not None
            rule.check(rule.default)


def test_schedules() -> None:
    t = torch.tensor([0, 10, 20, 50, 100, 500])
    linear = Schedule.parse("linear:0.5..0.1/100").at(t)
    assert linear.tolist() == pytest.approx([0.5, 0.46, 0.42, 0.3, 0.1, 0.1])
    step = Schedule.parse("step:0.5,0.2/20,0.1/60").at(t)
    assert step.tolist() == pytest.approx([0.5, 0.5, 0.2, 0.2, 0.1, 0.1])
    assert Schedule.constant(0.3).at(t).tolist() == [0.3] * 6
    router = parse("p@step:0.9,0.1/5")
    early, late = view(HALF, SURE, t=1), view(HALF, SURE, t=9)
    assert router.decide(early)[0]
    assert not router.decide(late)[0]


def test_an_unbound_judge_says_so_and_a_bound_one_is_asked_only_where_it_counts() -> None:
    with pytest.raises(InputError, match="needs a judge"):
        parse("judge").decide(view(HALF, SURE))
    asked: list[tuple[list[int], int, int]] = []

    def says(emitted: list[int], base: int, aligned: int) -> bool:
        asked.append((emitted, base, aligned))
        return True

    router = judge.bind(parse("punc>judge"), says)
    assert router.needs_text
    one = view(HALF, SURE)
    two = torch.tensor([0, 0])
    both = View(
        one.base.rows(two), one.aligned.rows(two), VOCABULARY,
        Context(*(x[two] for x in one.context)), torch.tensor([False, True]),
        history=[[1], [2, 3]], proposals=(torch.tensor([5, 6]), torch.tensor([7, 8])),
    )  # fmt: skip
    assert router.decide(both).tolist() == [False, True]
    assert asked == [([2, 3], 6, 8)]


def test_thresholds_are_infinite_where_they_say_so() -> None:
    assert ROUTERS["h"].high == math.inf
    assert ROUTERS["h"].span == "[0, inf]"
    assert ROUTERS["punc"].span == "none"


# --- users' own functions ------------------------------------------------------------------------

OWN = """
from dataclasses import replace

from baco.routers import ROUTERS

def route(view, gamma):
    'Base speaks where the aligned model is less than gamma sure.'
    return view.aligned.top_prob < gamma

def usual(view, gamma=0.4):
    return route(view, gamma)

def plain(view):
    return view.aligned.top_prob < 0.4

bounded = replace(ROUTERS["p-a"], name="mine", default=0.2)
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_routes.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("spec", "gamma", "name"),
    [
        ("my_own_routes:route@0.3", 0.3, "my_own_routes:route"),
        ("my_own_routes:usual", 0.4, "my_own_routes:usual"),
        ("my_own_routes:plain", None, "my_own_routes:plain"),
        ("my_own_routes:bounded", 0.2, "my_own_routes:bounded"),
        ("punc>my_own_routes:route@0.3", 0.3, "punc>my_own_routes:route"),
    ],
)
def test_functions_of_ones_own_by_name(spec: str, gamma: float | None, name: str) -> None:
    router = parse(spec)
    assert (router.name, router.gamma) == (name, gamma)
    assert parse(router.spec).spec == router.spec
    assert router.reads <= {"base", "aligned"}


@pytest.mark.usefixtures("own")
def test_the_threshold_of_ones_own_function() -> None:
    for gamma, base in ((0.3, False), (0.6, True)):
        assert base_speaks(f"my_own_routes:route@{gamma}", SURE, HALF) is base
        assert bool(parse("my_own_routes:route", gamma).decide(view(SURE, HALF))[0]) is base
    moving = parse("my_own_routes:route@step:0.9,0.1/5")
    assert moving.gamma == 0.9
    assert str(moving.schedules[0]) == "step:0.9,0.1/5"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("my_own_routes:nothing", "has no function 'nothing'"),
        ("my_own_routes:number", "is int and no router"),
        ("no_such_module_here:f", "cannot be imported"),
        ("my_own_routes:", "is not module:function"),
        ("my_own_routes:plain@0.3", "takes no threshold"),
        ("my_own_routes:bounded@3", "out of range"),
        ("my_own_routes:route@nan", "out of range|schedule"),
    ],
)
def test_wrong_functions_of_ones_own(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(spec)


@pytest.mark.usefixtures("own")
def test_diversity_controls_only_what_has_bounds() -> None:
    from baco.calibration import ThresholdAxis

    for name, words in (("route", "has no bounds"), ("plain", "takes no threshold")):
        with pytest.raises(InputError, match=words):
            ThresholdAxis.of(f"my_own_routes:{name}")
    assert ThresholdAxis.of("my_own_routes:bounded").high == 1


def test_a_function_in_python_has_a_threshold_too() -> None:
    def route(view: View, gamma: torch.Tensor) -> torch.Tensor:
        return view.aligned.top_prob < gamma

    bare = custom(route, name="mine", reads=["aligned"])
    assert bare.gamma is None
    assert [bare.with_gamma(g).gamma for g in (0.3, 0.6)] == [0.3, 0.6]
    assert custom(route, gamma="linear:0.5..0.1/100").gamma == 0.5
    assert bool(custom(route, gamma=0.6).decide(view(SURE, HALF))[0])
    assert not bool(custom(route, gamma=0.3).decide(view(SURE, HALF))[0])
    with pytest.raises(InputError, match="takes no threshold"):
        custom(lambda view: view.asked, gamma=0.3)
