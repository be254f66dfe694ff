"""Penalties and biases: their published formulas, and fast == slow whatever is guessed ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from baco.engine import Engine, Request, Warp, reference
from baco.engine.blend import Blend
from baco.engine.noise import row_key
from baco.engine.penalties import MOST, Past, Penalties, penalised
from baco.engine.scores import score
from baco.errors import InputError, UnsupportedError
from baco.partners.fake import FakePartner, fake_vocabulary
from baco.routers import parse
from support.engines import Decoded, fake_pair, random_pair, run

STRONG = {
    "repetition": Penalties(repetition_penalty=1.6),
    "frequency": Penalties(frequency_penalty=1.5),
    "presence": Penalties(presence_penalty=-1.2),
    "bias": Penalties(logit_bias=((3, 4.0), (7, -100.0))),
    "dry": Penalties(dry_multiplier=3.0, dry_allowed_length=1, dry_base=1.2),
    "all": Penalties(0.8, 0.6, 0.4, ((2, 1.5),), 0.8),
}


def requests_with(how: Warp, spec: str = "p@0.5", count: int = 4) -> list[Request]:
    return [
        Request((1, 2 + i % 3), (1, 2, 3 + i % 2), parse(spec), row_key(0, "p", i), how,
                max_new_tokens=24, turn_rule=i % 2 == 1)
        for i in range(count)
    ]  # fmt: skip


def oracle(pair: tuple[FakePartner, FakePartner], requests: list[Request]) -> list[Decoded]:
    return [tuple(reference.decode(*pair, request)[:4]) for request in requests]  # type: ignore[misc]


# --- fast == slow --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRONG)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_penalties_equal_the_oracle_whatever_is_guessed(name: str, temperature: float) -> None:
    pair = fake_pair()
    how = Warp(temperature, penalties=STRONG[name])
    for spec in ("p@0.5", "rand@0.5"):
        requests = requests_with(how, spec)
        wanted = oracle(pair, requests)
        plain = oracle(
            pair, [replace(r, warp=replace(how, penalties=Penalties())) for r in requests]
        )
        assert wanted != plain
        for lookahead, rows in (("off", 16), ("auto", 3), (3, 16)):
            engine = Engine(*pair, lookahead=lookahead, max_rows=rows)  # type: ignore[arg-type]
            assert run(engine, requests) == wanted, (spec, lookahead, rows)
        for draft in ("prompt-lookup", pair[0]):
            assert run(Engine(*pair, lookahead=4, draft=draft), requests) == wanted


def test_rows_with_and_without_penalties_share_a_batch() -> None:
    pair = fake_pair()
    requests = [
        row
        for how in (Warp(), *(Warp(penalties=p) for p in STRONG.values()), Warp(top_p=1))
        for row in requests_with(how, count=2)
    ]
    for rows in (3, 32):
        assert run(Engine(*pair, max_rows=rows), requests) == oracle(pair, requests)


def test_each_side_may_have_its_own() -> None:
    pair = fake_pair()
    requests = [
        replace(row, base_warp=Warp(penalties=STRONG["frequency"]))
        for row in requests_with(Warp(penalties=STRONG["bias"]))
    ]
    assert run(Engine(*pair), requests) == oracle(pair, requests)


@pytest.mark.parametrize("kind", ["linear", "geometric", "contrast"])
def test_blends_mix_what_penalties_have_changed(kind: str) -> None:
    pair = fake_pair()
    for name in ("repetition", "frequency", "bias"):
        how = Warp(penalties=STRONG[name])
        requests = [
            replace(row, blend=Blend(kind, 0.5), end_rule=False, turn_rule=False)  # type: ignore[arg-type]
            for row in requests_with(how, "rand@0")
        ]
        assert run(Engine(*pair), requests) == oracle(pair, requests)


def test_real_models_equal_the_oracle_in_float64() -> None:
    pair = random_pair("llama")
    for name in ("repetition", "all"):
        requests = [
            Request(tuple(range(10, 14 + i % 3)), tuple(range(20, 22)), parse("rand@0.5"),
                    row_key(0, "p", i), Warp(penalties=STRONG[name]), max_new_tokens=16)
            for i in range(3)
        ]  # fmt: skip
        assert run(Engine(*pair, max_rows=2), requests) == oracle(pair, requests)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_xtc_as_often_as_asked(share: float) -> None:
    pair = fake_pair()
    how = Warp(xtc=0.15, xtc_probability=share)
    requests = requests_with(how, "rand@0.5")
    assert run(Engine(*pair), requests) == oracle(pair, requests)
    assert oracle(pair, requests) != oracle(pair, requests_with(Warp(), "rand@0.5"))


def test_a_ban_holds_in_the_last_resort_too() -> None:
    """Both sides want to end, which is refused: what is drawn instead is not what is banned."""
    vocabulary = fake_vocabulary(["<end>", " a", " b", " c"])
    base = FakePartner(vocabulary, lambda ids: [0.0, 0.9, 0.05, 0.05])
    aligned = FakePartner(vocabulary, lambda ids: [0.3, 0.6, 0.05, 0.05])
    ban = Penalties(logit_bias=((0, 100.0), (1, -100.0)))
    request = Request((1,), (1,), parse("rand@0"), 5, Warp(penalties=ban), max_new_tokens=12)
    assert ban.on
    [out] = run(Engine(base, aligned), [request])
    assert out == tuple(reference.decode(base, aligned, request)[:4])
    assert len(out[0]) == 12
    assert 1 not in out[0]


# --- the formulas ---------------------------------------------------------------------------------

WORDS = ["<end>", " a", " b", " c", " d", "\n", " e"]


def changed(
    how: Penalties, prompt: list[int], answer: list[int], logits: list[float]
) -> list[float]:
    vocabulary = fake_vocabulary(WORDS)
    out = penalised(torch.tensor([logits]).double(), [Past.of(prompt, answer)], how, vocabulary)
    stops = vocabulary.stops_repeats
    slow = reference.penalised(torch.tensor(logits).double().numpy(), prompt, answer, how, stops)
    assert out[0].tolist() == pytest.approx(slow.tolist())
    return [round(a - b, 6) for a, b in zip(out[0].tolist(), logits, strict=True)]


LOGITS = [0.5, -1.0, 2.0, 0.0, 1.0, -3.0, 4.0]


def test_repetition_is_that_of_transformers() -> None:
    prompt, answer = [1, 2], [4, 4]
    how = Penalties(repetition_penalty=1.3)
    theirs = RepetitionPenaltyLogitsProcessor(1.3)(
        torch.tensor([prompt + answer]), torch.tensor([LOGITS]).double()
    )
    mine = penalised(
        torch.tensor([LOGITS]).double(), [Past.of(prompt, answer)], how, fake_vocabulary(WORDS)
    )
    assert torch.allclose(mine, theirs)


def test_frequency_and_presence_count_the_answer_alone() -> None:
    how = Penalties(frequency_penalty=0.5, presence_penalty=0.25)
    assert changed(how, [1, 2], [4, 4, 2], LOGITS) == [0, 0, -0.75, 0, -1.25, 0, 0]


def test_bias_comes_before_repetition_as_in_vllm() -> None:
    how = Penalties(repetition_penalty=2.0, logit_bias=((1, 3.0),))
    assert changed(how, [1], [], LOGITS)[1] == pytest.approx((-1.0 + 3.0) / 2 - -1.0)


def test_dry_takes_more_off_the_longer_the_repeat() -> None:
    how = Penalties(dry_multiplier=0.8)
    # a b c | a b: c would make the repeat "a b" (2 tokens, the allowed length) go on
    assert changed(how, [1, 2, 3], [1, 2], LOGITS) == [0, 0, 0, -0.8, 0, 0, 0]
    # e a b c | e a b: three tokens
    assert changed(how, [6, 1, 2, 3], [6, 1, 2], LOGITS) == [0, 0, 0, -1.4, 0, 0, 0]
    # one token is too short; and no repeat reaches over a line break
    assert not any(changed(how, [1, 2], [1], LOGITS))
    assert not any(changed(how, [1, 5, 2], [1, 5], LOGITS))
    assert not any(changed(how, [1, 5, 2, 3], [1, 5, 2], LOGITS))
    # what ends a repeat is never penalised
    assert not any(changed(how, [1, 2, 5], [1, 2], LOGITS))
    assert not any(changed(how, [1, 2, 0], [1, 2], LOGITS))


def test_dry_is_bounded_and_fast_where_everything_repeats() -> None:
    how = Penalties(dry_multiplier=1.0, dry_base=1.05)
    assert changed(how, [1] * 40, [1] * 400, LOGITS)[1] == -MOST


def test_what_is_out_of_range_says_so() -> None:
    for name, value in (
        ("repetition_penalty", 0.0), ("frequency_penalty", 2.1), ("presence_penalty", -3),
        ("dry_multiplier", -1), ("dry_base", 1.01), ("dry_allowed_length", 0),
        ("repetition_penalty", float("nan")), ("logit_bias", ((1, 101.0),)),
    ):  # fmt: skip
        with pytest.raises(InputError, match=name):
            Penalties(**{name: value})  # type: ignore[arg-type]


def test_vllm_refuses_them_by_name() -> None:
    from baco.vllm.inside.requests import of_request

    for how, name in ((STRONG["repetition"], "repetition_penalty"), (STRONG["bias"], "logit_bias")):
        [request] = requests_with(Warp(penalties=how), count=1)
        with pytest.raises(UnsupportedError, match=f"vLLM's step knows no {name}"):
            of_request(request, "baco")
    [request] = requests_with(Warp(xtc=0.1, xtc_probability=0.3), count=1)
    assert of_request(request, "baco").program.warps[1].xtc_probability == 0.3


def test_routers_and_ends_read_the_models_own_distribution() -> None:
    vocabulary, how = fake_vocabulary(WORDS), Warp(penalties=STRONG["all"])
    logits, past = torch.tensor([LOGITS]).double(), [Past.of([1], [6, 6])]
    plain, changed_ = score(logits, Warp(), vocabulary), score(logits, how, vocabulary, past=past)
    assert changed_.raw.equal(plain.raw)
    assert changed_.top_token.equal(plain.top_token)
    assert not torch.allclose(changed_.warped, plain.warped)
