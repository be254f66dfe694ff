"""A request that fails, fails alone; health tells the truth; filters hide what they refuse."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch
from fastapi import FastAPI

from baco.engine.loop import Engine
from baco.engine.noise import row_key
from baco.engine.session import Session
from baco.group import Sample
from baco.methods import METHODS
from baco.methods.filters import Filter
from baco.models import memory
from baco.models.memory import Workload, need_of
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.serve import Settings, create_app
from baco.serve.service import Service

from .conftest import Client as TestClient
from .conftest import running
from .pairs import random_pair

CHAT = "/v1/chat/completions"
QUESTION = "Name a city."
ASK: dict[str, Any] = {
    "model": "toy",
    "messages": [{"role": "user", "content": QUESTION}],
    "max_tokens": 16,
    "gamma": 0.3,
}


def events(text: str) -> list[dict[str, Any]]:
    """What a stream holds, without the mark of its end."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def texts(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["delta"].get("content", "") for e in chunks for c in e["choices"])


# --- one run: what Python does, the server does ------------------------------------------------


SLOW = ("verbalized", "string-seed")  # random models never find the answer that these look for


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in METHODS
        if name != "aaco"
    ],
)
def test_every_method_gives_what_the_pair_itself_generates(app: FastAPI, name: str) -> None:
    pair = random_pair()
    body = {k: v for k, v in ASK.items() if k != "gamma"}
    body |= {"method": name, "n": 2, "seed": 3, "max_tokens": 8}
    client = TestClient(app)
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 200, answer.text
    group = pair.generate(QUESTION, n=2, seed=3, max_new_tokens=8, method=name)
    assert [c["message"]["content"] for c in answer.json()["choices"]] == [
        sample.text for sample in group
    ]
    assert [c["baco"]["finish"] for c in answer.json()["choices"]] == [
        sample.finish_reason for sample in group
    ]
    streamed = events(client.post(CHAT, json={**body, "stream": True}).text)
    said = ["", ""]
    for choice in (c for event in streamed for c in event["choices"]):
        said[choice["index"]] += choice["delta"].get("content", "")
    assert said == [sample.text for sample in group]


def test_a_method_that_a_pair_cannot_run_is_refused_as_in_python(app: FastAPI) -> None:
    client = TestClient(app)
    answer = client.post(CHAT, json={**ASK, "method": "aaco"})
    assert answer.status_code == 400
    assert "has a base model" in answer.json()["error"]["message"]
    raw = {"model": "toy", "prompt": "One city", "method": "system-prompt"}
    answer = client.post("/v1/completions", json=raw)
    assert answer.status_code == 400
    assert "raw text has none" in answer.json()["error"]["message"]
    scored = {**ASK, "gamma": None, "method": "nudging", "logprobs": True}
    assert "leave out logprobs" in client.post(CHAT, json=scored).json()["error"]["message"]


