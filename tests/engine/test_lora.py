"""A LoRA pair: one set of weights, both sides of a row in one forward pass."""

from __future__ import annotations

import copy

import pytest
import torch

import baco
from baco.engine import Engine, Request, Warp, reference
from baco.engine.noise import row_key
from baco.errors import UnsupportedError
from baco.models.lora import LoraPartner, lora_partners
from baco.models.memory import Workload, need_of
from baco.routers import parse
from support.engines import random_pair, run, small_vocabulary

peft = pytest.importorskip("peft", reason="needs the extra 'lora'")

pytestmark = pytest.mark.costs


def lora_pair() -> tuple[LoraPartner, LoraPartner]:
    base, _ = random_pair("llama")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "up_proj"])
    model = peft.get_peft_model(base.model, config)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(torch.randn(p.shape, generator=noise, dtype=p.dtype) * 0.3)
    return lora_partners(model.double().eval(), base.vocabulary)


def requests(spec: str, count: int = 5) -> list[Request]:
    return [
        Request((10, 11, 12 + i % 2), (20, 21, 22, 23)[: 2 + i % 3], parse(spec),
                row_key(0, "p", i), max_new_tokens=20)
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("spec", ["p-punc@0.05", "rand@0.5", "pr@0.9"])
def test_equals_the_oracle_in_one_pass_a_token(spec: str) -> None:
    base, aligned = lora_pair()
    wanted = [tuple(reference.decode(base, aligned, r)[:4]) for r in requests(spec)]
    for rows in (2, 8):
        engine = Engine(base, aligned, max_rows=rows)
        assert run(engine, requests(spec)) == wanted
        assert engine.stats.base_passes == 0
    longest = max(len(tokens) for tokens, *_ in wanted)
    assert engine.stats.aligned_passes <= longest + 1


def test_the_sides_differ_and_share_their_weights() -> None:
    base, aligned = lora_pair()
    assert base.model is aligned.model
    assert not torch.allclose(base.logits([5, 6, 7]), aligned.logits([5, 6, 7]))
    with base.model.disable_adapter():
        plain = base.model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    torch.testing.assert_close(base.logits([5, 6, 7]), plain.detach())


def held_bytes(pair: baco.Pair) -> tuple[int, list[int]]:
    """Bytes of all parameters, each counted once, and of the keys and values of each cache."""
    models = (pair.base.model, pair.aligned.model)  # type: ignore[attr-defined]
    weights = {id(p): p.numel() * p.element_size() for m in models for p in m.parameters()}
    asked = [Request((5, 6, 7, i), (8, 9, i), parse("pr@0.5"), row_key(0, "p", i),
                     max_new_tokens=20) for i in range(3)]  # fmt: skip
    engine = Engine(pair.base, pair.aligned, lookahead="off")
    for request in asked:
        engine.submit(request)
    for _ in range(3):
        engine.step()
    caches = {
        id(c): c for side in engine.sides for c in [getattr(side._cache, "_shared", side._cache)]
    }
    slots = [
        sum(x.numel() * x.element_size() for x in (*c._slots.keys, *c._slots.values))
        for c in caches.values()
    ]
    return sum(weights.values()), slots


def test_memory_is_one_model_an_adapter_and_two_caches() -> None:
    two, lora = baco.load("tiny", dtype="float32"), baco.load("tiny-lora", dtype="float32")
    adapter = sum(
        p.numel() * p.element_size()
        for name, p in lora.base.model.named_parameters()  # type: ignore[attr-defined]
        if "lora_" in name
    )
    one = sum(p.numel() * p.element_size() for p in two.base.model.parameters())  # type: ignore[attr-defined]
    weights, slots = held_bytes(lora)
    assert weights == one + adapter
    assert 0 < adapter < one / 2
    apart_weights, apart_slots = held_bytes(two)
    assert apart_weights == 2 * one
    # One cache holds both sides' rows: as much as two caches of two models.
    assert len(slots) == 1
    assert len(apart_slots) == 2
    assert sum(slots) == sum(apart_slots)
    for pair, weighed in ((lora, weights), (two, apart_weights)):
        need = need_of((pair.base, pair.aligned), Workload([(4, 3)], 3, 20))
        assert need is not None
        assert weighed <= need.weights <= 1.01 * weighed


def test_one_side_alone() -> None:
    _, aligned = lora_pair()
    alone = [
        Request(r.base_prompt, r.aligned_prompt, parse("rand@0"), r.key, Warp(), end_rule=False,
                max_new_tokens=12)
        for r in requests("rand@0")
    ]  # fmt: skip
    wanted = [tuple(reference.decode(aligned, aligned, r)[:4]) for r in alone]
    assert run(Engine(aligned, aligned), alone) == wanted


def by_degrees(degrees: list[float]) -> list[Request]:
    return [
        Request((20, 21, 22, 23)[: 2 + i % 3], (20, 21, 22, 23)[: 2 + i % 3], parse("rand@0"),
                row_key(0, "p", i), Warp(), end_rule=False, max_new_tokens=12, degree=degree)
        for i, degree in enumerate(degrees)
    ]  # fmt: skip


def test_rows_of_every_degree_in_one_pass_equal_each_alone() -> None:
    base, aligned = lora_pair()
    slider = aligned.at(1.0)
    asked = by_degrees([0.0, 0.25, 1.0, 0.25, 0.6, 0.0, 0.9])
    wanted = []
    for request in asked:
        one = slider.at(request.degree)  # the oracle knows of no degrees
        wanted.append(tuple(reference.decode(one, one, request)[:4]))
    for rows in (2, 3, 8):
        engine = Engine(slider, slider, max_rows=rows)
        assert run(engine, asked) == wanted
        assert engine.stats.base_passes == 0
    longest = max(len(tokens) for tokens, *_ in wanted)
    assert engine.stats.aligned_passes <= longest + 1  # one pass a token for all degrees
    assert wanted[0] == tuple(reference.decode(base, base, asked[0])[:4])
    assert wanted[2] == tuple(reference.decode(aligned, aligned, asked[2])[:4])


def test_a_degree_is_the_adapter_scaled() -> None:
    _, aligned = lora_pair()
    ids = [5, 6, 7, 8]
    got = {degree: aligned.at(degree).logits(ids) for degree in (0.3, 0.7)}
    scales = [
        (m.scaling, m.scaling["default"])
        for m in aligned.model.modules() if isinstance(m, peft.tuners.lora.LoraLayer)
    ]  # fmt: skip
    for degree, logits in got.items():
        for scaling, usual in scales:
            scaling["default"] = usual * degree
        merged = copy.deepcopy(aligned.model).merge_and_unload()
        for scaling, usual in scales:
            scaling["default"] = usual
        wanted = merged(input_ids=torch.tensor([ids])).logits[0, -1].detach()
        torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-9)
    assert aligned.at(1.0).logits(ids).equal(aligned.logits(ids))  # nothing is left behind


