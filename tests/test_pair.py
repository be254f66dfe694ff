"""Loading pairs: from folders and models, by name, and what is refused with one clear line."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

import baco
from baco.bench.cells import pair_revision
from baco.errors import BacoError, InputError, PairError, UnknownNameError
from baco.models.checkpoints import Loading
from baco.models.grouped import attention_of
from baco.models.known import known_pair, known_pairs
from baco.models.sides import chat_encoder
from baco.pair import Pair, load
from baco.prompts import PlainTemplate, conversation_of
from conftest import TEXT, save_model, save_tokenizer

pytestmark = pytest.mark.costs

ASK = conversation_of("Name a fruit.")


def decoded(pair: Pair, ids: tuple[int, ...]) -> str:
    """Writes prompt ids as text, special tokens as numbers."""
    return "".join(pair.token_bytes[i].decode() or f"<{i}>" for i in ids)


def test_each_side_is_prompted_its_own_way(random_pair):
    base, aligned = random_pair.prompt_ids(conversation_of("Name a fruit.", "Be brief."))
    assert decoded(random_pair, base) == "Be brief.\n\nQuestion: Name a fruit.\nAnswer:"
    assert decoded(random_pair, aligned) == (
        "<1>system\nBe brief.<2>\n<1>user\nName a fruit.<2>\n<1>assistant\n"
    )
    base, aligned = random_pair.text_ids("Once upon a time")
    assert base == aligned
    assert decoded(random_pair, base) == "Once upon a time"


def test_tools_and_thinking_are_off(random_folders):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(random_folders[1])
    tokenizer.chat_template = (
        "{% if tools is defined and tools %}TOOLS {% endif %}"
        "{% if enable_thinking is not defined or enable_thinking %}THINK {% endif %}"
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    ids = chat_encoder(tokenizer, "aligned")(conversation_of("Name a fruit."))
    assert tokenizer.decode(ids) == "Name a fruit."


def test_ends_of_both_sides_end_a_response(random_pair):
    assert random_pair.one_tokenizer
    assert random_pair.base.vocabulary.end_ids == {0, 2}


def test_the_template_can_be_replaced(random_folders):
    base, aligned = random_folders
    pair = Pair(base, aligned, template=PlainTemplate(last="Q: {user} A:"), device="cpu")
    assert decoded(pair, pair.prompt_ids(ASK)[0]) == "Q: Name a fruit. A:"


def test_two_aligned_models(random_folders):
    _, aligned = random_folders
    pair = Pair(base=aligned, aligned=aligned, base_prompt="chat", device="cpu")
    base_ids, aligned_ids = pair.prompt_ids(ASK)
    assert base_ids == aligned_ids


def test_models_that_are_loaded_already(random_pair, random_folders):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in random_folders]
    tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in random_folders]
    pair = Pair(*models, base_tokenizer=tokenizers[0], aligned_tokenizer=tokenizers[1])
    options = {"n": 2, "max_new_tokens": 10}
    assert pair.generate("Hi", **options).texts == random_pair.generate("Hi", **options).texts
    with pytest.raises(InputError, match=r"the tokenizer of .* is missing"):
        Pair(*models)


def test_revisions_tell_weights_apart(random_pair, random_folders, tmp_path):
    base, aligned = random_folders
    assert Pair(base, aligned, device="cpu").revision == random_pair.revision
    shutil.copytree(aligned, tmp_path / "other")
    save_model(tmp_path / "other", seed=9)
    assert Pair(base, tmp_path / "other", device="cpu").revision != random_pair.revision


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_revisions_tell_apart_what_models_read(random_folders, tmp_path, file):
    base, aligned = random_folders
    shutil.copytree(aligned, tmp_path / "other")
    names = f"{base},{aligned}", f"{base},{tmp_path / 'other'}"
    assert len(set(map(pair_revision, names))) == 1
    with (tmp_path / "other" / file).open("a") as changed:
        changed.write(" ")
    assert len(set(map(pair_revision, names))) == 2


def test_different_tokenizers_are_found_and_said(random_folders, tmp_path, caplog):
    save_tokenizer(tmp_path, chat=True, text=TEXT[::-1])
    save_model(tmp_path, seed=5)
    with caplog.at_level(logging.WARNING, logger="baco"):
        pair = Pair(random_folders[0], tmp_path, device="cpu")
    assert not pair.one_tokenizer
    (record,) = caplog.records
    assert "differ: the sides exchange text at word boundaries" in record.getMessage()
    base, aligned = pair.prompt_ids(ASK)
    assert decoded(pair, base) == "Question: Name a fruit.\nAnswer:"
    assert "user\nName a fruit." in decoded(pair, aligned)
    group = pair.generate("Name a fruit.", n=3, router="rand@0.5", max_new_tokens=20)
    for sample in group:
        assert set(sample.sources) == {"base", "aligned"}
        assert (
            b"".join(pair.token_bytes[i] for i in sample.token_ids).decode(errors="replace")
            == sample.text
        )
    assert pair.generate("Name a fruit.", n=1, method="base", max_new_tokens=5).base_share == 1


def small_gemma2() -> torch.nn.Module:
    """Its logits have soft caps, which sdpa leaves out."""
    return Gemma2ForCausalLM(Gemma2Config(**SMALL))


def small_gpt_oss() -> torch.nn.Module:
    """Its attention has sinks, which sdpa leaves out."""
    return GptOssForCausalLM(
        GptOssConfig(num_local_experts=2, num_experts_per_tok=1, sliding_window=8, **SMALL)
    )


SMALL = {
    "vocab_size": 400, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "pad_token_id": 0,
    "bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.mark.parametrize("make", [small_gemma2, small_gpt_oss])
def test_attention_is_what_the_model_needs(random_folders, tmp_path, make):
    assert attention_of(Pair(*random_folders, device="cpu").aligned.model.config) == "sdpa"
    folders = []
    for folder in random_folders:
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("*model*"))
        make().save_pretrained(tmp_path / folder.name)
        folders.append(tmp_path / folder.name)
    pair = Pair(*folders, device="cpu")
    assert pair.aligned.model.config._attn_implementation == "eager"
    plain = pair.generate("Hi", n=3, max_new_tokens=16, lookahead="off")
    ahead = pair.generate("Hi", n=3, max_new_tokens=16, lookahead=4)
    assert plain.texts == ahead.texts
    with pytest.raises(PairError, match="does not support"):
        Pair(*folders, device="cpu", attn_implementation="sdpa")


def test_a_state_that_cannot_be_set_back_is_said_once(random_folders, tmp_path, caplog):
    folders = []
    for seed, folder in enumerate(random_folders):
        shutil.copytree(folder, tmp_path / str(seed), ignore=shutil.ignore_patterns("*model*"))
        torch.manual_seed(seed)
        config = MambaConfig(
            vocab_size=400, hidden_size=16, num_hidden_layers=2, state_size=4,
            pad_token_id=0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        MambaForCausalLM(config).save_pretrained(tmp_path / str(seed))
        folders.append(tmp_path / str(seed))
    with caplog.at_level(logging.WARNING, logger="baco"):
        pair = Pair(*folders, device="cpu")
        for _ in range(2):
            group = pair.generate("Name a fruit.", n=2, router="rand@0.5", max_new_tokens=6)
            assert set(group.samples[0].sources) <= {"base", "aligned"}
    (record,) = [record for record in caplog.records if record.name == "baco"]
    assert "cannot be set back: the pair decodes in lock-step" in record.getMessage()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_dtypes(random_folders, dtype):
    pair = Pair(*random_folders, dtype=dtype, device="cpu")
    assert pair.base.logits([5]).dtype == getattr(torch, dtype)


def test_the_checkpoints_own_sampling_is_never_used(random_folders, tmp_path, random_pair):
    base, aligned = random_folders
    shutil.copytree(aligned, tmp_path / "aligned")
    (tmp_path / "aligned" / "generation_config.json").write_text(
        json.dumps({"do_sample": True, "temperature": 0.01, "top_k": 1, "eos_token_id": [2, 7]})
    )
    pair = Pair(base, tmp_path / "aligned", device="cpu")
    assert pair.base.vocabulary.end_ids == {0, 2, 7}
    texts = pair.generate("Hi", n=4, method="aligned", max_new_tokens=6).texts
    assert len(set(texts)) == 4


# --- by name ---------------------------------------------------------------------------------


def test_known_pairs_are_described():
    pairs = known_pairs()
    assert list(pairs) == [
        "tiny",
        "tiny-lora",
        "tiny-sft",
        "tiny-run",
        "tiny-aligned2",
        "real",
        "real-plain",
        "smollm2-135m",
        "smollm2-360m",
        "gemma-3-270m",
        "granite-4.0-350m",
        "lfm2.5-230m",
        "lfm2.5-350m",
        "falcon-h1-tiny-90m",
        "qwen2.5-0.5b",
        "qwen3-0.6b",
        "llama-3-8b",
        "olmo-2-7b",
    ]
    for pair in pairs.values():
        assert pair.licence
        assert pair.about
        assert bool(pair.aligned) != bool(pair.adapter)
    assert pairs["llama-3-8b"].gated
    assert pairs["llama-3-8b"].memory_gb() == pytest.approx(32.1, abs=0.1)


def test_load_takes_two_sources(random_folders, random_pair):
    base, aligned = map(str, random_folders)
    expected = random_pair.generate("Hi", n=1, max_new_tokens=5).texts
    for pair in (load(base, aligned), baco.load(f"{base}, {aligned}")):
        assert pair.generate("Hi", n=1, max_new_tokens=5).texts == expected


@pytest.mark.parametrize(("name", "guess"), [("tinny", "tiny"), ("llama3-8b", "llama-3-8b")])
def test_unknown_pairs_are_guessed(name, guess):
    with pytest.raises(UnknownNameError, match=f"unknown pair '{name}'.*did you mean.*'{guess}'"):
        known_pair(name)


@pytest.mark.parametrize("name", ["tiny", "tiny-lora", "tiny-sft", "tiny-run", "tiny-aligned2"])
def test_bundled_pairs(name):
    pair = load(name)
    assert pair.name == name
    assert pair.known.bundled
    assert "the bundled " in repr(pair)
    group = pair.generate("Suggest a summer trip destination.", n=6)
    assert {source for sample in group for source in sample.sources} == {"base", "aligned"}
    assert group.distinct > 1
    if name != "tiny-lora":
        assert pair.known.parameters == pair.base.parameters == pair.aligned.parameters


def test_the_bundled_base_is_prompted_plainly_and_its_sister_by_chat():
    tiny, two_aligned = load("tiny"), load("tiny-aligned2")
    assert decoded(tiny, tiny.prompt_ids(ASK)[0]).endswith("Question: Name a fruit.\nAnswer:")
    assert len(set(two_aligned.prompt_ids(ASK))) == 1


# --- refusals --------------------------------------------------------------------------------


def test_a_missing_folder(random_folders):
    with pytest.raises(PairError, match=r"there is no folder '\./nowhere'"):
        Pair("./nowhere", random_folders[1])


def test_a_folder_without_a_model(random_folders, tmp_path):
    with pytest.raises(PairError, match="holds no model"):
        Pair(random_folders[0], tmp_path)


def test_a_file_instead_of_a_folder(random_folders, tmp_path):
    path = tmp_path / "model.bin"
    path.write_text("x")
    with pytest.raises(PairError, match="is a file, not a model folder"):
        Pair(path, random_folders[1])


def test_no_network(random_folders):
    with pytest.raises(PairError, match="not on this machine and the Hub cannot be reached"):
        Pair("nobody/no-such-model", random_folders[1])


def hub_error(name: str) -> Exception:
    """Makes an error of the Hub's client without a response."""
    from huggingface_hub import errors

    kind = getattr(errors, name)
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "x/y is gated.*hf auth login"),
        ("RepositoryNotFoundError", "no model 'x/y' on the Hub"),
        ("RevisionNotFoundError", "no revision 'v1'"),
        ("LocalEntryNotFoundError", "the Hub cannot be reached.*'tiny'"),
    ],
)
def test_what_the_hub_refuses(monkeypatch, random_folders, name, message):
    from transformers import AutoConfig

    def refuse(*_, **__):
        raise OSError("You cannot") from hub_error(name)

    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(PairError, match=message):
        Pair("x/y", random_folders[1], revision="v1")


