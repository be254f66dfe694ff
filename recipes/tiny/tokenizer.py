"""The tiny pair's tokenizer: byte-level BPE trained on the world's own text."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from recipes.tiny.web import END, Mess, document

SPECIALS = (END, "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")
VOCABULARY = 2048
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|> ' + message['content'] | trim }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def build(documents: int = 20000, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerBase:
    """Train the tokenizer; the same for every training seed.

    Args:
        documents: How many documents of the web to train on.
        vocabulary: Size of the vocabulary.

    Returns:
        The tokenizer, chat template included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random("tokenizer")
    texts = (document(rng, Mess()) for _ in range(documents))
    tokenizer.train_from_iterator(texts, trainer)
    fast: Any = PreTrainedTokenizerFast
    built: PreTrainedTokenizerBase = fast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token="<|pad|>",
        additional_special_tokens=list(SPECIALS[2:]),
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    return built


def load(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint.

    Args:
        folder: The checkpoint's folder.

    Returns:
        The tokenizer.
    """
    loaded: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(folder)
    return loaded


def chat_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Encode a prompt for the aligned side.

    Args:
        tokenizer: The tokenizer.
        prompt: What the user says.

    Returns:
        Token ids that end where the answer begins.
    """
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def plain_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Encode a prompt for the base side, as plain text to continue.

    Args:
        tokenizer: The tokenizer.
        prompt: What the user says.

    Returns:
        Token ids that end where the answer begins.
    """
    text = f"Question: {prompt}\nAnswer:"
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
