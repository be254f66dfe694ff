"""The API: who may see and say what."""

import json

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from baco.errors import InputError
from baco.study.app import MAX_BODY, Rates, create_app
from baco.study.protocol import DIVERSITY

from .example import make_study


class Person:
    """One annotator's browser."""

    def __init__(self, study, number=0):
        self.client = TestClient(create_app(study), base_url="http://127.0.0.1")
        self.head = {"authorization": f"Bearer {study.annotators()[number].token}"}
        self.clicks = 0

    def get(self, path):
        return self.client.get(f"/api/{path}", headers=self.head)

    def put(self, path, **body):
        return self.client.put(f"/api/{path}", json=body, headers=self.head)

    def consent(self, **body):
        body = {"read": True, "consent": True, **body}
        return self.client.post("/api/consent", json=body, headers=self.head)

    def vote(self, question, item, value, screen=1, click=None):
        self.clicks += 1
        click = click or f"click-{self.clicks:06}"
        return self.put(
            "votes", click=click, screen=screen, question=question, item=item, value=value
        )

    def rate_all(self, screen=1):
        for item in range(1, 7):
            assert self.vote("quality", item, 3, screen).status_code == 200

    def compare_all(self, screen=1, value="A"):
        for question in DIVERSITY:
            assert self.vote(question, 1, value, screen).status_code == 200


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path)


@pytest.fixture
def person(study):
    person = Person(study)
    assert person.consent().status_code == 200
    return person


def test_no_link_no_entry(study):
    client = TestClient(create_app(study), base_url="http://127.0.0.1")
    paths = ["me", "screens/1", "data"]
    for head in ({}, {"authorization": "Bearer x"}, {"authorization": "Bearer "}):
        assert [client.get(f"/api/{p}", headers=head).status_code for p in paths] == [401] * 3
        assert client.delete("/api/data", headers=head).status_code == 401


def test_instructions_come_first(study):
    person = Person(study)
    me = person.get("me").json()
    assert me["accepted"] is False
    assert [part["title"] for part in me["protocol"]["instructions"]]
    assert person.get("screens/1").status_code == 403
    assert person.vote("quality", 1, 3).status_code == 403
    assert person.consent(consent=False).status_code == 400
    assert person.consent(read=False).status_code == 400
    assert person.get("screens/1").status_code == 403
    person.consent()
    assert person.get("screens/1").status_code == 200
    assert study.votes() == []


def test_steps_come_in_order(person):
    assert person.vote("overall", 1, "A").status_code == 409
    assert person.vote("creativity", 1, 2).status_code == 409
    person.rate_all()
    assert person.vote("creativity", 1, 2).status_code == 409
    person.compare_all()
    assert person.vote("creativity", 1, 2).json()["done"] == {
        "quality": 6,
        "diversity": 3,
        "creativity": 1,
    }


def test_groups_are_named_only_after_step_one(person):
    assert person.get("screens/1").json()["groups"] == []
    person.rate_all()
    (groups,) = person.get("screens/1").json()["groups"]
    assert sorted(groups["A"] + groups["B"]) == [1, 2, 3, 4, 5, 6]


def test_votes_mean_what_was_shown(person, study):
    person.rate_all(screen=2)
    person.vote("quality", 4, 5, screen=2)
    person.compare_all(screen=2)
    person.vote("format", 1, "tie", screen=2)
    person.vote("content", 1, "B", screen=2)
    person.vote("creativity", 1, 6, screen=2)
    shown = study.screen(0, 2)
    held = {(v.question, v.item): v.choice for v in study.votes()}
    assert held["quality", shown.positions[3]] == 5
    assert held["overall", 0] == shown.sides[0][0]
    assert held["format", 0] is None
    assert held["content", 0] == shown.sides[0][1]
    assert held["creativity", 0] == shown.positions[5]
    # And the annotator reads back the same answers in their own terms.
    back = {(v["question"], v["item"]): v["value"] for v in person.get("screens/2").json()["votes"]}
    assert back["quality", 4] == 5
    assert [back[question, 1] for question in DIVERSITY] == ["A", "tie", "B"]
    assert back["creativity", 1] == 6


