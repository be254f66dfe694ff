"""Doors and limits: keys, sizes, queues, timeouts, logs, a clean stop."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time

import httpx
import pytest

from baco.calibration import Effort
from baco.engine import Engine
from baco.engine.request import Event
from baco.errors import InputError
from baco.pair import Pair
from baco.serve import Settings, create_app
from baco.serve.service import Service

from .conftest import Client as TestClient
from .conftest import running
from .pairs import random_pair

CHAT = "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
ASK = [{"role": "user", "content": "Name a secret city."}]
LONG = {"model": "toy", "messages": ASK, "max_tokens": 450, "n": 4, "seed": 1}


def address_of(url: str) -> tuple[str, int]:
    """The address behind a URL, for a socket."""
    parts = httpx.URL(url)
    return parts.host, parts.port or 80


def test_a_key_opens_what_costs_something(pair: Pair) -> None:
    client = TestClient(create_app({"toy": pair}, Settings(api_key="s3cret")))
    for path in ("/", "/health", "/openapi.json", "/static/app.js"):
        assert client.get(path).status_code == 200, path
    for path in ("/v1/models", "/metrics", "/baco/info", "/nothing"):
        assert client.get(path).status_code == 401, path
        assert client.get(path).headers["www-authenticate"] == "Bearer"
    for value in ("s3cret", "Bearer wrong", "Basic s3cret", "Bearer", "Bearer s3cret2"):
        answer = client.get("/v1/models", headers={"Authorization": value})
        assert answer.json()["error"]["code"] == "invalid_api_key", value
    right = {"Authorization": "Bearer s3cret"}
    assert client.get("/v1/models", headers=right).status_code == 200


def test_bodies_have_a_limit_announced_or_not(pair: Pair) -> None:
    client = TestClient(create_app({"toy": pair}, Settings(max_body=1000)))
    body = json.dumps({"model": "toy", "messages": ASK, "user": "x" * 2000}).encode()
    told = client.post(CHAT, content=body, headers=JSON)
    parts = (body[i : i + 100] for i in range(0, len(body), 100))
    untold = client.post(CHAT, content=parts, headers=JSON)
    for answer in (told, untold):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"


def test_a_large_body_is_heard_out_so_that_its_sender_hears_why(pair: Pair) -> None:
    with running(create_app({"toy": pair}, Settings(max_body=300_000))) as url:
        for size in (300_001, 2_000_000):
            answer = httpx.post(url + CHAT, content=b"x" * size, headers=JSON, timeout=300)
            assert answer.status_code == 413, size
        with socket.create_connection(address_of(url)) as line:
            line.sendall(b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\nHost: [::1]\r\n\r\n")
            assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_not_waited_for(pair: Pair) -> None:
    with (
        running(create_app({"toy": pair}, Settings(timeout=0.2))) as url,
        socket.create_connection(address_of(url)) as line,
    ):
        line.sendall(
            b"POST /v1/completions HTTP/1.1\r\nContent-Length: 9\r\nHost: localhost\r\n\r\n{"
        )
        answer = b""
        while part := line.recv(1000):
            answer += part
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"did not arrive within 0.2 seconds" in answer


def test_a_full_queue_says_when_to_try_again(pair: Pair) -> None:
    app = create_app({"toy": pair}, Settings(max_rows=4, max_waiting=0))
    go_on = threading.Event()
    # The engine waits, so that the first answers are not finished before the second client asks.
    app.state.service.hosts["toy"].worker.ask(lambda _: go_on.wait(300))
    with (
        running(app) as url,
        httpx.stream("POST", url + CHAT, json={**LONG, "stream": True}, timeout=300) as first,
    ):
        second = httpx.post(url + CHAT, json={**LONG, "max_tokens": 2}, timeout=300)
        go_on.set()
        assert next(first.iter_lines()).startswith("data: ")
        assert second.status_code == 429
        assert int(second.headers["retry-after"]) >= 1
        assert second.json()["error"]["type"] == "rate_limit_error"


def test_what_takes_too_long_is_given_up(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Engine.step

    def slow(engine: Engine) -> list[Event]:
        time.sleep(0.01)  # on the fastest processor too, many tokens take longer than the limit
        return step(engine)

    monkeypatch.setattr(Engine, "step", slow)
    app = create_app({"toy": pair}, Settings(timeout=300))
    app.state.service.settings = Settings(timeout=0.05)  # of answers alone: the body may take time
    with running(app) as url:
        answer = httpx.post(url + CHAT, json=LONG, timeout=300)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "timeout"
        assert "retry-after" in answer.headers
        with httpx.stream("POST", url + CHAT, json={**LONG, "stream": True}, timeout=300) as events:
            text = events.read().decode()
        assert '"code":"timeout"' in text
        assert "[DONE]" not in text
        service: Service = app.state.service
        assert service.hosts["toy"].worker.ask(lambda w: w.live).result(300) == 0


def test_browsers_of_other_origins_stay_out_unless_named(pair: Pair) -> None:
    origin = {"Origin": "https://example.org"}
    closed = TestClient(create_app({"toy": pair}))
    refused = closed.get("/v1/models", headers=origin)
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    settings = Settings(cors_origins=("https://example.org",), api_key="k")
    named = TestClient(create_app({"toy": pair}, settings))
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    answer = named.options(CHAT, headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://example.org"


def test_nothing_asked_or_answered_reaches_the_log(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = TestClient(create_app({"toy": pair}), raise_server_exceptions=False)
    good = client.post(CHAT, json={"model": "toy", "messages": ASK, "max_tokens": 8, "seed": 1})
    bad = client.post(CHAT, json={"model": "toy", "messages": ASK, "temperature": 99})
    assert (good.status_code, bad.status_code) == (200, 400)
    said = good.json()["choices"][0]["message"]["content"]
    log = "\n".join(record.getMessage() + str(record.exc_info) for record in caplog.records)
    assert "secret" not in log
    assert len(said) > 8  # so much is in no log by chance
    assert said not in log
    assert "secret" not in client.get("/metrics").text


def test_a_stopping_server_finishes_what_it_has_begun(pair: Pair) -> None:
    app = create_app({"toy": pair}, Settings())
    answers: list[httpx.Response] = []
    with running(app) as url:
        short = {**LONG, "max_tokens": 30}
        begun = threading.Event()

        def ask() -> None:
            with httpx.stream("POST", url + CHAT, json={**short, "stream": True}, timeout=300) as r:
                for line in r.iter_lines():
                    begun.set()
                    if line == "data: [DONE]":
                        answers.append(r)

        thread = threading.Thread(target=ask)
        thread.start()
        assert begun.wait(300)
    thread.join(300)
    assert len(answers) == 1


def test_an_engine_that_fails_is_replaced(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    client = TestClient(create_app({"toy": pair}), raise_server_exceptions=False)
    step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda self: 1 / 0)
    broken = client.post(CHAT, json={"model": "toy", "messages": ASK, "max_tokens": 2})
    assert broken.status_code == 500
    assert broken.json()["error"]["type"] == "server_error"
    assert "division" not in broken.text
    monkeypatch.setattr(Engine, "step", step)
    assert client.post(CHAT, json={"model": "toy", "messages": ASK, "max_tokens": 2}).is_success


def test_an_uncalibrated_pair_is_calibrated_in_the_background(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("BACO_HOME", str(tmp_path))
    app = create_app({"toy": random_pair()}, effort=Effort(1, 1, 4, 0.5, 9))
    client = TestClient(app)
    ask = {"model": "toy:0.3", "messages": ASK, "max_tokens": 2}
    first = client.post(CHAT, json=ask)
    assert first.status_code == 503
    assert first.json()["error"]["code"] == "calibrating"
    assert int(first.headers["retry-after"]) >= 1
    ends = client.post(CHAT, json={**ask, "model": "toy:aligned"})
    assert ends.status_code == 200  # the two ends need no curve
    for thread in threading.enumerate():
        if thread.name == "baco-calibrate":
            thread.join(300)
    answer = client.post(CHAT, json=ask)
    assert answer.status_code == 200, answer.text
    assert answer.json()["baco"]["diversity"]["asked"] == 0.3
    assert client.get("/baco/calibration?pair=toy&router=p-punc").json()["ready"]


def test_settings_are_checked(pair: Pair) -> None:
    for bad in ({"max_rows": 0}, {"timeout": 0}, {"max_waiting": -1}, {"max_body": 0}):
        with pytest.raises(InputError):
            Settings(**bad)
    with pytest.raises(InputError, match="no pair"):
        create_app({})
    with pytest.raises(InputError, match="has no name"):
        create_app({"": pair})
