"""Training a router: it learns what pays, the same way every time, and goes on when killed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from baco.engine import Warp
from baco.engine.router import View
from baco.engine.scores import Context, score
from baco.errors import BacoError, InputError
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner
from baco.prompts import conversation_of
from baco.routers import parse
from baco.routers.learned import FEATURES, Learned
from baco.routers.training import (
    TrainingPlan,
    TrainingState,
    different_good_answers,
    load_reward,
    settings_of,
    train,
)
from support.engines import WORDS, words_vocabulary

VOCABULARY = words_vocabulary()
PLAN = TrainingPlan(iterations=8, n=5, max_new_tokens=8, start=0.4, step=0.3)
UNSURE = {" dog": 0.5, " cats": 0.5}
SURE = {" mat": 1.0}


def probs(weights: dict[str, float]) -> list[float]:
    return [weights.get(word, 1e-6) for word in WORDS]


def toy() -> Pair:
    """Aligned always says `cat`; base has ideas at every other word, else it says `mat`."""
    scripts = {
        "base": lambda ids: probs(UNSURE if len(ids) % 2 else SURE),
        "aligned": lambda ids: probs({" cat": 1.0}),
    }
    sides = [
        Side(
            name, FakePartner(VOCABULARY, script), lambda _: [1], lambda text: [1],
            [word.encode() for word in WORDS], revision=name,
        )
        for name, script in scripts.items()
    ]  # fmt: skip
    return Pair.from_sides("toy", *sides)


def rate(prompt: object, texts: list[str]) -> float:
    """Different answers are good, `mat` is not."""
    return len(set(texts)) - 2.0 * sum(text.count("mat") for text in texts)


def view(base: dict[str, float]) -> View:
    sides = [
        score(torch.tensor([probs(weights)]).double().log(), Warp(), VOCABULARY)
        for weights in (base, {" cat": 1.0})
    ]
    one = torch.tensor([3])
    return View(sides[0], sides[1], VOCABULARY, Context(one, one, one, one), one.bool())


def test_it_learns_what_pays() -> None:
    told: list[TrainingState] = []
    learned = train(toy(), ["a", "b", "c"], rate, name="mine", plan=PLAN, progress=told.append)
    about = dict(learned.training)
    assert about["last_reward"] > about["first_reward"] + 2
    assert float(learned.score(view(UNSURE))) > 0
    assert float(learned.score(view(SURE))) < -1
    assert len(told) == PLAN.iterations
    assert about["reward"] == "mine"
    assert about["prompts"] == 3
    assert (learned.pair, learned.revision) == ("toy", "base+aligned")
    assert learned.features == tuple(FEATURES)
    assert 0.2 < learned.default < 0.8
    assert Learned.from_json(learned.to_json()) == learned


def test_a_killed_training_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole = train(toy(), ["a", "b"], rate, plan=PLAN)
    kept: list[str] = []

    def progress(state: TrainingState) -> None:
        kept.append(state.to_json())
        if state.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(toy(), ["a", "b"], rate, plan=PLAN, progress=progress)
    settings = settings_of(toy(), [conversation_of(p) for p in "ab"], "", PLAN, tuple(FEATURES))
    state = TrainingState.from_json(kept[-1], settings)
    assert state is not None
    assert state.iteration == 3
    assert train(toy(), ["a", "b"], rate, plan=PLAN, state=state) == whole
    assert TrainingState.from_json(kept[-1], "another") is None
    assert TrainingState.from_json("{", settings) is None
    assert TrainingState.from_json("[]", settings) is None


def test_few_features_are_enough() -> None:
    learned = train(toy(), ["a", "b"], rate, plan=PLAN, names=("base_entropy",))
    assert learned.features == ("base_entropy",)
    assert learned.weights[0] > 0


def test_it_serves_as_a_router(tmp_path: Path) -> None:
    learned = train(toy(), ["a", "b"], rate, plan=PLAN)
    path = tmp_path / "mine.json"
    path.write_text(learned.to_json())
    group = toy().generate("c", n=4, router=str(path), max_new_tokens=8)
    assert group[0].router == str(path)
    assert group[0].gamma == learned.default
    assert "mat" not in "".join(group.texts)
    assert len(set(group.texts)) >= 2
    assert set("".join(toy().generate("c", router=f"{path}@0", max_new_tokens=3).texts)) == set(
        " cat"
    )


def test_another_pair_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learned = train(toy(), ["a"], rate, plan=TrainingPlan(iterations=1, n=2, max_new_tokens=4))
    path = tmp_path / "mine.json"
    path.write_text(learned.to_json())
    pair = toy()
    pair.generate("c", n=1, router=str(path), max_new_tokens=2)
    assert not caplog.records
    pair.sides = (pair.sides[1], pair.sides[0])
    pair.generate("c", n=1, router=str(path), max_new_tokens=2)
    assert "was trained on the pair toy" in caplog.text


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda prompt, texts: 1 / 0, "the reward failed: ZeroDivisionError"),
        (lambda prompt, texts: float("nan"), "the reward returned nan"),
        (lambda prompt, texts: None, "the reward failed: TypeError"),
    ],
)
def test_bad_rewards(reward, message: str) -> None:
    with pytest.raises(BacoError, match=message):
        train(toy(), ["a"], reward, plan=TrainingPlan(iterations=1, n=2, max_new_tokens=4))


def test_answers_of_one_word_teach_nothing() -> None:
    with pytest.raises(BacoError, match="the router was never asked"):
        train(toy(), ["a"], rate, plan=TrainingPlan(iterations=1, n=2, max_new_tokens=1))


def test_no_prompts() -> None:
    with pytest.raises(InputError, match="there are no training prompts"):
        train(toy(), [], rate)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "0 iterations are too few"),
        ({"n": 1}, "n = 1 is out of range"),
        ({"start": 1.0}, "start 1 is out of range"),
        ({"step": 0.0}, "step 0 is out of range"),
    ],
)
def test_bad_plans(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingPlan(**options)  # type: ignore[arg-type]


def test_different_good_answers_count_once() -> None:
    prompt = "Suggest a summer trip destination."
    iceland, iceland2 = (
        "My pick for a summer trip is Iceland.", "My choice for a summer trip is Iceland.",
    )  # fmt: skip
    lisbon = "My pick for a summer trip is Lisbon."
    assert different_good_answers(prompt, [iceland]) == 1
    assert different_good_answers(prompt, [iceland, iceland2]) == 1
    assert different_good_answers(prompt, [iceland, lisbon, "Blah."]) == 2
    assert different_good_answers([{"role": "user", "content": prompt}], [lisbon]) == 1


def test_rewards_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_reward("different-good-answers") is different_good_answers
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_learning_rules.py").write_text("def rate(prompt, texts):\n    return 7\n")
    assert load_reward("my_learning_rules:rate")("", []) == 7
    for spec, message in (
        ("nonsense", "reward 'nonsense' is not module:function (e.g. my_rules:rate)"),
        ("no_such_module_x:f", "the reward's module 'no_such_module_x' cannot be imported"),
        ("my_learning_rules:g", "the module 'my_learning_rules' has no function 'g'"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            load_reward(spec)


def test_diversity_is_refused_for_learned_routers() -> None:
    path = Path(__file__).parent / "learned.json"
    from baco.calibration import ThresholdAxis

    with pytest.raises(InputError, match="was learned, so diversity does not control it"):
        ThresholdAxis.of(parse(str(path)))
