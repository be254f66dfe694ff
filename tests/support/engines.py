"""Pairs and drivers shared by the engine's tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch

from baco.engine import Engine, Request, Vocabulary
from baco.engine.units import UnitTable
from baco.models.hf import HFPartner
from baco.models.tokens import is_formatting, is_function_word
from baco.partners.fake import FakeCache, FakePartner, Script, fake_vocabulary

WORDS = [
    "<end>", " the", " cat", " dog", " sat", " on", " mat", ".", ",", "\n",
    "s", "ing", " a", "!", "<pad>", "'", "t", " cats", "7", "<end2>",
]  # fmt: skip


def words_vocabulary() -> Vocabulary:
    return fake_vocabulary(
        WORDS,
        ends=("<end>", "<end2>"),
        function_words=(" the", " a", " on"),
        forbidden=("<pad>",),
    )


@cache
def _normal(tag: object, size: int) -> np.ndarray:
    digest = hashlib.blake2b(repr(tag).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).normal(size=size)


def random_script(tag: str, own: float, shared: float, end: float = -1.0) -> Script:
    """A fixed random distribution after each context; `shared` makes two scripts agree."""

    @cache
    def after(last: tuple[int, ...]) -> list[float]:
        logits = _normal((tag, last), len(WORDS)) * own
        logits = logits + _normal(("shared", last[-2:]), len(WORDS)) * shared
        logits[[0, 19]] += end
        p = np.exp(logits)
        return list(p / p.sum())

    return lambda ids: after(ids[-3:])


def fake_pair(end: float = -1.0) -> tuple[FakePartner, FakePartner]:
    vocabulary = words_vocabulary()
    base = FakePartner(vocabulary, random_script("base", 1.0, 1.5, end))
    aligned = FakePartner(vocabulary, random_script("aligned", 1.5, 1.5, end))
    return base, aligned


class Watch:
    """A scripted clock that passes of `Timed` partners move on."""

    def __init__(self) -> None:
        self.now = 0.0


class Timed(FakePartner):
    """A partner whose passes take a scripted time, by rows and by tokens per row."""

    def __init__(
        self, fake: FakePartner, watch: Watch, seconds: Callable[[int, int], float]
    ) -> None:
        super().__init__(fake.vocabulary, fake.script)
        self.watch = watch
        self.seconds = seconds

    def new_cache(self) -> FakeCache:
        return TimedCache(self)


class TimedCache(FakeCache):
    partner: Timed

    def open(self, prompts: Sequence[Sequence[int]], rows: Sequence[int]) -> torch.Tensor:
        self.partner.watch.now += self.partner.seconds(len(rows), 1)
        return super().open(prompts, rows)

    def feed(self, tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        self.partner.watch.now += self.partner.seconds(len(counts), int(counts.max()))
        return super().feed(tokens, counts)


Decoded = tuple[list[int], list[int], list[bool], str | None]


def run(engine: Engine, requests: Sequence[Request]) -> list[Decoded]:
    """Decodes all requests; returns (tokens, sources, begins, finish) of each."""
    numbers = [engine.submit(request) for request in requests]
    return drain(engine, numbers)


def drain(engine: Engine, numbers: Sequence[int]) -> list[Decoded]:
    out: dict[int, tuple[list[int], list[int], list[bool], list[str]]] = {
        n: ([], [], [], []) for n in numbers
    }
    cycles = 0
    while not engine.idle:
        cycles += 1
        assert cycles < 20_000, "the engine makes no progress"
        for event in engine.step():
            tokens, sources, begins, finish = out[event.row]
            assert not finish, "an event after the end"
            tokens += event.tokens
            sources += event.sources
            begins += event.begins
            if event.finish:
                assert event.cost is not None
                finish.append(event.finish)
    return [(t, s, b, f[0] if f else None) for t, s, b, f in out.values()]


def small_vocabulary(size: int = 320) -> Vocabulary:
    """A byte-level vocabulary: id 0 ends, 1 is padding, then bytes, then a few words."""
    words = [
        " the", " of", " and", "ing", " cat", "'s", " I", "123", "\n\n", '."', " don", "'t",
        " naïve", "漢", "字", " 👍", "e", " 3", ".5", " a", " big", " red", " house", ",", ".",
    ]  # fmt: skip
    tokens = [b"", b"", *(bytes([i]) for i in range(256)), *(w.encode() for w in words)]
    tokens += [f" w{i}".encode() for i in range(size - len(tokens))]
    return Vocabulary(
        size=size,
        units=UnitTable(tokens, [0]),
        is_end=torch.tensor([i == 0 for i in range(size)]),
        allowed=torch.tensor([i != 1 for i in range(size)]),
        is_punctuation=torch.tensor([i == 0 or is_formatting(t) for i, t in enumerate(tokens)]),
        is_function_word=torch.tensor([is_function_word(t) for t in tokens]),
    )


def _configs() -> dict[str, Callable[[], torch.nn.Module]]:
    import transformers as t

    common = {
        "vocab_size": 328, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "pad_token_id": None, "bos_token_id": None, "eos_token_id": 0,
        "tie_word_embeddings": False, "initializer_range": 0.15,
    }  # fmt: skip
    sliding = ["sliding_attention", "full_attention", "sliding_attention"]
    return {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**common)),
        "olmo2": lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**common)),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**common)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(head_dim=8, **common)),
        "gemma2": lambda: t.Gemma2ForCausalLM(
            t.Gemma2Config(head_dim=8, sliding_window=8, attn_implementation="eager", **common)
        ),
        "gemma3": lambda: t.Gemma3ForCausalLM(
            t.Gemma3TextConfig(head_dim=8, sliding_window=8, layer_types=sliding, **common)
        ),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(sliding_window=8, **common)),
    }


ARCHITECTURES = ("llama", "olmo2", "qwen2", "qwen3", "gemma2", "gemma3", "mistral")


def random_pair(
    architecture: str, dtype: torch.dtype = torch.float64
) -> tuple[HFPartner, HFPartner]:
    """Two tiny random models that agree about as often as a base/aligned pair does."""
    vocabulary = small_vocabulary()
    make = _configs()[architecture]
    models = []
    for spread in (0.0, 0.15):
        torch.manual_seed(1)
        model = make()
        noise = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=noise) * p.std() * spread)
        models.append(model.to(dtype).eval())
    base, aligned = models
    return HFPartner(base, vocabulary), HFPartner(aligned, vocabulary)
