"""What was acknowledged survives `kill -9` of the server in the middle of 200 votes."""

import http.client
import json
import threading

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from baco.study.store import Study

from .example import make_study
from .serving import server

VOTES_EACH = 50
KILL_AFTER = 100


def test_kill_in_the_middle_of_200_votes_loses_none(tmp_path):
    study = make_study(tmp_path, annotators=4)
    for annotator in study.annotators():
        study.accept(annotator.id)
    tokens = [annotator.token for annotator in study.annotators()]
    study.close()
    acknowledged = [[] for _ in tokens]
    sent = [[] for _ in tokens]

    def annotate(number, process, address):
        link = http.client.HTTPConnection(address.removeprefix("http://"), timeout=300)
        head = {"authorization": f"Bearer {tokens[number]}", "content-type": "application/json"}
        try:
            for at in range(VOTES_EACH):
                click = {
                    "click": f"click-{number}-{at}",
                    "screen": at % 4 + 1,
                    "question": "quality",
                    "item": at // 4 % 6 + 1,
                    "value": at % 5 + 1,
                }
                sent[number].append(click["click"])
                link.request("PUT", "/api/votes", json.dumps(click), head)
                answer = link.getresponse()
                answer.read()
                assert answer.status == 200
                acknowledged[number].append(click)
                if sum(map(len, acknowledged)) >= KILL_AFTER:
                    process.kill()
        except (ConnectionError, http.client.HTTPException):
            pass
        finally:
            link.close()

    with server(study.path) as (process, address):
        threads = [threading.Thread(target=annotate, args=(n, process, address)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    total = sum(map(len, acknowledged))
    assert KILL_AFTER <= total < 4 * VOTES_EACH, "the server was not killed in the middle"

    again = Study.open(study.path)
    for number in range(4):
        stored = [click[0] for click in again.clicks(number)]
        known = [click["click"] for click in acknowledged[number]]
        assert stored[: len(known)] == known  # all of them, once, in order
        assert len(stored) <= len(known) + 1  # at most the one that was on its way
        held = {(v.prompt, v.item): v.choice for v in again.votes(number)}
        last = {}
        for click in acknowledged[number]:
            screen = again.screen(number, click["screen"])
            last[screen.prompt, screen.positions[click["item"] - 1]] = click["value"]
        on_its_way = stored[len(known) :]
        if not on_its_way:
            assert held == last
    # A new server takes the repeated clicks of the page's queue, and each lands once.
    with server(study.path) as (_, address):
        for number in range(4):
            link = http.client.HTTPConnection(address.removeprefix("http://"), timeout=300)
            head = {"authorization": f"Bearer {tokens[number]}", "content-type": "application/json"}
            for click in acknowledged[number][-3:]:
                link.request("PUT", "/api/votes", json.dumps(click), head)
                answer = link.getresponse()
                answer.read()
                assert answer.status == 200
            link.close()
    for number in range(4):
        stored = [click[0] for click in again.clicks(number)]
        assert len(stored) == len(set(stored))
        assert set(stored) <= set(sent[number])
