"""Groups whose answers differ: who is drawn again, what is told of it, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import baco.methods.distinct as module
from baco.engine.loop import Stats
from baco.engine.request import Cost
from baco.engine.session import TURN
from baco.errors import InputError
from baco.group import Group, Sample
from baco.methods.base import Chunk, Done, Setting, Task, Update, tasks_for
from baco.methods.distinct import DRAWS, distinct, more_base
from baco.methods.settings import make_setting
from baco.prompts import conversation_of
from baco.routers import parse

PLAIN: Any = SimpleNamespace(known=None)


class Script:
    """Answers task i of draw d with `answers[d][i]`, in any order."""

    def __init__(self, answers: Sequence[Sequence[str]], shuffle: int | None = None) -> None:
        self.answers = answers
        self.shuffle = shuffle
        self.settings: list[Setting] = []
        self.asked: list[list[int]] = []

    def __call__(self, tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
        draw = len(self.settings)
        self.settings.append(setting)
        self.asked.append([task.index for task in tasks])
        order = list(range(len(tasks)))
        if self.shuffle is not None:
            random.Random(self.shuffle + draw).shuffle(order)
        for number in order:
            task = tasks[number]
            text = self.answers[draw][task.index]
            yield TURN
            yield Chunk(number, text, "base", 1, True)
            yield Done(number, sample(text, task.index, setting))
        yield Stats(1, 1, 1, 1, len(tasks))


def sample(text: str, index: int, setting: Setting) -> Sample:
    return Sample(
        "?", index, text, "stop", setting.sampling.seed, "baco", "p", 0.4, 0.4, (1,), (text,),
        ("base",), 1.0, 0, cost=Cost(tokens=1),
    )  # fmt: skip


def group_of(script: Script, n: int, **given: Any) -> tuple[Group, list[Update]]:
    setting = make_setting(router="p", gamma=0.4, seed=5, n=n, **{"distinct": True, **given})
    updates = list(distinct(PLAIN, tasks_for([conversation_of("?")], n), setting, script))
    done = {u.task: u.sample for u in updates if isinstance(u, Done)}
    assert sorted(done) == list(range(n))
    return Group(tuple(done[i] for i in range(n))), updates


def test_what_is_alike_is_drawn_again_and_told() -> None:
    script = Script([["Rome", "rome. ", "Bari", "Rome"], ["", "Bari", "", "Pisa"], ["", "Turin"]])
    group, updates = group_of(script, 4)
    assert group.texts == ["Rome", "Turin", "Bari", "Pisa"]
    assert script.asked == [[0, 1, 2, 3], [1, 3], [1]]
    assert [s.details for s in group.samples] == [{"draws": d} for d in (1, 3, 1, 2)]
    assert [s.attempts for s in group.samples] == [1, 3, 1, 2]
    assert [s.cost and s.cost.tokens for s in group.samples] == [1, 3, 1, 2]
    assert {s.seed for s in group.samples} == {5}
    assert group.restarts == 3
    assert group.alike == []
    chunks = [(u.task, u.text) for u in updates if isinstance(u, Chunk)]
    assert chunks == [(0, "Rome"), (2, "Bari"), (3, "Pisa"), (1, "Turin")]  # nothing thrown away
    assert updates[-1] == Stats(3, 3, 3, 3, 7)


@pytest.mark.parametrize("shuffle", range(5))
def test_speed_decides_nothing(shuffle: int) -> None:
    answers = [["a", "b", "a", "b", "c"], ["", "", "b", "c"], ["", "", "d", "e"]]
    wanted = group_of(Script([*answers[:1], ["", "", "b", "c", ""], *answers[2:]]), 5)[0]
    again = group_of(Script([*answers[:1], ["", "", "b", "c", ""], *answers[2:]], shuffle), 5)[0]
    assert again.samples == wanted.samples


def test_draws_are_bounded_and_what_is_left_says_so() -> None:
    script = Script([["Rome", "Rome", "Rome"]] * DRAWS)
    group, _ = group_of(script, 3)
    assert len(script.settings) == DRAWS
    assert group.texts == ["Rome"] * 3
    assert group.alike == [1, 2]
    assert group[1].details == {"draws": DRAWS, "alike": 0}
    assert "2 could not be made distinct" in group.summary


def test_each_draw_has_its_own_noise_and_a_higher_threshold() -> None:
    script = Script([["Rome", "Rome"]] * DRAWS)
    group_of(script, 2)
    gammas = [s.router.gamma for s in script.settings if s.router]
    assert gammas == pytest.approx([0.4 + 0.6 * step / 8 for step in range(DRAWS)])
    seeds = [s.sampling.seed for s in script.settings]
    assert seeds[0] == 5
    assert len(set(seeds)) == DRAWS
    assert not any(s.distinct for s in script.settings)


@pytest.mark.parametrize(
    ("spec", "two"),
    [
        ("p@0.4", "p@0.55"), ("h@2", "h@1.5"), ("pr@1", "pr@1.5"), ("pr@0", "pr@0.5"),
        ("punc", "punc"), ("h@inf", "h@inf"), ("punc>p@0.4", "punc>p@0.55"), ("p@1", "p@1"),
        ("p@linear:0.4..0.8/100", "p@linear:0.55..0.85/100"),
    ],
)  # fmt: skip
def test_thresholds_go_towards_the_base_model(spec: str, two: str) -> None:
    got, wanted = more_base(parse(spec), 2), parse(two)
    assert got.name == wanted.name
    for mine, theirs in zip(got.schedules, wanted.schedules, strict=True):
        if theirs is not None:
            assert mine is not None
            assert mine.values == pytest.approx(theirs.values)


def test_prompts_do_not_mind_each_other() -> None:
    script = Script([["Rome", "Bari"]])
    tasks = tasks_for([conversation_of("?"), conversation_of("!")], 2)
    setting = make_setting(router="p@0.4", n=2, distinct="text")
    done = [u for u in distinct(PLAIN, tasks, setting, script) if isinstance(u, Done)]
    assert [d.sample.text for d in done] == ["Rome", "Bari"] * 2


def test_withheld_answers_are_not_compared() -> None:
    def make(tasks: Sequence[Task], setting: Setting) -> Iterator[Update]:
        for i, task in enumerate(tasks):
            yield Done(i, replace(sample("", task.index, setting), finish_reason="withheld"))

    setting = make_setting(router="p@0.4", n=2, distinct=True)
    updates = list(distinct(PLAIN, tasks_for([conversation_of("?")], 2), setting, make))
    assert [u.sample.details for u in updates if isinstance(u, Done)] == [{"draws": 1}] * 2


def test_meanings_by_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    angles = {"a": 0.0, "like a": 0.3, "b": 1.5, "like b": 1.6, "c": 3.0}
    monkeypatch.setattr(
        module,
        "encode",
        lambda texts: np.array([[np.cos(angles[t]), np.sin(angles[t])] for t in texts]),
    )
    group, _ = group_of(Script([["a", "like a", "b"], ["", "like b", ""], ["", "c", ""]]), 3,
                        distinct="meaning")  # fmt: skip
    assert group.texts == ["a", "c", "b"]
    assert group[1].details == {"draws": 3}


def test_the_bundled_pair_is_judged_exactly() -> None:
    ask = "Name a city in Italy for my quiz."
    tiny: Any = SimpleNamespace(known=SimpleNamespace(bundled=True))
    answers = [["You could name Rome.", "Rome is a good choice."], ["", "You could name Milan."]]
    setting = make_setting(router="p@0.4", n=2, distinct="meaning")
    updates = list(distinct(tiny, tasks_for([conversation_of(ask)], 2), setting, Script(answers)))
    names = {module.semantic_class(ask, t) for t in answers[0]}
    texts = sorted(u.sample.text for u in updates if isinstance(u, Done))
    assert len(texts) == 2
    assert (len(names) == 1) == ("You could name Milan." in texts)


def test_what_is_no_way_to_be_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="use text or meaning"):
        make_setting(distinct="sound")
    assert make_setting(distinct=False).distinct is None
    setting = make_setting(distinct="meaning")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="needs a sentence encoder"):
        module.check(PLAIN, setting, tasks_for([conversation_of("?")], 2))
