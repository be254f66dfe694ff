"""A third party that guesses ahead, as users ask for it: samples stay what they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import ignore_patterns

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import baco
from baco.engine.request import Cost
from baco.errors import BacoError, InputError, UnsupportedError
from baco.methods.accounting import shares
from baco.methods.running import with_draft
from baco.methods.settings import make_setting
from baco.models.known import known_pair, locate
from conftest import save_model

pytestmark = pytest.mark.costs

QUESTION = "Tell me a short story about a fox."


SMALL = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16, "head_dim": 4}


def small_model() -> str:
    return locate(str(known_pair("tiny-sft").aligned))


@pytest.fixture(scope="module")
def pair() -> baco.Pair:
    return baco.load("tiny", dtype="float64")


@pytest.mark.parametrize("name", ["tiny", "tiny-lora"])
def test_samples_do_not_change(name: str) -> None:
    pair = baco.load(name, dtype="float64")
    plain = pair.generate(QUESTION, n=2, max_new_tokens=16)
    for draft in ("prompt-lookup", small_model()):
        drafted = pair.generate(QUESTION, n=2, max_new_tokens=16, draft=draft)
        for one, other in zip(plain.samples, drafted.samples, strict=True):
            assert one.token_ids == other.token_ids
            assert one.sources == other.sources
            assert one.text == other.text


def test_a_draft_models_passes_count_by_its_size(
    pair: baco.Pair, tmp_path: Path, wide_passes: Callable[[float], None]
) -> None:
    wide_passes(0)  # a small model is asked where checking its guesses is cheap
    config = AutoConfig.from_pretrained(small_model(), **SMALL)
    small = AutoModelForCausalLM.from_config(config)
    small.save_pretrained(tmp_path)
    shutil.copytree(
        small_model(), tmp_path, dirs_exist_ok=True, ignore=ignore_patterns("model*", "config*")
    )
    group = pair.generate(QUESTION, n=1, max_new_tokens=16, draft=str(tmp_path))
    cost, stats = group.cost, group.stats
    assert cost is not None
    assert stats is not None
    assert group.acceptance is not None
    share = small.num_parameters() / pair.aligned.parameters
    assert stats.draft_cost > 0
    assert stats.draft_cost / share == pytest.approx(round(stats.draft_cost / share))
    # It serves one row.
    assert cost.draft_passes == pytest.approx(stats.draft_cost)
    passes = stats.base_passes + stats.aligned_passes + stats.draft_cost
    assert group.forwards_per_token == pytest.approx(passes / len(group.samples[0].token_ids))
    free = pair.generate(QUESTION, n=1, max_new_tokens=16, draft="prompt-lookup")
    assert free.cost is not None
    assert free.cost.draft_passes == 0


def test_a_model_that_costs_more_than_it_saves_is_not_asked(pair: baco.Pair) -> None:
    group = pair.generate(QUESTION, n=1, max_new_tokens=16, draft=small_model())
    plain = pair.generate(QUESTION, n=1, max_new_tokens=16)
    assert group.stats is not None
    assert group.stats.draft_cost == 0  # it is as large as the aligned one
    assert group.forwards_per_token == plain.forwards_per_token


def test_the_model_is_loaded_once(pair: baco.Pair) -> None:
    first = with_draft(pair, make_setting(draft=small_model()))
    assert with_draft(pair, make_setting(draft=small_model())).draft is first.draft


def test_shares_of_a_cost_add_up() -> None:
    cost = Cost(base_passes=5, tokens=7, draft_passes=2.5)
    parts = shares(cost, 2)
    total = Cost()
    for part in parts:
        assert part is not None
        total += part
    assert total == cost


def test_off_and_a_draft_contradict_each_other(pair: baco.Pair) -> None:
    with pytest.raises(InputError, match="look-ahead is off"):
        make_setting(draft="prompt-lookup", lookahead="off")
    with pytest.raises(InputError, match="look-ahead is off"):
        baco.engine.Engine(pair.base, pair.aligned, draft="prompt-lookup", lookahead="off")


def test_another_tokenizer_is_refused(pair: baco.Pair) -> None:
    side = replace(pair.sides[1], token_bytes=[b"x"])
    other = baco.Pair.from_sides("other", pair.sides[0], side)
    with pytest.raises(InputError, match="another tokenizer"):
        other.generate(QUESTION, n=1, draft=small_model())


def test_what_is_no_model_is_refused(pair: baco.Pair, tmp_path: Path) -> None:
    with pytest.raises(BacoError, match="holds no model"):
        pair.generate(QUESTION, n=1, draft=str(tmp_path))
    with pytest.raises(BacoError, match="no folder 'prompt-look'"):
        pair.generate(QUESTION, n=1, draft="prompt-look")


def test_a_pair_that_cannot_look_ahead(pair: baco.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair.aligned, "abilities", pair.aligned.abilities._replace(rewinds=False))
    for draft in ("prompt-lookup", small_model() + "/"):
        with pytest.raises(UnsupportedError, match="cannot look ahead"):
            pair.generate(QUESTION, n=1, draft=draft)


def test_drafts_beside_an_aligned_model_with_more_tokens(
    random_folders: tuple[Path, Path], tmp_path: Path, wide_passes: Callable[[float], None]
) -> None:
    wide_passes(0)
    base, plain = random_folders
    aligned = tmp_path / "aligned"
    tokenizer = AutoTokenizer.from_pretrained(plain)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|tool|>", "<|think|>"]})
    tokenizer.save_pretrained(aligned)
    save_model(aligned, seed=1, vocabulary=416)

    def draft(width: int, folder: Path = base) -> str:
        target = tmp_path / f"draft-{width}-{folder.name}"
        shutil.copytree(folder, target, ignore=ignore_patterns("model*", "config*"))
        AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(base, vocab_size=width, **SMALL)
        ).save_pretrained(target)
        return str(target)

    pair = baco.Pair(base=base, aligned=aligned, device="cpu", dtype="float64")
    how = {"n": 2, "max_new_tokens": 12, "router": "rand@0.5"}
    expected = [sample.token_ids for sample in pair.generate(QUESTION, **how)]
    # The base model's tokenizer, in a model that can read the added tokens; and one of more tokens.
    for small in (draft(len(tokenizer)), draft(448, aligned)):
        drafted = pair.generate(QUESTION, **how, draft=small)
        assert [sample.token_ids for sample in drafted] == expected
        assert drafted.stats is not None
        assert drafted.stats.draft_cost > 0
    with pytest.raises(InputError, match=r"draft-383-base knows 383 token ids, .* may hold 384"):
        pair.generate(QUESTION, **how, draft=draft(383))
    with pytest.raises(InputError, match="another tokenizer than the pair"):
        pair.generate(QUESTION, **how, draft=small_model())
