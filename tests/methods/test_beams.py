"""Diverse beam search equals that of transformers 4, and its sampling variant has its law."""

from __future__ import annotations

import json
from collections import Counter
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch

from baco.engine import Vocabulary, Warp
from baco.engine.units import UnitTable
from baco.errors import InputError
from baco.methods.beams import search
from baco.models.hf import HFPartner
from baco.partners.fake import FakePartner, fake_vocabulary

DATA = Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "group_beams.json").read_text(encoding="utf-8"))
ASK = "What is the capital of France?"


def maker() -> ModuleType:
    """The script that made the golden answers; it also makes the models."""
    spec = spec_from_file_location("make_group_beams", DATA / "make_group_beams.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def partners() -> list[HFPartner]:
    made = maker()
    size = made.VOCABULARY
    ids = range(size)
    vocabulary = Vocabulary(
        size=size,
        units=UnitTable([b"" if i < 2 else f" {i}".encode() for i in ids], [made.END]),
        is_end=torch.tensor([i == made.END for i in ids]),
        allowed=torch.tensor([i != made.PAD for i in ids]),
        is_punctuation=torch.zeros(size, dtype=torch.bool),
        is_function_word=torch.zeros(size, dtype=torch.bool),
    )
    return [HFPartner(made.small_model(seed), vocabulary) for seed in range(3)]


@pytest.mark.parametrize("number", range(len(GOLDEN["cases"])))
def test_equals_transformers_4(partners, number):
    assert GOLDEN["made_with"]["transformers"].startswith("4.")
    case = GOLDEN["cases"][number]
    sizes = {name: case[name] for name in ("groups", "beams", "penalty", "max_new_tokens")}
    found = search(partners[case["model"]], case["prompt"], **sizes)
    beams = [beam for group in found.groups for beam in group.found]
    beams.sort(key=lambda beam: beam.score, reverse=True)
    assert [beam.score for beam in beams] == pytest.approx(
        [beam["score"] for beam in case["found"]], abs=1e-4
    )
    assert Counter(beam.ids for beam in beams) == Counter(
        tuple(beam["ids"]) for beam in case["found"]
    )


WORDS = ["a", "b", "c", "<end>"]
P = [0.5, 0.3, 0.2]


def test_groups_that_draw_have_the_penalised_law():
    # One token, then the end. The second group draws from P times exp(-penalty) where the first
    # group's token stands.
    vocabulary = fake_vocabulary(WORDS)
    partner = FakePartner(vocabulary, lambda ids: [*P, 0] if len(ids) == 1 else [0, 0, 0, 1])
    penalty, runs = 1.0, 1500
    pairs = Counter()
    for seed in range(runs):
        found = search(
            partner, (0,), groups=2, beams=1, penalty=penalty, max_new_tokens=1,
            warp=Warp(top_p=1), keys=(2 * seed, 2 * seed + 1),
        )  # fmt: skip
        pairs[tuple(group.found[0].ids[0] for group in found.groups)] += 1
    for first in range(3):
        cut = [p * (torch.e**-penalty if v == first else 1) for v, p in enumerate(P)]
        for second in range(3):
            law = P[first] * cut[second] / sum(cut)
            near = 4 * (law / runs) ** 0.5
            assert pairs[first, second] / runs == pytest.approx(law, abs=near)


def test_filters_that_leave_nothing_but_the_end():
    partner = FakePartner(fake_vocabulary(WORDS), lambda ids: [0.1, 0.05, 0.05, 0.8])
    found = search(
        partner, (0,), groups=2, beams=2, penalty=0.5, max_new_tokens=5, warp=Warp(top_p=0.5),
        keys=(1, 2),
    )  # fmt: skip
    assert [beam.ids for group in found.groups for beam in group.found] == [()] * 4


def test_no_penalty_repeats_the_greedy_answer_and_a_large_one_parts_the_first_tokens(random_pair):
    options = {"n": 4, "max_new_tokens": 10}
    greedy = random_pair.generate(ASK, method="aligned", temperature=0, **options)
    same = random_pair.generate(ASK, method="diverse-beam", control=0, **options)
    assert {s.token_ids[:1] for s in same} == {s.token_ids[:1] for s in greedy}
    assert len({s.token_ids for s in same}) == 1
    apart = random_pair.generate(ASK, method="diverse-beam", control=100, **options)
    assert len({s.token_ids[0] for s in apart}) == 4
    assert apart == random_pair.generate(
        ASK, method="diverse-beam", control=100, temperature=0.5, seed=0, **options
    )


def test_drawing_without_penalty_is_plain_in_its_reach(random_pair):
    options = {"n": 4, "max_new_tokens": 10, "temperature": 0}
    drawn = random_pair.generate(ASK, method="diverse-beam-sample", control=0, **options)
    assert len({s.token_ids for s in drawn}) == 1
    options |= {"temperature": 1}
    drawn = random_pair.generate(ASK, method="diverse-beam-sample", **options)
    assert len({s.token_ids for s in drawn}) == 4


def test_a_prompt_that_does_not_fit(random_pair):
    with pytest.raises(InputError, match=r"the prompt has \d+ tokens, the context window 512"):
        random_pair.generate("very " * 600, method="diverse-beam", n=2)
