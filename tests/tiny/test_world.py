"""The world: its kinds, its prompts and how they are split."""

from __future__ import annotations

import random

import pytest

from baco.tiny.judge import known
from baco.tiny.kinds import CATEGORIES, KINDS
from baco.tiny.world import phrasings, prompts, split_combinations, understand
from recipes.tiny.web import END, Mess, chat, document

SPLITS = ("train", "calibration", "heldout")


def test_there_are_forty_kinds_in_four_categories() -> None:
    assert len(KINDS) >= 40
    assert {kind.category for kind in KINDS} == set(CATEGORIES)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def test_sizes_of_the_splits() -> None:
    assert 80 <= len(prompts("heldout")) <= 120
    assert 50 <= len(prompts("calibration")) <= 70
    assert {p.kind for p in prompts("heldout")} == {kind.name for kind in KINDS}


def test_prompts_are_unique_and_of_their_kind() -> None:
    every = [p for split in SPLITS for p in prompts(split)]
    assert len({p.text for p in every}) == len(every)
    assert len({p.id for p in every}) == len(every)
    for prompt in every:
        question = understand(prompt.text)
        assert question is not None
        assert question.kind.name == prompt.kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_slot_combinations_are_disjoint_and_every_value_is_trained(kind) -> None:
    split = split_combinations(kind.name)
    train, held = set(split["train"]), set(split["heldout"])
    assert len(held) == len(split["calibration"]) == 2
    assert not train & held
    assert not train & set(split["calibration"])
    assert not held & set(split["calibration"])
    for combination in (*split["heldout"], *split["calibration"]):
        for pair in combination:
            assert any(pair in other for other in train)
    assert kind.ask[-1] not in phrasings(kind, "train")


def test_training_text_holds_no_heldout_or_calibration_prompt() -> None:
    rng = random.Random(5)
    text = END.join(document(rng, Mess()) for _ in range(3000))
    text += "".join(m["content"] for _ in range(1000) for m in chat(rng))
    for split in ("calibration", "heldout"):
        for prompt in prompts(split):
            assert prompt.text not in text


def test_prompts_that_newcomers_type_are_known() -> None:
    assert known("Suggest a summer trip destination.")
    assert known("Name the loyal dog in my story.")
    assert not known("What is the capital of France?")
    assert not known("")
