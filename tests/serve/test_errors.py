"""Malformed requests: each is answered 4xx, in OpenAI's shape, with words that help."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fastapi import FastAPI

from baco.methods import METHODS
from baco.models.hf import HFPartner
from baco.serve import create_app

from .conftest import Client as TestClient
from .pairs import random_pair

CHAT = "/v1/chat/completions"
ASK = [{"role": "user", "content": "Name a city."}]
OK = {"model": "toy", "messages": ASK, "max_tokens": 2}


@pytest.fixture(scope="module")
def client(app: FastAPI) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


CORPUS = [
    ({}, "model"),
    ({"model": "toy"}, "messages"),
    ({**OK, "model": ""}, "model"),
    ({**OK, "model": 3}, "model"),
    ({**OK, "model": "gpt-4"}, "toy"),
    ({**OK, "model": "toy:bold"}, "preset"),
    ({**OK, "model": "toy:1.5"}, "preset"),
    ({**OK, "model": "toy:٠.٥"}, "preset"),
    ({**OK, "messages": []}, "messages"),
    ({**OK, "messages": "hello"}, "messages"),
    ({**OK, "messages": [{}]}, "messages"),
    ({**OK, "messages": [{"role": "user"}]}, "content"),
    ({**OK, "messages": [{"role": "user", "content": ""}]}, "empty"),
    ({**OK, "messages": [{"role": "user", "content": None}]}, "content"),
    ({**OK, "messages": [{"role": "wizard", "content": "x"}]}, "role"),
    ({**OK, "messages": [{"role": "assistant", "content": None}]}, "empty"),
    ({**OK, "messages": [*ASK, {"role": "assistant", "audio": {"id": "x"}}]}, "audio"),
    ({**OK, "messages": [*ASK, {"role": "assistant", "tool_calls": [{}]}]}, "function"),
    ({**OK, "messages": [{"role": "tool", "content": None}]}, "content"),
    ({**OK, "continue_final_message": True}, "continue_final_message"),
    ({**OK, "add_generation_prompt": False}, "add_generation_prompt"),
    (
        {**OK, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "content",
    ),
    ({**OK, "messages": [{"role": "user", "content": "x " * 4000}]}, "context window"),
    ({**OK, "messages": [{"role": "user", "content": "\ud800"}]}, "surrogate"),
    ({**OK, "n": 0}, "n"),
    ({**OK, "n": -1}, "n"),
    ({**OK, "n": 1.5}, "n"),
    ({**OK, "n": 10**6}, "limit"),
    ({**OK, "temperature": -0.1}, "temperature"),
    ({**OK, "temperature": 2.1}, "temperature"),
    ({**OK, "temperature": 1e-40}, "at least 0.001"),
    ({**OK, "temperature": "warm"}, "temperature"),
    ({**OK, "top_p": 0}, "top_p"),
    ({**OK, "top_p": 1.1}, "top_p"),
    ({**OK, "top_k": -2}, "top_k"),
    ({**OK, "min_p": 2}, "min_p"),
    ({**OK, "max_tokens": 0}, "max_tokens"),
    ({**OK, "max_tokens": 10**9}, "limit"),
    ({**OK, "max_completion_tokens": 3}, "differ"),
    ({**OK, "stop": ""}, "stop"),
    ({**OK, "stop": ["a", ""]}, "stop"),
    ({**OK, "stop": list("abcde")}, "stop"),
    ({**OK, "stop": {"a": 1}}, "stop"),
    ({**OK, "seed": "x"}, "seed"),
    ({**OK, "seed": 2**70}, "seed"),
    ({**OK, "stream": "perhaps"}, "stream"),
    ({**OK, "stream_options": 3}, "stream_options"),
    ({**OK, "logprobs": 7}, "logprobs"),
    ({**OK, "top_logprobs": 2}, "logprobs"),
    ({**OK, "logprobs": True, "top_logprobs": 99}, "top_logprobs"),
    ({**OK, "diversity": 1.01}, "diversity"),
    ({**OK, "diversity": "much"}, "diversity"),
    ({**OK, "gamma": 3}, "out of range"),
    ({**OK, "gamma": "slowly"}, "schedule"),
    ({**OK, "gamma": 0.1, "diversity": 0.1}, "give one"),
    ({**OK, "model": "toy:0.4", "diversity": 0.5}, "toy"),
    ({**OK, "router": "p@0.1", "diversity": 0.5}, "threshold"),
    ({**OK, "router": "p@0.1", "gamma": 0.5}, "threshold"),
    ({**OK, "router": "p-pun"}, "did you mean"),
    ({**OK, "router": "/etc/passwd.json"}, "files are not served"),
    ({**OK, "router": "punc>router.json@0.4"}, "files are not served"),
    ({**OK, "router": "json:loads"}, "functions are not served"),
    ({**OK, "router": "punc>os:system@0.4"}, "functions are not served"),
    ({**OK, "router": ""}, "router"),
    ({**OK, "router": "punc", "diversity": 0.5}, "threshold"),
    ({**OK, "router": "judge"}, "judge"),
    ({**OK, "method": "magic"}, "method"),
    ({**OK, "method": "alined"}, "did you mean"),
    ({**OK, "method": ""}, "method"),
    ({**OK, "method": 3}, "method"),
    ({**OK, "method": "base", "diversity": 0.5}, "leave it out"),
    ({**OK, "restart_shorter_than": -1}, "restart_shorter_than"),
    ({**OK, "frequency_penalty": 3}, "frequency_penalty"),
    ({**OK, "presence_penalty": "0.5"}, "presence_penalty"),
    ({**OK, "logit_bias": {"1": 500}}, "logit_bias"),
    ({**OK, "tools": [{"type": "function"}]}, "tools"),
    ({**OK, "response_format": {"type": "json_object"}}, "response_format"),
    ({**OK, "diversty": 0.5}, "diversty"),
]


@pytest.mark.parametrize(("body", "word"), CORPUS)
def test_each_is_answered_with_helpful_words(
    client: TestClient, body: dict[str, object], word: str
) -> None:
    import json

    answer = client.post(
        CHAT, content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert word in f"{error['message']} {error['param']}", error


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b'"text"', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"model": NaN}', "application/json"),
        (b"[" * 50_000, "application/json"),
        (b'{"model": "toy"}', "text/plain"),
        (b"model=toy", "application/x-www-form-urlencoded"),
    ],
)
def test_bodies_that_are_no_json_object(client: TestClient, content: bytes, kind: str) -> None:
    for path in (CHAT, "/v1/completions", "/baco/diversity"):
        answer = client.post(path, content=content, headers={"content-type": kind})
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, '{"model": "toy", "n": 1, "messages": [], "n": 2}'),
        (CHAT, '{"model": "toy", "messages": [{"role": "user", "content": "a", "content": "b"}]}'),
        ("/v1/completions", '{"prompt": "a", "prompt": "b"}'),
        ("/tokenize", '{"prompt": "a", "prompt": "b"}'),
        ("/baco/diversity", '{"texts": ["a"], "texts": ["b"]}'),
    ],
)
def test_a_key_that_is_given_twice_is_refused(client: TestClient, path: str, body: str) -> None:
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "twice in one object" in error["message"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "empty"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**9]}, "vocabulary"),
        ({"prompt": ["x"] * 65}, "prompt"),
        ({"prompt": ["x"] * 33, "n": 2}, "limit"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "x", "echo": True, "stream": True}, "echo"),
        ({"prompt": "x", "max_tokens": 0}, "echo"),
        ({"prompt": "x", "score_side": "left"}, "score_side"),
        ({"prompt": "x", "best_of": 4}, "best_of"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "logprobs": 6}, "logprobs"),
        ({"prompt": "x", "messages": []}, "messages"),
    ],
)
def test_malformed_completions(client: TestClient, body: dict[str, object], word: str) -> None:
    answer = client.post("/v1/completions", json={"model": "toy", **body})
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()["error"]
    assert word in f"{error['message']} {error['param']}", error


def test_a_method_of_ones_own_is_served(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS._items, "mine", replace(METHODS["baco"], name="mine"))
    answer = client.post(CHAT, json={**OK, "method": "mine", "seed": 1})
    assert answer.status_code == 200, answer.text
    plain = client.post(CHAT, json={**OK, "seed": 1})
    assert answer.json()["choices"] == plain.json()["choices"]
    assert answer.json()["baco"]["method"] == "mine"


def test_what_changes_nothing_is_accepted(client: TestClient) -> None:
    answer = client.post(
        CHAT,
        json={
            **OK, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": [],
            "tool_choice": "none", "response_format": {"type": "text"}, "user": "me",
            "metadata": {"a": "b"}, "store": False, "stop": None, "n": 1, "logprobs": None,
            "max_completion_tokens": 2, "stream": None,
        },
    )  # fmt: skip
    assert answer.status_code == 200, answer.text


def test_wrong_addresses_and_methods(client: TestClient) -> None:
    assert client.get("/v2").status_code == 404
    assert "/v1" in client.get("/v2").json()["error"]["message"]
    assert client.get(CHAT).status_code == 405
    assert [client.head(path).status_code for path in ("/", "/health")] == [200, 200]
    assert len(client.get("/v1/models/" + "x" * 9000).text) < 400
    assert len(client.get("/" + "x" * 9000).text) < 400
    assert client.get("/v1/models/none").status_code == 404
    assert client.get("/baco/calibration?pair=toy&router=nope").status_code == 400
    assert client.get("/baco/calibration?pair=nope&router=p").status_code == 404
    assert client.get("/static/../app.py").status_code == 404


@pytest.fixture(scope="module")
def failing() -> FastAPI:
    """A server whose aligned model gives no numbers, which shows only when it runs."""
    pair = random_pair.__wrapped__("broken")
    partner = pair.aligned
    assert isinstance(partner, HFPartner)
    partner.model.get_output_embeddings().weight.data[5] = torch.nan
    return create_app({"toy": pair})


BODIES = [
    (CHAT, {**OK, "router": "rand@0.5"}),
    (CHAT, {**OK, "method": "aligned", "n": 3}),
    ("/v1/completions", {"model": "toy", "prompt": "Hi there", "max_tokens": 0, "echo": True,
                         "logprobs": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_model_that_gives_no_numbers_is_not_worth_another_try(
    failing: FastAPI, path: str, body: dict[str, object]
) -> None:
    answer = TestClient(failing, raise_server_exceptions=False).post(path, json=body)
    assert answer.status_code == 500
    assert "retry-after" not in answer.headers
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "model_failed", None)
    for words in ("the aligned model", "float64", "not finite", "bfloat16"):
        assert words in error["message"]


def test_so_it_says_in_a_stream_and_the_server_goes_on(failing: FastAPI) -> None:
    client = TestClient(failing, raise_server_exceptions=False)
    lines = client.post(CHAT, json={**OK, "router": "rand@0.5", "stream": True}).text
    assert '"code":"model_failed"' in lines.replace(" ", "")
    base = client.post(CHAT, json={**OK, "method": "base"})  # the other side is well
    assert base.is_success, base.text
    assert client.get("/health").json()["status"] == "ok"
