import random

import pytest

from baco.errors import InputError
from baco.study.design import DesignOptions, design
from baco.study.groups import Response, StudyGroup


def group(method, prompt, quality, *, words=5, count=5, setting=""):
    text = " ".join(["word"] * words)
    return StudyGroup(
        method, setting, prompt, tuple(Response(text, {"quality": quality}) for _ in range(count))
    )


def many(seed=0, gap=0.3, prompts=40):
    """Two methods whose quality differs by `gap` on average and varies by prompt."""
    rng = random.Random(seed)
    return [
        group(name, f"prompt {at}", 6 + shift + rng.gauss(0, 1), words=at + 1)
        for name, shift in (("a", 0.0), ("b", gap))
        for at in range(prompts)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_choice_is_within_the_tolerance(seed):
    plan = design(many(seed), DesignOptions(prompts=12, tolerance=0.02, seed=seed))
    means = [sum(item.quality(m) for item in plan.items) / 12 for m in plan.methods]
    assert abs(means[0] - means[1]) <= 0.02
    assert plan.record["matching"]["gap"] == pytest.approx(abs(means[0] - means[1]))
    assert list(plan.record["matching"]["mean_quality"].values()) == pytest.approx(means)


def test_swaps_find_what_random_draws_do_not():
    groups = many(1, gap=0.9)
    plan = design(groups, DesignOptions(prompts=10, tolerance=0.01))
    assert plan.record["matching"]["how"] == "swaps"
    assert plan.record["matching"]["gap"] <= 0.01
    assert len({item.prompt for item in plan.items}) == 10


def test_no_match_names_the_closest():
    groups = [group(m, f"p{at}", q) for m, q in (("a", 4), ("b", 6)) for at in range(30)]
    with pytest.raises(InputError, match="the closest choice differs by 2"):
        design(groups, DesignOptions(prompts=5))


def test_shorter_bins_are_drawn_from_evenly():
    plan = design(many(gap=0), DesignOptions(prompts=12, tolerance=1, bins=4, shortest=2))
    assert [sum(item.bin == b for item in plan.items) for b in range(4)] == [6, 6, 0, 0]
    assert max(item.words for item in plan.items) <= 20  # 40 prompts of 1 to 40 words, half used


def test_every_prompt_has_an_outcome():
    groups = [*many(gap=0), group("a", "alone", 6), group("a", "few", 6, count=2)]
    groups += [group("b", "few", 6), group("b", "long", 6, words=99), group("a", "long", 6)]
    plan = design(groups, DesignOptions(prompts=12, tolerance=1, max_words=50))
    outcome = {row["prompt"]: row["outcome"] for row in plan.candidates}
    assert outcome["alone"] == "no responses of b"
    assert outcome["few"] == "fewer than 3 responses of a"
    assert outcome["long"] == "a response of 99 words"
    assert sum(text == "chosen" for text in outcome.values()) == 12
    assert sum(text == "not drawn" for text in outcome.values()) == 8
    assert sum(text.startswith("longer") for text in outcome.values()) == 20
    assert len(outcome) == 43


def test_the_seed_decides_all():
    first, again = (design(many(), DesignOptions(prompts=12, seed=4)) for _ in range(2))
    other = design(many(), DesignOptions(prompts=12, seed=5))
    assert first.items == again.items
    assert first.record == again.record
    assert [i.prompt for i in first.items] != [i.prompt for i in other.items]


def test_drawn_responses_keep_their_index():
    texts = [Response(f"r{at}", {"quality": 1.0}) for at in range(10)]
    groups = [StudyGroup(m, "", f"p{at}", tuple(texts)) for m in "ab" for at in range(4)]
    plan = design(groups, DesignOptions(prompts=4, bins=1, shortest=1))
    drawn = [item.drawn[m] for item in plan.items for m in "ab"]
    assert all(response.text == f"r{index}" for group in drawn for index, response in group)
    assert all(len({index for index, _ in group}) == 3 for group in drawn)
    assert len({tuple(index for index, _ in group) for group in drawn}) > 1


def test_the_closest_settings_are_compared():
    groups = [group("aligned", f"p{at}", 6.0) for at in range(8)]
    for gamma, quality in (("0.1", 6.4), ("0.3", 6.05), ("0.9", 4.0)):
        groups += [group("baco", f"p{at}", quality, setting=f"p@{gamma}") for at in range(8)]
    plan = design(groups, DesignOptions(prompts=4))
    assert plan.record["settings"] == {"aligned": "", "baco": "p@0.3"}
    assert {"method": "baco", "setting": "p@0.9", "mean_quality": 4.0} in (
        plan.record["settings_tried"]
    )


def test_without_quality_only_unmatched():
    groups = [StudyGroup(m, "", f"p{at}", (Response("x"),) * 3) for m in "ab" for at in range(10)]
    with pytest.raises(InputError, match="automatic quality") as error:
        design(groups, DesignOptions(prompts=5))
    assert "--unmatched" in error.value.hint
    plan = design(groups, DesignOptions(prompts=5, tolerance=None))
    assert plan.record["matching"] == {"how": "off", "mean_quality": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": 99}, "99 prompts wanted, but only 20 of 40"),
        ({"prompts": 0}, "at least one prompt"),
        ({"shortest": 5}, "--shortest"),
        ({"tolerance": -1.0}, "not negative"),
        ({"tolerance": float("nan")}, "not negative"),
    ],
)
def test_bad_options(change, message):
    with pytest.raises(InputError, match=message):
        design(many(), DesignOptions(**change))


def test_methods_must_be_two_and_known():
    with pytest.raises(InputError, match="at least two"):
        design([group("a", "p", 1)], DesignOptions())
    with pytest.raises(InputError, match="no rows of method 'c'"):
        design(many(), DesignOptions(), ["a", "c"])
    with pytest.raises(InputError, match="no prompt in common"):
        design([group("a", "p", 1), group("b", "q", 1)], DesignOptions())