@pytest.mark.parametrize("kept", [["norm"], ["embed_tokens", "lm_head"], ["lm_head", "norm"]])
def test_modules_that_an_adapter_replaces_have_degrees_too(kept: list[str]) -> None:
    base, _ = random_pair("llama")
    targets = ["q_proj", "embed_tokens"] if "embed_tokens" not in kept else ["q_proj"]
    config = peft.LoraConfig(r=2, target_modules=targets, modules_to_save=kept)
    model = peft.get_peft_model(base.model, config)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                p.add_(torch.randn(p.shape, generator=noise, dtype=p.dtype) * 0.3)
    plain, aligned = lora_partners(model.double().eval(), base.vocabulary)
    slider = aligned.at(1.0)
    asked = by_degrees([0.0, 0.5, 1.0, 0.5])
    alone = [slider.at(r.degree) for r in asked]
    wanted = [tuple(reference.decode(p, p, r)[:4]) for p, r in zip(alone, asked, strict=True)]
    assert run(Engine(slider, slider, max_rows=4), asked) == wanted
    with model.disable_adapter():
        off = model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].detach()
    torch.testing.assert_close(plain.logits([5, 6, 7]), off)
    assert not torch.allclose(slider.at(0.5).logits([5, 6, 7]), off)


def test_an_adapter_on_a_recurrent_model_is_refused() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=328, hidden_size=16, num_hidden_layers=1, state_size=4)
    lora = peft.LoraConfig(r=2, target_modules=["in_proj"])
    model = peft.get_peft_model(MambaForCausalLM(config).eval(), lora)
    with pytest.raises(UnsupportedError, match="recurrent state"):
        lora_partners(model, small_vocabulary())  # type: ignore[arg-type]
