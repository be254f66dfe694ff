"""Partners with different tokenizers exchange text at unit boundaries."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from baco.engine import Engine, Request, Warp, reference
from baco.engine.noise import row_key
from baco.engine.penalties import Penalties
from baco.engine.units import START, segment
from baco.errors import InputError, UnsupportedError
from baco.partners.bridge import BridgedPartner
from baco.routers import parse
from support.bridged import ALIGNED, BASE, pair
from support.engines import run


def requests(
    base: BridgedPartner, aligned: BridgedPartner, spec: str, count: int = 5
) -> list[Request]:
    return [
        Request(base.to_shared((1, 2 + i % 9)), aligned.to_shared((1, 3)), parse(spec),
                row_key(0, "p", i), max_new_tokens=25)
        for i in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("spec", ["rand@0.5", "p@0.6", "p-punc@0.7", "pr@1", "h-fc@1", "rand@0"])
def test_loop_equals_the_oracle(spec: str) -> None:
    base, aligned = pair()
    wanted = [tuple(reference.decode(base, aligned, r)[:4]) for r in requests(base, aligned, spec)]
    for rows in (2, 9):
        assert run(Engine(base, aligned, max_rows=rows), requests(base, aligned, spec)) == wanted


def test_sources_change_only_between_units_and_own_tokens_are_kept() -> None:
    base, aligned = pair()
    names = [*ALIGNED, *BASE]
    changes = 0
    for tokens, sources, begins, _ in run(
        Engine(base, aligned), requests(base, aligned, "rand@0.5", 15)
    ):
        text = "".join(names[i] for i in tokens)
        starts, at = set(), 0
        for unit in segment(text):
            starts.add(at)
            at += len(unit)
        at = 0
        for k, token in enumerate(tokens):
            assert sources[k] == (token >= len(ALIGNED))
            if k and sources[k] != sources[k - 1]:
                assert begins[k]
                assert at in starts
                changes += 1
            at += len(names[token])
        assert "".join(BASE[i] for i in base.to_own(tokens)) == text
    assert changes > 20


def test_a_growing_unit_is_encoded_anew() -> None:
    base, _ = pair()
    cat, nt = ALIGNED.index(" is"), ALIGNED.index("n't")
    assert base.to_own([cat]) == [BASE.index(t) for t in (" ", "i", "s")]
    assert base.to_own([cat, nt])[:4] == [BASE.index(t) for t in (" ", "i", "s", "n")]


def test_an_answer_is_set_off_from_the_opening_by_a_space_for_the_base_side_alone() -> None:
    dog, stop, nt = ALIGNED.index(" dog"), ALIGNED.index("."), ALIGNED.index("n't")
    own = {t: BASE.index(t) for t in BASE}

    def read(opening: str, prompt: str, answer: list[int]) -> list[int]:
        base, aligned = pair(opening)
        ids = [own[t] for t in prompt]
        text = base.to_own([*base.to_shared(ids), *answer])
        assert text[: len(ids)] == ids
        assert aligned.to_own([*aligned.to_shared((1,)), *answer]) == [1, *answer]
        return text[len(ids) :]

    space = own[" "]
    assert read("ct", "ddct", [nt]) == [space, own["n"], own["'"], own["t"]]
    # A unit that grows keeps its space, and what comes later has none.
    assert read("ct", "ddct", [nt, nt, stop]) == [
        *(space, own["n"], own["'"], own["t"]), *(own["n"], own["'"], own["t"]), own["."]
    ]  # fmt: skip
    # Not where there is white space, nor in a continued answer, nor where the base side begins.
    assert read("ct", "ddct", [dog]) == [own[" d"], own["og"]]
    assert read("ct", "ddctd", [nt]) == read("", "ddct", [nt]) == [own["n"], own["'"], own["t"]]
    base, _ = pair("ct")
    begun = base.to_shared([own["c"]])
    assert base.to_own([*base.to_shared([own["c"], own["t"]]), *begun, nt])[2] == own["c"]


@pytest.mark.parametrize("spec", ["rand@0.5", "p-punc@0.7"])
def test_the_oracle_reads_that_space_too(spec: str) -> None:
    base, aligned = pair("t")
    prompt = base.to_shared((1, BASE.index("t")))
    asked = [
        replace(r, base_prompt=prompt, aligned_prompt=aligned.to_shared((1, 2 + i % 7)))
        for i, r in enumerate(requests(base, aligned, spec, 14))
    ]
    wanted = [tuple(reference.decode(base, aligned, r)[:4]) for r in asked]
    assert run(Engine(base, aligned, max_rows=4), asked) == wanted
    assert {ALIGNED[w[0][0]][0] for w in wanted if w[0][0] < len(ALIGNED)} - {"<", " ", "\n"}
    assert wanted != [tuple(reference.decode(*pair(), r)[:4]) for r in asked]


def test_penalties_count_what_each_side_reads() -> None:
    base, aligned = pair()
    prompt = base.to_shared((1, 2))
    past = base.past(prompt, [ALIGNED.index(" cat")])
    assert past.prompt.tolist() == list(prompt)
    assert past.answer.tolist() == list(
        base.to_shared([BASE.index(t) for t in (" ", "c", "a", "t")])
    )
    grown = base.past(prompt, [ALIGNED.index(" cat"), ALIGNED.index(".")])  # goes on from there
    assert grown.answer.tolist()[4:] == list(base.to_shared([BASE.index(".")]))
    plain = [
        tuple(reference.decode(base, aligned, r)[:4]) for r in requests(base, aligned, "p@0.6")
    ]
    for how in (Penalties(frequency_penalty=1.5), Penalties(1.4, dry_multiplier=2.0)):
        asked = [replace(r, warp=Warp(penalties=how)) for r in requests(base, aligned, "p@0.6")]
        wanted = [tuple(reference.decode(base, aligned, r)[:4]) for r in asked]
        assert wanted != plain
        assert run(Engine(base, aligned, max_rows=2), asked) == wanted


def test_a_barred_token_is_barred_for_the_side_that_has_it() -> None:
    base, aligned = pair()
    asked = requests(base, aligned, "rand@0.5")
    plain = [tuple(reference.decode(base, aligned, r)[:4]) for r in asked]
    barred = [
        replace(r, barred=((k, tokens[k]),))
        for r, (tokens, *_) in zip(asked, plain, strict=True)
        for k in range(min(4, len(tokens)))
    ]
    assert len({token < len(ALIGNED) for r in barred for _, token in r.barred}) == 2
    wanted = [tuple(reference.decode(base, aligned, r)[:4]) for r in barred]
    for request, (tokens, *_) in zip(barred, wanted, strict=True):
        ((place, token),) = request.barred
        assert len(tokens) <= place or tokens[place] != token
    assert run(Engine(base, aligned, max_rows=3), barred) == wanted


def test_logits_are_over_own_ids_for_the_engine_and_over_all_for_others() -> None:
    base, _ = pair()
    told = []
    for make in (base.own_cache, base.new_cache):
        cache = make()
        cache.add(3)
        texts = [list(base.to_shared((1, 2 + i))) for i in range(3)]
        cache.open(texts, [0, 1, 2])
        # One that the other side wrote, which is several own ones; one of its own; none.
        new = [[ALIGNED.index(" cat")], list(base.to_shared((BASE.index("s"),))), [0]]
        told.append(cache.feed(torch.tensor(new), torch.tensor([1, 1, 0]))[:2, -1])
        for text, more, logits in zip(texts, new, told[-1], strict=False):
            wanted = base.logits([*text, *more])
            own = base.partner.logits(base.to_own([*text, *more]))
            assert logits.tolist() == (own if make == base.own_cache else wanted).tolist()
    assert told[0].shape[1] == len(BASE)
    assert told[1].shape[1] == len(BASE) + len(ALIGNED)


def test_look_ahead_across_tokenizers_is_refused_only_when_asked_for() -> None:
    base, aligned = pair()
    assert Engine(base, aligned).longest == 0
    assert Engine(base, aligned, lookahead="off").longest == 0
    with pytest.raises(UnsupportedError, match="cannot look ahead"):
        Engine(base, aligned, lookahead=4)
    with pytest.raises(InputError, match="different tokenizers"):
        Engine(base.partner, aligned.partner)


def test_unit_states_are_one_language_for_both_sides() -> None:
    base, aligned = pair()
    units = base.vocabulary.units
    assert units is aligned.vocabulary.units
    state = units.advance(torch.tensor([START]), torch.tensor([ALIGNED.index(" cat")]))
    letter = torch.tensor([len(ALIGNED) + BASE.index("s")])
    space = torch.tensor([len(ALIGNED) + BASE.index(" d")])
    assert not units.begins_token(state, letter)
    assert units.begins_token(state, space)
