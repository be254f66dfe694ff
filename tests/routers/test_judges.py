"""The judge router end to end: the aligned model as its own judge, and an HTTP judge."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from baco.engine import Engine, Request, reference
from baco.engine.noise import row_key
from baco.errors import PairError
from baco.models.sides import Side
from baco.pair import Pair
from baco.partners.fake import FakePartner, fake_vocabulary
from baco.prompts import conversation_of
from baco.routers import parse
from baco.routers.judge import bind
from baco.routers.judges import aligned_judge, http_judge
from support.engines import run

TOKENS = ["<end>", " yes", " no", " cat", " dog", ".", "?"]


def judging_pair(words: list[str] = TOKENS, mind: float = 0.8) -> Pair:
    """The aligned side says yes with a probability when the text ends in "?", the judge's mark."""
    vocabulary = fake_vocabulary(words)

    def aligned(ids: tuple[int, ...]) -> list[float]:
        if ids[-1] == 6:
            return [0.001, mind, 1 - mind, 0.001, 0.001, 0.001, 0.001]
        return [0.05, 0.001, 0.001, 0.5, 0.4, 0.1, 0.0001]

    def base(ids: tuple[int, ...]) -> list[float]:
        return [0.05, 0.001, 0.001, 0.3, 0.6, 0.1, 0.0001]

    def side(label: str, script: object, prompt: tuple[int, ...]) -> Side:
        def encode(conversation: object) -> tuple[int, ...]:
            return (6,) if "next word" in str(conversation) else prompt

        return Side(
            label, FakePartner(vocabulary, script), encode, lambda text: (5,),  # type: ignore[arg-type]
            [w.encode() for w in words],
        )  # fmt: skip

    return Pair.from_sides("judging", side("b", base, (4,)), side("a", aligned, (3,)))


@pytest.mark.parametrize(("mind", "goes_to_base"), [(0.8, True), (0.2, False)])
def test_the_aligned_model_judges(mind: float, goes_to_base: bool) -> None:
    pair = judging_pair(mind=mind)
    prompt = conversation_of("Which pet?")
    router = bind(parse("judge"), aligned_judge(pair)(prompt))
    requests = [
        Request((4,), (3,), router, row_key(0, "p", i), max_new_tokens=12) for i in range(4)
    ]
    decoded = run(Engine(pair.base, pair.aligned), requests)
    wanted = [tuple(reference.decode(pair.base, pair.aligned, r)[:4]) for r in requests]
    assert decoded == wanted
    assert any(1 in sources for _, sources, _, _ in decoded) is goes_to_base


def test_a_model_without_yes_and_no_cannot_judge() -> None:
    pair = judging_pair([w.replace("yes", "aye") for w in TOKENS])
    judge = aligned_judge(pair)(conversation_of("Which pet?"))
    with pytest.raises(PairError, match="no token for yes and no"):
        judge([], 3, 4)


class Says(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012
    reply = '{"yes": true}'

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Says.asked.append(body["messages"][0]["content"])
        data = json.dumps({"choices": [{"message": {"content": Says.reply}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    http = HTTPServer(("127.0.0.1", 0), Says)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1"
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [('{"yes": true}', True), ('{"yes": false}', False), ("perhaps", False)],
)
def test_an_http_judge(server: str, reply: str, expected: bool) -> None:
    pytest.importorskip("httpx", reason="needs the extra 'remote'")
    from baco.metrics.chat import ChatJudge

    Says.asked, Says.reply = [], reply
    client = ChatJudge(server, "some-model", retries=1, pause=0.0)
    judge = http_judge(judging_pair(), client)(conversation_of("Which pet?"))
    assert judge([3, 5], 4, 3) is expected
    client.close()
    assert "user: Which pet?" in Says.asked[0]
    assert "cat." in Says.asked[0]
    assert "' dog'" in Says.asked[0]
