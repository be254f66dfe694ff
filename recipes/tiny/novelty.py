"""How much of what the models write is copied from the text they were trained on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from recipes.tiny.recipe import Recipe
from recipes.tiny.web import END, Mess, chat, document


def training_texts(weights: Path, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Write the training text of a run again.

    Args:
        weights: Folder of the checkpoints, with ``recipe.json``.
        tokenizer: The run's tokenizer.

    Yields:
        Batches of pre-training documents, then of chats, as long strings; no fewer than were
        used.
    """
    stored = json.loads((weights / "recipe.json").read_text(encoding="utf-8"))
    mess = Mess(**stored["mess"])
    known = {field.name for field in fields(Recipe)} - {"mess"}
    recipe = Recipe(mess=mess, **{k: v for k, v in stored.items() if k in known})
    rng = random.Random(f"web {stored['seed']}")
    left = recipe.pretrain_steps * recipe.rows * recipe.length
    while left > 0:
        texts = [document(rng, mess) for _ in range(256)]
        # Rows are cut at their ends, so somewhat more text was drawn than was used.
        left -= int(0.7 * sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])))
        yield END.join(texts)
    rng = random.Random(f"chat {stored['seed']}")
    left = recipe.sft_steps * recipe.sft_rows * recipe.length
    while left > 0:
        texts = [
            str(tokenizer.apply_chat_template(chat(rng, recipe.sft_tilt), tokenize=False))
            for _ in range(256)
        ]
        left -= int(0.7 * sum(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])))
        yield "".join(texts)


def verbatim_share(
    weights: Path, tokenizer: PreTrainedTokenizerBase, answers: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Measure how many answers occur word for word in the training text.

    Args:
        weights: Folder of the checkpoints.
        tokenizer: The run's tokenizer.
        answers: Answers by model.

    Returns:
        Share of each model's answers.
    """
    wanted = {text for texts in answers.values() for text in texts}
    found: set[str] = set()
    for batch in training_texts(weights, tokenizer):
        found |= {text for text in wanted if text in batch}
        wanted -= found
    return {
        name: sum(text in found for text in texts) / len(texts) for name, texts in answers.items()
    }
