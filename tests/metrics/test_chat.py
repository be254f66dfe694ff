"""The judge behind an OpenAI-compatible interface, against a local stub."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import baco.metrics
from baco.errors import BacoError, InputError
from baco.metrics import rubrics
from baco.metrics.chat import ChatJudge
from baco.metrics.judge import first_json

Answer = Callable[[dict[str, Any], int], tuple[int, str]]


class Stub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Answer = lambda body, turn: (200, '{"mark": 7}')
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(body)
            self.server.keys.append(self.headers.get("Authorization"))
            turn = len(self.server.requests)
        status, text = self.server.answer(body, turn)
        made = {
            "choices": [{"message": {"content": text}}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 5},
        }
        data = json.dumps(made if status == 200 else {"error": text}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Stub]:
    """A stub that answers for as long as a block lasts."""
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as server:
        yield server


@pytest.fixture
def judge(stub: Stub) -> Iterator[ChatJudge]:
    made = ChatJudge(stub.url, "j", price_in=1.0, price_out=10.0, retries=2, pause=0.01)
    yield made
    made.close()


GROUPS = [{"prompt": "Name a pet.", "generations": ["A cat.", "A dog."]}]


def test_marks_are_kept_and_the_cost_is_shown(
    stub: Stub, judge: ChatJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.answer = lambda body, turn: (
        200,
        'Sure: {"mark": 9}' if "cat" in body["messages"][1]["content"] else '{"mark": 4} ok',
    )
    scores = baco.metrics.score(GROUPS, "reward@judge", judge=judge, cache=tmp_path)
    assert scores.means == {"reward@judge": 6.5}
    assert scores.models["reward@judge"].startswith(f"judge j at {stub.url}")
    assert scores.cost == "2 requests, 200 prompt tokens, 10 reply tokens, cost 0.0003"
    assert stub.requests[0]["model"] == "j"
    assert stub.requests[0]["messages"][0]["content"] == rubrics.REWARD
    baco.metrics.score(GROUPS, "reward@judge", judge=judge, cache=tmp_path)
    assert len(stub.requests) == 2
    monkeypatch.setattr(rubrics, "REWARD", "another rubric")
    baco.metrics.score(GROUPS, "reward@judge", judge=judge, cache=tmp_path)
    assert len(stub.requests) == 4


def test_failures_that_pass_are_repeated(stub: Stub, judge: ChatJudge) -> None:
    stub.answer = lambda body, turn: (503, "busy") if turn < 3 else (200, '{"mark": 3}')
    assert list(judge.marks([("p", "a")])) == [[3.0]]
    assert len(stub.requests) == 3


def test_failures_that_stay_are_reported(stub: Stub, judge: ChatJudge) -> None:
    stub.answer = lambda body, turn: (429, "slow down")
    with pytest.raises(BacoError, match=r"had no room in 3 attempts: status 429: slow down"):
        list(judge.marks([("p", "a")]))
    assert len(stub.requests) == 3
    stub.answer = lambda body, turn: (401, "who are you")
    with pytest.raises(BacoError, match="refused: status 401: who are you"):
        list(judge.marks([("p", "a")]))
    assert len(stub.requests) == 4


@pytest.mark.parametrize("text", ["eleven", '{"mark": 11}', '{"mark": "7"}', '{"mark": 7.5}', ""])
def test_replies_without_a_mark_are_repeated_and_then_counted(
    stub: Stub, judge: ChatJudge, tmp_path: Path, text: str
) -> None:
    stub.answer = lambda body, turn: (200, text)
    scores = baco.metrics.score(GROUPS[:1], "reward@judge", judge=judge, cache=tmp_path)
    assert math.isnan(scores.means["reward@judge"])
    assert scores.summaries[0].nan == 1
    assert len(stub.requests) == 6
    assert {r["temperature"] for r in stub.requests} == {0.0, 1.0}
    stub.answer = lambda body, turn: (200, '{"mark": 2}')
    scores = baco.metrics.score(GROUPS[:1], "reward@judge", judge=judge, cache=tmp_path)
    assert scores.means["reward@judge"] == 2


def test_the_key_comes_from_the_environment(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "abc")
    made = ChatJudge(stub.url, "j", key_env="MY_KEY")
    list(made.marks([("p", "a")]))
    made.close()
    assert stub.keys == ["Bearer abc"]
    assert "price unknown" in made.cost


def test_a_judge_out_of_reach(stub: Stub) -> None:
    made = ChatJudge("http://127.0.0.1:9/v1", "j", retries=1, pause=0.01)
    with pytest.raises(BacoError, match="in 2 attempts: ConnectError"):
        list(made.marks([("p", "a")]))
    made.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"url": "localhost", "model": "j"}, "no http address"),
        ({"url": "http://x", "model": ""}, "no model name"),
        ({"url": "http://x", "model": "j", "workers": 0}, "at least one worker"),
    ],
)
def test_wrong_judges(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ChatJudge(**arguments)


def test_metrics_that_need_a_judge_say_so() -> None:
    for name in ("reward@judge", "tp_div", "arousal_div"):
        with pytest.raises(BacoError, match="needs a judge"):
            baco.metrics.score(GROUPS, name, cache=False)


STORY = {"prompt": "p", "prefix": "One. Two.", "generations": ["Three. Four. Five.", "Six. Seven."]}


def test_turning_points(stub: Stub, judge: ChatJudge) -> None:
    def answer(body: dict[str, Any], turn: int) -> tuple[int, str]:
        last = body["messages"][-1]["content"]
        assert last.startswith("1. One.\n2. Two.\n3. ")
        numbers = [1, 2, 3, 4, 5] if "Five" in last else [1, 2, 3, 4, 4]
        if turn == 1:
            numbers = [5, 4, 3, 2, 1]
        return 200, json.dumps(dict(zip(rubrics.TURNING_POINTS, numbers, strict=True)))

    stub.answer = answer
    scores = baco.metrics.score([STORY], "tp_div", judge=judge, cache=False)
    places = [[i / 5 for i in (1, 2, 3, 4, 5)], [i / 4 for i in (1, 2, 3, 4, 4)]]
    expected = sum(abs(a - b) for a, b in zip(*places, strict=True)) / 5
    assert scores.means["tp_div"] == pytest.approx(expected)
    assert len(stub.requests) == 3


def test_arousal(stub: Stub, judge: ChatJudge) -> None:
    def answer(body: dict[str, Any], turn: int) -> tuple[int, str]:
        lines = body["messages"][-1]["content"].splitlines()
        return 200, json.dumps({"arousal": [i / len(lines) for i in range(len(lines))]})

    stub.answer = answer
    scores = baco.metrics.score([STORY], "arousal_div", judge=judge, cache=False)
    from baco.metrics.discourse import arousal_div

    expected = arousal_div([[i / 5 for i in range(5)], [i / 4 for i in range(4)]])
    assert scores.means["arousal_div"] == pytest.approx(expected)
    stub.answer = lambda body, turn: (200, '{"arousal": [2]}')
    scores = baco.metrics.score([STORY], "arousal_div", judge=judge, cache=False)
    assert scores.summaries[0].nan == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [('a {b} {"c": 1} {"d": 2}', {"c": 1}), ("none", None), ("{", None), ("```{}```", {})],
)
def test_first_json(text: str, found: object) -> None:
    assert first_json(text) == found
