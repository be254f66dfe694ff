"""Fields that clients send beside those served: neutral ones pass, others never silently."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import FastAPI

from baco.pair import Pair
from baco.serve import Settings, create_app

from .conftest import Client

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ASK = {"model": "toy", "messages": [{"role": "user", "content": "Name a city."}], "max_tokens": 2,
       "seed": 1}  # fmt: skip
TEXT = {"model": "toy", "prompt": "One city", "max_tokens": 2, "seed": 1}

NEUTRAL: list[dict[str, Any]] = [
    {"repetition_penalty": 1}, {"repetition_penalty": 1.0}, {"frequency_penalty": 0},
    {"presence_penalty": 0.0}, {"top_k": -1}, {"top_k": 0}, {"min_p": 0}, {"min_tokens": 0},
    {"max_tokens": -1}, {"max_tokens": 2.0}, {"ignore_eos": False}, {"cache_prompt": True},
    {"chat_template_kwargs": {}}, {"best_of": 1}, {"best_of": 2, "n": 2}, {"stop": []},
    {"length_penalty": 1}, {"skip_special_tokens": True}, {"stop_token_ids": []},
    {"use_beam_search": False}, {"logit_bias": {}}, {"prompt_cache_retention": "24h"},
    {"stream_options": {"include_usage": None}}, {"typical_p": 1}, {"dry_multiplier": 0.0},
    {"xtc_probability": 0}, {"mirostat_mode": 0}, {"anything_else": None},
]  # fmt: skip
CHAT_NEUTRAL: list[dict[str, Any]] = [
    {"verbosity": "medium"}, {"reasoning_effort": "medium"}, {"service_tier": "auto"},
    {"tools": [], "tool_choice": "none"}, {"modalities": ["text"]}, {"moderation": None},
]  # fmt: skip


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Client:
    return Client(app, raise_server_exceptions=False)


def texts(client: Client, path: str, body: dict[str, Any]) -> list[Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert "warnings" not in answer.json()["baco"]
    return [choice["baco"]["tokens"] for choice in answer.json()["choices"]]


def test_what_changes_nothing_passes(client: Client) -> None:
    for path, body, more in ((CHAT, ASK, NEUTRAL + CHAT_NEUTRAL), (COMPLETIONS, TEXT, NEUTRAL)):
        plain = texts(client, path, body)
        for extra in more:
            said = texts(client, path, body | extra)
            assert said[0][:2] == plain[0][:2], extra


def test_null_is_as_good_as_absent(client: Client) -> None:
    for path, body in ((CHAT, ASK), (COMPLETIONS, TEXT)):
        plain = texts(client, path, body)
        schema = client.get("/openapi.json").json()["components"]["schemas"]
        name = "ChatRequest" if path == CHAT else "CompletionRequest"
        nulls = dict.fromkeys(set(schema[name]["properties"]) - set(body))
        assert "n" in nulls
        assert texts(client, path, body | nulls) == plain


UNMET: list[tuple[str, Any]] = [
    ("repetition_penalty", 1.1), ("frequency_penalty", 0.5), ("presence_penalty", True),
    ("min_tokens", 3), ("ignore_eos", True), ("best_of", 2), ("logit_bias", {"1": 5}),
    ("chat_template_kwargs", {"enable_thinking": False}), ("stop_token_ids", [1]),
    ("dry_multiplier", 0.8), ("diversty", 0.5), ("min_tokens", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), UNMET)
def test_what_is_not_honoured_is_refused_by_name(client: Client, name: str, value: Any) -> None:
    for path, body in ((CHAT, ASK), (COMPLETIONS, TEXT)):
        answer = client.post(path, json={**body, name: value})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == name
        assert name in error["message"]


def test_a_lenient_server_answers_with_a_warning(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(create_app({"toy": pair}, Settings(lenient=True)))
    caplog.set_level(logging.WARNING)
    extra = {"repetition_penalty": 1.1, "tools": [{"type": "function"}], "top_k": -1}
    warned = ["'repetition_penalty' is not honoured", "'tools' is not honoured"]
    answer = client.post(CHAT, json=ASK | extra)
    assert answer.json()["baco"]["warnings"] == warned
    plain = client.post(CHAT, json=ASK).json()
    assert answer.json()["choices"] == plain["choices"]
    assert "warnings" not in plain["baco"]
    assert "repetition_penalty, tools" in caplog.text
    streamed = client.post(CHAT, json=ASK | extra | {"stream": True}).text
    assert warned[0] in streamed
    assert client.post(CHAT, json=ASK | {"temperature": 9}).status_code == 400


def test_an_unknown_model_is_told_the_presets(client: Client) -> None:
    message = client.post(CHAT, json=ASK | {"model": "gpt-4o"}).json()["error"]["message"]
    for name in ("toy", "toy:diverse", "toy:0.6"):
        assert name in message