def test_an_encoder_decoder_model(random_folders, tmp_path):
    from transformers import T5Config

    T5Config(vocab_size=8, d_model=8, num_layers=1, num_heads=1).save_pretrained(tmp_path)
    with pytest.raises(PairError, match=r"is an encoder-decoder model \(t5\)"):
        Pair(tmp_path, random_folders[1])


def test_an_aligned_side_without_a_chat_template(random_folders):
    base, aligned = random_folders
    with pytest.raises(PairError, match="has no chat template"):
        Pair(base=aligned, aligned=base)


def test_a_template_that_refuses_system_prompts(random_folders, tmp_path):
    base, aligned = random_folders
    shutil.copytree(aligned, tmp_path / "strict")
    (tmp_path / "strict" / "chat_template.jinja").write_text(
        "{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('No system role') }}{% endif %}{{ messages[0]['content'] }}"
    )
    pair = Pair(base, tmp_path / "strict", device="cpu")
    folded, asked = (
        pair.sides[1].ids(conversation_of(*prompt))
        for prompt in (("Hi", "Be brief."), ("Be brief.\n\nHi",))
    )
    assert folded == asked
    with pytest.raises(InputError, match="refuses this conversation: No system role"):
        pair.generate([{"role": "system", "content": "Be brief."}])


