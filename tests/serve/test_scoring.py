"""Scores of a given text, as evaluation harnesses ask for them, against the models themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from fastapi import FastAPI

from baco.pair import Pair
from baco.prompts import conversation_of

from .conftest import Client

JSON = {"Content-Type": "application/json"}
TEXT = "One city in Italy is Rome. " * 20
ASK = {"model": "toy", "max_tokens": 1, "echo": True, "logprobs": 1, "seed": 1, "temperature": 0}


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Client:
    return Client(app, raise_server_exceptions=False)


def asked(client: Client, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/completions", json=ASK | more)
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json()
    return whole


def expected(pair: Pair, side: int, ids: list[int]) -> list[float]:
    """Each token's log-probability after all before it, one prefix at a time."""
    partner = pair.sides[side].partner
    out = []
    for t in range(1, len(ids)):
        logits = partner.logits(ids[:t])
        out.append(float(torch.log_softmax(logits.double(), -1)[ids[t]]))
    return out


@pytest.mark.parametrize("side", ["aligned", "base"])
def test_every_token_is_scored_as_the_model_would(client: Client, pair: Pair, side: str) -> None:
    number = ("base", "aligned").index(side)
    ids = list(pair.text_ids(TEXT)[number])
    assert len(ids) > 130  # more than is read at once
    for prompt in (TEXT, ids):
        (choice,) = asked(client, prompt=prompt, score_side=side)["choices"]
        said = choice["logprobs"]
        assert said["token_logprobs"][0] is None
        assert said["top_logprobs"][0] is None
        assert len(said["tokens"]) == len(ids) + 1  # and the token that was written
        assert said["token_logprobs"][1:-1] == pytest.approx(expected(pair, number, ids), abs=1e-9)
        assert choice["text"].startswith(TEXT)
        assert "".join(said["tokens"]) == choice["text"]
        starts = said["text_offset"]
        assert [choice["text"][a : a + len(t)] for a, t in zip(starts, said["tokens"], strict=True)]
        assert [
            choice["text"][a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)
        ] == said["tokens"]
        for p, top in zip(said["token_logprobs"][1:-1], said["top_logprobs"][1:-1], strict=True):
            assert len(top) in (1, 2)
            assert max(top.values()) >= p


def test_method_base_is_scored_by_the_base_model(client: Client, pair: Pair) -> None:
    ids = list(pair.text_ids("One city")[0])
    (choice,) = asked(client, prompt="One city", method="base")["choices"]
    assert choice["logprobs"]["token_logprobs"][1:-1] == pytest.approx(expected(pair, 0, ids))


def test_nothing_need_be_written(client: Client, pair: Pair) -> None:
    whole = asked(client, prompt=["One city", "Once more"], max_tokens=0, n=2)
    assert [c["text"] for c in whole["choices"]] == ["One city"] * 2 + ["Once more"] * 2
    assert whole["usage"]["completion_tokens"] == 0
    for choice in whole["choices"]:
        assert choice["finish_reason"] == "length"
        assert len(choice["logprobs"]["tokens"]) == len(pair.text_ids(choice["text"])[1])


def test_echo_without_scores(client: Client) -> None:
    plain = asked(client, prompt="One city", echo=False, logprobs=None, max_tokens=4)
    echoed = asked(client, prompt="One city", logprobs=None, max_tokens=4)
    assert echoed["choices"][0]["text"] == "One city" + plain["choices"][0]["text"]
    assert echoed["choices"][0]["logprobs"] is None


def test_prompt_logprobs_as_vllm_tells_them(client: Client, pair: Pair) -> None:
    ids = list(pair.text_ids("One city in")[1])
    more = {"echo": False, "logprobs": None, "prompt_logprobs": 3}
    (choice,) = asked(client, prompt="One city in", **more)["choices"]
    first, *rest = choice["prompt_logprobs"]
    assert first is None
    for token, said, p in zip(ids[1:], rest, expected(pair, 1, ids), strict=True):
        own = said[str(token)]
        assert own["logprob"] == pytest.approx(p)
        assert len(said) in (3, 4)
        ranks = sorted(entry["rank"] for entry in said.values())
        assert ranks[:3] == [1, 2, 3]
        assert own["rank"] in ranks


def test_completions_tell_the_token_that_was_written_too(client: Client) -> None:
    more = {"echo": False, "temperature": 2, "top_p": 1, "max_tokens": 30}
    (choice,) = asked(client, prompt="One city", **more)["choices"]
    said = choice["logprobs"]
    for token, p, top in zip(
        said["tokens"], said["token_logprobs"], said["top_logprobs"], strict=True
    ):
        assert top[token] == p
    assert any(len(top) == 2 for top in said["top_logprobs"])


def test_scores_are_those_of_transformers(client: Client, pair: Pair) -> None:
    """The same weights, loaded and asked by transformers alone."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(pair.sides[1].label, dtype=torch.float64)
    ids = list(pair.text_ids(TEXT)[1])
    with torch.inference_mode():
        raw = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    own = raw[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    (choice,) = asked(client, prompt=ids)["choices"]
    assert choice["logprobs"]["token_logprobs"][1:-1] == pytest.approx(own, abs=1e-9)


def test_tokenize(client: Client, pair: Pair) -> None:
    def ids(**more: Any) -> Any:
        answer = client.post("/tokenize", json={"model": "toy", **more})
        assert answer.status_code == 200, answer.text
        assert answer.json()["count"] == len(answer.json()["tokens"])
        assert answer.json()["max_model_len"] == 512
        return answer.json()["tokens"]

    base, aligned = pair.text_ids("One city")
    assert ids(prompt="One city") == list(aligned)
    assert ids(prompt="One city", side="base") == list(base)
    talk = [{"role": "user", "content": "One city"}]
    assert ids(messages=talk) == list(pair.prompt_ids(conversation_of(talk))[1])
    for bad in ({}, {"prompt": "a", "messages": talk}, {"prompt": "a" * 10**6},
                {"messages": []}, {"prompt": "\ud800"}):  # fmt: skip
        body = json.dumps({"model": "toy", **bad})
        answer = client.post("/tokenize", content=body, headers=JSON)
        assert answer.status_code == 400, bad


def test_an_answer_that_ends_at_once_tells_its_end(client: Client, pair: Pair) -> None:
    """Harnesses take the last token off: it must not be one of the prompt's."""
    sizes, ended = set(), 0
    for text in ("One", "Once", "Name a", "Rome is", "A", "Italy", "1 2 3", "fox"):
        ids = list(pair.text_ids(text)[1])
        end = float(torch.log_softmax(pair.base.logits(ids).double(), -1)[0])
        for choice in asked(client, prompt=text, method="base", temperature=2, top_p=1, n=64)[
            "choices"
        ]:
            said = choice["logprobs"]
            sizes.add(len(said["tokens"]) - len(ids))
            assert {len(entry) for entry in said.values()} == {len(said["tokens"])}
            if not choice["baco"]["tokens"]:
                ended += 1
                assert said["token_logprobs"][-1] == pytest.approx(end)
    assert sizes == {1}
    assert ended
