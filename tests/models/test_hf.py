"""The slot cache: rows of unequal length, set back and moved, give what a plain forward gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from baco.engine import Engine, Request, reference
from baco.engine.noise import row_key
from baco.engine.partner import feed_tail
from baco.errors import PairError, UnsupportedError
from baco.models.hf import HFCache, HFPartner, _Slots, cache_argument
from baco.models.recompute import RecomputeCache
from baco.routers import parse
from support.engines import ARCHITECTURES, random_pair, run, small_vocabulary

pytestmark = pytest.mark.costs


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_feeding_equals_a_plain_forward(architecture: str) -> None:
    partner, _ = random_pair(architecture)
    # Eager attention computes its softmax in float32, whatever the model's precision.
    close = 1e-5 if partner.additive_mask else 1e-9
    cache = partner.new_cache()
    assert isinstance(cache, HFCache)
    cache.add(3)
    prompts = [(5, 6, 7), (8, 9), (5, 6, 7)]
    first = cache.open(prompts, [0, 1, 2])
    for prompt, logits in zip(prompts, first, strict=True):
        torch.testing.assert_close(logits, partner.logits(prompt), rtol=0, atol=close)

    fed = [list(p) for p in prompts]
    tokens = torch.tensor([[11, 12, 13], [14, 15, 0], [16, 0, 0]])
    counts = torch.tensor([3, 2, 0])
    logits = cache.feed(tokens, counts)
    for i in range(3):
        for j in range(int(counts[i])):
            fed[i].append(int(tokens[i, j]))
            torch.testing.assert_close(logits[i, j], partner.logits(fed[i]), rtol=0, atol=close)

    # Set two rows back, drop one, move the last into its place, feed past the next block.
    cache.truncate(torch.tensor([4, 99, 99]))
    fed[0] = fed[0][:4]
    cache.keep([2, 0])
    fed = [fed[2], fed[0]]
    more = torch.arange(20, 160).reshape(2, 70)
    logits = cache.feed(more, torch.tensor([70, 5]))
    fed[0] += more[0].tolist()
    fed[1] += more[1, :5].tolist()
    torch.testing.assert_close(logits[0, 69], partner.logits(fed[0]), rtol=0, atol=close)
    torch.testing.assert_close(logits[1, 4], partner.logits(fed[1]), rtol=0, atol=close)

    cache.add(1)
    new = cache.open([(3, 4)], [2])
    torch.testing.assert_close(new[0], partner.logits((3, 4)), rtol=0, atol=close)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("counts", "most"), [
    ([1] * 13 + [3, 1, 0], [1] * 16),  # few further tokens: rows of their own
    ([2] + [1] * 6 + [0] * 9, [1] * 15 + [0]),
    ([3, 1, 0, 2] * 4, [1] * 16),  # too many of them
    ([3, 1, 0, 2] * 4, [2, 1, 1, 0] * 4),
    ([2] * 16, [1] * 16),
    ([3, 1, 2, 2] * 4, [5, 1, 0, 2] * 4),
    ([3, 1, 2, 2] * 4, [0] * 16),
])  # fmt: skip
def test_only_the_last_logits_are_computed(
    architecture: str, counts: list[int], most: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    partner, _ = random_pair(architecture)
    monkeypatch.setattr("baco.models.hf.PREFILL_LOGITS", 4)
    close = 1e-5 if partner.additive_mask else 1e-9
    cache = partner.new_cache()
    cache.add(16)
    texts = [[5 + i % 3, 6, *range(7, 7 + i % 5)] for i in range(16)]
    opened = cache.open(texts, list(range(16)))
    for text, logits in zip(texts, opened, strict=True):
        torch.testing.assert_close(logits, partner.logits(text), rtol=0, atol=close)
    seen: list[int] = []
    count = partner.model.get_output_embeddings().register_forward_hook(
        lambda _m, _a, out: seen.append(out.shape[:-1].numel())
    )
    for start in (20, 60):  # the second feed reads what the first has written
        width = max(counts)
        tokens = torch.arange(16 * width).reshape(16, width) % 30 + start
        got = feed_tail(cache, tokens, torch.tensor(counts), torch.tensor(most))
        wanted = []
        for text, new, number, last in zip(texts, tokens.tolist(), counts, most, strict=True):
            for k, token in enumerate(new[:number]):
                text.append(token)
                if k >= number - last:
                    wanted.append(tuple(text))
        assert len(got) == len(wanted)
        assert max(seen) <= 16 * min(max(1, *most), width) + 2
        seen.clear()
        for logits, text in zip(got, wanted, strict=True):
            torch.testing.assert_close(logits, partner.logits(text), rtol=0, atol=close)
        seen.clear()
    count.remove()


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3", "mistral"])
def test_rows_of_equal_length_need_no_mask(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    partner, _ = random_pair(architecture)
    cache = partner.new_cache()
    built = []
    make = partner._masks
    monkeypatch.setattr(partner, "_masks", lambda *args: built.append(1) or make(*args))

    def feed(token: int) -> None:
        logits = cache.feed(torch.tensor([[token], [token + 1]]), torch.tensor([1, 1]))
        for i, text in enumerate(fed):
            text.append(token + i)
            torch.testing.assert_close(logits[i, 0], partner.logits(text), rtol=0, atol=1e-9)

    cache.add(2)
    fed = [[5, 6, 7], [8, 9]]
    cache.open([tuple(text) for text in fed], [0, 1])
    assert not built, "prompts only ever see what is before them"
    feed(20)
    assert built, "one row is longer"
    cache.truncate(torch.tensor([3, 3]))
    fed[0].pop()
    built.clear()
    for token in range(30, 33):
        feed(token)
    assert not built
    for token in range(33, 50):
        feed(token)
    # A window of 8 is a mask of its own, once the rows are longer.
    assert bool(built) == (partner._window is not None)


def test_equal_prompts_are_computed_once() -> None:
    partner, _ = random_pair("llama")
    cache = partner.new_cache()
    cache.add(10)
    seen = []
    handle = partner.model.register_forward_hook(
        lambda _m, _a, kwargs, _o: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    cache.open([(5, 6, 7)] * 9 + [(5, 6)], list(range(10)))
    handle.remove()
    assert seen == [(2, 3)]


def test_recurrent_models_are_read_anew_and_right() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    vocabulary = small_vocabulary()
    partners = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = MambaConfig(
            vocab_size=328, hidden_size=16, num_hidden_layers=2, state_size=4,
            pad_token_id=0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        partners.append(HFPartner(MambaForCausalLM(config).double().eval(), vocabulary))
    assert isinstance(partners[0].new_cache(), RecomputeCache)
    requests = [
        Request((5, 6), (7, 8, 9), parse("rand@0.5"), row_key(0, "p", i), max_new_tokens=6)
        for i in range(3)
    ]
    wanted = [tuple(reference.decode(*partners, r)[:4]) for r in requests]  # type: ignore[call-arg]
    assert run(Engine(*partners), requests) == wanted  # type: ignore[misc]
    with pytest.raises(UnsupportedError, match="cannot look ahead"):
        Engine(*partners, lookahead=4)  # type: ignore[misc]


def test_refusals() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 328,
             "num_attention_heads": 1, "num_key_value_heads": 1}  # fmt: skip
    t5 = T5ForConditionalGeneration(
        T5Config(d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=1, vocab_size=328)
    )
    with pytest.raises(PairError, match="encoder-decoder"):
        HFPartner(t5, small_vocabulary())
    model = LlamaForCausalLM(LlamaConfig(**small))  # type: ignore[arg-type]
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(PairError, match="attention implementation 'flash_attention_2'"):
        HFPartner(model, small_vocabulary())


def test_logits_come_to_where_scores_are_compared() -> None:
    """A partner may stand on another device than the engine: its borders move tensors."""
    partner, _ = random_pair("llama")
    moved = HFPartner(partner.model, partner.vocabulary, torch.device("meta"))
    assert (moved.place, moved.device) == (partner.place, torch.device("meta"))
    cache = moved.new_cache()
    cache.add(2)
    assert cache.open([(5, 6, 7), (8, 9)], [0, 1]).device.type == "meta"
    fed = cache.feed(torch.tensor([[11], [12]]), torch.tensor([1, 1]))
    assert (fed.device.type, tuple(fed.shape[:2])) == ("meta", (2, 1))
    assert moved.logits((5, 6)).device.type == "meta"


def test_many_prompts_are_read_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    partner, _ = random_pair("llama")
    prompts = [tuple(range(5, 7 + i)) for i in range(6)] * 2
    whole = partner.new_cache()
    whole.add(12)
    wanted = whole.open(prompts, list(range(12)))
    monkeypatch.setattr("baco.models.hf.PREFILL", 10)
    parts = partner.new_cache()
    parts.add(12)
    torch.testing.assert_close(parts.open(prompts, list(range(12))), wanted)
    tokens, counts = torch.full((12, 1), 9), torch.ones(12, dtype=torch.int64)
    torch.testing.assert_close(parts.feed(tokens, counts), whole.feed(tokens, counts))


def alone(config: Any) -> HFPartner:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    return HFPartner(model, small_vocabulary())


ROPE = {"vocab_size": 328, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4,
        "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}  # fmt: skip
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
WINDOW = 24


def changing(kind: str) -> HFPartner:
    """A model whose rotary embeddings change beyond `WINDOW` tokens."""
    if kind == "dynamic":
        rope: dict[str, Any] = {"rope_type": "dynamic", "factor": 4.0}
        config: Any = transformers.LlamaConfig(
            **ROPE, max_position_embeddings=WINDOW, rope_scaling=rope
        )
    else:
        config = transformers.Phi3Config(
            **ROPE,
            max_position_embeddings=256,
            original_max_position_embeddings=WINDOW,
            rope_scaling=LONG,
        )
    return alone(config)


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_texts_end_where_rotary_embeddings_change(kind: str) -> None:
    """Up to there our cache is right; beyond it no row would be, not even a short one."""
    partner = changing(kind)
    assert partner.context_window == WINDOW
    texts = [list(range(5, 5 + WINDOW + 8)), list(range(40, 40 + WINDOW + 8))]
    cache = partner.new_cache()
    cache.add(2)
    cache.open([texts[0][: WINDOW - 4], texts[1][:3]], [0, 1])
    partner.context_window = 1 << 30  # what would happen if they went on
    for k in range(8):
        long, short = WINDOW - 4 + k, 3 + k
        logits = cache.feed(
            torch.tensor([[texts[0][long]], [texts[1][short]]]), torch.ones(2).long()
        )
        for row, length in enumerate((long + 1, short + 1)):
            error = (logits[row, 0] - partner.logits(texts[row][:length])).abs().max()
            if long < WINDOW:
                assert error < 1e-9
            else:
                assert error > 0.01


def test_rotary_embeddings_of_each_type_of_layer_are_looked_at() -> None:
    config = transformers.LlamaConfig(**ROPE, max_position_embeddings=256)
    assert alone(config).context_window == 256
    config.rope_parameters = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": LONG | {"original_max_position_embeddings": WINDOW},
    }
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**ROPE))
    model.config = config
    assert HFPartner(model, small_vocabulary()).context_window == WINDOW


@pytest.mark.parametrize("kind", ["gpt2", "longrope"])
def test_what_does_not_count_has_no_position_beyond_the_last(kind: str) -> None:
    """A row at its end beside one that catches up: it is fed what does not count."""
    gpt2 = transformers.GPT2Config(
        vocab_size=328, n_embd=32, n_layer=2, n_head=4, n_positions=WINDOW, initializer_range=0.4
    )
    partner = alone(gpt2) if kind == "gpt2" else changing(kind)
    texts = [list(range(5, 5 + WINDOW)), list(range(40, 52))]
    cache = partner.new_cache()
    cache.add(2)
    cache.open([texts[0][: WINDOW - 1], texts[1][:4]], [0, 1])
    fed = torch.zeros(2, 8, dtype=torch.int64)
    fed[0, 0], fed[1] = texts[0][-1], torch.tensor(texts[1][4:])
    logits = cache.feed(fed, torch.tensor([1, 8]))
    torch.testing.assert_close(logits[0, 0], partner.logits(texts[0]), rtol=0, atol=1e-9)
    torch.testing.assert_close(logits[1, 7], partner.logits(texts[1]), rtol=0, atol=1e-9)


def test_a_cache_goes_by_the_name_that_a_model_has_for_it() -> None:
    """transformers 5.24 calls it `cache`, and passes on the model's own arguments."""

    class Older:
        def forward(self, input_ids: Any, past_key_values: Any = None) -> None: ...

    class Newer:
        def forward(self, input_ids: Any, cache: Any = None, **kwargs: Any) -> None: ...

    class Adapted:
        def forward(self, *args: Any, **kwargs: Any) -> None: ...

        def get_base_model(self) -> Newer:
            return Newer()

    names = [cache_argument(model()) for model in (Older, Newer, Adapted)]
    assert names == ["past_key_values", "cache", "cache"]
    slots = _Slots(1)
    slots.aim(torch.tensor([[0]]), 1, 1)
    new = torch.ones(1, 1, 1, 2)
    keys, _ = slots.update(new, new, 0, kwargs={})
    assert torch.equal(keys, new)