def test_a_model_that_is_narrower_than_its_tokenizer(random_folders, tmp_path):
    base, aligned = random_folders
    shutil.copytree(aligned, tmp_path / "narrow")
    save_model(tmp_path / "narrow", seed=0, vocabulary=300)
    with pytest.raises(PairError, match=r"scores 300 token ids, but its tokenizer has \d+"):
        Pair(base, tmp_path / "narrow")


def test_both_an_aligned_model_and_an_adapter():
    with pytest.raises(InputError, match="an aligned model or an adapter, one of the two"):
        Pair("a/b", "c/d", adapter="e/f")
    with pytest.raises(InputError, match="an aligned model or an adapter, one of the two"):
        Pair("a/b")


def test_quantisation_without_its_package(random_folders):
    from importlib.util import find_spec

    if find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(BacoError, match="bitsandbytes"):
        Pair(*random_folders, load_in_8bit=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int3"}, "unknown dtype 'int3'"),
        ({"device": "toaster"}, "unknown device 'toaster'"),
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
        ({"attn_implementation": "flash_attention_2"}, "'flash_attention_2' is not supported"),
        ({"load_in_8bit": True, "load_in_4bit": True}, "8-bit and 4-bit loading"),
    ],
)
def test_bad_loading_options(options, message):
    with pytest.raises(InputError, match=message):
        Loading(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n = 0 is out of range"),
        ({"n": 10**12}, "n = 1000000000000 is out of range"),
        ({"colour": "red"}, "unknown setting 'colour'"),
        ({"prompt": []}, "there is no prompt"),
        ({"prompt": ["Hi", ""]}, "the prompt is empty"),
    ],
)
def test_bad_arguments_of_generate(random_pair, arguments, message):
    with pytest.raises(InputError, match=message):
        random_pair.generate(**({"prompt": "Hi"} | arguments))


