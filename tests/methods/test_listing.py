"""Lists as models write them, and the groups that are read out of them."""

from __future__ import annotations

import pytest

from baco.engine.request import Cost
from baco.group import Sample
from baco.methods.listing import listed, separated
from baco.methods.settings import make_setting

CITIES = ["Rome", "Paris", "Oslo"]


def read(text: str, **how: bool) -> list[str]:
    return [text[a:b] if said is None else said for a, b, said in listed(text, **how)]


@pytest.mark.parametrize(
    "text",
    [
        "1. Rome\n2. Paris\n3. Oslo",
        "1) Rome\n2) Paris\n3) Oslo",
        "(1) Rome\n(2) Paris\n(3) Oslo",
        "1: Rome\n2: Paris\n3: Oslo",
        "1 - Rome\n2 - Paris\n3 - Oslo",
        "[1] Rome\n[2] Paris\n[3] Oslo",
        "#1: Rome\n#2: Paris\n#3: Oslo",
        "1、Rome\n2、Paris\n3、Oslo",
        "（１）Rome\n（２）Paris\n（３）Oslo",
        "<think>\n1. Which?\n2. Any.\n</think>\n\n1. Rome\n2. Paris\n3. Oslo",
        "1.Rome\n2.Paris\n3.Oslo",
        '{"1": "Rome", "2": "Paris", "3": "Oslo"}',
        "a) Rome\nb) Paris\nc) Oslo",
        "(A) Rome\n(B) Paris\n(C) Oslo",
        "① Rome\n② Paris\n③ Oslo",
        "Answer 1: Rome\nAnswer 2: Paris\nAnswer 3: Oslo",
        "**Option 1:** Rome\n**Option 2:** Paris\n**Option 3:** Oslo",
        "- [ ] Rome\n- [x] Paris\n- [ ] Oslo",
        r"1\. Rome" "\n" r"2\. Paris" "\n" r"3\. Oslo",
        "- Rome\n- Paris\n- Oslo",
        "* Rome\n* Paris\n* Oslo",
        "• Rome\n• Paris\n• Oslo",
        "**1.** Rome\n**2.** Paris\n**3.** Oslo",
        "1. **Rome**\n2. **Paris**\n3. **Oslo**",
        "**1. Rome**\n**2. Paris**\n**3. Oslo**",
        "### 1. Rome\n\n### 2. Paris\n\n### 3. Oslo",
        '1. "Rome"\n2. “Paris”\n3. Oslo',
        "1. Rome\n\n2. Paris\n\n\n3. Oslo\n",
        "  1. Rome\n  2. Paris\n  3. Oslo",
        "Sure! Here are three cities:\n\n1. Rome\n2. Paris\n3. Oslo",
        "Here you go:\n1. Rome\n2. Paris\n3. Oslo\n\nLet me know if you want more!",
        "\n\n- Rome\n- Paris\n- Oslo\n\nI hope these help.",
        "1. Rome 2. Paris 3. Oslo",
        "Here are three:\nRome\nParis\nOslo",
        "Rome\n\nParis\n\nOslo",
        '["Rome", "Paris", "Oslo"]',
        '```json\n[\n  "Rome",\n  "Paris",\n  "Oslo"\n]\n```',
        'Here is the list: ["Rome", "Paris", "Oslo"]. Enjoy!',
        '[{"name": "Rome", "why": "old"}, {"name": "Paris"}, {"name": "Oslo", "why": "new"}]',
        '{"cities": ["Rome", "Paris", "Oslo"]}',
        "\t1. Rome\r\n\t2. Paris\r\n\t3. Oslo\r\n",
        "> 1. Rome\n> 2. Paris\n> 3. Oslo",
        "5. Rome\n6. Paris\n7. Oslo",
        "1. Rome\n1. Paris\n1. Oslo",
        "1. Rome\n2.\n3. Paris\n4. Oslo",
    ],
)
def test_lists_of_every_kind(text):
    assert read(text) == CITIES


def test_points_below_points_and_longer_items():
    text = "1. Rome\n   - old\n   - warm\n2. Paris\n   1. big\n   2. bright\n\n3. Oslo"
    assert read(text) == ["Rome\n   - old\n   - warm", "Paris\n   1. big\n   2. bright", "Oslo"]
    text = "- Rome\n  - old\n- Paris\n  - new"
    assert read(text) == ["Rome\n  - old", "Paris\n  - new"]
    text = "1. A knight came.\nHe slept.\n\n   He woke.\n2. A dragon.\n\nThe end."
    assert read(text) == ["A knight came.\nHe slept.\n\n   He woke.", "A dragon."]
    assert read("1. **Rome**: old.\n2. **Paris**: new.") == ["**Rome**: old.", "**Paris**: new."]
    assert read("1. Take 1.5 l of milk\n2. 3.14 is pi") == ["Take 1.5 l of milk", "3.14 is pi"]
    assert read('1. He said ["no"]\n2. She left') == ['He said ["no"]', "She left"]
    assert read("In 2024. it rained - a lot") == ["In 2024. it rained - a lot"]


def test_items_that_are_cut_off_are_left_out():
    assert read("1. Rome\n2. Paris\n3. Os", cut_off=True) == CITIES[:2]
    assert read("Ro", cut_off=True) == []
    assert read('["Rome", "Paris", "Os', cut_off=True) == CITIES[:2]
    assert read("", cut_off=False) == read(" \n ") == []
    assert read("1.\n2.\n") == []


def test_json_with_escapes_says_what_it_means():
    assert read(r'["a \"b\"", "c\nd", "\u00e9"]') == ['a "b"', "c\nd", "é"]
    assert read(r'["a", "\ud83d"]') == ["a", "?"]  # half of a pair can be written to no file
    assert read(r'[{"answer": "\ud83d"}, {"answer": "b"}]') == ["?", "b"]


def response(text: str, finish: str = "stop") -> Sample:
    tokens = tuple(text)
    return Sample(
        "Cities?", 0, text, finish, 0, "enumerate", None, None, 1.0, tuple(map(ord, text)), tokens,
        ("aligned",) * len(text), 0.0, 0, cost=Cost(aligned_passes=10, tokens=len(text)),
    )  # fmt: skip


def test_groups_of_lists_too_short_and_too_long():
    setting = make_setting(method="enumerate", n=4, max_new_tokens=50)
    group = separated(response("1. Rome\n2. Paris\n3. Oslo"), 4, setting)
    assert [s.text for s in group] == [*CITIES, ""]
    assert [s.finish_reason for s in group] == ["stop"] * 3 + ["failed"]
    assert [s.index for s in group] == [0, 1, 2, 3]
    assert [s.details for s in group] == [{"listed": 3}] * 4
    assert sum(s.cost.aligned_passes for s in group) == 10
    for sample in group:
        assert "".join(sample.tokens) == sample.text
        assert len(sample.tokens) == len(sample.token_ids)
    many = separated(response("\n".join(f"{i}. city {i}" for i in range(1, 9))), 4, setting)
    assert [s.text for s in many] == ["city 1", "city 2", "city 3", "city 4"]
    assert many[0].details == {"listed": 8}
    short = make_setting(method="enumerate", n=2, max_new_tokens=3, stop=["s"])
    cut = separated(response("1. Rome\n2. Paris"), 2, short)
    assert [(s.text, s.finish_reason) for s in cut] == [("Rom", "length"), ("Par", "length")]
    escaped = separated(response(r'["a \"b\"", "c"]'), 2, setting)
    assert [s.text for s in escaped] == ['a "b"', "c"]
    assert "".join(escaped[0].tokens) == escaped[0].text
