"""A pair of tiny random models with a tokenizer of their own, made without any download."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from baco.pair import Pair

TEXT = [
    "Suggest a summer trip. I would go to the sea, because the water is warm.",
    "Name a city in Italy. One city in Italy is Rome. Question: Answer: system user assistant",
    "Ärger über süße Öle – naïve café 😀 日本語 and the quick brown fox jumps over it's dog.",
    "The first night of camping: bring a lamp, a book, and something to eat. 1 2 3 4.5",
]

CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few hundred tokens; it can write any text."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        TEXT * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>", chat_template=CHAT
    )


def save_model(folder: Path, seed: int, spread: float, hidden: int = 48) -> None:
    """Writes a random model whose distributions are as peaked as `spread` makes them."""
    torch.manual_seed(seed)
    tok = tokenizer()
    config = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        initializer_range=spread,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tok.save_pretrained(folder)


@cache
def random_pair(name: str = "toy") -> Pair:
    """A pair whose aligned side is surer of itself than its base side."""
    folder = Path(mkdtemp(prefix="baco-toy-"))
    save_model(folder / "base", 1, 0.08)
    save_model(folder / "aligned", 2, 0.16)
    return Pair(
        str(folder / "base"), str(folder / "aligned"), name=name, device="cpu", dtype="float64"
    )
