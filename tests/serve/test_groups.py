from __future__ import annotations

from baco.serve.groups import describe


def figures(texts: list[str], prompt: str = "") -> dict[str, float]:
    return {f["name"]: f["value"] for f in describe(texts, prompt)["figures"]}


def test_answers_that_say_the_same_are_one_group() -> None:
    texts = [
        "I would pick Rome.",
        "One city in Italy is Milan.",
        "Maybe choose Rome!",
        "milan",
        "MILAN.",
    ]
    said = describe(texts, "Name a city in Italy.")
    assert said["groups"] == [0, 1, 0, 1, 1]
    assert figures(texts, "Name a city in Italy.")["Different answers"] == 2


def test_one_other_word_in_a_short_answer_is_another_answer() -> None:
    texts = ["Call it Otis. You can shout it.", "Call it Rusty. You can shout it."]
    assert describe(texts, "What should I call my dog?")["groups"] == [0, 1]


def test_figures_lie_between_alike_and_different() -> None:
    same = figures(["The sea is calm."] * 4)
    apart = figures(["The sea is calm.", "Wolves howl tonight.", "Bread rises slowly."])
    assert same["Different answers"] == 1
    assert same["Different words"] == 0
    assert apart["Different words"] == 1
    assert apart["Fresh wording"] == 1 > same["Fresh wording"]


def test_little_or_nothing_to_compare() -> None:
    assert describe([]) == {"groups": [], "figures": []}
    assert describe(["one"])["groups"] == [0]
    assert describe(["", ""])["groups"] == [0, 0]
    assert figures(["", ""]) == {"Different answers": 1, "Fresh wording": 0, "Different words": 0}