def test_group_sides_hold_one_method_each(person, study):
    person.rate_all()
    (groups,) = person.get("screens/1").json()["groups"]
    shown = study.screen(0, 1)
    method = {r.id: r.method for r in study.responses()}
    for side, expected in zip("AB", shown.sides[0], strict=True):
        assert {method[shown.positions[at - 1]] for at in groups[side]} == {expected}


@pytest.mark.parametrize(
    ("question", "item", "value"),
    [
        ("quality", 1, 0),
        ("quality", 1, 6),
        ("quality", 0, 3),
        ("quality", 7, 3),
        ("quality", 1, "tie"),
        ("overall", 1, "C"),
        ("overall", 2, "A"),
        ("overall", 1, 1),
        ("creativity", 1, 7),
        ("creativity", 1, 0),
        ("creativity", 1, "tie"),
        ("creativity", 2, 1),
        ("beauty", 1, 1),
    ],
)
def test_answers_that_do_not_exist(person, study, question, item, value):
    person.rate_all()
    person.compare_all()
    before = study.votes()
    assert person.vote(question, item, value).status_code == 400
    assert study.votes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"value": True},
        {"value": 3.0},
        {"value": None},
        {"screen": "1"},
        {"click": "short"},
        {"click": "with spaces in it"},
        {"question": "q" * 99},
        {"extra": 1},
    ],
)
def test_malformed_clicks(person, study, change):
    body = {"click": "click-000001", "screen": 1, "question": "quality", "item": 1, "value": 3}
    assert person.put("votes", **{**body, **change}).status_code == 422
    assert study.votes() == []


def test_no_ties_where_the_protocol_has_none(tmp_path):
    study = make_study(tmp_path, ties=False)
    person = Person(study)
    assert person.consent().json() == {"accepted": True}
    person.rate_all()
    assert person.vote("overall", 1, "tie").status_code == 400
    assert person.vote("overall", 1, "B").status_code == 200


def test_a_repeated_click_lands_once(person, study):
    for value in (2, 2, 2):
        assert person.vote("quality", 1, value, click="click-same").status_code == 200
    assert len(study.votes()) == len(study.clicks(0)) == 1


def test_screens_that_do_not_exist(person):
    for number in (0, 5, -1, 10**30):
        assert person.get(f"screens/{number}").status_code == 400
    assert person.get("screens/x").status_code == 422


def test_large_bodies_are_refused(person):
    assert person.put("comments", screen=1, text="x" * (MAX_BODY + 1)).status_code == 413
    assert person.put("comments", screen=1, text="x" * 4001).status_code == 422
    stream = person.client.put("/api/comments", content=iter([b"{}"]), headers=person.head)
    assert stream.status_code == 411


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        rb'{"screen": 1, "text": "\ud800"}',
        rb'{"screen": 1, "text": "", "\ud800": 1}',
        b'{"screen": 1e400, "text": ""}',
        b'{"screen": NaN, "text": ""}',
    ],
)
def test_bodies_that_are_no_proper_json(person, body):
    head = {**person.head, "content-type": "application/json"}
    assert person.client.put("/api/comments", content=body, headers=head).status_code in (400, 422)


def test_comments_and_time(person, study):
    assert person.put("comments", screen=1, text="  hard to judge <b>this</b> ").json()
    assert person.put("comments", screen=0, text="nice study").json()
    assert person.get("screens/1").json()["comment"] == "hard to judge <b>this</b>"
    assert person.get("me").json()["comment"] == "nice study"
    person.put("comments", screen=1, text=" ")
    assert person.get("screens/1").json()["comment"] == ""
    for active in (60_000, 90_000):
        person.put("visits", visit="visit-01", screen=1, active_ms=active)
    assert person.get("me").json()["active_ms"] == study.active_ms(0) == 90_000
    assert person.put("visits", visit="visit-01", screen=1, active_ms=-5).status_code == 422


