"""Fields that clients send beside those served: neutral ones pass, others never silently."""

from __future__ import annotations

import json
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
    ("presence_penalty", True), ("min_tokens", 3), ("ignore_eos", True), ("best_of", 2),
    ("chat_template_kwargs", {"enable_thinking": False}), ("stop_token_ids", [1]),
    ("dry_sequence_breakers", ["."]), ("mirostat", 2), ("diversty", 0.5), ("min_tokens", False),
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
    extra = {"min_tokens": 1, "tools": [{"type": "function"}], "top_k": -1}
    warned = ["'min_tokens' is not honoured", "'tools' is not honoured"]
    answer = client.post(CHAT, json=ASK | extra)
    assert answer.json()["baco"]["warnings"] == warned
    plain = client.post(CHAT, json=ASK).json()
    assert answer.json()["choices"] == plain["choices"]
    assert "warnings" not in plain["baco"]
    assert "min_tokens, tools" in caplog.text
    streamed = client.post(CHAT, json=ASK | extra | {"stream": True}).text
    assert warned[0] in streamed
    assert client.post(CHAT, json=ASK | {"temperature": 9}).status_code == 400


PENALTIES: list[dict[str, Any]] = [
    {"repetition_penalty": 1.8}, {"frequency_penalty": 2}, {"presence_penalty": -2.0},
    {"logit_bias": {"40": -100, "41": 5.5}}, {"xtc_probability": 1, "xtc_threshold": 0.001},
    {"dry_multiplier": 5, "dry_allowed_length": 1, "temperature": 0},
]  # fmt: skip


@pytest.mark.parametrize("given", PENALTIES, ids=lambda given: next(iter(given)))
def test_penalties_do_over_http_what_they_do_in_python(
    client: Client, pair: Pair, given: dict[str, Any]
) -> None:
    more = {"max_tokens": 24, "n": 3}
    plain = {k: v for k, v in given.items() if k == "temperature"}  # greedy answers repeat
    answer = client.post(CHAT, json=ASK | more | given)
    assert answer.status_code == 200, answer.text
    local = dict(given)
    if "logit_bias" in local:
        local["logit_bias"] = {int(k): v for k, v in local["logit_bias"].items()}
    group = pair.generate("Name a city.", 3, max_new_tokens=24, seed=1, **local)
    texts = [sample.text for sample in group]
    assert [c["message"]["content"] for c in answer.json()["choices"]] == texts
    assert group.texts != pair.generate("Name a city.", 3, max_new_tokens=24, seed=1, **plain).texts


def test_distinct_answers_are_those_of_python_and_are_told(client: Client, pair: Pair) -> None:
    given = {"n": 8, "max_tokens": 1, "distinct": True, "temperature": 0.8, "top_p": 0.2}
    answer = client.post(CHAT, json=ASK | given)
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    how = {"max_new_tokens": 1, "temperature": 0.8, "top_p": 0.2, "seed": 1}
    group = pair.generate("Name a city.", 8, distinct=True, **how)
    texts = [sample.text for sample in group]
    assert [c["message"]["content"] for c in choices] == texts
    assert [c["baco"]["draws"] for c in choices] == [s.details["draws"] for s in group]
    assert [c["index"] for c in choices if "alike" in c["baco"]] == group.alike
    assert answer.json()["baco"]["draws"] == sum(c["baco"]["draws"] for c in choices)
    assert group.restarts > 0
    assert group.distinct > pair.generate("Name a city.", 8, **how).distinct
    streamed: dict[int, str] = {}
    for line in client.post(CHAT, json=ASK | given | {"stream": True}).text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                text = choice["delta"].get("content", "")
                streamed[choice["index"]] = streamed.get(choice["index"], "") + text
    assert [streamed[i] for i in range(8)] == texts


def test_banned_phrases_are_taken_back_in_streams_too(client: Client, pair: Pair) -> None:
    how = {"max_new_tokens": 24, "seed": 1, "temperature": 0.5}
    plain = pair.generate("Name a city.", 3, **how)
    ban = [s.text.strip()[:3] for s in plain if s.text.strip()[:3].isalnum()] + [
        word for s in plain for word in s.text.split()[:2]
    ]
    given = {"n": 3, "max_tokens": 24, "temperature": 0.5, "ban": ban}
    answer = client.post(CHAT, json=ASK | given)
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    group = pair.generate("Name a city.", 3, ban=ban, **how)
    texts = [sample.text for sample in group]
    assert [c["message"]["content"] for c in choices] == texts
    assert texts != [sample.text for sample in plain]
    told = [c["baco"].get("rewinds") for c in choices]
    assert told == [(s.details or {}).get("rewinds") for s in group]
    assert any(told)
    streamed = dict.fromkeys(range(3), "")
    for line in client.post(CHAT, json=ASK | given | {"stream": True}).text.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                streamed[choice["index"]] += choice["delta"].get("content", "")
    assert list(streamed.values()) == texts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ban", "a"), ("ban", [""]), ("ban", [" "]), ("ban", ["x" * 201]), ("ban", ["x"] * 1001),
        ("distinct", "sound"), ("distinct", 1), ("distinct", ["text"]),
        ("repetition_penalty", 0), ("repetition_penalty", 101), ("frequency_penalty", 2.1),
        ("presence_penalty", -3), ("logit_bias", {"1": 101}), ("logit_bias", {"one": 1}),
        ("logit_bias", {"-1": 1}), ("logit_bias", {"01": 1}), ("logit_bias", [1]),
        ("logit_bias", {"١": 1}), ("logit_bias", {"999999999": 1}), ("dry_multiplier", "1"),
        ("dry_base", 1.01), ("dry_allowed_length", 0), ("xtc_probability", 1.1),
        ("xtc_threshold", True), ("logit_bias", {str(i): 1 for i in range(1001)}),
    ],
)  # fmt: skip
def test_penalties_out_of_range_are_named(client: Client, name: str, value: Any) -> None:
    for path, body in ((CHAT, ASK), (COMPLETIONS, TEXT)):
        answer = client.post(path, json=body | {name: value})
        assert answer.status_code == 400, answer.text
        assert name in answer.json()["error"]["message"]
        assert len(answer.content) < 1000


def test_an_unknown_model_is_told_the_presets(client: Client) -> None:
    message = client.post(CHAT, json=ASK | {"model": "gpt-4o"}).json()["error"]["message"]
    for name in ("toy", "toy:diverse", "toy:0.6"):
        assert name in message


def test_ids_may_hold_two_paths(client: Client) -> None:
    """A pair that was named by two folders is listed by their paths."""
    for length, status in ((4000, 404), (6000, 400)):
        name = "/" + "x" * length
        for path, body in ((CHAT, ASK), (COMPLETIONS, TEXT), ("/tokenize", {"prompt": "a"})):
            assert client.post(path, json=body | {"model": name}).status_code == status
        found = client.get("/baco/calibration", params={"pair": name, "router": "p"})
        assert found.status_code == status
