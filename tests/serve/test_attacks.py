"""Hostile requests: each is refused or bounded, and a canary beside it is answered."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from baco.pair import Pair
from baco.serve import Settings, create_app
from baco.serve.calibrator import MOST_WAITING
from baco.serve.connections import bounded

from .conftest import Client, running
from .pairs import random_pair

CHAT = "/v1/chat/completions"
ASK = {"model": "toy", "messages": [{"role": "user", "content": "Name a city."}], "max_tokens": 2}
LONG = 120.0
"""Patience of a client on a machine under load; no test is about seconds."""


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Client:
    return Client(app, raise_server_exceptions=False)


def canary(url: str) -> None:
    answer = httpx.post(url + CHAT, json=ASK, timeout=LONG)
    assert answer.status_code == 200, answer.text


NINES = "9" * 20
TOO_MUCH: dict[str, dict[str, Any]] = {
    "a step beyond 64 bits": {"gamma": f"step:0,1/{NINES}"},
    "a sentence beyond 64 bits": {"gamma": f"sentence:0,1/{NINES}"},
    "a line beyond 64 bits": {"router": f"p@linear:0..1/{NINES}{NINES}"},
    "a line to infinity": {"router": "h", "gamma": "linear:0..inf/10"},
    "a line from nan": {"gamma": "linear:nan..1/10"},
    "a schedule of many steps": {"gamma": "step:0," + ",".join(f"0/{i}" for i in range(1, 190))},
    "a schedule without end": {"gamma": "step:0," + "0/1," * 100_000},
    "many of the likeliest": {"router": "p-top" + NINES},
    "far ahead": {"router": "p-ahead" + NINES},
    "many rules": {"router": ">".join("p" * 60)},
    "a router without end": {"router": "p>" * 100_000 + "p"},
    "a name without end": {"router": "x" * 190},
    "a number that is text": {"temperature": "0.5"},
    "a number that is true": {"n": True},
    "a threshold that is true": {"gamma": True},
    "a flag that is text": {"stream": "false"},
    "a number of 5,000 digits": {"seed": 10**4999},
    "a token of many digits": {"logit_bias": {"1" * 400_000: 1}},
    "a bias for everything": {"logit_bias": {str(i): 1 for i in range(60_000)}},
    "a bias for nobody": {"logit_bias": {"999999999": 1}},
    "a bias that is true": {"logit_bias": {"1": True}},
    "a penalty of nothing": {"repetition_penalty": 1e-300},
    "a base just above 1": {"dry_multiplier": 1, "dry_base": 1.0001},
    "a distinction that is 1": {"distinct": 1},
}


@pytest.mark.parametrize("more", TOO_MUCH.values(), ids=TOO_MUCH)
def test_values_are_checked_before_an_engine_sees_them(
    client: Client, more: dict[str, Any]
) -> None:
    import sys

    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        body = json.dumps({**ASK, **more})
    finally:
        sys.set_int_max_str_digits(most)
    answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert len(answer.text) < 1500
    assert client.post(CHAT, json=ASK).status_code == 200


EXTREMES: dict[str, dict[str, Any]] = {
    "all tokens banned": {"logit_bias": {str(i): -100 for i in range(400)}, "temperature": 0},
    "ends wished for": {"logit_bias": {"0": 100, "1": 100, "2": 100}, "max_tokens": 20},
    "repeats wished for": {"repetition_penalty": 0.01, "frequency_penalty": -2, "max_tokens": 40},
    "repeats forbidden": {"repetition_penalty": 100, "presence_penalty": 2, "max_tokens": 40},
    "DRY without end": {"dry_multiplier": 1e-300, "dry_base": 1.05, "dry_allowed_length": 1,
                        "messages": [{"role": "user", "content": "a" * 150}], "max_tokens": 40},
    "DRY at its most": {"dry_multiplier": 100, "dry_base": 10, "dry_allowed_length": 1},
    "no top choices": {"xtc_probability": 1, "xtc_threshold": 1e-9, "max_tokens": 20},
    "distinct, and greedy": {"distinct": True, "temperature": 0, "n": 8},
    "distinct, and of one": {"distinct": True, "n": 1},
}  # fmt: skip


@pytest.mark.parametrize("more", EXTREMES.values(), ids=EXTREMES)
def test_the_ends_of_every_range_are_answered(client: Client, more: dict[str, Any]) -> None:
    answer = client.post(CHAT, json={**ASK, **more})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["choices"]) == more.get("n", 1)
    assert client.post(CHAT, json=ASK).status_code == 200


def test_no_message_repeats_a_long_input(client: Client) -> None:
    long = "y" * 100_000
    for body in (
        {**ASK, "model": long[:290]},
        {**ASK, "model": f"toy:{long[:290]}"},
        {**ASK, "router": long[:190]},
        {**ASK, "gamma": long[:900]},
        {**ASK, "method": long[:190]},
        {**ASK, long: 1},
        {**ASK, "messages": [{"role": long, "content": "x"}]},
        {**ASK, "messages": [{"role": "user", "content": [{"type": long, "text": "x"}]}]},
        {**ASK, "messages": [*ASK["messages"], {"role": "assistant", "tool_calls": [{long: 1}]}]},
        {**ASK, "messages": [{"role": "user", "content": "x", long: 1}, {"role": "user"}]},
    ):
        answer = client.post(CHAT, json=body)
        assert 400 <= answer.status_code < 500
        assert long[:200] not in answer.text
    assert len(client.get(f"/v1/models/{long[:60_000]}").text) < 1000
    assert len(client.get(f"/baco/calibration?pair={long[:250]}&router=p").text) < 1000


def test_a_name_of_many_digits_is_read_once(client: Client) -> None:
    """Work is counted, not seconds: quadratic, these names would take hours."""
    for name in ("1" * 60_000 + "x", "." * 60_000, "toy:" + "0" * 60_000, "toy:" * 15_000):
        assert client.get(f"/v1/models/{name}").status_code == 404


def test_a_get_starts_nothing_and_calibrations_queue(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    monkeypatch.setenv("BACO_HOME", str(tmp_path))
    app = create_app({"toy": random_pair()})
    calibrator = app.state.service.hosts["toy"].calibrator
    client = Client(app, raise_server_exceptions=False)
    go_on = threading.Event()
    monkeypatch.setattr(calibrator, "_measure", lambda router, run: go_on.wait(LONG))
    for router in ("p", "p>p", "h"):
        state = client.get(f"/baco/calibration?pair=toy&router={router}").json()
        assert state == {"ready": False, "running": False}
    assert not calibrator.runs
    specs = [">".join(["p"] * k) for k in range(1, 12)]
    answers = [
        client.post("/baco/calibration", json={"pair": "toy", "router": s}).status_code
        for s in specs
    ]
    assert answers == [200] * MOST_WAITING + [429] * (len(specs) - MOST_WAITING)
    assert sum(t.name == "baco-calibrate" for t in threading.enumerate()) == 1
    assert len(calibrator.runs) == MOST_WAITING
    full = client.post(CHAT, json={**ASK, "router": "p>h", "diversity": 0.4})
    assert full.status_code == 429
    assert int(full.headers["retry-after"]) >= 1
    assert client.post(CHAT, json=ASK).status_code == 200
    calibrator._queue.clear()
    go_on.set()
    long = client.get(f"/baco/calibration?pair=toy&router={'p>' * 5_000}p")
    assert long.status_code == 400


def test_a_megabyte_is_refused_before_it_is_tokenised(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app({"toy": pair})
    service = app.state.service
    monkeypatch.setattr(service, "prepare_chat", None)  # it is not reached
    monkeypatch.setattr(service, "prepare_completion", None)
    client = Client(app)
    text = "word " * 200_000
    for path, body in (
        (CHAT, {**ASK, "messages": [{"role": "user", "content": text}]}),
        ("/v1/completions", {"model": "toy", "prompt": text}),
        ("/v1/completions", {"model": "toy", "prompt": ["a", text]}),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_reading_prompts_and_comparing_texts_hold_nobody_up(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    import baco.serve.groups

    app = create_app({"toy": pair})
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def slow(*_: object) -> dict[str, Any]:
        begun.release()
        go_on.wait(LONG)
        return {}

    monkeypatch.setattr(baco.serve.groups, "describe", slow)
    done: list[int] = []
    with running(app) as url:
        askers = [
            threading.Thread(
                target=lambda: done.append(
                    httpx.post(url + "/baco/diversity", json={"texts": ["a"]}, timeout=LONG)
                    .status_code
                )
            )
            for _ in range(20)
        ]  # fmt: skip
        for asker in askers:
            asker.start()
        assert begun.acquire(timeout=LONG)
        assert httpx.get(url + "/health", timeout=LONG).status_code == 200
        canary(url)
        go_on.set()
        for asker in askers:
            asker.join(LONG)
    assert set(done) <= {200, 429}
    assert done.count(200) >= 9  # one at a time and eight that wait


def test_texts_to_compare_are_bounded_and_each_is_read_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    import baco.serve.groups as groups

    texts = [f"{i} " + "a b c d e f " * 250 for i in range(64)]
    assert client.post("/baco/diversity", json={"texts": texts * 2}).status_code == 400
    assert client.post("/baco/diversity", json={"texts": ["x" * 9000] * 64}).status_code == 400
    calls = 0
    real = groups.normalised

    def counted(text: str) -> str:
        nonlocal calls
        calls += 1
        return real(text)

    monkeypatch.setattr(groups, "normalised", counted)
    assert client.post("/baco/diversity", json={"texts": texts}).status_code == 200
    assert calls == len(texts)


# --- web pages --------------------------------------------------------------------------------

ROUTES = [
    ("GET", "/"), ("GET", "/static/app.js"), ("GET", "/health"), ("GET", "/metrics"),
    ("GET", "/v1/models"), ("GET", "/v1/models/toy"), ("GET", "/openapi.json"),
    ("GET", "/baco/info"), ("GET", "/baco/calibration?pair=toy&router=p"), ("POST", CHAT),
    ("POST", "/v1/completions"), ("POST", "/baco/diversity"), ("POST", "/baco/calibration"),
    ("OPTIONS", CHAT), ("GET", "/nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_to_another_name_or_another_site(
    client: Client, method: str, path: str
) -> None:
    for headers in (
        {"Host": "evil.com"},
        {"Host": "evil.com:8000"},
        {"Host": "localhost.evil.com"},
        {"Host": "127.0.0.1.evil.com"},
        {"Host": "[::1"},
        {"Origin": "https://evil.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost@evil.com"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = client.request(method, path, headers=headers)
        assert answer.status_code == 403, headers
        assert answer.json()["error"]["type"] == "permission_error"


def test_its_own_page_and_programs_come_in(client: Client) -> None:
    for headers in (
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"},
        {"Host": "[::1]:8000"},
        {"Host": "192.168.1.7"},
        {"Host": "LOCALHOST:1"},
    ):
        assert client.get("/v1/models", headers=headers).status_code == 200, headers


def test_names_and_origins_can_be_allowed(pair: Pair) -> None:
    settings = Settings(allowed_hosts=("box.lan",), cors_origins=("app://obsidian.md",))
    client = Client(create_app({"toy": pair}, settings))
    assert client.get("/health", headers={"Host": "BOX.lan:8000"}).status_code == 200
    assert client.get("/health", headers={"Host": "other.lan"}).status_code == 403
    headers = {"Origin": "app://obsidian.md", "Sec-Fetch-Site": "cross-site"}
    answer = client.get("/health", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "app://obsidian.md"
    assert client.get("/health", headers={"Origin": "https://a.b"}).status_code == 403
    anyone = Client(create_app({"toy": pair}, Settings(allowed_hosts=("*",))))
    assert anyone.get("/health", headers={"Host": "evil.com"}).status_code == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/plain; charset=utf-8; a=application/json", "", "multipart/form-data",
     "application/x-www-form-urlencoded", "application/jsonx", "application/json, text/plain"],
)  # fmt: skip
def test_what_a_page_can_send_unasked_is_not_json(client: Client, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    for path in (CHAT, "/baco/calibration"):
        answer = client.post(path, content=json.dumps(ASK), headers=headers)
        assert answer.status_code == 415, answer.text
    for good in ("application/json", "Application/JSON; charset=utf-8", "application/x+json"):
        answer = client.post(CHAT, content=json.dumps(ASK), headers={"content-type": good})
        assert answer.status_code == 200, answer.text


# --- slow and many ----------------------------------------------------------------------------


@contextmanager
def guarded(app: FastAPI, most: int, **how: float) -> Iterator[str]:
    with running(app, http=bounded(most, **how)) as url:
        yield url


def lines(url: str, count: int, said: bytes) -> Callable[[ExitStack], list[socket.socket]]:
    def opened(stack: ExitStack) -> list[socket.socket]:
        parts = httpx.URL(url)
        out = []
        for _ in range(count):
            line = stack.enter_context(socket.create_connection((parts.host, parts.port or 80)))
            line.sendall(said)
            out.append(line)
        return out

    return opened


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /health HTTP/1.1\r\nHost: loc",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_unfinished_requests_make_room(pair: Pair, said: bytes) -> None:
    with guarded(create_app({"toy": pair}), 20) as url, ExitStack() as stack:
        opened = lines(url, 60, said)(stack)
        canary(url)
        canary(url)
        gone = 0
        for line in opened[:40]:
            line.settimeout(LONG)
            try:
                gone += line.recv(1) == b""
            except ConnectionError:
                gone += 1
        assert gone == 40


def test_a_head_that_does_not_come_is_not_waited_for(pair: Pair) -> None:
    with guarded(create_app({"toy": pair}), 20, seconds=0.2) as url, ExitStack() as stack:
        (line,) = lines(url, 1, b"GET / HTTP/1.1\r\n")(stack)
        line.settimeout(LONG)
        with suppress(ConnectionResetError):
            assert line.recv(1) == b""
        canary(url)


def test_when_all_are_served_the_next_is_told_when_to_come(pair: Pair) -> None:
    app = create_app({"toy": pair})
    go_on = threading.Event()
    app.state.service.hosts["toy"].worker.ask(lambda _: go_on.wait(LONG))
    body = json.dumps(ASK).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with guarded(app, 3) as url, ExitStack() as stack:
        busy = lines(url, 3, head.encode() + body)(stack)
        while len(app.state.turns["toy"]) < 3:
            pass
        answer = httpx.get(url + "/health", timeout=LONG)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "too_many"
        go_on.set()
        for line in busy:
            line.settimeout(LONG)
            assert line.recv(100).startswith(b"HTTP/1.1 200")


def test_every_answer_has_an_id(client: Client) -> None:
    answer = client.post(CHAT, json=ASK)
    assert answer.headers["x-request-id"].startswith("req_")
    for given, kept in (("abc-1", True), ("a b", False), ("x" * 101, False)):
        told = client.get("/v2", headers={"x-request-id": given}).headers["x-request-id"]
        assert (told == given) == kept


def test_several_keys_are_several_clients(pair: Pair) -> None:
    client = Client(create_app({"toy": pair}, Settings(api_key="one\ntwo\n")))
    for key, status in (("one", 200), ("two", 200), ("three", 401), ("one two", 401)):
        answer = client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == status, key


def test_a_thousand_answers_of_one_client_keep_no_other_waiting(pair: Pair) -> None:
    """Counted in answers of the first that end while the second waits, not in seconds."""
    app = create_app(
        {"toy": pair}, Settings(api_key="one\ntwo\n", max_rows=4, max_n=1000, max_waiting=2000)
    )
    body = {**ASK, "max_tokens": 6, "seed": 3}
    done = 0

    def finished(text: str) -> int:
        return text.count('"finish_reason":"')

    with running(app) as url, httpx.Client(base_url=url, timeout=LONG) as client:
        one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
        asked = {**body, "n": 1000, "stream": True}
        with client.stream("POST", CHAT, json=asked, headers=one) as many:
            lines = many.iter_lines()
            while done < 8:  # it is well on its way
                done += finished(next(lines))
            worker = app.state.service.hosts["toy"].worker
            before = worker.ask(lambda w: w.live).result(LONG)
            answer = client.post(CHAT, json=body, headers=two)
            assert answer.status_code == 200
            meanwhile = before - worker.ask(lambda w: w.live).result(LONG)
        # Four rows end, and those that took their places; news travels while more of them end.
        assert meanwhile < 200


def test_each_client_is_an_owner_of_its_rows(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from baco.engine.session import Session

    seen: list[Any] = []
    start = Session.start

    def spy(self: Any, make: Any, owner: Any = None) -> Any:
        seen.append(owner)
        return start(self, make, owner)

    monkeypatch.setattr(Session, "start", spy)
    client = Client(create_app({"toy": pair}, Settings(api_key="one\ntwo\n")))
    for key in ("one", "two", "one"):
        told = {"Authorization": f"Bearer {key}"}
        assert client.post(CHAT, json=ASK, headers=told).status_code == 200
    assert len(seen) == 3
    assert seen[0] == seen[2] != seen[1]
    assert None not in seen
