"""Plans: what is shipped is right, and what is wrong is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from baco.bench.cells import cells_of, make_bench_setting, pair_revision
from baco.bench.estimate import duration, estimate
from baco.bench.plan import SamplingPlan, make_cell_setting, parse_plan, read_plan
from baco.bench.run import prepare
from baco.bench.shipped import plan_text, shipped
from baco.engine.penalties import Penalties
from baco.errors import InputError
from baco.methods.needs import check_tokenizers
from baco.models.known import known_pair

from .test_store import PLAN

REAL = [
    f"{d}-{p}"
    for d in ("noveltybench", "wildchat", "narrative")
    for p in ("llama-3-8b", "olmo-2-7b", "smollm2-135m")
]
FETCHED = [f"noveltybench-{p}{end}" for p in ("real", "real-plain") for end in ("", "-12")]


def test_shipped_plans() -> None:
    assert set(shipped()) == {"tiny", *REAL, *FETCHED}
    for name in shipped():
        plan = read_plan(name)
        assert plan.name == name
        assert plan.about
        assert plan.n == 10
        assert plan.sampling.temperature in (None, 1.0)
        assert plan.sampling.top_p in (None, 0.9)
        assert plan.run.measured_on
        assert plan_text(name).startswith("# ")


@pytest.mark.parametrize("name", ["tiny", *REAL])
def test_compared_curves_have_grids_of_eight_and_references(name: str) -> None:
    plan = read_plan(name)
    grids = {entry.curve: entry.controls for entry in plan.methods}
    for curve in ("base", "aligned", "nudging", "baco rand", "baco p-punc", "baco h-punc"):
        assert len(grids[curve]) >= 8
    for reference in (plan.report.base, plan.report.aligned):
        curve, _, control = reference.partition("@")
        assert float(control) in grids[curve]


@pytest.mark.parametrize("name", FETCHED)
def test_plans_of_fetched_pairs(name: str) -> None:
    plan = read_plan(name)
    assert plan.pairs == [name.removeprefix("noveltybench-").removesuffix("-12")]
    assert plan.datasets[0].limit == (12 if name.endswith("-12") else None)
    assert plan.sampling.max_new_tokens == 64
    curves = {entry.curve for entry in plan.methods}
    ensembles = {"response-ensemble"}
    routers = {f"baco {router}" for router in ("p-punc", "p", "h-punc", "rand")}
    if plan.pairs == ["real-plain"]:  # these need one tokenizer
        ensembles.add("logit-ensemble")
        routers.add("baco p-punc-open")
    known = known_pair(plan.pairs[0])
    for cell in cells_of(plan, {known.name: "r"}, {"NoveltyBench": "f"}):
        check_tokenizers(known.name, known.one_tokenizer, make_bench_setting(plan, cell))
    assert curves == {"base", "aligned", "nudging", "min-p"} | ensembles | routers
    for reference in (plan.report.base, plan.report.aligned):
        curve, _, control = reference.partition("@")
        grid = next(entry.controls for entry in plan.methods if entry.curve == curve)
        assert float(control) in grid


@pytest.mark.parametrize(
    ("pair", "aligned"),
    [("tiny~0.3", "tiny"), ("a/base,b/chat~0.5", "b/chat"), ("a/base,b/chat", "b/chat")],
)
def test_base_weights_leave_the_model_that_scores(pair: str, aligned: str) -> None:
    plan = read_plan("tiny").model_copy(update={"pairs": [pair]})
    assert plan.aligned_of(pair) == aligned


def test_a_first_look_is_part_of_the_whole(tmp_path: Path) -> None:
    """The store keeps what was made for the first look: the same cells, some of the prompts."""
    whole, first = (read_plan(name) for name in FETCHED[:2])
    revisions, fingerprints = {"real": "r"}, {"NoveltyBench": "f"}
    keys = [[cell.key for cell in cells_of(p, revisions, fingerprints)] for p in (whole, first)]
    assert keys[0] == keys[1]


def test_tiny_has_every_method_and_router() -> None:
    from baco.methods import METHODS
    from baco.routers import names

    plan = read_plan("tiny")
    assert {entry.method for entry in plan.methods} == set(METHODS)
    assert {entry.router for entry in plan.methods} >= set(names()) - {
        "judge",
        "open",
    }  # open alone: all by the base


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("controls = [1, 1.5]", "contrls = [1]", r"key 'contrls' at methods\[1\]", "'controls'"),
        ("n = 2", "m = 2", "unknown key 'm' at m", "known:"),
        ('"aligned"', '"alinged"', r"methods\[1\] \(alinged\).*method 'alinged'", "'aligned'"),
        ('"p-punc"', '"p-pnuc"', r"methods\[2\].*router 'p-pnuc'", "'p-punc'"),
        ("[0.3]", "[1.5]", r"methods\[2\] \(baco p-punc\) at control 1.5: .*1.5", "0"),
        ("[1, 1.5]", "[1, -2]", r"at control -2.*out of range", ""),
        ("[1, 1.5]", '["hot"]', r"at control hot", ""),
        ("[1, 1.5]", "[1, 1.0]", "the control 1.0 is there twice", "leave one out"),
        ("[1, 1.5]", "1", r"methods\[1\].controls: .*list", "it is 1"),
        ('"dist_1"', '"dist1"', "metrics.diversity: unknown metric 'dist1'", "'dist_1'"),
        ('"dist_1"', '"ppl"', "metrics.diversity: ppl is a quality metric", "metrics.quality"),
        ('"reward@tiny"', '"dist_2"', "metrics.quality: dist_2 is a lexical metric", "diversity"),
        ('dataset = "tiny"', 'dataset = "tinny"', "unknown dataset 'tinny'", "'tiny'"),
        ('pairs = ["tiny"]', 'pairs = ["tinny"]', "unknown pair 'tinny'", "'tiny'"),
        ('pairs = ["tiny"]', "pairs = []", "pairs: .*at least 1", ""),
        ("n = 2", "n = 0", "n: .*greater than or equal to 1", "it is 0"),
        ("n = 2", "n = 2\nn = 3", "is not TOML", "mend"),
        ("[metrics]", "[metrics]\nmodels = { rewrd = 'x' }", "unknown role 'rewrd'", "'reward'"),
        ("[metrics]", "[report]\nbest_of = ['Baco']\n[metrics]", "family 'Baco'", "'BaCo'"),
        ("[metrics]", "[sampling]\ntop_p = 0\n[metrics]", "top-p 0", ""),
        ("[metrics]", "[sampling]\ntopp = 0.9\n[metrics]", "'topp' at sampling.topp", "'top_p'"),
        ("limit = 3", "limit = 3\n[[datasets]]\ndataset='tiny'", "two datasets are called", ""),
        (
            'method = "aligned"',
            'method = "aligned"\nsampling = { temprature = 2 }',
            r"methods\[1\].sampling: unknown key 'temprature'",
            "'temperature'",
        ),
        (
            '[[methods]]\nmethod = "baco"',
            '[[methods]]\nmethod = "aligned"\n[[methods]]\nmethod = "baco"',
            r"methods\[2\]: the curve 'aligned' is there already, as methods\[1\]",
            "another name",
        ),
    ],
)
def test_mistakes(old: str, new: str, message: str, hint: str) -> None:
    assert old in PLAN
    with pytest.raises(InputError, match=message) as error:
        parse_plan(PLAN.replace(old, new), "test", "test.toml")
    assert hint in error.value.hint
    assert error.value.message.startswith("test.toml")
    assert "\n" not in str(error.value)


def test_unreadable_plans(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown plan 'tinny'") as unknown:
        read_plan("tinny")
    assert "'tiny'" in unknown.value.hint
    with pytest.raises(InputError, match=r"cannot read the plan .*none.toml: No such file"):
        read_plan(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_plan(str(tmp_path / "bytes.toml"))


def test_cells_know_all_that_decides_samples() -> None:
    def keys(text: str, revision: str = "r", fingerprint: str = "f") -> list[str]:
        plan = parse_plan(text, "test", "test")
        return [c.key for c in cells_of(plan, {"tiny": revision}, {"tiny": fingerprint})]

    same = keys(PLAN)
    assert len(set(same)) == 3
    assert keys(PLAN.replace("n = 2", "n = 5")) == same  # a larger group begins with this one
    assert keys(PLAN.replace("limit = 3", "limit = 9")) == same
    assert keys(PLAN.replace('family = "BaCo"', 'name = "ours"')) == same
    assert keys(PLAN.replace('"dist_1"', '"dist_2"')) == same
    for changed in (
        keys(PLAN, revision="s"),
        keys(PLAN, fingerprint="g"),
        keys(PLAN.replace("n = 2", "seed = 1")),
        keys(PLAN.replace("[metrics]", "[sampling]\nmax_new_tokens = 9\n[metrics]")),
        keys(PLAN.replace("[metrics]", '[run]\ndtype = "float64"\n[metrics]')),
    ):
        assert not set(changed) & set(same)


def test_what_two_tokenizers_cannot_do_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    text = PLAN.replace('pairs = ["tiny"]', 'pairs = ["real"]').replace('"p-punc"', '"p-punc-open"')
    with pytest.raises(InputError, match="the router 'p-punc-open' needs one tokenizer"):
        prepare(parse_plan(text, "test", "test"), tmp_path / "s.sqlite", lambda _: "r")
    assert not list(tmp_path.iterdir())


def test_revisions_without_weights_are_those_with() -> None:
    from baco.pair import load

    for name in ("tiny", "tiny-aligned2", "tiny-lora", "tiny~0.3"):
        assert pair_revision(name) == load(name).revision


def test_the_estimate_counts() -> None:
    plan = parse_plan(
        PLAN.replace("[metrics]", "[run]\nmean_tokens = 10\ntokens_per_second = 5\n[metrics]"),
        "test",
        "test",
    )
    found = estimate(plan, {"tiny": 3}, known=9)
    assert (found.cells, found.samples) == (3, 3 * 3 * 2)
    assert found.tokens == 18 * 10
    assert found.longest == 18 * 512
    assert found.forwards == 12 * 10 + 6 * 10 * 2
    assert found.seconds == pytest.approx(18 * 10 / 5 / 2)
    assert found.memory_gb is not None
    assert [duration(s) for s in (5, 720, 12000, 216000)] == [
        "5 s",
        "12 min",
        "3 h 20 min",
        "2.5 days",
    ]


def test_penalties_that_are_not_given_leave_cells_as_they_were() -> None:
    plain = SamplingPlan().model_dump()
    assert sorted(plain) == [
        "max_new_tokens", "min_p", "restart_shorter_than", "stop", "temperature", "top_k",
        "top_p", "turn_rule",
    ]  # fmt: skip
    given = """
[sampling]
repetition_penalty = 1.2
logit_bias = {5 = -1.0}
"""
    plan = parse_plan(PLAN + given, "plan", "plan.toml")
    setting = make_cell_setting(plan, plan.methods[0], 1)
    assert setting.sampling.warp.penalties == Penalties(1.2, logit_bias=((5, -1.0),))
    said = {"repetition_penalty": 1.2, "logit_bias": {"5": -1.0}}
    assert plan.sampling_of(plan.methods[0]).model_dump() == plain | said