def test_import_is_light():
    import subprocess
    import sys

    code = "import baco, sys; print(baco.__version__, 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [baco.__version__, "False"]


def test_every_exported_name_is_there():
    for name in baco.__all__:
        assert getattr(baco, name) is not None
    with pytest.raises(AttributeError):
        _ = baco.nothing
    assert Path(baco.__file__).with_name("pairs.toml").is_file()


def test_two_devices(random_folders, random_pair):
    base, aligned = random_folders
    pair = Pair(base, aligned, name="random", device="cpu,cpu")
    ask = {"n": 2, "max_new_tokens": 8}
    assert pair.generate("Hi", **ask) == random_pair.generate("Hi", **ask)
    both = Loading(device="cpu, auto")
    assert both.of_side(0).device == "cpu"
    assert both.of_side(1).torch_device == both.torch_device
    with pytest.raises(InputError, match="names more than two"):
        Loading(device="cpu,cpu,cpu")
    with pytest.raises(InputError, match="no device 'cuda:63'"):
        Loading(device="cuda:63,cpu")
    with pytest.raises(InputError, match="cannot be on two devices"):
        baco.load("tiny-lora", device="cpu,cpu")


def test_a_pair_without_weights_still_encodes(random_folders, random_pair):
    base, aligned = random_folders
    hollow = Pair(base, aligned, shapes_only=True, device="cpu")
    assert hollow.prompt_ids(ASK) == random_pair.prompt_ids(ASK)
    assert {p.device.type for p in hollow.aligned.model.parameters()} == {"meta"}
