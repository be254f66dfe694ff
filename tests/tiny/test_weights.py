"""The shipped checkpoints: they load like any other and answer as recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from baco.tiny.judge import quality, valid
from baco.tiny.world import prompts
from recipes.tiny.sampler import sample
from recipes.tiny.tokenizer import chat_ids, plain_ids
from recipes.tiny.train import WEIGHTS

RECORDED = json.loads((Path(__file__).parent / "greedy.json").read_text(encoding="utf-8"))
FOLDERS = ("base", "sft", "aligned", "aligned2")


def load(name: str):
    folder = WEIGHTS / name
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(folder), model.eval()


@pytest.mark.parametrize("name", FOLDERS)
def test_greedy_answers_are_as_recorded(name: str) -> None:
    tokenizer, model = load(name)
    encode = plain_ids if name == "base" else chat_ids
    for prompt, expected in RECORDED[name].items():
        ids = torch.tensor([encode(tokenizer, prompt)])
        out = model.generate(ids, do_sample=False, max_new_tokens=60)
        text = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        assert text == expected


def test_the_sides_share_ids_and_the_end() -> None:
    base, base_model = load("base")
    aligned, aligned_model = load("aligned")
    assert base.get_vocab() == aligned.get_vocab()
    assert base.eos_token == aligned.eos_token == "<|end|>"
    assert base_model.config.eos_token_id == aligned_model.config.eos_token_id
    assert base_model.config.model_type == "llama"
    assert base_model.config.max_position_embeddings >= 512


def test_the_checkpoints_are_small() -> None:
    for name in FOLDERS:
        assert sum(p.stat().st_size for p in (WEIGHTS / name).iterdir()) < 6e6


def test_our_sampler_agrees_with_transformers() -> None:
    tokenizer, model = load("aligned")
    texts = [prompt.text for prompt in prompts("calibration")[:6]]
    ids = [chat_ids(tokenizer, text) for text in texts]
    ours = sample(
        model, ids, end=tokenizer.eos_token_id, generator=torch.Generator(), temperature=0, limit=40
    )
    for prompt, drawn in zip(ids, ours, strict=True):
        out = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=40)
        assert out[0, len(prompt) :].tolist() == drawn.ids


def test_the_aligned_model_answers_well() -> None:
    tokenizer, model = load("aligned")
    chosen = prompts("heldout")
    drawn = sample(
        model,
        [chat_ids(tokenizer, prompt.text) for prompt in chosen],
        end=tokenizer.eos_token_id,
        generator=torch.Generator().manual_seed(0),
        top_p=0.9,
    )
    texts = [tokenizer.decode(one.ids, skip_special_tokens=True) for one in drawn]
    rated = [quality(p.text, text) for p, text in zip(chosen, texts, strict=True)]
    assert sum(rated) / len(rated) > 8
    assert sum(valid(p.text, text) for p, text in zip(chosen, texts, strict=True)) > 60


def test_long_and_strange_prompts_do_not_fail() -> None:
    tokenizer, model = load("aligned")
    for text in ("", "Explain quantum chromodynamics.", "word " * 450, "雪が降る 😀"):
        ids = [chat_ids(tokenizer, text)]
        out = sample(model, ids, end=tokenizer.eos_token_id, generator=torch.Generator(), limit=5)
        assert out[0].ids


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_adapter_loads_on_the_base() -> None:
    peft = pytest.importorskip("peft")
    tokenizer, model = load("base")
    adapted = peft.PeftModel.from_pretrained(model, str(WEIGHTS / "lora")).eval()
    for prompt, expected in RECORDED["lora"].items():
        ids = torch.tensor([chat_ids(tokenizer, prompt)])
        out = adapted.generate(input_ids=ids, do_sample=False, max_new_tokens=60)
        assert tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True) == expected
