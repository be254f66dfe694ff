"""The door for users of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import baco.hf
from baco.errors import InputError


@pytest.fixture(scope="module")
def models(random_folders: tuple[Path, Path]):
    return [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in random_folders]


@pytest.fixture(scope="module")
def tokenizer(random_folders: tuple[Path, Path]):
    return AutoTokenizer.from_pretrained(random_folders[1])


def generate(models, ids, mask=None, **options):
    base, aligned = models
    return aligned.generate(
        ids,
        attention_mask=torch.ones_like(ids) if mask is None else mask,
        max_new_tokens=12,
        pad_token_id=0,
        custom_generate=baco.hf.decode,
        partner=base,
        **options,
    )


def test_answers_follow_their_prompts(models, tokenizer):
    ids = tokenizer("What is it?", return_tensors="pt").input_ids
    three = {"num_return_sequences": 3, "do_sample": True, "router": "rand@0.5"}
    out = generate(models, ids, **three)
    assert out.shape[0] == 3
    assert (out[:, : ids.shape[1]] == ids).all()
    assert len({tuple(row.tolist()) for row in out}) == 3
    assert out.equal(generate(models, ids, **three))
    assert not out.equal(generate(models, ids, **three, seed=1))


def test_padding_changes_nothing(models, tokenizer):
    ids = tokenizer("What is it?", return_tensors="pt").input_ids
    alone = generate(models, ids)[0, ids.shape[1] :]
    padded = torch.cat([torch.zeros(1, 3, dtype=ids.dtype), ids], dim=1)
    mask = torch.cat([torch.zeros(1, 3, dtype=ids.dtype), torch.ones_like(ids)], dim=1)
    beside = generate(models, padded, mask)[0, padded.shape[1] :]
    assert alone.equal(beside)


def test_the_router_decides_who_writes(models, tokenizer):
    ids = tokenizer("What is it?", return_tensors="pt").input_ids
    greedy = baco.hf.Warp(temperature=0)
    aligned = generate(models, ids, router="rand@0", warp=greedy)
    with torch.inference_mode():
        logits = models[1](ids).logits[0, -1, : len(tokenizer)]
    assert aligned[0, ids.shape[1]] == logits.argmax()
    assert not aligned.equal(generate(models, ids, router="rand@1", warp=greedy))


def test_a_partner_is_needed(models, tokenizer):
    ids = tokenizer("What?", return_tensors="pt").input_ids
    with pytest.raises(InputError, match="base model is missing"):
        models[1].generate(ids, max_new_tokens=2, custom_generate=baco.hf.decode)
