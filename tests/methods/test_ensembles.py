"""Ensembles: weights at their ends, halves by each model, and what they need."""

from __future__ import annotations

import pytest

from baco.errors import InputError
from baco.methods import METHODS
from baco.methods.needs import abilities
from baco.pair import Pair
from conftest import TEXT, save_model, save_tokenizer

pytestmark = pytest.mark.costs

ASK = "What is the capital of France?"
OPTIONS = {"n": 4, "max_new_tokens": 20, "seed": 2}


@pytest.mark.parametrize("kind", ["logit-ensemble", "logit-ensemble-geometric"])
@pytest.mark.parametrize(("weight", "model"), [(0, "base"), (1, "aligned")])
@pytest.mark.parametrize("temperature", [0, 1])
def test_at_its_ends_an_ensemble_is_one_model(random_pair, kind, weight, model, temperature):
    options = OPTIONS | {"temperature": temperature}
    alone = random_pair.generate(ASK, method=model, **options)
    mixed = random_pair.generate(ASK, method=kind, control=weight, **options)
    assert [s.token_ids for s in mixed] == [s.token_ids for s in alone]
    assert [s.finish_reason for s in mixed] == [s.finish_reason for s in alone]
    between = random_pair.generate(ASK, method=kind, **options)
    assert [s.token_ids for s in between] != [s.token_ids for s in alone]


def test_contrast_of_strength_zero_keeps_the_plausible_of_the_aligned_model(random_pair):
    options = OPTIONS | {"top_p": 1}
    contrast = random_pair.generate(ASK, method="contrastive", control=0, **options)
    plain = random_pair.generate(ASK, method="aligned", min_p=0.1, **options)
    assert contrast.texts == plain.texts


def test_both_models_are_paid_for(random_pair):
    for name in ("logit-ensemble", "contrastive"):
        group = random_pair.generate(ASK, method=name, **OPTIONS)
        assert group.cost.base_token_rows > 0
        assert group.cost.aligned_token_rows > 0
        assert group.forwards_per_token == pytest.approx(2, abs=1)


def test_half_of_the_responses_by_each_model(random_pair):
    group = random_pair.generate(ASK, method="response-ensemble", **OPTIONS)
    for rest, model in enumerate(("aligned", "base")):
        alone = random_pair.generate(ASK, method=model, **OPTIONS)
        for i in range(rest, 4, 2):
            assert group[i].token_ids == alone[i].token_ids
            assert set(group[i].sources) <= {model}
    with pytest.raises(InputError, match=r"n = 5 does not suit .*must be a multiple of 2"):
        random_pair.generate(ASK, n=5, method="response-ensemble")


def test_mixing_probabilities_needs_one_tokenizer(random_folders, tmp_path):
    save_tokenizer(tmp_path, chat=True, text=TEXT[::-1])
    save_model(tmp_path, seed=5)
    pair = Pair(random_folders[0], tmp_path, device="cpu")
    for name in ("logit-ensemble", "logit-ensemble-geometric", "contrastive"):
        with pytest.raises(InputError, match=f"'{name}' needs one tokenizer.*response-ensemble"):
            pair.generate(ASK, n=2, method=name)
    with pytest.raises(InputError, match=r"'h-punc-open' needs one tokenizer.* h-punc,"):
        pair.generate(ASK, n=2, router="h-punc-open")
    able = [name for name, method in METHODS.items() if method.needs <= abilities(pair)]
    assert {"baco", "base", "aligned", "response-ensemble", "min-p"} <= set(able)
    assert len(pair.generate(ASK, n=2, method="response-ensemble", max_new_tokens=5)) == 2
