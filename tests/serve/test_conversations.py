"""The conversations that clients send: the server, Python and files of prompts take them alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from baco.cli.inputs import read_prompts
from baco.pair import Pair
from baco.prompts import conversation_of

from .conftest import Client as TestClient

USER = {"role": "user", "content": "Name a city."}
SYSTEM = {"role": "system", "content": "Be brief."}
ASSISTANT = {"role": "assistant", "content": "Rome"}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}

SHAPES: dict[str, list[dict[str, Any]]] = {
    "several system messages": [SYSTEM, {"role": "developer", "content": "Be kind."}, USER],
    "a system message last": [USER, SYSTEM],
    "only a system message": [SYSTEM],
    "user after user": [USER, USER],
    "the assistant first": [ASSISTANT, USER],
    "an answer that is null": [USER, {"role": "assistant", "content": None}, USER],
    "an answer that is missing": [USER, {"role": "assistant"}, USER],
    "an empty answer": [USER, {"role": "assistant", "content": ""}, USER],
    "an answer as a client keeps it": [
        USER,
        ASSISTANT | {"refusal": None, "annotations": [], "audio": None, "tool_calls": None},
        USER,
    ],
    "text parts": [{"role": "user", "content": [{"type": "text", "text": "Name "},
                                                {"type": "text", "text": "a city."}]}],
    "a prefill": [USER, ASSISTANT],
    "a tool": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
               {"role": "tool", "tool_call_id": "a", "content": "Rome"}],
    "a name": [USER | {"name": "bob"}],
}  # fmt: skip


@pytest.mark.parametrize("messages", SHAPES.values(), ids=SHAPES)
def test_every_door_takes_it_and_gives_the_same(
    app: FastAPI, pair: Pair, tmp_path: Path, messages: list[dict[str, Any]]
) -> None:
    answer = TestClient(app).post(
        "/v1/chat/completions",
        json={"model": "toy", "messages": messages, "n": 2, "seed": 3, "max_tokens": 8},
    )
    assert answer.status_code == 200, answer.text
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"messages": messages}))
    (conversation,) = read_prompts((), str(file), None)
    assert conversation == conversation_of(messages)
    group = pair.generate(messages, n=2, seed=3, max_new_tokens=8)
    assert [c["message"]["content"] for c in answer.json()["choices"]] == [
        sample.text for sample in group
    ]
    assert group[0].conversation == conversation
    size = len(pair.prompt_ids(conversation)[1])
    assert answer.json()["usage"]["prompt_tokens"] == size


def test_an_answer_goes_on_where_the_prefill_ends(app: FastAPI, pair: Pair) -> None:
    texts = []
    for ids in pair.prompt_ids(conversation_of([USER, ASSISTANT])):
        texts.append(b"".join(pair.token_bytes[i] for i in ids).decode())
    assert texts == [
        "Question: Name a city.\nAnswer: Rome",
        "user: Name a city.assistant: Rome",
    ]
    body = {"model": "toy", "messages": [USER, ASSISTANT], "seed": 3, "max_tokens": 8}
    client = TestClient(app)
    said = client.post("/v1/chat/completions", json=body).json()["choices"]
    for flags in ({"continue_final_message": True}, {"add_generation_prompt": False}):
        again = client.post("/v1/chat/completions", json=body | flags)
        assert again.json()["choices"] == said
    for flags in ({"continue_final_message": False}, {"add_generation_prompt": True}):
        assert client.post("/v1/chat/completions", json=body | flags).status_code == 400
