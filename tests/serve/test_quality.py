"""What is told of single answers: faults, the toy's verdict, how they read."""

from __future__ import annotations

from typing import Any

import pytest

import baco
from baco.calibration.curve import ThresholdAxis, prior
from baco.pair import Pair
from baco.prompts import conversation_of
from baco.serve import Settings, create_app
from baco.serve.quality import fault, judged, world_ends

from .conftest import Client

ASK = "Name a city in Italy for my quiz."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("One city in Italy is Rome.", None),
        ("No, no, no! Not Rome.", None),
        ("Very, very old: a very old town.", None),
        ("  \n", "says nothing"),
        ("It is Rome.\n\nQuestion: Name a dish.\nAnswer: Pasta.", "runs on into another question"),
        ("It is Rome.\nUser: And now?", "runs on into another question"),
        ("The question: is it Rome?", None),
        ("Rome and Rome and Rome and Rome and", "goes round in circles"),
        ("go go go go go go go", "goes round in circles"),
        ("I like it. I like it. I like it. I like it.", "goes round in circles"),
    ],
)
def test_faults(text: str, said: str | None) -> None:
    assert fault(text) == said


def test_the_toys_judge() -> None:
    told = judged(ASK, ["One city in Italy is Rome.", "Bananas."])
    assert [one["words"] for one in told] == ["right", "not right"]
    assert told[0]["quality"] == 1


def test_where_the_world_ends(pair: Pair) -> None:
    tiny = baco.load("tiny")
    assert not world_ends(tiny, conversation_of(ASK))
    assert world_ends(tiny, conversation_of("Why is the sky blue?"))
    begun = [{"role": "user", "content": ASK}, {"role": "assistant", "content": "One"}]
    assert not world_ends(tiny, conversation_of(begun))
    assert not world_ends(pair, conversation_of("Why is the sky blue?"))


def told(client: Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/baco/diversity", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_real_pairs_tell_how_likely_an_answer_reads(pair: Pair) -> None:
    with Client(create_app({"toy": pair}, Settings())) as client:
        texts = ["One city in Italy is Rome.", ""]
        said = told(client, texts=texts, prompt=ASK, pair="toy")
        assert said["answers"][0]["surprise"] > 1
        assert said["answers"][1] == {"fault": "says nothing", "surprise": None} | (
            {"relevance": said["answers"][1]["relevance"]}
            if "relevance" in said["answers"][1]
            else {}
        )
        assert said["quality"]["name"] == "Surprise"
        assert set(told(client, texts=texts, prompt=ASK)) == {"groups", "figures"}
        assert client.post("/baco/diversity", json={"texts": [], "pair": "no"}).status_code == 404


def test_surprise_is_what_the_aligned_model_says(pair: Pair) -> None:
    import torch

    text = " Rome"
    side = pair.sides[1]
    prompt = tuple(side.ids(conversation_of(ASK)))
    ids = prompt + tuple(side.encode_text(text))
    total = 0.0
    for at in range(len(prompt), len(ids)):
        logits = torch.as_tensor(side.partner.logits(ids[:at])).double()
        total -= float(logits.log_softmax(-1)[ids[at]])
    with Client(create_app({"toy": pair}, Settings())) as client:
        said = told(client, texts=[text], prompt=ASK, pair="toy")
    expected = float(torch.tensor(total / (len(ids) - len(prompt))).exp())
    assert said["answers"][0]["surprise"] == pytest.approx(expected, rel=1e-5)


def test_each_router_comes_with_a_prior(client_info: dict[str, Any]) -> None:
    priors = {router["name"]: router["prior"] for router in client_info["routers"]}
    assert {len(values) for values in priors.values()} == {21}
    assert priors["p-punc"] == [prior("p-punc")(i / 20) for i in range(21)]
    assert priors["h"][0] == "inf"  # nothing is uncertain enough: the assistant alone


def test_the_prior_is_the_toys_curve_where_there_is_one() -> None:
    rough, axis = prior("p-punc"), ThresholdAxis.of("p-punc")
    values = [rough(i / 20) for i in range(21)]
    assert values == sorted(values)
    assert values[10] != axis.gamma(0.5)
    assert prior("h-fc")(0.5) == ThresholdAxis.of("h-fc").gamma(0.5)


def test_answers_note_where_a_toys_world_ends() -> None:
    with Client(create_app({"tiny": baco.load("tiny")}, Settings())) as client:
        for prompt, ends in ((ASK, False), ("Why is the sky blue?", True)):
            body = {
                "model": "tiny",
                "max_tokens": 4,
                "messages": [{"role": "user", "content": prompt}],
            }
            about = client.post("/v1/chat/completions", json=body).json()["baco"]
            assert ("note" in about) == ends


def test_routers_come_in_three_families(client_info: dict[str, Any]) -> None:
    families = {router["name"]: router["family"] for router in client_info["routers"]}
    assert set(families.values()) == {"doubt", "meaning", "chance"}
    assert (families["p-punc"], families["p-fc"], families["rand"]) == (
        "doubt",
        "meaning",
        "chance",
    )


@pytest.fixture
def client_info(pair: Pair) -> dict[str, Any]:
    with Client(create_app({"toy": pair}, Settings())) as client:
        said: dict[str, Any] = client.get("/baco/info").json()
    return said