def everything_visible(person):
    """All that the server says to a diligent and curious annotator."""
    texts = [person.client.get(p).text for p in ("/", "/static/app.js", "/static/sheet.js")]
    for screen in range(1, 5):
        texts.append(person.get(f"screens/{screen}").text)
        person.rate_all(screen)
        person.compare_all(screen)
        texts.append(person.vote("creativity", 1, 2, screen).text)
        texts.append(person.get(f"screens/{screen}").text)
    return "\n".join([*texts, person.get("me").text, person.get("data").text])


def test_blinding(study):
    """No method names, no ids, no scores, nobody else's votes or links."""
    people = [Person(study, number) for number in range(2)]
    for person in people:
        person.consent()
    people[1].put("comments", screen=1, text="a remark by somebody else")
    seen = everything_visible(people[0])
    for secret in (
        "plainwriter",
        "variedwriter",
        "method",
        'quality": 6',
        "scores",
        "a remark by somebody else",
    ):
        assert secret not in seen
    for annotator in study.annotators():
        assert annotator.token not in seen


def test_answers_hold_positions_and_texts_only(person):
    person.rate_all()
    data = person.get("screens/1").json()
    assert set(data) == {
        "number",
        "prompt",
        "responses",
        "groups",
        "votes",
        "comment",
        "done",
        "needed",
    }
    assert all(isinstance(text, str) for text in data["responses"])


def test_position_and_side_do_not_correlate_with_the_method(tmp_path):
    """What is sent about a prompt is the same for both assignments of names to methods."""
    study = make_study(tmp_path, annotators=2)
    shapes = []
    for number in range(2):
        person = Person(study, number)
        person.consent()
        for screen in range(1, 5):
            person.rate_all(screen)
            data = person.get(f"screens/{screen}").json()
            shapes.append(study.screen(number, screen).sides[0][0])
            assert [sorted(g) for g in data["groups"]] == [["A", "B"]]
    assert sorted(shapes) == [0] * 4 + [1] * 4


def test_own_data_is_complete_and_blind(person, study):
    person.rate_all()
    person.vote("quality", 1, 5)
    person.put("comments", screen=1, text="mine")
    data = person.get("data").json()
    assert len(data["clicks"]) == 7
    assert data["clicks"][-1]["value"] == "5"
    assert data["comments"] == [{"screen": 1, "text": "mine"}]
    assert "plainwriter" not in json.dumps(data)


def test_deleting_ones_data(person, study):
    person.rate_all()
    other = Person(study, 1)
    other.consent()
    other.rate_all()
    assert person.client.delete("/api/data", headers=person.head).json() == {"deleted": True}
    assert person.get("me").status_code == 401
    assert {vote.annotator for vote in study.votes()} == {1}


def test_headers_keep_the_page_alone(person):
    page = person.client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert person.get("me").headers["cache-control"] == "no-store"
    assert person.client.get("/docs").status_code == 404
    assert person.client.get("/openapi.json").status_code == 404


def test_static_files_ask_nobody_else():
    from baco.study.app import STATIC

    files = sorted(STATIC.iterdir())
    assert {"index.html", "app.js", "style.css"} <= {path.name for path in files}
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text


def test_an_address_may_ask_only_so_often(study):
    now = 0.0
    app = create_app(study, Rates(burst=3, refill=1, clock=lambda: now))
    client = TestClient(app, base_url="http://127.0.0.1")
    assert [client.get("/api/me").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    assert client.get("/").headers["retry-after"] == "1"
    now = 2.0
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


def test_rates_forget_who_was_not_seen_for_long():
    rates = Rates(burst=1, refill=0, clock=lambda: 0.0, clients=2)
    assert [rates.take(name) for name in ("a", "b", "a", "c", "b")] == [
        True, True, False, True, True
    ]  # fmt: skip


def test_visits_and_clicks_of_one_annotator_are_bounded(study, monkeypatch):
    from baco.study import store

    monkeypatch.setattr(store, "MOST_EACH", 3)
    person = study.annotators()[0].id
    for visit in range(3):
        study.visit(person, f"visit-{visit}", 0, 5)
    study.visit(person, "visit-1", 0, 9)
    assert study.active_ms(person) == 19
    with pytest.raises(InputError, match="more than 3 visits"):
        study.visit(person, "visit-3", 0, 5)
