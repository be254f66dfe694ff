"""What every method must keep, on the bundled pair."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import baco
from baco.engine.loop import Stats
from baco.errors import InputError
from baco.methods import METHODS, Done, Method, Task
from baco.methods.settings import make_setting
from baco.pair import Pair
from baco.prompts import conversation_of

pytestmark = pytest.mark.costs

ASK = "Suggest a summer trip destination."
OTHER = "Tell me a silly joke for the kids."
NAMES = list(METHODS)
SIZE = {"n": 4, "max_new_tokens": 24, "seed": 5}


@cache
def loaded(name: str) -> Pair:
    return baco.load(name)


@pytest.fixture
def pair(name: str) -> Pair:
    """The bundled pair; for `aaco`, which needs two aligned models, its sister."""
    return loaded("tiny-aligned2" if name == "aaco" else "tiny")


def made(pair: Pair, tasks: list[Task], setting) -> tuple[dict, Stats]:
    """Runs tasks; returns {(prompt, index): sample} and the account, which comes last."""
    samples, stats = {}, None
    for update in pair.run(tasks, setting):
        if isinstance(update, Done):
            task = tasks[update.task]
            assert (task.prompt[-1].content, task.index) not in samples
            samples[task.prompt[-1].content, task.index] = update.sample
        elif isinstance(update, Stats):
            stats = update
    assert stats is not None
    return samples, stats


@pytest.mark.parametrize("name", NAMES)
def test_whole_groups_parts_of_them_and_their_costs(pair, name):
    setting = make_setting(method=name, **SIZE)
    prompts = [conversation_of(ASK), conversation_of(OTHER)]
    tasks = [Task(prompt, index) for prompt in prompts for index in range(4)]
    whole, stats = made(pair, tasks, setting)
    assert len(whole) == 8
    for (prompt, index), sample in whole.items():
        assert (sample.prompt, sample.index, sample.method) == (prompt, index, name)
        assert (sample.seed, sample.control) == (5, setting.control)
        assert len(sample.tokens) == len(sample.sources) == len(sample.token_ids) <= 24
        assert sample.text == "".join(sample.tokens)
        assert sample.finish_reason in ("stop", "length", "failed")
        assert (sample.finish_reason != "failed") or sample.text == ""
    for field in ("base_token_rows", "aligned_token_rows", "tokens"):
        assert sum(getattr(s.cost, field) for s in whole.values()) == getattr(stats, field), field
    assert stats.tokens > 0
    # Any part of a group, in any order, whatever is made beside it, is the same.
    part = [tasks[6], tasks[1], tasks[3]]
    again, _ = made(pair, part, replace(setting, max_rows=3, lookahead="off"))
    assert again == {key: whole[key] for key in again}
    assert len(again) == 3
    assert pair.generate(ASK, method=name, **SIZE).samples == tuple(
        whole[ASK, index] for index in range(4)
    )


@pytest.mark.parametrize("name", NAMES)
def test_stop_strings_and_streams(pair, name):
    group = pair.generate(ASK, method=name, **SIZE)
    stream = pair.stream(ASK, method=name, stop=[" trip", "e"], **SIZE)
    shown = dict.fromkeys(range(4), "")
    for index, text, _ in stream:
        shown[index] += text
    assert list(shown.values()) == [sample.text for sample in stream.group]
    for before, after in zip(group, stream.group, strict=True):
        assert "e" not in after.text
        if before.index == 0:  # later ones may have seen how the ones before ended
            places = [at for at in map(before.text.find, (" trip", "e")) if at >= 0]
            assert after.text == (before.text[: min(places)] if places else before.text)


@pytest.mark.parametrize("name", NAMES)
def test_one_sample(pair, name):
    options = {"method": name, "n": 1, "max_new_tokens": 12}
    if METHODS[name].multiple > 1:
        with pytest.raises(InputError, match=f"n = 1 does not suit the method '{name}'"):
            pair.generate(ASK, **options)
    else:
        assert len(pair.generate(ASK, **options)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_controls_out_of_range(name):
    method: Method = METHODS[name]
    if method.high is None:
        return  # a router's; tested with the routers
    for value in (method.low - 1, method.high * 2, "nan", "inf"):
        with pytest.raises(InputError, match=rf"is out of range for the method '{name}'.*\["):
            make_setting(method=name, control=value)
    with pytest.raises(InputError, match=f"method '{name}' is not a number"):
        make_setting(method=name, control="high")


@pytest.mark.parametrize("name", NAMES)
def test_short_stops_are_drawn_again_or_that_is_refused(pair, name):
    options = {"method": name, "restart_shorter_than": 6, **SIZE}
    if METHODS[name].restarts:
        assert len(pair.generate(ASK, **options)) == 4
    else:
        with pytest.raises(InputError, match=f"'{name}' cannot draw short stops again"):
            pair.generate(ASK, **options)


def test_the_page_has_every_method_with_an_example_and_its_cost():
    page = Path(__file__).parents[2] / "docs" / "methods.md"
    text = page.read_text(encoding="utf-8")
    for name in NAMES:
        assert f"\n### `{name}`\n" in text, f"run docs/draw_methods.py: {name} is missing"
        assert f"\n| `{name}` |" in text