def test_partners_that_know_their_top_five_are_refused_as_in_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = random_pair()
    for partner in (pair.base, pair.aligned):
        known = partner.abilities._replace(gives="top-k", top=5)
        monkeypatch.setattr(partner, "abilities", known)
    with pytest.raises(Exception, match="it has top-5") as refused:
        pair.generate(QUESTION, router="p-top10@0.3")
    client = TestClient(create_app({"toy": pair}))
    for stream in (False, True):
        body = {**ASK, "gamma": None, "router": "p-top10@0.3", "stream": stream}
        answer = client.post(CHAT, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == str(refused.value)


def test_memory_bounds_the_rows_of_all_requests(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = tuple(len(ids) for ids in pair.prompt_ids(conversation_of(QUESTION)))
    need = need_of((pair.base, pair.aligned), Workload([lengths], 12, 16))
    assert need is not None
    room = int(need.at(2, weights=False)[torch.device("cpu")] / memory._SPARE) + 1
    expected = [pair.generate(QUESTION, n=4, seed=i, max_new_tokens=16, gamma=0.3) for i in (0, 1)]
    monkeypatch.setattr(memory, "available_memory", lambda _: room)
    seen: list[int] = []
    step = Engine.step

    def watched(self: Engine) -> Any:
        found = step(self)
        seen.append(len(self._rows))
        return found

    monkeypatch.setattr(Engine, "step", watched)
    with running(create_app({"toy": pair})) as url:

        async def ask() -> list[httpx.Response]:
            async with httpx.AsyncClient(base_url=url, timeout=300) as client:
                bodies = [{**ASK, "n": 4, "seed": i} for i in (0, 1)]
                return await asyncio.gather(*(client.post(CHAT, json=body) for body in bodies))

        answers = asyncio.run(ask())
    assert 1 <= max(seen) <= 2
    for answer, group in zip(answers, expected, strict=True):
        assert [c["message"]["content"] for c in answer.json()["choices"]] == [
            sample.text for sample in group
        ]


# --- failures ----------------------------------------------------------------------------------


class Poison(Exception):
    """What a row does to an engine."""


def test_a_poisoned_row_beside_32_streams(
    app: FastAPI, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request with the row fails; all 32 streams get what they get alone."""
    bodies = [{**ASK, "seed": i, "max_tokens": 24, "stream": True} for i in range(32)]
    bodies += [{**bodies[0], "seed": 1000, "n": 2}]
    client = TestClient(app)
    alone = [texts(events(client.post(CHAT, json=body).text)) for body in bodies[:32]]
    bad = row_key(1000, QUESTION, 1)
    failures = 0
    resolve = Engine._resolve

    def fail(self: Engine, number: int) -> None:
        nonlocal failures
        for i, row in enumerate(self._rows):
            if row.request.key == bad and self._batch.t[i] >= 6:
                failures += 1
                raise Poison
        resolve(self, number)

    monkeypatch.setattr(Engine, "_resolve", fail)
    # All of them wait for the engine, so that they run side by side.
    go_on, service = threading.Event(), app.state.service
    assert isinstance(service, Service)
    service.hosts["toy"].worker.ask(lambda _: go_on.wait(300))

    async def together() -> list[str]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as session:
            asked = [asyncio.ensure_future(session.post(CHAT, json=body)) for body in bodies]
            while service.hosts["toy"].open_rows < 34:
                await asyncio.sleep(0.01)
            go_on.set()
            return [answer.text for answer in await asyncio.gather(*asked)]

    answers = [events(text) for text in asyncio.run(together())]
    assert [texts(chunks) for chunks in answers[:32]] == alone
    for chunks in answers[:32]:
        (end,) = [c for e in chunks for c in e["choices"] if c["finish_reason"]]
        assert end["baco"]["forwards_per_token"] > 0
    assert answers[32][-1]["error"]["type"] == "server_error"
    assert failures > 1  # it was looked for among the others
    assert TestClient(app).get("/health").json()["status"] == "ok"
    assert service.hosts["toy"].worker.ask(lambda w: w.live).result(120) == 0


def test_a_fault_of_the_session_itself_does_not_end_the_thread(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = TestClient(create_app({"toy": pair}), raise_server_exceptions=False)
    for error in (ValueError("broken"), SystemExit(3)):

        def broken(self: Session[Any], error: BaseException = error) -> Iterator[Any]:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Session, "cycle", broken)
            assert client.post(CHAT, json=ASK).status_code in (500, 503)
        assert client.get("/health").json()["status"] == "ok"
        assert client.post(CHAT, json=ASK).is_success


def test_a_question_that_fails_on_the_thread_fails_alone(app: FastAPI) -> None:
    worker = app.state.service.hosts["toy"].worker
    with pytest.raises(ZeroDivisionError):
        worker.ask(lambda _: 1 / 0).result(60)
    assert worker.ask(lambda w: w.live).result(60) == 0


def test_health_says_so_when_the_thread_is_gone_or_stuck(pair: Pair) -> None:
    app = create_app({"toy": pair})
    client = TestClient(app)
    service: Service = app.state.service
    go_on, begun = threading.Event(), threading.Event()
    worker = service.hosts["toy"].worker

    def wait(_: object) -> None:
        begun.set()
        go_on.wait(120)

    held = worker.ask(wait)
    assert begun.wait(60)
    assert client.get("/health").status_code == 200  # within its time
    service.settings = Settings(timeout=1e-9)
    stuck = client.get("/health")
    assert (stuck.status_code, stuck.json()["status"]) == (503, "failed")
    go_on.set()
    held.result(60)
    service.settings = Settings()
    assert client.get("/health").json()["status"] == "ok"
    worker.close()
    assert client.get("/health").json()["status"] == "failed"
    assert client.post(CHAT, json=ASK).status_code == 503


# --- moderation --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def free(pair: Pair) -> list[Sample]:
    return list(pair.generate(QUESTION, n=3, seed=1, max_new_tokens=16, gamma=0.3))


BODY = {**ASK, "n": 3, "seed": 1, "logprobs": True, "top_logprobs": 2}


def client_with(pair: Pair, keep: Filter) -> TestClient:
    return TestClient(create_app({"toy": pair}, keep=keep), raise_server_exceptions=False)


def refusing(bad: str) -> Filter:
    def keep(prompt: object, text: str) -> bool:
        assert prompt == QUESTION
        return text != bad

    return keep


def test_nothing_of_a_refused_answer_is_in_the_body(pair: Pair, free: list[Sample]) -> None:
    answer = client_with(pair, refusing(free[1].text)).post(CHAT, json=BODY)
    choices = answer.json()["choices"]
    hidden = choices[1]
    assert hidden["finish_reason"] == "content_filter"
    assert hidden["message"]["content"] == ""
    assert hidden["logprobs"]["content"] == []
    assert hidden["baco"] | {"forwards_per_token": 0} == {
        "tokens": [], "sources": [], "finish": "withheld", "base_share": 0, "switches": 0,
        "attempts": 1, "forwards_per_token": 0,
    }  # fmt: skip
    assert [choices[i]["message"]["content"] for i in (0, 2)] == [free[0].text, free[2].text]
    assert len(choices[0]["logprobs"]["content"]) == len(free[0].tokens)
    shown = len(free[0].tokens) + len(free[2].tokens)
    assert answer.json()["usage"]["completion_tokens"] == shown


def test_nothing_of_a_refused_answer_is_streamed(pair: Pair, free: list[Sample]) -> None:
    body = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    chunks = events(client_with(pair, refusing(free[1].text)).post(CHAT, json=body).text)
    mine = [c for e in chunks for c in e["choices"] if c["index"] == 1]
    assert [c["finish_reason"] for c in mine] == [None, "content_filter"]
    assert "".join(c["delta"].get("content", "") for c in mine) == ""
    assert all(c["logprobs"] in (None, {"content": [], "refusal": None}) for c in mine)
    assert mine[-1]["baco"]["tokens"] == mine[-1]["baco"]["sources"] == []
    for index in (0, 2):
        said = [c for e in chunks for c in e["choices"] if c["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in said) == free[index].text
        assert sum(len(c["baco"]["tokens"]) for c in said if "baco" in c) == len(free[index].tokens)
    assert chunks[-1]["usage"]["completion_tokens"] == len(free[0].tokens) + len(free[2].tokens)


@pytest.mark.parametrize("stream", [False, True])
def test_a_filter_can_put_another_text_in_its_place(pair: Pair, stream: bool) -> None:
    client = client_with(pair, lambda _, text: "something else")
    answer = client.post(CHAT, json={**BODY, "stream": stream})
    if stream:
        choices = [c for e in events(answer.text) for c in e["choices"]]
        said = ["", "", ""]
        for choice in choices:
            said[choice["index"]] += choice["delta"].get("content", "")
    else:
        choices = answer.json()["choices"]
        said = [choice["message"]["content"] for choice in choices]
    assert said == ["something else"] * 3
    assert all(not (c["logprobs"] or {}).get("content") for c in choices)
    assert all(not c["baco"]["tokens"] for c in choices if "baco" in c)


def test_completions_are_filtered_too(pair: Pair) -> None:
    client = client_with(pair, lambda prompt, text: False)
    body = {"model": "toy", "prompt": ["One city", "One river"], "logprobs": 1}
    answer = client.post("/v1/completions", json=body).json()
    assert [c["text"] for c in answer["choices"]] == ["", ""]
    assert all(c["logprobs"]["tokens"] == [] for c in answer["choices"])
    assert [c["finish_reason"] for c in answer["choices"]] == ["content_filter"] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_filter_that_raises_refuses_and_its_message_does_not_tell(
    pair: Pair, free: list[Sample], stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def broken(prompt: object, text: str) -> bool:
        raise ValueError(f"cannot judge {text!r}")

    answer = client_with(pair, broken).post(CHAT, json={**BODY, "stream": stream})
    assert stream or answer.status_code == 503
    assert "the filter failed: ValueError (test_worker.py, line" in answer.text
    log = "\n".join(f"{r.getMessage()} {r.exc_info}" for r in caplog.records)
    for sample in free:
        for where in (answer.text, log):
            assert sample.text not in where
            assert json.dumps(sample.text)[1:-1] not in where
            assert repr(sample.text) not in where


def test_a_slow_filter_holds_up_nobody_else(pair: Pair, free: list[Sample]) -> None:
    """While it thinks about one answer, another request is decoded to its end."""
    go_on, asked = threading.Event(), threading.Event()

    def slow(prompt: object, text: str) -> bool:
        if prompt == QUESTION:
            asked.set()
            go_on.wait(120)
        return True

    app = create_app({"toy": pair}, keep=slow)
    service: Service = app.state.service
    worker = service.hosts["toy"].worker
    with running(app) as url:
        answers: list[httpx.Response] = []
        first = threading.Thread(
            target=lambda: answers.append(httpx.post(url + CHAT, json=BODY, timeout=300))
        )
        first.start()
        assert asked.wait(120)
        other = [{"role": "user", "content": "Name a river."}]
        second = threading.Thread(
            target=lambda: answers.append(
                httpx.post(url + CHAT, json={**ASK, "messages": other}, timeout=300)
            )
        )
        tokens = worker.ask(lambda w: w.totals[2]).result(60)
        second.start()
        while worker.ask(lambda w: w.totals[2]).result(60) < tokens + 2:
            pass  # the second request is being decoded
        assert not answers
        go_on.set()
        first.join(120)
        second.join(120)
    assert all(answer.is_success for answer in answers)
    assert len(answers) == 2
