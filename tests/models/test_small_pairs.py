"""Small pairs that people hold, as random models of the same shapes: traps of each are handled."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from tokenizers import pre_tokenizers

from baco.engine import Engine, Request, reference
from baco.engine.noise import row_key
from baco.models.known import known_pairs
from baco.pair import Pair
from baco.partners.bridge import BridgedPartner
from baco.prompts import Conversation, Message, PlainTemplate, conversation_of, raw_prompt
from baco.routers import parse
from support.engines import run

_IDS: dict[str, Any] = {"vocab_size": 400, "pad_token_id": None, "bos_token_id": None}
_BODY: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4,
}  # fmt: skip
_SSM: dict[str, Any] = {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16,
                        "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}  # fmt: skip

SHAPES: dict[str, Callable[[], t.PretrainedConfig]] = {
    "smollm2-360m": lambda: t.LlamaConfig(**_IDS, **_BODY, eos_token_id=0),
    "gemma-3-270m": lambda: t.Gemma3TextConfig(
        **_IDS, **_BODY, head_dim=8, sliding_window=8, query_pre_attn_scalar=8, eos_token_id=0
    ),
    "granite-4.0-350m": lambda: t.GraniteConfig(
        **_IDS, **_BODY, logits_scaling=4.0, embedding_multiplier=3.0,
        residual_multiplier=0.5, attention_multiplier=0.2, eos_token_id=0,
    ),
    "lfm2.5-350m": lambda: t.Lfm2Config(
        **_IDS, **_BODY, layer_types=["conv", "full_attention"], eos_token_id=0
    ),
    "falcon-h1-tiny-90m": lambda: t.FalconH1Config(**_IDS, **_BODY, **_SSM, eos_token_id=0),
    "qwen3-0.6b": lambda: t.Qwen3Config(**_IDS, **_BODY, head_dim=8, eos_token_id=0),
}  # fmt: skip
HYBRID = ("lfm2.5-350m", "falcon-h1-tiny-90m")


@pytest.fixture
def pair_of(
    random_folders: tuple[Path, Path], tmp_path: Path
) -> Callable[[str], tuple[Path, Path]]:
    """Makes the folders of a pair of one shape, with random weights."""

    def make(name: str) -> tuple[Path, Path]:
        for seed, folder in enumerate(random_folders):
            target = tmp_path / folder.name
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*model*", "config.json"))
            torch.manual_seed(seed)
            t.AutoModelForCausalLM.from_config(SHAPES[name]()).save_pretrained(target)
        return tmp_path / "base", tmp_path / "aligned"

    return make


@pytest.mark.parametrize("name", SHAPES)
def test_pairs_of_this_shape_decode_exactly(
    pair_of: Callable[[str], tuple[Path, Path]], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert name in known_pairs()
    with caplog.at_level(logging.WARNING, logger="baco"):
        pair = Pair(*pair_of(name), device="cpu", dtype="float64")
    assert ("lock-step" in caplog.text) == (name in HYBRID)
    prompts = ((5, 9, 300, 41, 7, 66, 80), (5, 9, 300, 41, 7, 66, 80, 12, 45, 91, 17))
    requests = [
        Request(*prompts, parse(spec), row_key(0, "p", i), max_new_tokens=12)
        for spec in ("p-punc@0.6", "rand@0.5")
        for i in range(2)
    ]
    wanted = [tuple(reference.decode(pair.base, pair.aligned, r)[:4]) for r in requests]
    assert len({source for _, sources, *_ in wanted for source in sources}) == 2
    lookahead: Any = "off" if name in HYBRID else 4
    assert run(Engine(pair.base, pair.aligned, lookahead=lookahead, max_rows=4), requests) == wanted


def test_an_answer_ends_by_the_ends_of_either_side(
    pair_of: Callable[[str], tuple[Path, Path]],
) -> None:
    """The base tokenizer names one end, its configuration another, the aligned side a third."""
    base, aligned = pair_of("qwen3-0.6b")
    for folder, end in ((base, 7), (aligned, [9, 11])):
        config = json.loads((folder / "config.json").read_text()) | {"eos_token_id": end}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "generation_config.json").unlink()
    pair = Pair(base, aligned, device="cpu")
    tokenizers = [t.AutoTokenizer.from_pretrained(folder) for folder in (base, aligned)]
    named = {tokenizer.eos_token_id for tokenizer in tokenizers}
    assert pair.base.vocabulary.end_ids == named | {7, 9, 11}


def test_what_the_tokenizer_puts_before_every_text_is_read(
    pair_of: Callable[[str], tuple[Path, Path]],
) -> None:
    """Gemma needs its first token, which its tokenizer adds to plain text, once."""
    from tokenizers.processors import TemplateProcessing

    base, aligned = pair_of("gemma-3-270m")
    tokenizer = t.AutoTokenizer.from_pretrained(base)
    word = tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{word} $A", pair=f"{word} $A $B", special_tokens=[(word, tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(base)
    pair = Pair(base, aligned, device="cpu")
    ids = pair.sides[0].ids(conversation_of("Hi"))
    assert ids[0] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[1:]


def cut_otherwise(folder: Path) -> None:
    """Has a tokenizer cut text otherwise, with the same ids."""
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "isolated"), backend.pre_tokenizer]
    )
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("last", "conversation", "reads"),
    [
        (PlainTemplate.last, conversation_of("Hi"), "Hi\nAnswer: The"),
        ("{user} =>", conversation_of("Hi"), "Hi => The"),
        ("{user}\n", conversation_of("Hi"), "Hi\nThe"),
        ("{user}", conversation_of("Hi"), "HiThe"),
        (PlainTemplate.last, raw_prompt("Hi"), "HiThe"),
        (
            PlainTemplate.last,
            conversation_of(
                [Message("user", "Hi")._asdict(), Message("assistant", "In")._asdict()]
            ),
            "Hi\nAnswer: InThe",
        ),
    ],
)
def test_an_answer_is_set_off_from_the_plain_prompt_by_a_space(
    pair_of: Callable[[str], tuple[Path, Path]], last: str, conversation: Conversation, reads: str
) -> None:
    base, aligned = pair_of("qwen3-0.6b")
    cut_otherwise(aligned)
    pair = Pair(base, aligned, device="cpu", template=PlainTemplate(last=last))
    said = pair.sides[1].encode_text("The")
    for side, ends in zip(pair.sides, (reads, "The"), strict=True):
        assert isinstance(side.partner, BridgedPartner)
        own = side.partner.to_own([*side.ids(conversation), *said])
        text = b"".join(side.token_bytes[i] for i in side.partner.to_shared(own)).decode()
        assert text.endswith(ends)
    assert not text.endswith(" The")


def test_the_same_tokens_cut_otherwise_are_exchanged_as_text(
    pair_of: Callable[[str], tuple[Path, Path]], caplog: pytest.LogCaptureFixture
) -> None:
    """Previews and legacy checkpoints of a family may split digits otherwise, with the same ids."""
    base, aligned = pair_of("qwen3-0.6b")
    assert Pair(base, aligned, device="cpu").one_tokenizer
    cut_otherwise(aligned)
    with caplog.at_level(logging.WARNING, logger="baco"):
        pair = Pair(base, aligned, device="cpu")
    assert not pair.one_tokenizer
    assert "exchange text" in caplog.text
    assert pair.generate("Hi", n=4, max_new_tokens=40, router="rand@0.5").base_share > 0
