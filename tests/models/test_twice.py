"""One checkpoint on both sides: one copy in memory, one pass for both sides of a row."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from baco.models.memory import Workload, need_of
from baco.pair import Pair

PROMPTS = ["Suggest a summer trip destination!", "What is the capital of France?"]


@pytest.fixture(scope="module")
def pairs(random_folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory):
    """The same weights on both sides: once, and as two copies."""
    aligned = random_folders[1]
    copy = tmp_path_factory.mktemp("copy") / "model"
    shutil.copytree(aligned, copy)
    return Pair(aligned, aligned, device="cpu"), Pair(copy, aligned, device="cpu")


@pytest.mark.parametrize("router", ["p-punc@0.3", "rand@0.4", "punc"])
def test_samples_of_one_copy_are_those_of_two(pairs: tuple[Pair, Pair], router: str) -> None:
    once, twice = (p.generate(PROMPTS, n=3, router=router, max_new_tokens=24) for p in pairs)
    for one, two in zip(once, twice, strict=True):
        assert [s.text for s in one] == [s.text for s in two]
        assert [s.sources for s in one] == [s.sources for s in two]


def test_one_copy_and_one_pass(pairs: tuple[Pair, Pair]) -> None:
    once, twice = pairs
    assert once.base.model is once.aligned.model  # type: ignore[attr-defined]
    assert twice.base.model is not twice.aligned.model  # type: ignore[attr-defined]
    group = once.generate(PROMPTS[0], n=2, router="rand@0.5", max_new_tokens=16)
    assert group.stats is not None
    longest = max(len(s.token_ids) for s in group)
    assert group.stats.base_passes == 0
    assert group.stats.aligned_passes <= longest + 1


def test_memory_counts_the_weights_once(pairs: tuple[Pair, Pair]) -> None:
    job = Workload([(8, 8)], 2, 16)
    needs = [need_of((p.base, p.aligned), job) for p in pairs]
    assert needs[0] is not None
    assert needs[1] is not None
    assert 2 * needs[0].weights == needs[1].weights


def test_a_model_that_is_loaded_already(random_folders: tuple[Path, Path]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(random_folders[1])
    tokenizer = AutoTokenizer.from_pretrained(random_folders[1])
    pair = Pair(model, model, base_tokenizer=tokenizer, aligned_tokenizer=tokenizer)
    assert pair.base.weights is pair.aligned.weights
    assert pair.aligned.shared_cache(pair.base) is not None
