"""Fixtures for all tests: a small random pair on disk, made once per test run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Machines differ in speed, and a test must not: no deadlines, the same examples every time.
settings.register_profile("baco", deadline=None, derandomize=True)
settings.load_profile("baco")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


LONG = frozenset(
    f"test_{name}.py"
    for name in ("readme", "policy", "memory", "writer", "commands", "golden", "documented_plans")
)
"""Files that take half a minute and more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long files first, so that no worker is left with one when the others are done."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(autouse=True)
def wide_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets what share each further token per row adds to a pass, whatever the table says.

    Tests that need a schedule ask for it. `make test-costs` runs the tests marked `costs` with wide
    passes free (0), and as expensive as two (1): what they assert must not hang on the table.
    """

    def add(share: float) -> None:
        monkeypatch.setattr("baco.engine.costs.slope", lambda partner, rows: share)

    if "BACO_TEST_WIDE_PASSES" in os.environ:
        add(float(os.environ["BACO_TEST_WIDE_PASSES"]))
    return add


TEXT = (
    "The quick brown fox jumps over the lazy dog. Question: What is the capital of France? "
    "Answer: Paris is the capital of France, and it's a fine city. 1, 2, 3.14 and 10,000.\n"
    "Suggest a summer trip destination! You could go to the sea, or to the mountains…\n"
)

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tokenizer(folder: Path, *, chat: bool, size: int = 400, text: str = TEXT) -> None:
    """Trains a byte-level tokenizer on a few sentences and saves it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>" if chat else "<|endoftext|>"
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def save_model(folder: Path, *, seed: int, vocabulary: int = 400, window: int = 512) -> None:
    """Saves a small Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=window,
        eos_token_id=None,
        bos_token_id=None,
        initializer_range=0.4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def random_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a base and an aligned model with random weights and one tokenizer."""
    root = tmp_path_factory.mktemp("random-pair")
    for seed, (name, chat) in enumerate({"base": False, "aligned": True}.items()):
        save_tokenizer(root / name, chat=chat)
        save_model(root / name, seed=seed)
    return root / "base", root / "aligned"


@pytest.fixture(scope="session")
def random_pair(random_folders: tuple[Path, Path]):
    """The pair of these folders, loaded once; tests must not change it."""
    from baco.pair import Pair

    base, aligned = random_folders
    return Pair(base=base, aligned=aligned, name="random", device="cpu")
