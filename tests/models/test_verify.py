"""What loads is right, or refused in one line that names what is wrong."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import baco
from baco.cli import run
from baco.errors import BacoError, InputError, PairError, UnsupportedError
from baco.models.checkpoints import Loading, load_model, load_tokenizer
from baco.models.endpoint import Endpoint
from baco.models.hf import HFPartner
from baco.models.known import bundled_folder
from baco.models.tokens import vocabulary_of, vocabulary_size
from baco.models.verify import alike, apart, sample_ids, verify
from baco.pair import Pair
from baco.prompts import PlainTemplate
from baco.vllm.inside.pair import Checkpoints
from benchmarks.loading import DTYPES, MISTAKES, RIGHT, WRONG, random_model

_COMMON = {"vocab_size": 400, "initializer_range": 0.4, "tie_word_embeddings": False}
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_LLAMA = transformers.LlamaConfig(**_COMMON, **_SMALL, intermediate_size=48)
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


@pytest.fixture(scope="module")
def bundled_tokenizer():
    return load_tokenizer(str(bundled_folder("aligned")), "main", Loading())


def random_partner(family: str, dtype: torch.dtype, tokenizer) -> HFPartner:
    model = random_model(family, vocabulary_size(tokenizer), dtype)
    return HFPartner(model, vocabulary_of(tokenizer, {tokenizer.eos_token_id}))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", RIGHT)
def test_right_families_keep_their_cache(family, dtype, bundled_tokenizer) -> None:
    partner = random_partner(family, dtype, bundled_tokenizer)
    verify(partner)
    assert partner.abilities.rewinds, partner.recomputes


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_a_mistake_of_the_cache_is_found(family, dtype, mistake, bundled_tokenizer) -> None:
    partner = random_partner(family, dtype, bundled_tokenizer)
    with MISTAKES[mistake]():
        verify(partner)
    assert "other scores" in partner.recomputes


@pytest.mark.parametrize("family", WRONG)
def test_families_that_find_their_own_positions_are_recomputed(family, bundled_tokenizer) -> None:
    partner = random_partner(family, torch.float32, bundled_tokenizer)
    verify(partner)
    assert partner.recomputes


def test_a_context_that_ends_early_is_said_once(random_folders, caplog) -> None:
    config = transformers.Phi3Config(
        **_COMMON, **_SMALL, intermediate_size=48, num_key_value_heads=4, pad_token_id=0,
        max_position_embeddings=256, original_max_position_embeddings=24,
        rope_scaling={"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4},
    )  # fmt: skip
    partner = partner_of(config, random_folders[0])
    with caplog.at_level(logging.WARNING, "baco"):
        verify(partner)
        verify(HFPartner(partner.model, partner.vocabulary))
    assert caplog.text.count("end at 24 of 256 tokens, where its rotary embeddings change") == 1


@pytest.mark.parametrize("family", _RECOMPUTED)
def test_families_that_decode_wrongly_are_recomputed(family, random_folders) -> None:
    partner = partner_of(_RECOMPUTED[family], random_folders[0])
    verify(partner)
    assert not partner.abilities.rewinds
    assert partner.recomputes


def test_a_wrong_position_is_beyond_the_bound_in_half_precision(random_folders) -> None:
    partner = partner_of(_LLAMA, random_folders[0], torch.bfloat16)
    ids = sample_ids(partner)
    right = partner.all_logits(ids)
    assert apart(partner, right, right) == 0
    assert not alike(partner, right.roll(1, 0), right)


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
    said = capsys.readouterr().err
    assert "lack model.layers.1.mlp.up_proj.weight" in said
    assert "LOAD REPORT" not in said


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


@pytest.mark.parametrize("kind", ["dora", "ia3", "loha", "vera", "prompt"])
def test_adapters_that_cannot_be_switched_are_refused(kind, random_folders, tmp_path) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra 'lora'")
    config = {
        "dora": peft.LoraConfig(r=4, target_modules=["q_proj"], use_dora=True),
        "ia3": peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        "loha": peft.LoHaConfig(r=4, target_modules=["q_proj"]),
        "vera": peft.VeraConfig(target_modules=["q_proj"]),
        "prompt": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    }[kind]
    model = transformers.AutoModelForCausalLM.from_pretrained(random_folders[1])
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "tuned")
    with pytest.raises(UnsupportedError, match=rf"(?i)tuned \(.*{kind}.*merge"):
        Pair(base=random_folders[1], adapter=tmp_path / "tuned", device="cpu")


def test_a_model_that_fails_is_named(random_folders) -> None:
    partner = partner_of(_LLAMA, random_folders[0])
    with pytest.raises(BacoError, match=r"LlamaForCausalLM .*float32.* fails"):
        partner.logits([5, 10_000])


def adapter_on(folder: Path, target: Path, **how) -> Path:
    peft = pytest.importorskip("peft", reason="needs the extra 'lora'")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    config = peft.LoraConfig(**{"r": 4, "target_modules": ["q_proj"], **how})
    peft.get_peft_model(model, config).save_pretrained(target)
    return target


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_adapters_that_bring_the_models_own_biases_are_refused(bias, random_folders, tmp_path):
    shutil.copytree(random_folders[1], tmp_path / "biased")
    config = transformers.Qwen2Config(
        **_COMMON, **_SMALL, intermediate_size=48, num_key_value_heads=4
    )
    torch.manual_seed(0)
    transformers.Qwen2ForCausalLM(config).save_pretrained(tmp_path / "biased")
    adapter = adapter_on(tmp_path / "biased", tmp_path / "tuned", bias=bias)
    with pytest.raises(UnsupportedError, match=rf"bias='{bias}'.*model's own biases"):
        Pair(base=tmp_path / "biased", adapter=adapter, device="cpu")


def test_a_norm_that_was_trained_along_is_right_on_both_sides(random_folders, tmp_path) -> None:
    """Both sides are compared when it loads: this would be refused if either were off."""
    adapter = adapter_on(random_folders[1], tmp_path / "tuned", modules_to_save=["norm"])
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("norm.weight"))
    save_file(weights | {name: weights[name] + torch.linspace(-1, 1, len(weights[name]))}, file)
    pair = Pair(base=random_folders[1], adapter=adapter, device="cpu")
    ids = [5, 6, 7]
    apart = (pair.base.logits(ids) - pair.aligned.logits(ids)).abs().max()
    assert apart > 0.1


def test_initialisations_that_change_the_base_model_are_refused(random_folders, tmp_path) -> None:
    adapter = adapter_on(random_folders[1], tmp_path / "tuned", init_lora_weights="pissa")
    with pytest.raises(BacoError, match="the base side is not what it is without"):
        Pair(base=random_folders[1], adapter=adapter, device="cpu")


def test_an_adapter_that_was_trained_on_another_model_says_so(
    random_folders, tmp_path, caplog
) -> None:
    adapter = adapter_on(random_folders[1], tmp_path / "tuned")
    file = adapter / "adapter_config.json"
    own = random_folders[1].name
    for trained_on, said in (
        (f"/elsewhere/{own.upper()}/", False),
        (f"somebody/{own}", False),
        (f"/home/me/.cache/huggingface/hub/models--somebody--{own}/snapshots/0a1b2c", False),
        (None, False),
        ("meta-llama/Llama-3.1-8B", True),
    ):
        config = json.loads(file.read_text()) | {"base_model_name_or_path": trained_on}
        file.write_text(json.dumps(config))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "baco"):
            Pair(base=random_folders[1], adapter=adapter, device="cpu")
        assert ("was trained on" in caplog.text) == said, trained_on
        assert not said or trained_on in caplog.text


def test_a_model_that_sees_what_comes_later_is_refused(random_folders) -> None:
    config = transformers.RobertaConfig(
        **_COMMON, **_SMALL, intermediate_size=48, is_decoder=False, pad_token_id=1
    )
    with pytest.raises(PairError, match=r"RobertaForCausalLM.*sees tokens that come later"):
        verify(partner_of(config, random_folders[0]))


def test_a_model_is_checked_once(random_folders, monkeypatch) -> None:
    partner = partner_of(_RECOMPUTED["gpt_neo"], random_folders[0])
    verify(partner)
    again = HFPartner(partner.model, partner.vocabulary)
    monkeypatch.setattr(HFPartner, "all_logits", lambda *_: pytest.fail("checked again"))
    verify(again)
    assert again.recomputes == partner.recomputes != ""


REVISIONS = [{"revision": "v1"}, {"base_revision": "v1"}, {"aligned_revision": "v1"}]


@pytest.mark.parametrize("how", REVISIONS)
def test_a_revision_of_what_has_none_is_refused(how, random_folders, tmp_path) -> None:
    base, aligned = random_folders
    words = "has no revision 'v1'.*base_revision"
    with pytest.raises(InputError, match=rf"the folder .* {words}"):
        Pair(base=base, aligned=aligned, device="cpu", **how)
    with pytest.raises(InputError, match=words):
        Pair(base=aligned, adapter=adapter_on(aligned, tmp_path / "tuned"), device="cpu", **how)
    loaded = [
        transformers.AutoModelForCausalLM.from_pretrained(folder) for folder in (base, aligned)
    ]
    tokenizers = [load_tokenizer(str(folder), "main", Loading()) for folder in (base, aligned)]
    with pytest.raises(InputError, match=rf"loaded already, {words}"):
        Pair(*loaded, base_tokenizer=tokenizers[0], aligned_tokenizer=tokenizers[1], **how)
    remote = Endpoint("http://localhost:1/v1", "m")
    with pytest.raises(InputError, match=words):
        Pair.remote(remote, remote, **how)
    named = replace(remote, tokenizer=str(aligned))
    with pytest.raises(InputError, match=words):
        Pair.remote(named, named, **how)
    with pytest.raises(InputError, match=words):
        baco.load("tiny", **how)
    with pytest.raises(InputError, match=words):
        load_vllm_checkpoints(base, aligned, how)


def load_vllm_checkpoints(base, aligned, how):
    revisions = tuple(
        how.get(f"{side}_revision", how.get("revision")) for side in ("base", "aligned")
    )
    Checkpoints.find(str(base), str(aligned), revisions)


@pytest.mark.parametrize(
    "option",
    [{"dtype": "bfloat16"}, {"attn_implementation": "eager"}, {"load_in_8bit": True}],
)
def test_what_is_asked_of_a_loaded_model_is_true_or_refused(option, random_folders) -> None:
    models = [transformers.AutoModelForCausalLM.from_pretrained(f) for f in random_folders]
    given = {
        f"{side}_tokenizer": load_tokenizer(str(f), "main", Loading())
        for side, f in zip(("base", "aligned"), random_folders, strict=True)
    }
    Pair(*models, **given, device="cpu", dtype="float32", attn_implementation="sdpa")
    (name,) = option
    with pytest.raises(InputError, match=rf"loaded already, so {name}=.* would do nothing"):
        Pair(*models, **given, **option)


def test_what_is_asked_of_remote_models_is_named(caplog) -> None:
    with caplog.at_level(logging.WARNING, "baco"):
        Pair.remote("http://localhost:1/v1#m", "http://localhost:1/v1#m", dtype="float16")
    assert "both models are remote, so dtype does nothing" in caplog.text


def test_a_template_without_a_use_is_refused(random_folders) -> None:
    with pytest.raises(InputError, match="leave out template"):
        Pair(*random_folders[1:] * 2, base_prompt="chat", template=PlainTemplate())


def test_ends_beyond_the_vocabulary_are_named_once(random_folders, tmp_path, caplog) -> None:
    folder = tmp_path / "strange"
    shutil.copytree(random_folders[1], folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 99999, -1]}')
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "baco"):
            pair = Pair(base=random_folders[0], aligned=folder, device="cpu")
    assert caplog.text.count("99999") == 1
    assert f"{folder} names end tokens that its tokenizer does not have" in caplog.text
    assert pair.aligned.vocabulary.end_ids == {0, 2}


def scaled(weights):
    for name in [name for name in weights if "proj" in name]:
        weights[name] = weights[name].to(torch.float8_e4m3fn)
        weights[f"{name}_scale"] = torch.ones(1)


def whole(weights):
    for name in [name for name in weights if "proj" in name]:
        weights[name] = (20 * weights[name]).to(torch.int8)


@pytest.mark.parametrize("change", [scaled, whole])
def test_quantised_weights_that_nothing_is_said_of_are_refused(
    change, random_folders, tmp_path
) -> None:
    folder = broken(random_folders[1], tmp_path, change)
    with pytest.raises(PairError, match=r"holds quantised weights, .*proj\.weight"):
        load_model(str(folder), "main", Loading())


def test_folders_that_may_mean_two_things(random_folders, tmp_path, caplog) -> None:
    adapter = adapter_on(random_folders[1], tmp_path / "tuned")
    with pytest.raises(PairError, match=r"holds an adapter, and no model .*--adapter"):
        Pair(base=random_folders[0], aligned=adapter, device="cpu")
    both = tmp_path / "both"
    shutil.copytree(random_folders[1], both)
    shutil.copytree(adapter, both, dirs_exist_ok=True)
    with pytest.raises(PairError, match="holds a model and an adapter"):
        Pair(base=random_folders[0], aligned=both, device="cpu")
    parts = tmp_path / "parts"
    shutil.copytree(random_folders[1], parts)
    (parts / "model.safetensors.index.json").write_text("{}")
    with caplog.at_level(logging.WARNING, "baco"):
        load_model(str(parts), "main", Loading())
    assert "holds model.safetensors and parts: the parts are not read" in caplog.text


def test_adapters_of_which_something_is_missing_or_more(random_folders, tmp_path) -> None:
    adapter = adapter_on(random_folders[1], tmp_path / "tuned")
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if "layers.1" in name)
    for change in (
        weights | {name.replace("layers.1", "layers.7"): weights[name].clone()},
        {key: value for key, value in weights.items() if key != name},
    ):
        save_file(change, file)
        with pytest.raises(PairError, match="lacks weights, or names those of another model"):
            Pair(base=random_folders[1], adapter=adapter, device="cpu")
    file.unlink()
    with pytest.raises(PairError, match="holds no weights of an adapter"):
        Pair(base=random_folders[1], adapter=adapter, device="cpu")


def test_an_adapter_that_waits_for_tokens_is_refused(random_folders, tmp_path) -> None:
    adapter = adapter_on(
        random_folders[1], tmp_path / "tuned", alora_invocation_tokens=[5, 6], task_type="CAUSAL_LM"
    )
    with pytest.raises(UnsupportedError, match="activated LoRA"):
        Pair(base=random_folders[1], adapter=adapter, device="cpu")


def test_ends_are_whole_numbers(random_folders, tmp_path, caplog) -> None:
    shutil.copytree(random_folders[1], tmp_path / "odd")
    (tmp_path / "odd/generation_config.json").write_text('{"eos_token_id": [7.0, true, 2.5]}')
    with caplog.at_level(logging.WARNING, "baco"):
        pair = Pair(base=random_folders[0], aligned=tmp_path / "odd", device="cpu")
    assert pair.aligned.vocabulary.end_ids == {0, 2, 7}
    assert "2.5, True" in caplog.text
