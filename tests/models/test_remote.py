"""Pairs behind servers: the same samples as local pairs, bounds where less is known, errors."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import baco
from baco.cli.job import GenerateJob
from baco.engine import Request, Warp, reference
from baco.engine.noise import row_key
from baco.engine.scores import score
from baco.engine.warp import nucleus
from baco.errors import BacoError, InputError, PairError, UnknownNameError
from baco.methods.settings import make_setting
from baco.models.client import Limiter
from baco.models.endpoint import Endpoint
from baco.models.known import bundled_folder
from baco.models.remote import RemotePartner, Top, beyond, names_of
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.routers import parse
from support import golden
from support.engines import drain
from support.openai_server import FakeServer

ASK = "Suggest a summer trip destination."
FOLDERS = (str(bundled_folder("base")), str(bundled_folder("aligned")))


def servers(**options: Any) -> tuple[FakeServer, FakeServer]:
    tiny = golden.tiny()
    return FakeServer(tiny.base, **options), FakeServer(tiny.aligned, **options)


def remote(made: tuple[FakeServer, FakeServer], **options: Any) -> Pair:
    base, aligned = (
        server.endpoint(tokenizer=folder, **options)
        for server, folder in zip(made, FOLDERS, strict=True)
    )
    return Pair.remote(base=base, aligned=aligned, name="remote")


EXACT = ("rand@0.5", "p@0.6", "p-a@0.6", "p-top3@0.2", "h@0.8", "h-a@0.5", "pr@0.9", "hr@1.5",
         "punc", "fc", "punc-both", "p-punc@0.6", "h-fc@0.8", "p-fc-any@0.3")  # fmt: skip


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_whole_distributions_give_the_local_samples(temperature: float) -> None:
    made = servers()
    there, here = remote(made), golden.tiny()
    for spec in EXACT:
        how: dict[str, Any] = {
            "n": 2, "router": spec, "temperature": temperature, "max_new_tokens": 12, "seed": 3,
        }  # fmt: skip
        got, wanted = there.generate(ASK, **how), here.generate(ASK, **how)
        for ours, theirs in zip(got, wanted, strict=True):
            assert (ours.token_ids, ours.sources) == (theirs.token_ids, theirs.sources), spec
            for side in ours.details["remote"].values():
                assert side["beyond"] == 0
                assert side["least_mass"] == pytest.approx(1, abs=1e-4)
    for method in ("base", "aligned", "nudging"):
        how = {"n": 2, "method": method, "max_new_tokens": 12}
        assert there.generate(ASK, **how).texts == here.generate(ASK, **how).texts


def test_one_side_may_be_local() -> None:
    made = servers()
    mixed = Pair.remote(
        base=made[0].endpoint(tokenizer=FOLDERS[0]), aligned=FOLDERS[1], device="cpu"
    )
    how: dict[str, Any] = {"n": 2, "router": "p-punc@0.6", "max_new_tokens": 12}
    assert mixed.generate(ASK, **how).texts == golden.tiny().generate(ASK, **how).texts
    assert made[0].requests
    assert not made[1].requests


@pytest.mark.parametrize("shape", ["content", "text"])
def test_tokens_named_otherwise(shape: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDERS[0])
    tokens = golden.tiny().token_bytes
    names = [t.decode(errors="replace") or tokenizer.convert_ids_to_tokens(i)
             for i, t in enumerate(tokens)]  # fmt: skip
    known = names_of(tokenizer, tokens)
    assert all(known[n] == i or names.count(n) > 1 for i, n in enumerate(names) if n in known)
    made = servers(shape=shape, names=names, strict=True)
    pair = remote(made, top_logprobs=20)
    same = remote(servers(), top_logprobs=20)
    how: dict[str, Any] = {"n": 2, "max_new_tokens": 8}
    assert pair.generate(ASK, **how).texts == same.generate(ASK, **how).texts
    refused = [b for b in made[1].requests if "return_tokens_as_token_ids" in b]
    assert len(refused) < len(made[1].requests)  # asked once with it, then without


def test_few_tokens_equal_the_oracle_and_no_position_is_asked_twice() -> None:
    made = servers()
    pair = remote(made, top_logprobs=6)
    base, aligned = pair.prompt_ids(conversation_of(ASK))
    cases = {
        "p-punc@0.6": Warp(),
        "h@0.5": Warp(temperature=0.8),
        "hr@1.2": Warp(top_p=1.0),
        "p-top3@0.3": Warp(temperature=0),
    }
    for spec, warp in cases.items():
        asked = [
            Request(base, aligned, parse(spec), row_key(0, ASK, i), warp, max_new_tokens=10)
            for i in range(2)
        ]
        engine = baco.engine.Engine(pair.base, pair.aligned)
        for request, got in zip(asked, drain(engine, map(engine.submit, asked)), strict=True):
            wanted = reference.decode(pair.base, pair.aligned, request)
            assert got == (wanted.tokens, wanted.sources, wanted.begins, wanted.finish), spec
    for server in made:
        prompts = [tuple(body["prompt"]) for body in server.requests]
        assert len(set(prompts)) == len(prompts)
        assert all(body["max_tokens"] == 1 for body in server.requests)


def test_statistics_of_few_tokens_are_exact_or_bounded() -> None:
    tiny = golden.tiny()
    pair = remote(servers(), top_logprobs=8)
    prompts = pair.prompt_ids(conversation_of(ASK))
    answer = tiny.generate(ASK, n=1, max_new_tokens=12)[0].token_ids
    gaps = []
    for whole, part, prompt in zip(
        (tiny.base, tiny.aligned), (pair.base, pair.aligned), prompts, strict=True
    ):
        for end in range(len(answer)):
            ids = (*prompt, *answer[:end])
            truth = score(whole.logits(ids)[None], Warp(), tiny.aligned.vocabulary)
            seen = score(part.logits(ids)[None], Warp(), part.vocabulary, partial=True)
            assert seen.top_token == truth.top_token
            assert seen.top_prob == pytest.approx(truth.top_prob, abs=1e-5)
            assert seen.top_mean(5) == pytest.approx(truth.top_mean(5), abs=1e-5)
            probs = seen.raw.exp()
            rest = max(0.0, 1 - float(probs.sum()))
            least = float(probs[probs > 0].min())
            width = int((probs == 0).sum())
            bound = rest * math.log(max(1.0, width * least / rest)) if rest > 1e-6 else 1e-4
            gap = float(truth.entropy - seen.entropy)
            assert -1e-4 <= gap <= bound + 1e-4
            gaps.append(gap)
    assert max(gaps) > 1e-3  # the case is not trivial


@given(
    st.lists(st.floats(0.01, 1.0), min_size=6, max_size=30),
    st.integers(2, 29),
    st.sampled_from([Warp(), Warp(temperature=0.6), Warp(temperature=1.5, top_p=0.7),
                     Warp(top_p=1.0, min_p=0.3), Warp(top_p=1.0), Warp(0.7, 0.8, 0, 0.2),
                     Warp(1.3, 0.95, 3)]),
)  # fmt: skip
def test_sampling_that_is_not_beyond_is_exact(weights: list[float], k: int, how: Warp) -> None:
    weights = [w + i * 1e-4 for i, w in enumerate(weights)]  # no ties
    logs = torch.tensor(weights, dtype=torch.float64)
    logs = (logs / logs.sum()).log()
    k = min(k, len(weights))
    values, ids = logs.topk(k)
    if beyond(Top(ids.numpy(), values.numpy()), how, len(weights)):
        return
    part = torch.full_like(logs, -torch.inf).scatter(0, ids, values)
    full = [torch.zeros(len(weights), dtype=torch.float64).scatter(0, i[0], x[0].exp())
            for i, x in (nucleus(part[None], how), nucleus(logs[None], how))]  # fmt: skip
    assert torch.allclose(full[0] / full[0].sum(), full[1])


def test_what_went_beyond_is_counted() -> None:
    pair = remote(servers(), top_logprobs=2)
    sample = pair.generate(ASK, n=1, method="base", top_p=0.99, max_new_tokens=10)[0]
    told = sample.details["remote"]["base"]
    assert told["top_logprobs"] == 2
    assert 0 < told["beyond"] <= told["positions"]
    assert told["least_mass"] < 0.99
    assert baco.Sample.from_dict(sample.as_dict()).details == sample.details
    assert not beyond(Top(np.array([0, 1]), np.log([0.5, 0.45])), Warp(), 9)
    assert beyond(Top(np.array([0, 1]), np.log([0.5, 0.35])), Warp(), 9)


def test_the_share_of_uncertain_decisions_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    setting = make_setting(method="base", top_p=0.99, max_new_tokens=10)
    prompts = [conversation_of(ASK)]

    def said(top: int) -> str:
        pair = remote(servers(), top_logprobs=top)
        GenerateJob(pair, setting, prompts, 2, None, None, True, None).run({})
        return " ".join(capsys.readouterr().err.split())

    told = re.search(r"([\d.]+)% of the base side's decisions are uncertain \((\d+) of (\d+)\)",
                     said(2))  # fmt: skip
    assert told
    share, some, all_ = map(float, told.groups())
    assert 0 < some <= all_
    assert share == pytest.approx(100 * some / all_, abs=0.06)
    assert "uncertain" not in said(400)


@pytest.mark.parametrize(
    ("spec", "words"),
    [("p-top9", r"needs base top-9 \(it has top-8\)"), ("p-ahead3", "needs base logits"),
     ("judge", "needs aligned logits and base logits")],
)  # fmt: skip
def test_routers_are_refused_before_anything_is_asked(spec: str, words: str) -> None:
    made = servers()
    with pytest.raises(InputError, match=words) as caught:
        remote(made, top_logprobs=8).generate(ASK, n=1, router=spec)
    assert "p-punc" in caught.value.hint
    assert spec not in caught.value.hint.split(", ")
    with pytest.raises(InputError, match=r"'diverse-beam' needs aligned logits.*would do: baco"):
        remote(made).generate(ASK, n=2, method="diverse-beam")
    assert not any(server.requests or server.listed for server in made)


def test_failures_are_repeated_and_limits_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    made = servers()
    made[1].before = [(429, {}), (503, {}), httpx.ConnectError("gone")]
    pair = remote(made, key_env="MY_KEY")
    how: dict[str, Any] = {"n": 1, "max_new_tokens": 4}
    assert pair.generate(ASK, **how).texts == golden.tiny().generate(ASK, **how).texts
    assert set(made[1].keys) == {"Bearer secret"}
    now, slept = [0.0], []
    limiter = Limiter(4.0, lambda: now[0], slept.append)
    for _ in range(3):
        limiter.wait()
    assert slept == [0.25, 0.5]
    now[0] = 9.0
    limiter.wait()
    assert len(slept) == 2


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ([(429, {"error": {"message": "slow down"}})] * 2,
         r"had no room in 2 attempts: status 429: slow down \(.*requests_per_second"),
        ([(401, {"error": "bad key"})], r"refused: status 401: bad key \(set OPENAI_API_KEY"),
        ([(404, {"error": {"message": "no m"}})], r"status 404: no m \(check the model's name"),
        ([(200, {"choices": [{"text": "x", "logprobs": None}]})], "gave no log-probabilities"),
        ([(200, {"choices": []})], "does not speak the OpenAI format"),
        ([(200, {"choices": [{"logprobs": {"top_logprobs": [{"odd": -0.1}]}}]})],
         "finds 'odd' likeliest"),
        ([(200, {"choices": [{"logprobs": {"top_logprobs": [{"a": math.nan, "b": -1.0}]}}]})],
         r"log-probabilities that are none: not numbers.*bfloat16"),
        ([(200, {"choices": [{"logprobs": {"top_logprobs": [{"a": math.inf}]}}]})],
         "2.72 together"),
        ([(200, {"choices": [{"logprobs": {"top_logprobs": [{"a": -0.1, "b": -0.2}]}}]})],
         "1.72 together where 1 is all"),
        ([httpx.ReadTimeout("slow")] * 2, "gave no answer in 2 attempts: ReadTimeout"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(before: list[Any], words: str) -> None:
    made = servers()
    made[1].before = list(before)
    with pytest.raises(BacoError, match=words) as caught:
        remote(made, retries=1).generate(ASK, n=1, max_new_tokens=2)
    assert "\n" not in str(caught.value)


def test_errors_of_the_first_look() -> None:
    made = servers(most=5)
    with pytest.raises(PairError, match=r"status 400: Requested logprobs of 9, max allowed: 5"):
        remote(made, top_logprobs=9).generate(ASK, n=1)
    made = servers(models=["other", "third"])
    with pytest.raises(PairError, match=r"has no model 'm' \(it has: other, third\)"):
        remote(made).generate(ASK, n=1)
    assert not made[1].requests
    silent = remote(servers(models=None))
    assert silent.generate(ASK, n=1, max_new_tokens=2).texts
    nowhere = Endpoint("http://127.0.0.1:9/v1", "m", tokenizer=FOLDERS[1])
    with pytest.raises(BacoError, match=r"gave no answer in 1 attempt: ConnectError.*network"):
        Pair.remote(base=nowhere, aligned=nowhere).generate(ASK, n=1)
    small = remote(servers(), context_window=5)
    with pytest.raises(InputError, match="5"):
        small.generate(ASK, n=1)


def test_specs() -> None:
    read = Endpoint.parse(
        "remote:http://h:8000/v1#org/m:7b?tokenizer=./t&top_logprobs=50&workers=3"
    )
    assert read == Endpoint("http://h:8000/v1", "org/m:7b", "./t", top_logprobs=50, workers=3)
    for spec, words in {
        "remote:h:8000#m": "is no http address",
        "remote:http://h/v1": "has no model name",
        "remote:http://h#m?top_logprobs=x": "'x' of a remote model is not a number",
        "remote:http://h#m?top_logprobs=1": "use at least 2",
        "remote:http://h#m?timeout=0": "use a positive number",
        "remote:http://h#m?workers=0": "use at least 1",
    }.items():
        with pytest.raises(InputError, match=words):
            Endpoint.parse(spec)
    with pytest.raises(UnknownNameError, match="did you mean 'tokenizer'"):
        Endpoint.parse("remote:http://h#m?tokeniser=x")
    folders = [f"remote:http://h/v1#m?tokenizer={folder}" for folder in FOLDERS]
    pair = baco.load(",".join(folders))
    assert isinstance(pair.base, RemotePartner)
    assert pair.one_tokenizer
    with pytest.raises(InputError, match="adapter needs its base model's weights"):
        baco.load(folders[0], adapter="x")


def test_more_tokens_than_ends_are_needed() -> None:
    vocabulary = golden.tiny().aligned.vocabulary
    many = replace(vocabulary, is_end=torch.arange(vocabulary.size) < 3)
    endpoint = servers()[0].endpoint(top_logprobs=3)
    with pytest.raises(InputError, match=r"beside the 3 end tokens of m \(use at least 4\)"):
        RemotePartner(endpoint, many, {}, torch.device("cpu"))
