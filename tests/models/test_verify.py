"""What loads is right, or refused in one line that names what is wrong."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from baco.cli import run
from baco.errors import BacoError, PairError, UnsupportedError
from baco.models.checkpoints import Loading, load_model, load_tokenizer
from baco.models.hf import HFPartner
from baco.models.tokens import vocabulary_of
from baco.models.verify import apart, sample_ids, verify
from baco.pair import Pair

_COMMON = {"vocab_size": 400, "initializer_range": 0.4, "tie_word_embeddings": False}
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_FAMILIES = {
    "llama": transformers.LlamaConfig(**_COMMON, **_SMALL, intermediate_size=48),
    "mistral": transformers.MistralConfig(
        **_COMMON, **_SMALL, intermediate_size=48, num_key_value_heads=2, sliding_window=4
    ),
    "gpt2": transformers.GPT2Config(**_COMMON, n_embd=32, n_layer=2, n_head=4),
    "gpt_neox": transformers.GPTNeoXConfig(**_COMMON, **_SMALL, intermediate_size=48),
}
_RECOMPUTED = {
    "bloom": transformers.BloomConfig(**_COMMON, hidden_size=32, n_layer=2, n_head=4),
    "falcon": transformers.FalconConfig(**_COMMON, **_SMALL, alibi=True),
    "gpt_neo": transformers.GPTNeoConfig(
        **_COMMON, hidden_size=32, num_layers=2, num_heads=4,
        attention_types=[[["global", "local"], 1]], window_size=256,
    ),
}  # fmt: skip


def partner_of(config: transformers.PretrainedConfig, folder: Path, dtype=torch.float32):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    tokenizer = load_tokenizer(str(folder), "main", Loading())
    return HFPartner(model, vocabulary_of(tokenizer, {0, 2}, torch.device("cpu")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", _FAMILIES)
def test_right_families_keep_their_cache(family, dtype, random_folders) -> None:
    partner = partner_of(_FAMILIES[family], random_folders[0], dtype)
    verify(partner)
    assert partner.abilities.rewinds, partner.recomputes


@pytest.mark.parametrize("family", _RECOMPUTED)
def test_families_that_decode_wrongly_are_recomputed(family, random_folders) -> None:
    partner = partner_of(_RECOMPUTED[family], random_folders[0])
    verify(partner)
    assert not partner.abilities.rewinds
    assert partner.recomputes


def test_a_wrong_position_is_beyond_the_bound_in_half_precision(random_folders) -> None:
    partner = partner_of(_FAMILIES["llama"], random_folders[0], torch.bfloat16)
    ids = sample_ids(partner)
    right = partner.all_logits(ids)
    assert apart(partner, right, right) == 0
    assert apart(partner, right.roll(1, 0), right) > 1


def broken(folder: Path, tmp_path: Path, change) -> Path:
    target = tmp_path / "broken"
    shutil.copytree(folder, target)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_a_missing_tensor_is_refused(random_folders, tmp_path, capsys) -> None:
    folder = broken(
        random_folders[1], tmp_path, lambda w: w.pop("model.layers.1.mlp.up_proj.weight")
    )
    assert run(["generate", "Hi", "--pair", f"{random_folders[0]},{folder}"]) == 2
    assert "lack model.layers.1.mlp.up_proj.weight" in capsys.readouterr().err


def test_a_tensor_of_another_shape_is_refused(random_folders, tmp_path) -> None:
    def narrow(w):
        w["lm_head.weight"] = w["lm_head.weight"][:390].clone()

    folder = broken(random_folders[1], tmp_path, narrow)
    with pytest.raises(PairError, match=r"lm_head.weight .* \[390, 32\]"):
        load_model(str(folder), "main", Loading())


def test_tensors_that_are_not_used_are_named(random_folders, tmp_path, caplog) -> None:
    folder = broken(
        random_folders[1], tmp_path,
        lambda w: w.update({"model.layers.2.mlp.up_proj.weight": torch.zeros(64, 32)}),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "baco"):
        load_model(str(folder), "main", Loading())
    assert "model.layers.2.mlp.up_proj.weight" in caplog.text


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"version https://git-lfs.github.com/spec/v1\noid x\n", "git-lfs"), (None, "cut off")],
)
def test_files_that_are_not_whole_are_refused(data, words, random_folders, tmp_path) -> None:
    folder = broken(random_folders[1], tmp_path, lambda w: None)
    file = folder / "model.safetensors"
    file.write_bytes(data or file.read_bytes()[:5000])
    with pytest.raises(PairError, match=words):
        load_model(str(folder), "main", Loading())


def test_scores_that_are_no_numbers_name_the_side_and_the_dtype(random_folders, tmp_path) -> None:
    folder = broken(random_folders[1], tmp_path, lambda w: w["lm_head.weight"][5].fill_(torch.nan))
    with pytest.raises(PairError, match=r"the aligned model .*float32.* not finite .*bfloat16"):
        Pair(base=random_folders[0], aligned=folder, device="cpu")


@pytest.mark.parametrize("kind", ["dora", "ia3", "loha", "vera", "prompt", "norm"])
def test_adapters_that_cannot_be_switched_are_refused(kind, random_folders, tmp_path) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra 'lora'")
    config = {
        "dora": peft.LoraConfig(r=4, target_modules=["q_proj"], use_dora=True),
        "ia3": peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        "loha": peft.LoHaConfig(r=4, target_modules=["q_proj"]),
        "vera": peft.VeraConfig(target_modules=["q_proj"]),
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "norm": peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["norm"]),
    }[kind]
    model = transformers.AutoModelForCausalLM.from_pretrained(random_folders[1])
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "tuned")
    with pytest.raises(UnsupportedError, match=rf"(?i)tuned \(.*{kind}.*merge"):
        Pair(base=random_folders[1], adapter=tmp_path / "tuned", device="cpu")


def test_a_model_that_fails_is_named(random_folders) -> None:
    partner = partner_of(_FAMILIES["llama"], random_folders[0])
    with pytest.raises(BacoError, match=r"LlamaForCausalLM .*float32.* fails"):
        partner.logits([5, 10_000])
