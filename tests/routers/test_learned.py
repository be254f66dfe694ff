"""Learned routers: the file, the rule against plain numpy, the oracle, the engine."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from baco.engine import ALIGNED, BASE, Engine, Request, Warp, reference
from baco.engine.noise import row_key
from baco.engine.reference_rules import learned_features, learned_level, learned_score
from baco.engine.router import View
from baco.engine.scores import Context, score
from baco.errors import InputError
from baco.routers import is_local, parse
from baco.routers.learned import FEATURES, Learned, features, strangers
from support.engines import fake_pair, run
from support.views import HALF, SURE, VOCABULARY, WORDS, view

NAMES = tuple(FEATURES)
MODEL = Learned(
    pair="fake",
    revision="1+2",
    features=NAMES,
    mean=tuple(0.1 * k for k in range(len(NAMES))),
    scale=tuple(0.5 + 0.1 * k for k in range(len(NAMES))),
    weights=tuple((-1) ** k * 0.3 * (k + 1) for k in range(len(NAMES))),
    bias=-0.2,
    quantiles=(-4.0, -1.0, 0.0, 0.5, 3.0),
    default=0.4,
    training=(("reward", "test"),),
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "router.json"
    path.write_text(MODEL.to_json())
    return str(path)


@given(st.integers(0, 10_000), st.integers(0, 400), st.sampled_from([0.3, 1.0, 4.0]))
def test_features_and_score_equal_plain_numpy(seed: int, t: int, spread: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, len(WORDS), generator=draw, dtype=torch.float64) * spread
    if seed % 3 == 0:
        logits[:, 3:7] = -torch.inf
    sides = [score(each[None], Warp(), VOCABULARY) for each in logits]
    one = torch.tensor([t])
    seen = View(sides[0], sides[1], VOCABULARY, Context(one, one, one, one), one.bool())
    raw = {BASE: sides[0].raw[0].exp().numpy(), ALIGNED: sides[1].raw[0].exp().numpy()}
    plain = learned_features(raw, VOCABULARY, t)
    found = features(seen, NAMES)[0].tolist()
    assert found == pytest.approx([plain[name] for name in NAMES], abs=1e-9)
    assert 0 <= plain["divergence"] <= math.log(2) + 1e-12
    assert float(MODEL.score(seen)[0]) == pytest.approx(
        learned_score(MODEL, raw, VOCABULARY, t), abs=1e-9
    )


@given(st.floats(0, 1))
def test_levels_equal_plain_numpy(gamma: float) -> None:
    level = float(MODEL.level(torch.tensor([gamma], dtype=torch.float64))[0])
    assert level == pytest.approx(learned_level(MODEL, gamma), abs=1e-9)


def test_the_threshold_is_a_share_of_what_training_met() -> None:
    gammas = torch.linspace(0, 1, 21, dtype=torch.float64)
    levels = MODEL.level(gammas)
    assert (levels[1:] <= levels[:-1]).all()  # more γ, more base
    assert levels[0] == math.inf
    assert levels[-1] == -math.inf
    assert float(MODEL.level(torch.tensor([0.5], dtype=torch.float64))) == 0.0


def test_sides_without_a_common_token_do_no_harm() -> None:
    """Sides with different tokenizers give no token to each other."""
    half = len(WORDS) // 2
    logits = torch.zeros(2, len(WORDS), dtype=torch.float64)
    logits[0, :half] = -torch.inf
    logits[1, half:] = -torch.inf
    sides = [score(each[None], Warp(), VOCABULARY) for each in logits]
    one = torch.tensor([1])
    seen = View(sides[0], sides[1], VOCABULARY, Context(one, one, one, one), one.bool())
    found = dict(zip(NAMES, features(seen, NAMES)[0].tolist(), strict=True))
    assert found["divergence"] == pytest.approx(math.log(2))
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize("gamma", ["", "@0.2", "@0.7", "@0", "@1", "@sentence:0.9,0.1/1"])
def test_the_loop_equals_the_oracle(file: str, gamma: str) -> None:
    base, aligned = fake_pair()
    router = parse(f"{file}{gamma}")
    wanted = [
        Request((1,), (2,), router, row_key(0, "l", i), Warp(), max_new_tokens=24) for i in range(8)
    ]
    spoke = set()
    for request, got in zip(wanted, run(Engine(base, aligned), wanted), strict=True):
        trace = reference.decode(base, aligned, request)
        assert tuple(got) == tuple(trace[:4])
        spoke |= {s for s, b in zip(trace.sources[1:], trace.begins[1:], strict=True) if b}
    assert spoke == {"@0": {0}, "@1": {1}}.get(gamma, {0, 1})


def test_it_is_a_rule_like_any_other(file: str) -> None:
    router = parse(f"{file}@0.7")
    assert router.spec == f"{file}@0.7"
    assert parse(router.spec) == router
    assert router.reads == {"base", "aligned"}
    assert parse(file).gamma == 0.4
    assert parse(f"punc>{file}@0.3").gamma == 0.3
    assert hash(router)
    assert is_local(file)
    assert is_local(f"punc>{file}@0.3")
    assert not is_local("punc>p@0.3")
    assert parse(f"{file}@1").decide(view(HALF, SURE))[0]
    with pytest.raises(InputError, match=r"threshold 1\.5 is out of range"):
        parse(f"{file}@1.5")
    assert strangers(router, "other") == [MODEL]
    assert strangers(router, "1+2") == []


def test_an_at_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "me@home"
    folder.mkdir()
    (folder / "r.json").write_text(MODEL.to_json())
    assert parse(f"{folder / 'r.json'}@0.25").gamma == 0.25


def test_a_changed_file_is_read_again(file: str) -> None:
    assert parse(file).gamma == 0.4
    Path(file).write_text(replace(MODEL, default=0.125).to_json())
    assert parse(file).gamma == 0.125


def test_it_comes_back_as_it_went() -> None:
    assert Learned.from_json(MODEL.to_json()) == MODEL


def broken(**changes: object) -> str:
    fields = {**json.loads(MODEL.to_json()), **changes}
    return json.dumps({k: v for k, v in fields.items() if v is not None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be used"),
        ("[]", "it is no learned router"),
        ("{}", "it is no learned router"),
        (broken(format=99), "another version"),
        (broken(bias=None), "the key 'bias' is missing or unknown"),
        (broken(extra=1), "the key 'extra' is missing or unknown"),
        (broken(features=["moon", *NAMES[1:]]), "unknown feature 'moon'"),
        (broken(weights=[1.0]), "differ in length"),
        (broken(weights=["a", *MODEL.weights[1:]]), "'a' is not a number"),
        (broken(features=[*NAMES[1:], NAMES[1]]), "a feature is in it twice"),
        ("[" * 100_000, "is damaged"),
        (broken(scale=[0.0, *MODEL.scale[1:]]), "a scale is not positive"),
        (broken(quantiles=[1.0, 0.0]), "do not ascend"),
        (broken(default=2), r"not in \[0, 1\]"),
        (broken(bias=1e999), "not finite"),
        (broken(mean=3), "is damaged"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        parse(str(path))
    assert "baco router train" in error.value.hint


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the router file .*no\.json: No such file"):
        parse(str(tmp_path / "no.json"))
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=r"folder\.json"):
        parse(str(tmp_path / "folder.json"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be used"):
        parse(str(tmp_path / "x.json"))
